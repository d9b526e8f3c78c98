//! Callbacks as they come in: `fixtures/<provider>/callback/<end>.json`.
//!
//! The file name up to its first dot is the end that must come of it: the status of the one receipt, `none` for what is
//! acknowledged and says nothing, or the name of a `CallbackError`. The body is a list of lines, because signatures are
//! over its bytes. From every genuine one the suite makes forgeries of its own.

use std::{collections::BTreeSet, fs, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use voicegate_providers::{Callback, CallbackError, CallbackRequest, Descriptor, Provider};

use crate::{
    checks::{Outcome, ensure},
    fixture, run,
};

/// What every provider that sends receipts says sooner or later.
pub const OWED: &[&str] = &["sent", "delivered", "read", "failed", "none", "malformed", "forged"];

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixture {
    #[serde(skip)]
    pub name: String,
    /// Where it comes from, with a link.
    source: String,
    /// What is special about it.
    #[serde(default)]
    #[expect(dead_code, reason = "for people")]
    about: String,
    settings: Map<String, Value>,
    request: Request,
    /// Absent where the request is refused.
    expected: Option<Value>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    method: String,
    query: Map<String, Value>,
    headers: Map<String, Value>,
    now: Timestamp,
    body: Vec<String>,
}

impl Fixture {
    fn request(&self) -> CallbackRequest {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let header = |(name, value): (&String, &Value)| {
            let name: HeaderName = name.parse().expect("a header name");
            (name, HeaderValue::from_str(&text(value)).expect("a header value"))
        };
        CallbackRequest {
            method: Method::from_bytes(self.request.method.as_bytes()).expect("a method"),
            headers: self.request.headers.iter().map(header).collect::<HeaderMap>(),
            query: self.request.query.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
            body: Bytes::from(self.body()),
            now: self.request.now,
        }
    }

    /// What is signed or told, for a comparison with the vendor's schema.
    pub fn body(&self) -> String {
        self.request.body.join("\n")
    }

    pub fn is_genuine(&self) -> bool {
        self.expected.is_some()
    }

    fn connection(&self, descriptor: &Descriptor) -> Arc<dyn Provider> {
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
            let mut fixture: Fixture =
                serde_json::from_str(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
            fixture.name = path.file_stem().expect("a file name").to_string_lossy().into_owned();
            fixture
        })
        .collect();
    fixtures.sort_by(|a, b| a.name.cmp(&b.name));
    fixtures
}

type Heard = Result<Callback, CallbackError>;

fn shown(heard: &Heard) -> Value {
    match heard {
        Ok(callback) => json!({"id": callback.id, "receipts": callback.receipts}),
        Err(error) => json!(format!("{error:?}").to_lowercase()),
    }
}

pub fn callback(descriptor: &Descriptor, fixture: &Fixture) -> Outcome {
    ensure(fixture.source.contains("http"), || "the source needs a link".into())?;
    let (provider, request) = (fixture.connection(descriptor), fixture.request());
    let heard = provider.callback(&request);
    let kind = fixture.name.split('.').next().unwrap_or_default();
    let end = match &heard {
        Err(error) => format!("{error:?}").to_lowercase(),
        Ok(callback) => match callback.receipts.as_slice() {
            [] => "none".to_owned(),
            [one] => json!(one.status).as_str().unwrap_or_default().to_owned(),
            more => format!("{} receipts", more.len()),
        },
    };
    ensure(end == kind, || format!("{end} instead of {kind}: {heard:?}"))?;
    if let Some(expected) = &fixture.expected {
        ensure(shown(&heard) == *expected, || format!("{:#} instead of {expected:#}", shown(&heard)))?;
    }
    ensure(provider.callback(&request) == heard, || "the second time it says something else".into())?;
    ensure(provider.capabilities().receipts, || "capabilities.receipts is not set".into())?;
    clean(descriptor, fixture, &request, &heard)
}

fn clean(descriptor: &Descriptor, fixture: &Fixture, request: &CallbackRequest, heard: &Heard) -> Outcome {
    let error = heard.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let said = format!("{request:?} {heard:?} {} {error}", shown(heard));
    for secret in fixture.secrets(descriptor) {
        ensure(!said.contains(&secret), || format!("a secret in {said}"))?;
    }
    for receipt in heard.iter().flat_map(|callback| &callback.receipts) {
        ensure(!receipt.message_id.is_empty(), || "a receipt for no message".into())?;
        let failed = json!(receipt.status) == "failed";
        ensure(receipt.failure.is_some() == failed, || format!("{receipt:?}"))?;
        let detail = receipt.failure.as_ref().map_or("", |failure| failure.detail.as_str());
        let number = detail.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() >= 7);
        ensure(!number && failed != detail.is_empty(), || format!("not for a bot's eyes: {detail:?}"))?;
    }
    Ok(())
}

