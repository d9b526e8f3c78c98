//! `voicegate send FILE --to X`

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, ensure};
use serde_json::Value;
use struson::{
    reader::{JsonReader, JsonStreamReader},
    writer::{JsonStreamWriter, JsonWriter, WriterSettings},
};
use url::{Host, Url};

use super::{
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
    /// The address of the gateway; also in VOICEGATE_URL.
    #[arg(long, env = "VOICEGATE_URL", default_value = "http://127.0.0.1:8080", value_parser = address)]
    url: Url,
    /// The API key. Prefer VOICEGATE_API_KEY, since every user of this machine can read arguments.
    #[arg(long, env = "VOICEGATE_API_KEY", hide_env_values = true)]
    key: Option<String>,
    /// How many seconds to wait for the provider's answer (at most 60; 0 returns at once).
    #[arg(long, default_value_t = 30)]
    wait: u64,
    /// Print the whole answer of the API as JSON.
    #[arg(long)]
    json: bool,
}

/// The answer of a gateway to a note.
pub struct Answer {
    pub status: reqwest::StatusCode,
    pub body: Value,
    /// The body as it was received.
    text: Vec<u8>,
}

/// The longest answer that is read. A note has at most 4 KiB of metadata and some attempts.
const MOST: usize = 1 << 20;

/// Reads the address of a server.
///
/// # Errors
/// Fails with an example of a valid address.
pub fn address(text: &str) -> Result<Url, String> {
    let url =
        text.parse::<Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| "expected an http or https URL, such as http://127.0.0.1:8080".to_owned())
}

pub async fn run(args: SendArgs) -> anyhow::Result<ExitCode> {
    let key = args.key.filter(|key| !key.is_empty()).context(
        "there is no API key: set VOICEGATE_API_KEY, or give --key; the gateway is the one in VOICEGATE_URL or --url",
    )?;
    let scratch = tempfile::tempdir().context("no scratch folder could be made")?;
    let input = Input::open(&args.file, scratch.path())?;
    let audio =
        std::fs::read(input.path()).with_context(|| format!("{} cannot be read", args.file.display()))?;
    ensure!(audio.len() as u64 <= LARGEST, "{} has more than {LARGEST} bytes", args.file.display());
    let mut query = vec![("to", args.to.as_str())];
    query.extend(args.via.as_deref().map(|via| ("via", via)));
    query.extend(input.name().map(|name| ("filename", name)));
    let answer = post(&args.url, &key, &query, audio, args.wait).await?;
    let failed = !answer.status.is_success();
    let said = if args.json { pretty(&answer.text) } else { describe(&answer) };
    match out::line(said) {
        // An error here does not change that the note was sent or refused.
        Ok(()) | Err(out::OutError::Closed) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Formats JSON with line breaks. Members stay in their order, and numbers keep their digits.
fn pretty(json: &[u8]) -> String {
    let mut pretty = Vec::new();
    let settings = WriterSettings { pretty_print: true, ..WriterSettings::default() };
    let mut writer = JsonStreamWriter::new_custom(&mut pretty, settings);
    let written =
        JsonStreamReader::new(json).transfer_to(&mut writer).is_ok() && writer.finish_document().is_ok();
    // The formatter refuses extremely long numbers, although they are valid JSON. Print such text unchanged.
    String::from_utf8_lossy(if written { &pretty } else { json }).into_owned()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
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
    let mut client = reqwest::Client::builder();
    // A proxy in the environment is never used for this machine.
    if is_loopback(gateway) {
        client = client.no_proxy();
    }
    let mut request = client
        .build()
        .context("setting up TLS")?
        .post(url)
        .bearer_auth(key)
        .header("content-type", "application/octet-stream")
        .body(audio);
    if wait > 0 {
        request = request.header("prefer", format!("wait={wait}"));
    }
    let origin = gateway.origin().ascii_serialization();
    let mut response = request.send().await.map_err(reqwest::Error::without_url).with_context(|| {
        format!("the gateway at {origin} does not answer; VOICEGATE_URL or --url says where it is")
    })?;
    let status = response.status();
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        text.extend_from_slice(&chunk);
        ensure!(text.len() <= MOST, "the answer of {origin} has more than {MOST} bytes; is that a gateway?");
    }
    let body = serde_json::from_slice(&text).with_context(|| {
        format!("the answer of {origin} is not JSON; does VOICEGATE_URL or --url lead to a gateway?")
    })?;
    Ok(Answer { status, body, text })
}

/// Describes the answer in one line for people.
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
            text("/audio/sent/work"),
        )
    });
    format!("{} {} via {} ({}){how}", text("/id"), text("/status"), text("/via"), text("/provider"))
}

#[cfg(test)]
mod tests {
    use super::pretty;

    #[test]
    fn an_answer_keeps_its_order_and_its_digits() {
        let text = pretty(br#"{"id":"vn_1","audio":{"b":1,"a":[12345678901234567890,1.50]},"at":null}"#);
        assert_eq!(
            text,
            "{\n  \"id\": \"vn_1\",\n  \"audio\": {\n    \"b\": 1,\n    \"a\": [\n      12345678901234567890,\n      \
             1.50\n    ]\n  },\n  \"at\": null\n}"
        );
    }
}
