//! The commands of the executable.

mod audio;
mod callbacks;
mod check;
mod client;
mod completions;
mod convert;
mod demo;
mod events;
mod input;
mod keys;
mod listen;
mod mcp;
mod notes;
mod out;
mod plan;
mod progress;
mod recover;
mod sandbox;
mod send;
mod serve;
mod usage;

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};
use tokio::runtime::Builder;

use self::{out::OutError, serve::Role};
use crate::{config::Layers, gateway::as_mistakes};

/// Sends real voice notes for chatbots, through the messaging provider of each tenant's choice.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Args {
    /// The configuration file. Default: ./config.toml, if there is one.
    #[arg(long, global = true, value_name = "FILE", env = "VOICEGATE_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway.
    Serve {
        /// The part of the gateway that this process runs, if several processes share a PostgreSQL database.
        #[arg(long, value_enum, default_value_t)]
        role: Role,
    },
    /// Check the configuration and everything that the gateway needs on this machine, and say what to correct.
    Check {
        /// Also ask the providers, and test whether server.public_url and the tenants' webhooks can be reached. Sends
        /// and changes nothing.
        #[arg(long)]
        online: bool,
        /// Only ask the gateway that runs on this machine whether it is ready. For the health check of a container.
        #[arg(long, conflicts_with_all = ["online", "recipe"])]
        health: bool,
        /// Read this recipe of `provider = "http"` instead of the configuration, and print the request that a note would
        /// become, secrets masked. Sends nothing.
        #[arg(long, value_name = "FILE", requires_all = ["to", "dry_run"], conflicts_with = "online")]
        recipe: Option<PathBuf>,
        /// The recipient of the note, as in `to` of a request.
        #[arg(long, requires = "recipe")]
        to: Option<String>,
        /// Only print the request.
        #[arg(long, requires = "recipe")]
        dry_run: bool,
    },
    /// Make API keys and webhook secrets.
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Set up or check receipts: the reports of providers about sent messages.
    Callbacks {
        #[command(subcommand)]
        command: CallbacksCommand,
    },
    /// Send an audio file through a running gateway.
    Send(send::SendArgs),
    /// List notes of a running gateway, show one, cancel it, or send it again.
    Notes(notes::NotesArgs),
    /// Count the notes of a tenant in a running gateway, by day, connection or status.
    Usage(usage::UsageArgs),
    /// Send everything of a running gateway again that did not arrive, and show how far it is.
    Recover(recover::RecoverArgs),
    /// Follow the events of a tenant, and look after their webhook deliveries.
    Events(events::EventsArgs),
    /// Follow the events of a tenant, on the terminal or posted to a bot on this machine.
    Listen(listen::ListenArgs),
    /// Serve the Model Context Protocol on standard input and output, with tools that send voice notes through a running
    /// gateway.
    Mcp(mcp::McpArgs),
    /// Say what would happen to an audio file on each connection of a tenant, according to the configuration. Sends
    /// nothing.
    Plan(plan::PlanArgs),
    /// Convert an audio file to a voice note, as it would be sent.
    Convert(convert::ConvertArgs),
    /// Say what an audio file is, and what each profile would make of it.
    Inspect(audio::InspectArgs),
    /// List the profiles: the formats that each accepts unchanged, and the format that it makes of others.
    Profiles(audio::ProfilesArgs),
    /// Run emulators of the providers, with an inbox page, to try voicegate without any account.
    Sandbox(sandbox::SandboxArgs),
    /// Print the OpenAPI document that a gateway serves at /openapi.json.
    Openapi,
    /// Print a script that completes commands and options in a shell.
    Completions { shell: clap_complete::Shell },
    /// Run gateway and sandbox together, and send a sample voice note through each provider.
    Demo(demo::DemoArgs),
}

#[derive(Subcommand)]
enum CallbacksCommand {
    /// Register the callback address at the provider of a connection, and print the secret that it chose.
    Register(callbacks::CallbacksArgs),
    /// Show whether callbacks are registered at the provider, and when the last one arrived.
    Status(callbacks::CallbacksArgs),
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Make a new API key and print it, with the line for the configuration. It is not shown again.
    New,
    /// Make a secret with which a bot verifies that events are genuine.
    Webhook,
}

/// All commands and options, for completion scripts and manual pages.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let serves = matches!(args.command, Command::Serve { .. } | Command::Sandbox(_) | Command::Demo(_));
    // A command that does one thing does not need a thread on each core.
    let mut runtime = if serves { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error)),
    };
    let result = runtime.block_on(run(args));
    // A blocked read of a closed pipe must not keep the process running.
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
        Command::Check { recipe: Some(recipe), to: Some(to), .. } => check::recipe(&recipe, &to),
        Command::Check { health: true, .. } => check::health(&layers).await,
        Command::Check { online, .. } => check::run(&layers, online).await,
        Command::Keys { command: KeysCommand::New } => keys::new(),
        Command::Keys { command: KeysCommand::Webhook } => keys::webhook(),
        Command::Callbacks { command: CallbacksCommand::Register(args) } => {
            callbacks::register(&layers, &args).await
        }
        Command::Callbacks { command: CallbacksCommand::Status(args) } => {
            callbacks::status(&layers, &args).await
        }
        Command::Send(args) => send::run(args).await,
        Command::Notes(args) => notes::run(args).await,
        Command::Usage(args) => usage::run(args).await,
        Command::Recover(args) => recover::run(args).await,
        Command::Events(args) => events::run(args).await,
        Command::Listen(args) => listen::run(args).await,
        Command::Mcp(args) => mcp::run(args).await,
        Command::Plan(args) => plan::run(&layers, args).await,
        Command::Convert(args) => convert::run(args).await,
        Command::Inspect(args) => audio::inspect(args).await,
        Command::Profiles(args) => audio::profiles(&args),
        Command::Sandbox(args) => sandbox::run(args).await,
        Command::Openapi => {
            out::text(crate::http::openapi())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => completions::run(shell),
        Command::Demo(args) => demo::run(args).await,
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    if matches!(error.downcast_ref(), Some(OutError::Closed)) {
        return ExitCode::SUCCESS;
    }
    match as_mistakes(error) {
        // Each mistake begins its line with its place in the file, where editors and terminals look for it.
        Some(mistakes) => out::remark(mistakes),
        None => out::remark(format_args!("voicegate: {error:#}")),
    }
    ExitCode::FAILURE
}
