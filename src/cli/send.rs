//! `voicegate send FILE --to X`

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::Value;

use super::{
    client::{Answer, ApiClient, GatewayArgs, text_of},
    input::{Input, LARGEST},
    out,
};

#[derive(clap::Args)]
pub struct SendArgs {
    /// The audio file, in any format; - is standard input.
    file: PathBuf,
    /// The recipient: +15551234567, an e-mail address, a WhatsApp id, alias:NAME or PROVIDER:ID.
    #[arg(long)]
    to: String,
    /// A connection or a route. Default: the route of the tenant.
    #[arg(long)]
    via: Option<String>,
    #[command(flatten)]
    gateway: GatewayArgs,
    /// How many seconds to wait for the provider's answer (at most 60; 0 returns at once).
    #[arg(long, default_value_t = 30)]
    wait: u64,
    /// Print the whole answer of the API as JSON.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: SendArgs) -> anyhow::Result<ExitCode> {
    let client = ApiClient::new(args.gateway)?;
    let scratch = tempfile::tempdir().context("no scratch folder could be made")?;
    let input = Input::open(&args.file, scratch.path())?;
    let audio =
        std::fs::read(input.path()).with_context(|| format!("{} cannot be read", args.file.display()))?;
    ensure!(audio.len() as u64 <= LARGEST, "{} has more than {LARGEST} bytes", args.file.display());
    let mut query = vec![("to", args.to.as_str())];
    query.extend(args.via.as_deref().map(|via| ("via", via)));
    query.extend(input.name().map(|name| ("filename", name)));
    let answer = post(&client, &query, audio, args.wait).await?;
    let failed = !answer.status.is_success();
    match out::line(if args.json { answer.pretty() } else { describe(&answer) }) {
        // An error here does not change that the note was sent or refused.
        Ok(()) | Err(out::OutError::Closed) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Posts audio as a raw body.
///
/// # Errors
/// Fails if no gateway answers.
pub async fn post(
    client: &ApiClient,
    query: &[(&str, &str)],
    audio: Vec<u8>,
    wait: u64,
) -> anyhow::Result<Answer> {
    let mut request = client
        .request(Method::POST, &["voice"], query)?
        .header("content-type", "application/octet-stream")
        .body(audio);
    if wait > 0 {
        request = request.header("prefer", format!("wait={wait}"));
    }
    client.ask(request).await
}

/// Describes the answer in one line for people.
pub fn describe(answer: &Answer) -> String {
    if answer.status.is_success() { describe_note(&answer.body) } else { answer.problem() }
}

/// Describes a note in one line for people.
pub fn describe_note(note: &Value) -> String {
    let text = |pointer: &str| text_of(note, pointer);
    let sent = note.pointer("/audio/sent").filter(|sent| sent.is_object());
    let how = sent.map_or(String::new(), |sent| {
        let seconds = sent["duration_ms"].as_f64().unwrap_or_default() / 1000.0;
        format!(
            ": {seconds:.1} s of {} in {}, {}",
            text("/audio/sent/codec"),
            text("/audio/sent/container"),
            text("/audio/sent/work"),
        )
    });
    format!("{} {} via {} ({}){how}", text("/id"), text("/status"), text("/via"), text("/provider"))
}
