//! `voicegate usage`: the usage of a tenant in a running gateway, as a table.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::Value;

use super::{
    client::{ApiClient, GatewayArgs, text_of},
    out,
};

#[derive(clap::Args)]
pub struct UsageArgs {
    /// The first day (UTC), such as 2026-11-01. Default: 29 days before the last one.
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// The last day, included. Default: today.
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
    /// Subject of one line.
    #[arg(long, value_enum, default_value_t)]
    by: By,
    #[command(flatten)]
    gateway: GatewayArgs,
    /// Print the answer of the API as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum By {
    #[default]
    Day,
    Connection,
    Status,
}

impl By {
    fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Connection => "connection",
            Self::Status => "status",
        }
    }
}

pub async fn run(args: UsageArgs) -> anyhow::Result<ExitCode> {
    let client = ApiClient::new(args.gateway)?;
    let query = [("from", args.from.as_deref()), ("to", args.to.as_deref()), ("by", Some(args.by.word()))];
    let query: Vec<(&str, &str)> =
        query.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let answer = client.ask(client.request(Method::GET, &["usage"], &query)?).await?;
    let succeeded = answer.status.is_success();
    out::line(match (args.json, succeeded) {
        (true, _) => answer.pretty(),
        (false, true) => table(&answer.body, args.by.word()),
        (false, false) => match answer.body["field"].as_str() {
            Some(field) => format!("{} (--{field})", answer.problem()),
            None => answer.problem(),
        },
    })?;
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The columns behind the key: their headings, and the fields with their numbers.
const COLUMNS: [(&str, &str); 5] = [
    ("notes", "notes"),
    ("seconds", "seconds"),
    ("bytes in", "bytes_in"),
    ("bytes out", "bytes_out"),
    ("attempts", "attempts"),
];

/// The usage as text: one line for each item, a line of sums, and numbers under their headings.
fn table(usage: &Value, by: &str) -> String {
    let (from, to) = (text_of(usage, "/from"), text_of(usage, "/to"));
    let items = usage["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return format!("no note from {from} to {to}");
    }
    let mut rows = vec![row(by, COLUMNS.map(|(heading, _)| heading.to_owned()), "status")];
    for item in items {
        let numbers = COLUMNS.map(|(_, field)| number(field, item[field].as_f64().unwrap_or_default()));
        rows.push(row(text_of(item, "/key"), numbers, &statuses(&item["by_status"])));
    }
    let sums =
        COLUMNS.map(|(_, field)| number(field, items.iter().filter_map(|item| item[field].as_f64()).sum()));
    rows.push(row("all", sums, ""));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..=COLUMNS.len()).map(width).collect();
    let lines = rows.iter().map(|row| {
        let mut line = format!("{:<width$}", row[0], width = widths[0]);
        for (cell, width) in row[1..=COLUMNS.len()].iter().zip(&widths[1..]) {
            line.push_str(&format!("  {cell:>width$}"));
        }
        format!("{line}  {}", row[COLUMNS.len() + 1]).trim_end().to_owned()
    });
    format!("{from} to {to}\n{}", lines.collect::<Vec<_>>().join("\n"))
}

fn row(key: &str, numbers: [String; 5], statuses: &str) -> Vec<String> {
    [key.to_owned()].into_iter().chain(numbers).chain([statuses.to_owned()]).collect()
}

/// Seconds have one decimal; everything else is counted.
fn number(field: &str, value: f64) -> String {
    let decimals = usize::from(field == "seconds");
    format!("{value:.decimals$}")
}

fn statuses(counts: &Value) -> String {
    let counts = counts.as_object().into_iter().flatten();
    counts.map(|(status, count)| format!("{status} {count}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::table;

    #[test]
    fn numbers_stand_under_their_headings_and_are_added_up() {
        let item = |key: &str, notes: u64, seconds: f64| {
            json!({
                "key": key, "notes": notes, "seconds": seconds, "bytes_in": 1000 * notes, "bytes_out": 10,
                "attempts": notes + 1, "by_status": { "failed": 1, "played": notes - 1 }
            })
        };
        let usage = json!({
            "from": "2026-11-01", "to": "2026-11-30",
            "items": [item("imessage", 120, 1263.45), item("whatsapp", 2, 7.0)]
        });
        let expected = "2026-11-01 to 2026-11-30\n\
            connection  notes  seconds  bytes in  bytes out  attempts  status\n\
            imessage      120   1263.5    120000         10       121  failed 1, played 119\n\
            whatsapp        2      7.0      2000         10         3  failed 1, played 1\n\
            all           122   1270.5    122000         20       124";
        assert_eq!(table(&usage, "connection"), expected);
        let none = json!({ "from": "2026-11-01", "to": "2026-11-30", "items": [] });
        assert_eq!(table(&none, "day"), "no note from 2026-11-01 to 2026-11-30");
    }
}
