//! `voicegate notes`: the notes of a tenant in a running gateway.

use std::process::ExitCode;

use clap::Subcommand;
use reqwest::Method;
use serde_json::Value;

use super::{
    client::{Answer, ApiClient, GatewayArgs, text_of},
    out,
    send::{describe, describe_note},
};

#[derive(clap::Args)]
pub struct NotesArgs {
    #[command(subcommand)]
    command: NotesCommand,
}

#[derive(Subcommand)]
enum NotesCommand {
    /// List notes, newest first.
    List {
        /// Only notes to this recipient.
        #[arg(long)]
        to: Option<String>,
        /// Only notes with this status, such as failed.
        #[arg(long)]
        status: Option<String>,
        /// Only notes over this connection.
        #[arg(long)]
        via: Option<String>,
        /// How many notes; more than one page is read where it is needed.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        with: With,
    },
    /// Show one note: what it is, every attempt, and what became of it.
    Show {
        id: String,
        #[command(flatten)]
        with: With,
    },
    /// Cancel a note that was not sent yet.
    Cancel {
        id: String,
        #[command(flatten)]
        with: With,
    },
    /// Send a note again as a new one. A note whose outcome is unknown may then arrive twice.
    Resend {
        id: String,
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

pub async fn run(args: NotesArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        NotesCommand::List { to, status, via, limit, with } => {
            let filter = [("to", to), ("status", status), ("via", via)];
            let filter = filter.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            list(filter, limit, with).await
        }
        NotesCommand::Show { id, with } => {
            let client = ApiClient::new(with.gateway)?;
            let answer = client.ask(client.request(Method::GET, &["voice", &id], &[])?).await?;
            print(&answer, with.json, show)
        }
        NotesCommand::Cancel { id, with } => change(&id, "cancel", with).await,
        NotesCommand::Resend { id, with } => change(&id, "resend", with).await,
    }
}

async fn change(id: &str, what: &str, with: With) -> anyhow::Result<ExitCode> {
    let client = ApiClient::new(with.gateway)?;
    let answer = client.ask(client.request(Method::POST, &["voice", id, what], &[])?).await?;
    print(&answer, with.json, describe_note)
}

/// The most notes that the API returns in one page.
const PAGE: usize = 200;

async fn list(filter: Vec<(&str, String)>, limit: usize, with: With) -> anyhow::Result<ExitCode> {
    let client = ApiClient::new(with.gateway)?;
    let (mut left, mut cursor) = (limit, None::<String>);
    while left > 0 {
        let size = left.min(PAGE).to_string();
        let mut query: Vec<(&str, &str)> =
            filter.iter().map(|(name, value)| (*name, value.as_str())).collect();
        query.push(("limit", &size));
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let request = client.request(Method::GET, &["voice"], &query)?;
        let answer = client.ask(request).await?;
        if !answer.status.is_success() || with.json {
            // As JSON, a page is what the API answers; its cursor leads on.
            return print(&answer, with.json, |_| String::new());
        }
        let notes = answer.body["items"].as_array().cloned().unwrap_or_default();
        for note in &notes {
            let (to, at) = (text_of(note, "/to"), text_of(note, "/created_at"));
            out::line(format_args!("{at}  {}  {to}", describe_note(note)))?;
        }
        left = left.saturating_sub(notes.len());
        cursor = answer.body["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
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

/// Describes a note in several lines.
fn show(note: &Value) -> String {
    let mut lines =
        vec![describe_note(note), format!("to {}, form {}", text_of(note, "/to"), text_of(note, "/form"))];
    for attempt in note["attempts"].as_array().into_iter().flatten() {
        let why = attempt.pointer("/error/detail").and_then(Value::as_str);
        lines.push(format!(
            "{}  attempt {} over {}: {} after {} ms{}",
            text_of(attempt, "/at"),
            attempt["n"],
            text_of(attempt, "/connection"),
            text_of(attempt, "/outcome"),
            attempt["took_ms"],
            why.map_or(String::new(), |why| format!(": {why}")),
        ));
    }
    for step in ["accepted", "sent", "delivered", "read", "played"] {
        if let Some(at) = note[format!("{step}_at")].as_str() {
            lines.push(format!("{at}  {step}"));
        }
    }
    let warnings = note["warnings"].as_array().into_iter().flatten();
    lines
        .extend(warnings.map(|warning| {
            format!("warning {}: {}", text_of(warning, "/code"), text_of(warning, "/detail"))
        }));
    if note["error"].is_object() {
        lines.push(format!("{}: {}", text_of(note, "/error/code"), text_of(note, "/error/detail")));
    }
    lines.join("\n")
}
