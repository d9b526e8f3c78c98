//! The commands.

mod audio;
mod callbacks;
mod check;
mod convert;
mod demo;
mod input;
mod keys;
mod out;
mod plan;
mod sandbox;
mod send;
mod serve;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use tokio::runtime::Builder;

use self::{out::OutError, serve::Role};
use crate::{config::Layers, gateway::as_mistakes};

/// Real voice notes for chatbots, through the messaging provider of each tenant's choice.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Args {
    /// The configuration file; without it ./config.toml, when present.
    #[arg(long, global = true, value_name = "FILE", env = "VOICEGATE_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway.
    Serve {
        /// What this process does, where several share a PostgreSQL database.
        #[arg(long, value_enum, default_value_t)]
        role: Role,
    },
    /// Check the configuration and what the gateway needs on this machine, and say what to mend.
    Check {
        /// Ask the providers, too, and see whether server.public_url and the tenants' webhooks can be reached. Sends
        /// and changes nothing.
        #[arg(long)]
        online: bool,
    },
    /// API keys and secrets for webhooks.
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Receipts: what providers say about messages after they were sent.
    Callbacks {
        #[command(subcommand)]
        command: CallbacksCommand,
    },
    /// Send an audio file through a running gateway.
    Send(send::SendArgs),
    /// Say what would become of an audio file over a tenant's connections, by the configuration. Sends nothing.
    Plan(plan::PlanArgs),
    /// Make a voice note of an audio file, as it would be sent.
    Convert(convert::ConvertArgs),
    /// Say what a file is, and what each profile would make of it.
    Inspect(audio::InspectArgs),
    /// List the profiles: what each target takes as it is, and what is made for it otherwise.
    Profiles(audio::ProfilesArgs),
    /// Serve emulators of the providers, with an inbox page, for trying things out without any account.
    Sandbox(sandbox::SandboxArgs),
    /// Print the OpenAPI document, as a running gateway serves it at /openapi.json.
    Openapi,
    /// Run gateway and sandbox together and send a sample voice note through both.
    Demo(demo::DemoArgs),
}

#[derive(Subcommand)]
enum CallbacksCommand {
    /// Have the provider of a connection call the gateway, and print the secret that it chose.
    Register(callbacks::CallbacksArgs),
    /// Show whether the provider is set up to call, and whether it ever did.
    Status(callbacks::CallbacksArgs),
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Make a new API key and print it once, with the line for the configuration.
    New,
    /// Make a secret by which a bot knows that events are genuine.
    Webhook,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let serves = matches!(args.command, Command::Serve { .. } | Command::Sandbox(_) | Command::Demo(_));
    // What does one thing has no use for a thread on each core.
    let mut runtime = if serves { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error)),
    };
    let result = runtime.block_on(run(args));
    // A stalled read of a closed pipe must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match result {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

async fn run(Args { config, command }: Args) -> anyhow::Result<ExitCode> {
    let layers = Layers::of_file(config.filter(|file| !file.as_os_str().is_empty()));
    match command {
        Command::Serve { role } => serve::run(layers, role).await,
        Command::Check { online } => check::run(&layers, online).await,
        Command::Keys { command: KeysCommand::New } => keys::new(),
        Command::Keys { command: KeysCommand::Webhook } => keys::webhook(),
        Command::Callbacks { command: CallbacksCommand::Register(args) } => {
            callbacks::register(&layers, &args).await
        }
        Command::Callbacks { command: CallbacksCommand::Status(args) } => {
            callbacks::status(&layers, &args).await
        }
        Command::Send(args) => send::run(args).await,
        Command::Plan(args) => plan::run(&layers, args).await,
        Command::Convert(args) => convert::run(args).await,
        Command::Inspect(args) => audio::inspect(args).await,
        Command::Profiles(args) => audio::profiles(&args),
        Command::Sandbox(args) => sandbox::run(args).await,
        Command::Openapi => {
            out::text(crate::http::openapi())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Demo(args) => demo::run(args).await,
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    if matches!(error.downcast_ref(), Some(OutError::Closed)) {
        return ExitCode::SUCCESS;
    }
    match as_mistakes(error) {
        // Each has its place at the beginning of its line, where editors and terminals look for it.
        Some(mistakes) => out::remark(mistakes),
        None => out::remark(format_args!("voicegate: {error:#}")),
    }
    ExitCode::FAILURE
}
