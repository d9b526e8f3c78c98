//! Callbacks as they come in: `fixtures/<provider>/callback/<end>.http`.
//!
//! ```text
//! # Source: a link, and when it was read.
//! @settings {"webhook_secret": "secret-webhook"}
//! @now 2026-01-01T00:00:05Z
//!
//! ### Request
//! POST /?token=...
//! x-signature: {{hmac.sha256.hex secret-webhook}}
//!
//! {"the body": "as text, because signatures are over its bytes"}
//!
//! ### Events
//! [{"id": "evt_1", "receipt": {...}}]
//! ```
//!
//! The file name up to its first dot is the end that must come of it: the status of the one receipt, `voice`, `none` for
//! what is acknowledged and says nothing, `several`, or the name of a `CallbackError`. What is refused has no `### Events`.
//! `@answer` is the body that the provider wants back; `@proof token` or `@proof signature` says what proves this callback,
//! where an adapter knows both. In headers, `{{hmac.sha256.hex SECRET}}` (also `sha512`, `base64`)
//! stands for the HMAC of the body. From every genuine callback the suite makes forgeries of its own.

use std::{collections::BTreeSet, fs, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use sha2::{Sha256, Sha512};
use voicegate_providers::{
    Callback, CallbackError, CallbackRequest, Descriptor, Form, InboundVoice, Proof, Provider, ProviderEvent,
    ReceiptStatus, What,
};

use crate::{
    checks::{Outcome, ensure},
    fixture, run,
};

#[derive(Clone)]
pub struct Fixture {
    pub name: String,
    settings: Map<String, Value>,
    now: Timestamp,
    method: Method,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    pub body: String,
    answer: Option<String>,
    /// Else what the descriptor says.
    proof: Option<Proof>,
    /// Absent where the request is refused.
    expected: Option<Value>,
}

impl Fixture {
    fn request(&self) -> CallbackRequest {
        let header = |(name, value): &(String, String)| {
            let name: HeaderName = name.parse().expect("a header name");
            (name, HeaderValue::from_str(&self.filled(value)).expect("a header value"))
        };
        CallbackRequest {
            method: self.method.clone(),
            headers: self.headers.iter().map(header).collect::<HeaderMap>(),
            query: self.query.clone(),
            body: Bytes::from(self.body.clone()),
            now: self.now,
        }
    }

    /// A header's value with the signature that it asks for.
    fn filled(&self, value: &str) -> String {
        let Some((before, rest)) = value.split_once("{{hmac.") else { return value.to_owned() };
        let (placeholder, after) = rest.split_once("}}").expect("a placeholder with an end");
        let (kind, secret) = placeholder.split_once(' ').expect("a kind and a secret");
        let (key, body) = (secret.as_bytes(), self.body.as_bytes());
        let mac = match kind.split('.').next() {
            Some("sha256") => Hmac::<Sha256>::new_from_slice(key)
                .expect("a key")
                .chain_update(body)
                .finalize()
                .into_bytes()
                .to_vec(),
            Some("sha512") => Hmac::<Sha512>::new_from_slice(key)
                .expect("a key")
                .chain_update(body)
                .finalize()
                .into_bytes()
                .to_vec(),
            other => panic!("no such algorithm: {other:?}"),
        };
        let encoded = if kind.ends_with(".base64") { BASE64_STANDARD.encode(mac) } else { hex::encode(mac) };
        format!("{before}{encoded}{after}")
    }

    /// The content of a callback, for a comparison with the vendor's schema.
    #[allow(dead_code, reason = "the suite itself compares no schemas")]
    pub fn body(&self) -> String {
        self.body.clone()
    }

    pub fn is_genuine(&self) -> bool {
        self.expected.is_some()
    }

    pub fn connection(&self, descriptor: &Descriptor) -> Arc<dyn Provider> {
        let mut settings = run::example(descriptor);
        settings.extend(self.settings.clone());
        run::build(descriptor, settings)
    }

    fn secrets(&self, descriptor: &Descriptor) -> BTreeSet<String> {
        let mut settings = run::example(descriptor);
        settings.extend(self.settings.clone());
        run::secrets(&settings)
    }
}

pub fn load_all(provider: &str) -> Vec<Fixture> {
    let Ok(entries) = fs::read_dir(fixture::folder(provider).join("callback")) else { return Vec::new() };
    let mut fixtures: Vec<Fixture> = entries
        .map(|entry| entry.expect("a directory entry").path())
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a fixture in UTF-8");
            let name = path.file_stem().expect("a file name").to_string_lossy().into_owned();
            parse(name, &text).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
        })
        .collect();
    fixtures.sort_by(|a, b| a.name.cmp(&b.name));
    fixtures
}

