//! `voicegate recover`: sends notes of a running gateway again that did not arrive.

use std::process::ExitCode;

use jiff::{Span, Timestamp, tz::TimeZone};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    client::{ApiClient, GatewayArgs},
    progress::{self, Words},
};
use crate::model::clock::{Clock, SystemClock};

#[derive(clap::Args)]
pub struct RecoverArgs {
    /// Only notes with these statuses: failed, expired, unknown. A note whose outcome is unknown may then arrive twice.
    /// Default: failed and expired.
    #[arg(long, value_delimiter = ',')]
    status: Vec<String>,
    /// Only notes from this time or later: such as 2026-01-31T18:30:00Z, or 2h for two hours ago.
    #[arg(long, value_parser = moment)]
    since: Option<Timestamp>,
    /// Only notes from this time or earlier.
    #[arg(long, value_parser = moment)]
    until: Option<Timestamp>,
    /// Only notes over this connection.
    #[arg(long)]
    via: Option<String>,
    /// The most notes, the oldest first.
    #[arg(long)]
    limit: Option<u64>,
    /// Only order it, and print the id of the task.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    gateway: GatewayArgs,
    /// Print the task as JSON when it has ended.
    #[arg(long)]
    json: bool,
}

/// Reads a time, or how long ago it was.
///
/// # Errors
/// Fails with an example.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    let wrong =
        || "expected a time such as 2026-01-31T18:30:00Z, or how long ago, such as 2h or 3 days".to_owned();
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let span: Span = text.parse().map_err(|_| wrong())?;
    let now = SystemClock::default().wall().to_zoned(TimeZone::UTC);
    now.checked_sub(span.abs()).map(|at| at.timestamp()).map_err(|_| wrong())
}

pub async fn run(args: RecoverArgs) -> anyhow::Result<ExitCode> {
    let client = ApiClient::new(args.gateway)?;
    let mut order = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        order.extend(value.map(|value| (name.to_owned(), value)));
    };
    set("status", (!args.status.is_empty()).then(|| json!(args.status)));
    set("since", args.since.map(|at| json!(at.to_string())));
    set("until", args.until.map(|at| json!(at.to_string())));
    set("via", args.via.map(Value::from));
    set("limit", args.limit.map(Value::from));
    let request = client.request(Method::POST, &["voice", "recover"], &[])?.json(&order);
    let words = Words { things: "notes", done: "sent again" };
    progress::run(&client, request, words, (args.json, !args.no_wait)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moment_is_a_time_or_a_span_before_now() {
        assert_eq!(moment("2026-01-31T18:30:00Z"), Ok("2026-01-31T18:30:00Z".parse().expect("a time")));
        let now = SystemClock::default().wall();
        for (text, seconds) in [("2h", 7200), ("90m", 5400), ("3 days", 259_200), ("1d 12h", 129_600)] {
            let ago = now.duration_since(moment(text).expect(text)).as_secs();
            assert!((seconds - 60..=seconds + 60).contains(&ago), "{text}: {ago}");
        }
        for wrong in ["", "yesterday", "2 fortnights", "18:30"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
