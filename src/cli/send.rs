//! `voicegate send FILE --to X`

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use serde_json::Value;
use url::Url;

#[derive(clap::Args)]
pub struct SendArgs {
    /// The audio file, of any kind.
    file: PathBuf,
    /// The recipient: +15551234567, an e-mail address, a WhatsApp id, alias:NAME or PROVIDER:ID.
    #[arg(long)]
    to: String,
    /// Connection or route; without it the tenant's route.
    #[arg(long)]
    via: Option<String>,
    /// The gateway.
    #[arg(long, env = "VOICEGATE_URL", default_value = "http://127.0.0.1:8080")]
    url: Url,
    /// The API key.
    #[arg(long, env = "VOICEGATE_API_KEY", hide_env_values = true)]
    key: String,
    /// How many seconds to wait for the provider's answer (at most 60; 0 returns at once).
    #[arg(long, default_value_t = 30)]
    wait: u64,
    /// Print the whole answer.
    #[arg(long)]
    json: bool,
}

/// What a gateway said to a note.
pub struct Answer {
    pub status: reqwest::StatusCode,
    pub body: Value,
}

pub async fn run(args: SendArgs) -> anyhow::Result<ExitCode> {
    let audio =
        std::fs::read(&args.file).with_context(|| format!("{} cannot be read", args.file.display()))?;
    let name = args.file.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut query = vec![("to", args.to.as_str())];
    query.extend(args.via.as_deref().map(|via| ("via", via)));
    query.extend(name.as_deref().map(|name| ("filename", name)));
    let answer = post(&args.url, &args.key, &query, audio, args.wait).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&answer.body)?);
    } else {
        println!("{}", describe(&answer));
    }
    let failed = !answer.status.is_success();
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Posts audio as a raw body.
pub async fn post(
    gateway: &Url,
    key: &str,
    query: &[(&str, &str)],
    audio: Vec<u8>,
    wait: u64,
) -> anyhow::Result<Answer> {
    let mut url = gateway.clone();
    url.path_segments_mut()
        .ok()
        .context("--url: expected an http or https URL")?
        .pop_if_empty()
        .push("voice");
    url.query_pairs_mut().extend_pairs(query);
    let mut request = reqwest::Client::new()
        .post(url)
        .bearer_auth(key)
        .header("content-type", "application/octet-stream")
        .body(audio);
    if wait > 0 {
        request = request.header("prefer", format!("wait={wait}"));
    }
    let response =
        request.send().await.map_err(|error| error.without_url()).context("the gateway does not answer")?;
    let status = response.status();
    let body = response.json().await.context("the gateway's answer is no JSON; is --url right?")?;
    Ok(Answer { status, body })
}

/// One line for a person.
pub fn describe(answer: &Answer) -> String {
    let text = |pointer: &str| answer.body.pointer(pointer).and_then(Value::as_str).unwrap_or("?");
    if !answer.status.is_success() {
        return format!("{} {}: {}", answer.status.as_u16(), text("/code"), text("/detail"));
    }
    let sent = answer.body.pointer("/audio/sent").filter(|sent| sent.is_object());
    let how = sent.map_or(String::new(), |_| {
        let seconds =
            answer.body.pointer("/audio/sent/duration_ms").and_then(Value::as_f64).unwrap_or_default()
                / 1000.0;
        format!(
            ": {seconds:.1} s of {} in {}, {}",
            text("/audio/sent/codec"),
            text("/audio/sent/container"),
            if text("/audio/sent/work") == "none" { "sent untouched" } else { text("/audio/sent/work") },
        )
    });
    format!("{} {} via {} ({}){how}", text("/id"), text("/status"), text("/via"), text("/provider"))
}