fn parse(name: String, text: &str) -> Result<Fixture, String> {
    let (front, rest) = text.split_once("\n### Request\n").ok_or("there is no ### Request")?;
    let (request, expected) = match rest.split_once("\n\n### Events\n") {
        Some((request, events)) => {
            (request, Some(serde_json::from_str(events).map_err(|error| error.to_string())?))
        }
        None => (rest.strip_suffix('\n').unwrap_or(rest), None),
    };
    if !front.lines().any(|line| line.starts_with("# ") && line.contains("http")) {
        return Err("the first lines must name the source, with a link".to_owned());
    }
    let directive = |name: &str| {
        let lines = front.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        lines.map(str::trim).next()
    };
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let mut lines = head.lines();
    let (method, target) = lines.next().and_then(|line| line.split_once(' ')).ok_or("no METHOD and /path")?;
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let header = |line: &str| {
        let (name, value) = line.split_once(':').ok_or(format!("{line:?} is no header"))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    Ok(Fixture {
        name,
        settings: directive("@settings")
            .map(serde_json::from_str)
            .transpose()
            .map_err(|error| error.to_string())?
            .unwrap_or_default(),
        now: directive("@now").ok_or("there is no @now")?.parse().map_err(|_| "@now is no time")?,
        method: method.parse().map_err(|_| "no such method")?,
        query,
        headers: lines.map(header).collect::<Result<_, String>>()?,
        body: body.to_owned(),
        answer: directive("@answer").map(str::to_owned),
        proof: match directive("@proof") {
            None => None,
            Some("token") => Some(Proof::Token),
            Some("signature") => Some(Proof::Signature { window: None }),
            Some(_) => return Err("@proof is token or signature".to_owned()),
        },
        expected,
    })
}

type Heard = Result<Callback, CallbackError>;

fn shown(heard: &Heard) -> Value {
    match heard {
        Ok(callback) => callback
            .events
            .iter()
            .map(|event| {
                let mut shown = match &event.what {
                    What::Receipt(receipt) => json!({"id": event.id, "receipt": receipt}),
                    What::Voice(voice) => json!({"id": event.id, "voice": voice}),
                };
                if let Some(account) = &event.account {
                    shown["account"] = json!(account);
                }
                shown
            })
            .collect(),
        Err(error) => json!(format!("{error:?}").to_lowercase()),
    }
}

/// The result of a callback, in the words of file names.
fn end_of(heard: &Heard) -> String {
    match heard {
        Err(error) => format!("{error:?}").to_lowercase(),
        Ok(callback) => match callback.events.as_slice() {
            [] => "none".to_owned(),
            [event] => match &event.what {
                What::Receipt(receipt) => json!(receipt.status).as_str().unwrap_or_default().to_owned(),
                What::Voice(_) => "voice".to_owned(),
            },
            _ => "several".to_owned(),
        },
    }
}

/// The fixtures that are owed where voice notes are received: a direct one, an audio file, an answer to a message, and
/// what is none of these.
const OWED_VOICES: [&str; 5] = ["voice", "voice.audio", "voice.reply", "none.own", "none.text"];

/// Whether voice notes are received over such a connection, once it is configured for callbacks.
pub fn receives(descriptor: &Descriptor) -> bool {
    let fixtures = load_all(descriptor.name);
    let configured = fixtures.iter().find(|fixture| fixture.is_genuine());
    configured.is_some_and(|fixture| fixture.connection(descriptor).capabilities().inbound)
}

/// The fixtures of received voice notes that are missing.
pub fn missing_voices(descriptor: &Descriptor, fixtures: &[Fixture]) -> Vec<&'static str> {
    let has = |name: &&str| fixtures.iter().any(|fixture| fixture.name == *name);
    let owed = OWED_VOICES.into_iter().filter(|_| receives(descriptor));
    owed.filter(|name| !has(name)).collect()
}