/// Whoever has not the secret is not believed, whatever else they know.
pub fn forgeries(descriptor: &Descriptor, fixture: &Fixture) -> Outcome {
    let (provider, genuine) = (fixture.connection(descriptor), fixture.request());
    let heard = provider.callback(&genuine);
    let judge = |request: &CallbackRequest| {
        let other = provider.callback(request);
        clean(descriptor, fixture, request, &other).map(|()| other)
    };
    // Without any part of what came along, and with each part changed a little.
    let mut proofs = 0;
    let mut in_query = false;
    for name in fixture.request.headers.keys().chain(fixture.request.query.keys()) {
        let is_query = fixture.request.query.contains_key(name);
        for change in [None, Some(0), Some(7)] {
            let other = judge(&changed(&genuine, name, change))?;
            ensure(other == heard || other == Err(CallbackError::Forged), || {
                format!("with another {name} ({change:?}): {other:?}")
            })?;
            if other.is_err() {
                proofs += 1;
                in_query |= is_query;
            }
        }
    }
    ensure(proofs > 0, || "nothing that came along proves who sent it".into())?;
    if in_query {
        unsigned_body(&genuine, &judge)?
    } else {
        signed_body(&genuine, &heard, &judge)?
    }
    // Another connection's secret, and none.
    let mut settings = run::example(descriptor);
    settings.extend(fixture.settings.iter().map(|(key, value)| (key.clone(), replaced(value))));
    let other = run::build(descriptor, settings).callback(&genuine);
    ensure(other == Err(CallbackError::Forged), || format!("with another secret: {other:?}"))?;
    let bare = run::build(descriptor, run::example(descriptor));
    ensure(bare.callback(&genuine) == Err(CallbackError::NotConfigured), || "without a secret".into())?;
    ensure(!bare.capabilities().receipts, || "receipts are claimed without a secret".into())
}

type Judge<'a> = dyn Fn(&CallbackRequest) -> Result<Heard, libtest_mimic::Failed> + 'a;

fn signed_body(genuine: &CallbackRequest, heard: &Heard, judge: &Judge<'_>) -> Outcome {
    for body in damaged(&genuine.body) {
        let other = judge(&CallbackRequest { body, ..genuine.clone() })?;
        ensure(other == Err(CallbackError::Forged), || format!("with another body: {other:?}"))?;
    }
    for seconds in [-301, -86_400, 301, 86_400] {
        let now = genuine.now + SignedDuration::from_secs(seconds);
        let other = judge(&CallbackRequest { now, ..genuine.clone() })?;
        ensure(other == Err(CallbackError::Stale), || format!("{seconds} s later: {other:?}"))?;
    }
    for seconds in [-290, 290] {
        let now = genuine.now + SignedDuration::from_secs(seconds);
        let other = judge(&CallbackRequest { now, ..genuine.clone() })?;
        ensure(other.is_ok() == heard.is_ok(), || format!("{seconds} s later: {other:?}"))?;
    }
    Ok(())
}

/// Where the address is the proof, a body that broke off must not be taken for another event.
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
    let cuts = (0..8).map(|part| body.slice(..body.len() * part / 8));
    let last = body.slice(..body.len() - 1);
    let flips = (0..40).map(|part| {
        let mut bytes = body.to_vec();
        bytes[(body.len() - 1) * part / 39] ^= 1;
        Bytes::from(bytes)
    });
    cuts.chain([last]).chain(flips)
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

/// The same setting with another secret in it.
fn replaced(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(replaced).collect(),
        Value::String(text) => text.replace("secret", "Secret").into(),
        other => other.clone(),
    }
}
