//! `voicegate mcp`: the Model Context Protocol on standard input and output, for programs that start their servers
//! themselves. Standard output carries nothing else.

mod answering;

use std::process::ExitCode;

use anyhow::{Context, bail};
use rmcp::{
    RoleServer,
    service::ServerInitializeError,
    transport::{IntoTransport, stdio},
};

use self::answering::Answering;
use super::client::{ApiClient, GatewayArgs};
use crate::http::mcp::{Answer, Api, Call, McpServer, NoAnswer};

#[derive(clap::Args)]
pub struct McpArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// The API of a gateway elsewhere.
struct Remote(ApiClient);

/// Serves until standard input has ended and every call was answered.
pub async fn run(args: McpArgs) -> anyhow::Result<ExitCode> {
    let server = McpServer::new(Remote(ApiClient::new(args.gateway)?));
    let transport = Answering::new(IntoTransport::<RoleServer, _, _>::into_transport(stdio()));
    let running = match rmcp::serve_server(server, transport).await {
        Ok(running) => running,
        // The client went away before it said anything.
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(ExitCode::SUCCESS),
        // The error would repeat what was said, which may be audio.
        Err(_) => bail!("standard input does not speak the Model Context Protocol"),
    };
    running.waiting().await.context("the server ended early")?;
    Ok(ExitCode::SUCCESS)
}

impl Api for Remote {
    async fn call(&self, call: Call) -> Result<Answer, NoAnswer> {
        self.ask(call).await.map_err(|error| NoAnswer(format!("{error:#}")))
    }
}

impl Remote {
    async fn ask(&self, call: Call) -> anyhow::Result<Answer> {
        let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
        let query: Vec<(&str, &str)> =
            call.query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut request = self.0.request(call.method, &path, &query)?;
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let answer = self.0.ask(request).await?;
        Ok(Answer { status: answer.status, replayed: answer.replayed, body: answer.body })
    }
}