/// The ends that a provider's fixtures have to show: refusals, events without meaning, and every receipt that it sends.
pub fn owed(descriptor: &Descriptor, fixtures: &[Fixture]) -> Vec<String> {
    let mut owed: Vec<String> = ["none", "malformed", "forged"].map(str::to_owned).to_vec();
    let configured = fixtures.iter().find(|fixture| fixture.is_genuine());
    let receipts = configured.map(|fixture| fixture.connection(descriptor).capabilities().receipts.clone());
    let name = |status: &ReceiptStatus| json!(status).as_str().unwrap_or_default().to_owned();
    owed.extend(receipts.iter().flatten().map(name));
    owed
}

pub fn callback(descriptor: &Descriptor, fixture: &Fixture) -> Outcome {
    let (provider, request) = (fixture.connection(descriptor), fixture.request());
    let heard = provider.callback(&request);
    let kind = fixture.name.split('.').next().unwrap_or_default();
    ensure(end_of(&heard) == kind, || format!("{} instead of {kind}: {heard:?}", end_of(&heard)))?;
    if let Some(expected) = &fixture.expected {
        ensure(shown(&heard) == *expected, || format!("{:#} instead of {expected:#}", shown(&heard)))?;
        let answer = heard.as_ref().ok().and_then(|callback| callback.answer.clone());
        ensure(answer == fixture.answer, || format!("answers {answer:?}"))?;
    }
    ensure(provider.callback(&request) == heard, || "the second time it says something else".into())?;
    for receipt in heard.iter().flat_map(Callback::receipts) {
        let comes = provider.capabilities().receipts.contains(&receipt.status);
        ensure(comes, || format!("capabilities.receipts lacks {:?}", receipt.status))?;
    }
    let largest = descriptor.callbacks.map_or(0, |callbacks| callbacks.max_bytes);
    ensure(request.body.len() <= largest, || "larger than the descriptor says".into())?;
    clean(descriptor, fixture, &request, &heard)
}

fn clean(descriptor: &Descriptor, fixture: &Fixture, request: &CallbackRequest, heard: &Heard) -> Outcome {
    let error = heard.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let said = format!("{request:?} {heard:?} {} {error}", shown(heard));
    for secret in fixture.secrets(descriptor) {
        ensure(!said.contains(&secret), || format!("a secret in {said}"))?;
    }
    for receipt in heard.iter().flat_map(Callback::receipts) {
        ensure(!receipt.message_id.is_empty(), || "a receipt for no message".into())?;
        let failed = json!(receipt.status) == "failed";
        ensure(receipt.failure.is_some() == failed, || format!("{receipt:?}"))?;
        let detail = receipt.failure.as_ref().map_or("", |failure| failure.detail.as_str());
        let number = detail.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() >= 7);
        ensure(!number && failed != detail.is_empty(), || format!("not for a bot's eyes: {detail:?}"))?;
    }
    let provider = fixture.connection(descriptor);
    for event in heard.iter().flat_map(|callback| &callback.events) {
        let What::Voice(voice) = &event.what else { continue };
        received(&*provider, event, voice)?;
        let digits: String = voice.from.chars().filter(char::is_ascii_digit).collect();
        let shown = format!("{heard:?}");
        ensure(digits.len() < 7 || !shown.contains(&digits), || format!("Debug shows a person: {shown}"))?;
    }
    Ok(())
}

