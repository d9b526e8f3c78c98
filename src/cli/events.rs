//! `voicegate events`: the events of a tenant in a running gateway, and what became of their webhook deliveries.

use std::process::ExitCode;

use clap::Subcommand;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    client::{Answer, ApiClient, GatewayArgs, text_of},
    listen::{self, ListenArgs},
    out,
    progress::{self, Words},
    recover::moment,
    send::describe,
};

#[derive(clap::Args)]
pub struct EventsArgs {
    #[command(subcommand)]
    command: EventsCommand,
}

#[derive(Subcommand)]
enum EventsCommand {
    /// Print events as they happen.
    Tail {
        #[command(flatten)]
        with: With,
    },
    /// Show every try to post an event to the webhook.
    Attempts {
        /// The `webhook-id` of the event.
        id: String,
        #[command(flatten)]
        with: With,
    },
    /// Post an event to the webhook again.
    Resend {
        /// The `webhook-id` of the event.
        id: String,
        #[command(flatten)]
        with: With,
    },
    /// Resume a paused webhook, and post every event again that it has not taken.
    Recover {
        /// Only events from this time or later: such as 2026-01-31T18:30:00Z, or 2h for two hours ago.
        #[arg(long, value_parser = moment)]
        since: Option<Timestamp>,
        /// Only order it, and print the id of the task.
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        with: With,
    },
}

#[derive(clap::Args)]
struct With {
    #[command(flatten)]
    gateway: GatewayArgs,
    /// Print the answer of the API as JSON.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: EventsArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        EventsCommand::Tail { with } => listen::run(ListenArgs::printing(with.gateway, with.json)).await,
        EventsCommand::Attempts { id, with } => {
            let client = ApiClient::new(with.gateway)?;
            let request = client.request(Method::GET, &["events", &id, "attempts"], &[])?;
            print(&client.ask(request).await?, with.json, attempts)
        }
        EventsCommand::Resend { id, with } => {
            let client = ApiClient::new(with.gateway)?;
            let request = client.request(Method::POST, &["events", &id, "resend"], &[])?;
            print(&client.ask(request).await?, with.json, |event| {
                let (id, kind) = (text_of(event, "/id"), text_of(event, "/type"));
                let subject = ["/note_id", "/received_id"].into_iter().find(|of| event.pointer(of).is_some());
                let subject = text_of(event, subject.unwrap_or("/note_id"));
                format!("{id} {kind} of {subject} will be posted again")
            })
        }
        EventsCommand::Recover { since, no_wait, with } => {
            let client = ApiClient::new(with.gateway)?;
            let order = since.map_or_else(|| json!({}), |since| json!({ "since": since.to_string() }));
            let request = client.request(Method::POST, &["webhook", "recover"], &[])?.json(&order);
            let words = Words { things: "events", done: "queued for the webhook" };
            progress::run(&client, request, words, (with.json, !no_wait)).await
        }
    }
}

/// Prints an answer; a problem makes the command fail.
fn print(answer: &Answer, json: bool, words: impl Fn(&Value) -> String) -> anyhow::Result<ExitCode> {
    let succeeded = answer.status.is_success();
    out::line(match (json, succeeded) {
        (true, _) => answer.pretty(),
        (false, true) => words(&answer.body),
        (false, false) => describe(answer),
    })?;
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn attempts(list: &Value) -> String {
    let items = list["items"].as_array().into_iter().flatten();
    let lines: Vec<String> = items
        .map(|attempt| {
            let end = attempt["error"]
                .as_str()
                .map_or_else(|| format!("taken, the bot answered {}", attempt["status"]), str::to_owned);
            format!("{}  {end} after {} ms", text_of(attempt, "/at"), attempt["took_ms"])
        })
        .collect();
    if lines.is_empty() { "this event was not posted yet".to_owned() } else { lines.join("\n") }
}
