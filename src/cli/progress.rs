//! The progress of a task in a running gateway: a bar on a terminal, a line each second elsewhere.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    client::{Answer, ApiClient, text_of},
    out,
    send::describe,
};

/// The pause between two looks at the task.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a gateway that does not answer is asked again. It may be restarting, and the task goes on afterwards.
const PATIENCE: Duration = Duration::from_secs(120);

/// The words for what a task does.
#[derive(Clone, Copy)]
pub struct Words {
    /// The things that are counted, such as "notes".
    pub things: &'static str,
    /// The result for each, such as "sent again".
    pub done: &'static str,
}

/// Sends an order and shows the progress of its task until that has ended. The command fails if the task does, or
/// anything could not be done.
///
/// # Errors
/// The gateway does not answer.
pub async fn run(
    client: &ApiClient,
    order: RequestBuilder,
    words: Words,
    (json, waits): (bool, bool),
) -> anyhow::Result<ExitCode> {
    let answer = client.ask(order).await?;
    if !answer.status.is_success() {
        out::line(if json { answer.pretty() } else { describe(&answer) })?;
        return Ok(ExitCode::FAILURE);
    }
    if !waits {
        let line = format!("{}: {} {} were found", answer.text("/id"), answer.body["total"], words.things);
        out::line(if json { answer.pretty() } else { line })?;
        return Ok(ExitCode::SUCCESS);
    }
    let last = follow(client, answer, words, json).await?;
    let failed = last.text("/status") == "failed" || last.body["failed"].as_u64() != Some(0);
    out::line(if json { last.pretty() } else { summary(&last.body, words) })?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Shows the task until it has ended, and returns it.
async fn follow(client: &ApiClient, begun: Answer, words: Words, quiet: bool) -> anyhow::Result<Answer> {
    let id = begun.text("/id").to_owned();
    let shown = Shown::new(quiet, words);
    let mut answered = Instant::now();
    let mut latest = begun;
    shown.begin(&id, &latest.body);
    while latest.text("/status") == "running" {
        tokio::time::sleep(PAUSE).await;
        match client.ask(client.request(Method::GET, &["tasks", &id], &[])?).await {
            Ok(answer) if answer.status.is_success() => {
                (latest, answered) = (answer, Instant::now());
                shown.update(&latest.body)?;
            }
            Ok(answer) if answer.status.is_client_error() => {
                shown.end();
                anyhow::bail!("the task {id} cannot be read: {}", answer.problem());
            }
            failed if answered.elapsed() < PATIENCE => {
                let why = failed.map_or_else(|error| format!("{error:#}"), |answer| answer.problem());
                shown.remark(&format!("{why}; it is asked again"));
            }
            failed => {
                shown.end();
                let answer = failed.with_context(|| format!("the task {id} goes on without this command"))?;
                anyhow::bail!("the task {id} cannot be read: {}", answer.problem());
            }
        }
    }
    shown.end();
    Ok(latest)
}

/// The way in which progress is shown.
enum Shown {
    Bar(ProgressBar),
    Lines(Words),
    Nothing,
}

impl Shown {
    fn new(quiet: bool, words: Words) -> Self {
        if quiet {
            return Self::Nothing;
        }
        if !io::stderr().is_terminal() {
            return Self::Lines(words);
        }
        let template =
            format!("{{bar:30}} {{pos}} of {{len}} {} {}  {{eta}} left  {{msg}}", words.things, words.done);
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self::Bar(ProgressBar::new(0).with_style(style))
    }

    fn begin(&self, id: &str, task: &Value) {
        match self {
            Self::Bar(bar) => {
                bar.set_length(task["total"].as_u64().unwrap_or_default());
                bar.println(format!("{id} goes on in the gateway if this command is stopped"));
            }
            Self::Lines(_) => {
                out::remark(format_args!("{id} goes on in the gateway if this command is stopped"))
            }
            Self::Nothing => {}
        }
    }

    fn update(&self, task: &Value) -> anyhow::Result<()> {
        match self {
            Self::Bar(bar) => {
                bar.set_length(task["total"].as_u64().unwrap_or_default());
                bar.set_position(handled(task));
                bar.set_message(trouble(task));
            }
            Self::Lines(words) => out::line(line(task, *words))?,
            Self::Nothing => {}
        }
        Ok(())
    }

    fn remark(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.println(text),
            Self::Lines(_) | Self::Nothing => out::remark(text),
        }
    }

    fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn handled(task: &Value) -> u64 {
    ["done", "failed", "skipped"].iter().filter_map(|name| task[*name].as_u64()).sum()
}

fn line(task: &Value, words: Words) -> String {
    let trouble = trouble(task);
    let more = if trouble.is_empty() { String::new() } else { format!(", {trouble}") };
    format!("{} of {} {} {}{more}", task["done"], task["total"], words.things, words.done)
}

/// The errors of the task, and the reason why it waits.
fn trouble(task: &Value) -> String {
    let failed =
        task["failed"].as_u64().filter(|failed| *failed > 0).map(|failed| format!("{failed} failed"));
    let waits = task["waiting"].is_object().then(|| format!("waiting: {}", text_of(task, "/waiting/detail")));
    failed.into_iter().chain(waits).collect::<Vec<_>>().join(", ")
}

fn summary(task: &Value, words: Words) -> String {
    let mut lines = vec![line(task, words)];
    if let Some(skipped) = task["skipped"].as_u64().filter(|skipped| *skipped > 0) {
        lines.push(format!("{skipped} needed it no more"));
    }
    let failures = task["failures"].as_object().into_iter().flatten();
    lines.extend(failures.map(|(code, count)| format!("{count} failed: {code}")));
    if task["error"].is_object() {
        lines.push(format!("{}: {}", text_of(task, "/error/code"), text_of(task, "/error/detail")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn summary_says_what_was_done_and_why_the_rest_was_not() {
        let words = Words { things: "notes", done: "sent again" };
        let task = json!({
            "total": 9, "done": 5, "failed": 2, "skipped": 2, "failures": { "media_expired": 2 },
            "waiting": null, "error": null,
        });
        assert_eq!(
            summary(&task, words),
            "5 of 9 notes sent again, 2 failed\n2 needed it no more\n2 failed: media_expired"
        );
        let waiting =
            json!({ "total": 9, "done": 5, "failed": 0, "waiting": { "detail": "the queue is full" } });
        assert_eq!(line(&waiting, words), "5 of 9 notes sent again, waiting: the queue is full");
    }
}