/// Requirements on every received voice note.
fn received(provider: &dyn Provider, event: &ProviderEvent, voice: &InboundVoice) -> Outcome {
    ensure(provider.capabilities().inbound, || "capabilities.inbound is false".into())?;
    for to in [&voice.from, &voice.conversation] {
        let read = voicegate_providers::parse_recipient(to);
        let key = read.clone().map(|to| provider.recipient_key(&to));
        ensure(matches!(key, Ok(Ok(_))), || format!("{to} is no recipient of this connection"))?;
        ensure(read.is_ok_and(|read| read.to_string() == *to), || format!("{to} is not spelt as usual"))?;
    }
    ensure(voice.group || voice.from == voice.conversation, || "a conversation with somebody else".into())?;
    ensure(matches!(voice.form, Form::Voice | Form::Audio), || format!("received as {:?}", voice.form))?;
    // A message comes again in other events and other batches, so only its own id names the event.
    let names_message = event.id.as_ref().is_some_and(|id| id.contains(&voice.message_id) && id.len() <= 255);
    ensure(names_message, || format!("the event {:?} does not name its message", event.id))?;
    let stored = serde_json::to_value(voice).map_err(|error| error.to_string())?;
    let read: Result<InboundVoice, _> = serde_json::from_value(stored);
    ensure(read.is_ok_and(|read| read == *voice), || "it is not read back as it was stored".into())
}

/// Forgeries are refused: the secret is the only proof, whatever else a caller knows.
pub fn forgeries(descriptor: &Descriptor, fixture: &Fixture) -> Outcome {
    let (provider, genuine) = (fixture.connection(descriptor), fixture.request());
    let heard = provider.callback(&genuine);
    let judge = |request: &CallbackRequest| {
        let other = provider.callback(request);
        clean(descriptor, fixture, request, &other).map(|()| other)
    };
    // Without any part of what came along, and with each part changed a little.
    let mut proofs = 0;
    for (name, value) in fixture.headers.iter().chain(&fixture.query) {
        for change in [None, Some(0), Some(7)] {
            let other = judge(&changed(&genuine, name, change))?;
            // A handshake answers with the challenge, which is no secret and has no meaning.
            let handshake = fixture.answer.is_some()
                && !value.contains("secret")
                && other
                    .as_ref()
                    .map_or_else(|error| *error == CallbackError::Malformed, |it| it.events.is_empty());
            if handshake {
                continue;
            }
            ensure(other == heard || other == Err(CallbackError::Forged), || {
                format!("with another {name} ({change:?}): {other:?}")
            })?;
            proofs += usize::from(other.is_err());
        }
    }
    ensure(proofs > 0, || "nothing that came along proves who sent it".into())?;
    match fixture.proof.or(descriptor.callbacks.map(|callbacks| callbacks.proof)) {
        None => return Err("the descriptor says that there are no callbacks".into()),
        Some(Proof::Token) => unsigned_body(&genuine, &judge)?,
        Some(Proof::Signature { window }) => {
            signed_body(&genuine, &judge)?;
            if let Some(window) = window {
                signed_time(&genuine, window, &heard, &judge)?;
            }
        }
    }
    // Another connection's secret, and none.
    let mut settings = run::example(descriptor);
    settings.extend(fixture.settings.iter().map(|(key, value)| (key.clone(), replaced(value))));
    let other = run::build(descriptor, settings).callback(&genuine);
    ensure(other == Err(CallbackError::Forged), || format!("with another secret: {other:?}"))?;
    let bare = run::build(descriptor, run::example(descriptor));
    ensure(bare.callback(&genuine) == Err(CallbackError::NotConfigured), || "without a secret".into())?;
    ensure(bare.capabilities().receipts.is_empty(), || "receipts are claimed without a secret".into())?;
    ensure(!bare.capabilities().inbound, || "received notes are claimed without a secret".into())
}

