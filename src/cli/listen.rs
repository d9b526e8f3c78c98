//! `voicegate listen`: the events of a tenant, on a terminal or posted to a bot on this machine.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::Method;
use serde_json::Value;
use url::Url;

use super::{
    client::{ApiClient, GatewayArgs, address, text_of},
    keys, out,
};
use crate::{
    delivery::sign_webhook,
    model::clock::{Clock, SystemClock},
};

#[derive(clap::Args)]
pub struct ListenArgs {
    /// Post each event to this URL, signed as a webhook of the gateway is, such as http://127.0.0.1:9000/hooks.
    #[arg(long, value_name = "URL", value_parser = address)]
    forward: Option<Url>,
    /// The secret that posted events are signed with. Default: a new one, which is printed.
    #[arg(long, env = "WEBHOOK_SECRET", hide_env_values = true, requires = "forward")]
    secret: Option<String>,
    /// Print each event as one line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gateway: GatewayArgs,
}

impl ListenArgs {
    /// Only prints events.
    pub fn printing(gateway: GatewayArgs, json: bool) -> Self {
        Self { forward: None, secret: None, json, gateway }
    }
}

/// The pause before the stream is opened again after it broke.
const PAUSE: Duration = Duration::from_secs(2);

/// Timeout for one post to the bot.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The longest event that is read, in bytes.
const LONGEST: usize = 1 << 20;

/// The bot to which events are posted.
struct Forward {
    url: Url,
    key: Vec<u8>,
    http: reqwest::Client,
}

/// One event of the stream.
#[derive(Debug, Default, PartialEq)]
struct Message {
    id: String,
    data: String,
}

/// Follows the stream until the command is interrupted. A stream that breaks is resumed where it stopped.
pub async fn run(args: ListenArgs) -> anyhow::Result<ExitCode> {
    let client = ApiClient::new(args.gateway)?;
    let forward = args.forward.map(|url| Forward::new(url, args.secret)).transpose()?;
    let mut last: Option<String> = None;
    let mut connected = false;
    loop {
        let mut request =
            client.request(Method::GET, &["events"], &[])?.header("accept", "text/event-stream");
        if let Some(last) = &last {
            request = request.header("last-event-id", last);
        }
        match client.send(request).await {
            Ok(stream) if stream.status().is_success() => {
                if !connected {
                    out::remark("listening for events; Ctrl-C stops");
                    connected = true;
                }
                follow(stream, args.json, forward.as_ref(), &mut last).await?;
                out::remark("the stream ended; resuming");
            }
            Ok(refused) if refused.status().is_client_error() => {
                anyhow::bail!("the gateway answered {}; is the API key right?", refused.status());
            }
            Ok(failed) => out::remark(format_args!("the gateway answered {}", failed.status())),
            Err(error) if !connected => return Err(error),
            Err(error) => out::remark(format_args!("{error:#}")),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Prints and posts events until the stream ends.
async fn follow(
    mut stream: reqwest::Response,
    json: bool,
    forward: Option<&Forward>,
    last: &mut Option<String>,
) -> anyhow::Result<()> {
    let mut unread = Vec::new();
    while let Ok(Some(chunk)) = stream.chunk().await {
        unread.extend_from_slice(&chunk);
        while let Some(message) = next(&mut unread) {
            if !message.data.is_empty() {
                let event: Value = serde_json::from_str(&message.data).context("an event is not JSON")?;
                out::line(if json { message.data.clone() } else { describe(&event) })?;
                if let Some(forward) = forward {
                    out::remark(forward.post(&message).await);
                }
            }
            *last = Some(message.id);
        }
        ensure!(unread.len() <= LONGEST, "an event has more than {LONGEST} bytes");
    }
    Ok(())
}

/// Takes the next event from the bytes that have arrived. One without data only tells the position of the stream.
fn next(unread: &mut Vec<u8>) -> Option<Message> {
    loop {
        let end = unread.windows(2).position(|pair| pair == b"\n\n")?;
        let block: Vec<u8> = unread.drain(..end + 2).collect();
        let mut message = Message::default();
        for line in String::from_utf8_lossy(&block).lines() {
            match line.split_once(": ") {
                Some(("id", id)) => id.clone_into(&mut message.id),
                Some(("data", data)) => message.data.push_str(data),
                _ => {} // a comment that keeps the connection alive, or the type, which the data contains
            }
        }
        if !message.id.is_empty() {
            return Some(message);
        }
    }
}

fn describe(event: &Value) -> String {
    let text = |pointer| text_of(event, pointer);
    if let Some(detail) = event.pointer("/data/detail").and_then(Value::as_str) {
        return format!("{}  {}  {detail}", text("/timestamp"), text("/type"));
    }
    let error = event.pointer("/data/error/detail").and_then(Value::as_str);
    // A received note comes from somebody, any other goes to somebody.
    let (word, person) = match event.pointer("/data/from") {
        Some(_) => ("from", text("/data/from")),
        None => ("to", text("/data/to")),
    };
    format!(
        "{}  {}  {} {word} {person} via {}{}",
        text("/timestamp"),
        text("/type"),
        text("/data/id"),
        text("/data/via"),
        error.map_or(String::new(), |error| format!(": {error}")),
    )
}

impl Forward {
    fn new(url: Url, secret: Option<String>) -> anyhow::Result<Self> {
        let secret = secret.unwrap_or_else(|| {
            let secret = keys::generate_webhook();
            out::remark(format_args!("events are signed with {secret}"));
            secret
        });
        let key = secret.strip_prefix("whsec_").and_then(|text| BASE64_STANDARD.decode(text).ok());
        let key = key.context("--secret: expected whsec_ and base64; `voicegate keys webhook` makes one")?;
        let http =
            reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().context("setting up TLS")?;
        Ok(Self { url, key, http })
    }

    /// Posts an event, and says what the bot answered.
    async fn post(&self, message: &Message) -> String {
        let timestamp = SystemClock::default().wall().as_second();
        let id = format!("evt_{}", message.id);
        let posted = self
            .http
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("webhook-signature", sign_webhook(&self.key, &id, timestamp, &message.data))
            .header("webhook-timestamp", timestamp)
            .header("webhook-id", id)
            .body(message.data.clone());
        match posted.send().await {
            Ok(answer) => format!("  the bot answered {}", answer.status()),
            Err(error) if error.is_timeout() => "  the bot did not answer in time".to_owned(),
            Err(_) => "  no bot answers at this address".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn received_note_is_described_by_its_sender() {
        let event = serde_json::json!({
            "type": "voice.received", "timestamp": "T",
            "data": { "id": "in_1", "from": "+15551234567", "via": "waha", "error": null },
        });
        assert_eq!(describe(&event), "T  voice.received  in_1 from +15551234567 via waha");
    }

    #[test]
    fn events_are_read_in_pieces_and_comments_are_skipped() {
        let mut unread = b": alive\n\nid: 1\nevent: voice.sent\ndata: {\"a\":1}\n\nid: 2\nda".to_vec();
        assert_eq!(next(&mut unread), Some(Message { id: "1".into(), data: "{\"a\":1}".into() }));
        assert_eq!(next(&mut unread), None);
        unread.extend_from_slice(b"ta: {}\n\n");
        assert_eq!(next(&mut unread), Some(Message { id: "2".into(), data: "{}".into() }));
        assert!(unread.is_empty());
    }
}