type Judge<'a> = dyn Fn(&CallbackRequest) -> Result<Heard, libtest_mimic::Failed> + 'a;

fn signed_body(genuine: &CallbackRequest, judge: &Judge<'_>) -> Outcome {
    for body in damaged(&genuine.body) {
        let other = judge(&CallbackRequest { body, ..genuine.clone() })?;
        ensure(other == Err(CallbackError::Forged), || format!("with another body: {other:?}"))?;
    }
    Ok(())
}

/// A signature with a time is believed within its window and no longer.
fn signed_time(
    genuine: &CallbackRequest,
    window: std::time::Duration,
    heard: &Heard,
    judge: &Judge<'_>,
) -> Outcome {
    let window = i64::try_from(window.as_secs()).expect("a window of minutes");
    for seconds in [-window - 1, -86_400, window + 1, 86_400] {
        let now = genuine.now + SignedDuration::from_secs(seconds);
        let other = judge(&CallbackRequest { now, ..genuine.clone() })?;
        ensure(other == Err(CallbackError::Stale), || format!("{seconds} s later: {other:?}"))?;
    }
    for seconds in [10 - window, window - 10] {
        let now = genuine.now + SignedDuration::from_secs(seconds);
        let other = judge(&CallbackRequest { now, ..genuine.clone() })?;
        ensure(other.is_ok() == heard.is_ok(), || format!("{seconds} s later: {other:?}"))?;
    }
    Ok(())
}

/// If the address is the proof, a body that broke off must not be taken for another event.
fn unsigned_body(genuine: &CallbackRequest, judge: &Judge<'_>) -> Outcome {
    for body in damaged(&genuine.body) {
        let cut = body.len() < genuine.body.len();
        let other = judge(&CallbackRequest { body, ..genuine.clone() })?;
        ensure(!cut || other == Err(CallbackError::Malformed), || format!("cut: {other:?}"))?;
    }
    Ok(())
}

/// The body cut at several places, and with one byte changed at several others.
fn damaged(body: &Bytes) -> impl Iterator<Item = Bytes> {
    let cuts = (0..8).map(|part| body.slice(..body.len() * part / 8)).filter(|cut| cut.len() < body.len());
    let last = body.len().checked_sub(1).map(|end| body.slice(..end));
    let flips = (0..40).filter(|_| !body.is_empty()).map(|part| {
        let mut bytes = body.to_vec();
        bytes[(body.len() - 1) * part / 39] ^= 1;
        Bytes::from(bytes)
    });
    cuts.chain(last).chain(flips)
}

/// Without the header or parameter `name`, or with its character at `place` changed.
fn changed(genuine: &CallbackRequest, name: &str, place: Option<usize>) -> CallbackRequest {
    let mut request = genuine.clone();
    let change = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        let place = place.unwrap_or_default().min(bytes.len() - 1);
        bytes[place] ^= 1;
        String::from_utf8(bytes).expect("ASCII")
    };
    match place {
        None => {
            request.headers.remove(name);
            request.query.retain(|(key, _)| key != name);
        }
        Some(_) => {
            if let Some(value) = genuine.header(name) {
                let value = HeaderValue::from_str(&change(value)).expect("a header value");
                request.headers.insert(HeaderName::try_from(name).expect("a name"), value);
            }
            for (_, value) in request.query.iter_mut().filter(|(key, _)| key == name) {
                *value = change(value);
            }
        }
    }
    request
}

/// A setting of the same shape with another secret in it.
fn replaced(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(replaced).collect(),
        Value::String(text) => text.replace("secret", "Secret").into(),
        other => other.clone(),
    }
}
