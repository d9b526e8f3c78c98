//! The requirements on the sends of every adapter. No provider is named here.

use std::{collections::BTreeSet, fmt::Debug, time::Duration};

use libtest_mimic::Failed;
use serde_json::Value;
use voicegate_providers::{
    Content, Descriptor, Disposition, Form, Memory, SendError, SendErrorKind, Settings,
};

use crate::{
    fixture::{Answer, Fixture},
    form,
    run::{self, Attempt, Gone, LONG, SHORT, attempt},
    stub::Recorded,
};

pub type Outcome = Result<(), Failed>;

pub fn ensure(holds: bool, what: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(what().into()) }
}

fn equal<T: PartialEq + Debug>(what: &str, actual: &T, expected: &T) -> Outcome {
    ensure(actual == expected, || format!("{what}: {actual:?} instead of {expected:?}"))
}

// Settings

pub fn settings(descriptor: &Descriptor) -> Outcome {
    let example = run::example(descriptor);
    let debug = format!("{:?}", run::build(descriptor, example.clone()));
    for secret in run::secrets(&example) {
        ensure(!debug.contains(&secret), || format!("Debug shows a secret: {debug}"))?;
    }
    let refused = |what: &str, key: &str, change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let mut settings = example.clone();
        change(&mut settings);
        let Err(error) = (descriptor.build)(Settings::new(settings)) else {
            return Err(Failed::from(format!("{what} {key} is accepted")));
        };
        let text = format!("{error} {error:?}");
        ensure(text.contains(key), || format!("{what} {key}: the error does not name it: {text}"))?;
        ensure(!text.contains("secret-"), || format!("{what} {key}: the error shows the value: {text}"))
    };
    refused("unknown", "no_such_key", &|map| drop(map.insert("no_such_key".into(), "secret-x".into())))?;
    refused("unusable", "base_url", &|map| drop(map.insert("base_url".into(), "secret-x".into())))?;
    refused("unusable", "base_url", &|map| drop(map.insert("base_url".into(), "ftp://secret-x".into())))?;
    for key in example.keys() {
        refused("missing", key, &|map| drop(map.remove(key)))?;
        refused("empty", key, &|map| drop(map.insert(key.clone(), "".into())))?;
        refused("mistyped", key, &|map| drop(map.insert(key.clone(), serde_json::json!(["secret-x"]))))?;
    }
    Ok(())
}

// Capabilities

/// One of each kind, by the name that `capabilities.recipients` has for it, in several spellings.
fn kinds() -> Vec<(&'static str, Vec<String>)> {
    let mut kinds = vec![
        ("phone", vec!["+15550001111", "+1 (555) 000-1111"]),
        ("email", vec!["ann@example.com", "Ann@Example.COM"]),
        ("c.us", vec!["15550001111@c.us", "15550001111@s.whatsapp.net"]),
        ("g.us", vec!["120363000000000000@g.us"]),
        ("newsletter", vec!["120363000000000000@newsletter"]),
        ("lid", vec!["123456789012345@lid"]),
    ]
    .into_iter()
    .map(|(kind, spellings)| (kind, spellings.into_iter().map(str::to_owned).collect::<Vec<String>>()))
    .collect::<Vec<_>>();
    for native in voicegate_providers::native_ids() {
        for id in native.valid {
            kinds.push((native.prefix, vec![format!("{}:{id}", native.prefix)]));
        }
    }
    kinds
}

pub fn capabilities(descriptor: &Descriptor) -> Outcome {
    let provider = run::build(descriptor, run::example(descriptor));
    let capabilities = provider.capabilities();
    let forms: Vec<Form> = capabilities.forms.iter().map(|support| support.form).collect();
    let ladder: Vec<Form> = Form::LADDER.into_iter().filter(|form| forms.contains(form)).collect();
    ensure(!forms.is_empty() && forms == ladder, || {
        format!("forms {forms:?} are not in the ladder's order")
    })?;
    ensure(capabilities.provider_converts != Some(""), || "an empty profile for conversion".into())?;
    for support in &capabilities.forms {
        let has_profile = support.profile.as_ref().is_some_and(|profile| !profile.is_empty());
        ensure(has_profile != (support.form == Form::Text), || format!("the profile of {support:?}"))?;
        ensure(support.max_bytes > 0, || format!("no limit of size in {support:?}"))?;
    }
    for (kind, spellings) in kinds() {
        let claimed = capabilities.recipients.contains(&kind);
        let keys: Vec<_> =
            spellings.iter().map(|text| provider.recipient_key(&run::recipient(text)).ok()).collect();
        ensure(keys.iter().all(|key| key.is_some() == claimed), || {
            format!("recipients of kind {kind}: claimed {claimed}, keys {keys:?}")
        })?;
        ensure(keys.windows(2).all(|pair| pair[0] == pair[1]), || {
            format!("{kind}: different keys {keys:?}")
        })?;
    }
    if let Some(native) = &descriptor.native_id {
        ensure(!native.valid.is_empty() && !native.invalid.is_empty(), || "no examples of its ids".into())?;
        for id in native.valid {
            ensure((native.canonical)(id).is_some(), || format!("{id} is refused"))?;
        }
        for id in native.invalid {
            ensure((native.canonical)(id).is_none(), || format!("{id:?} is taken"))?;
        }
    }
    Ok(())
}

pub async fn too_large(descriptor: &Descriptor, ok: &Fixture) -> Outcome {
    let provider = run::build(descriptor, run::example(descriptor));
    let mut note = run::note(&*provider, ok);
    let largest = provider.capabilities().form(ok.form).map_or(0, |support| support.max_bytes);
    if let Content::Audio { audio, .. } = &mut note.content {
        audio.facts.size_bytes = largest + 1;
    }
    let cx = run::context(LONG, false);
    let error = provider.prepare(&cx, &note, &mut Memory::default()).await.err();
    equal("kind", &error.map(|error| error.kind), &Some(SendErrorKind::MediaTooLarge))
}

/// A form that the connection does not have is refused before anything is asked of the provider.
pub async fn other_forms(descriptor: &Descriptor, ok: &Fixture) -> Outcome {
    let provider = run::build(descriptor, run::example(descriptor));
    let missing = Form::LADDER.into_iter().filter(|form| provider.capabilities().form(*form).is_none());
    for form in missing {
        let attempt = attempt(descriptor, &Fixture { form, ..ok.clone() }, LONG, Gone::Never).await;
        let kind = attempt.result.err().map(|error| error.kind);
        equal("kind", &kind, &Some(SendErrorKind::FormUnavailable))?;
        ensure(attempt.requests.is_empty(), || format!("asked the provider about {form:?}"))?;
    }
    Ok(())
}

// Sends

pub async fn send(descriptor: &Descriptor, fixture: &Fixture) -> Outcome {
    let attempt = attempt(descriptor, fixture, LONG, Gone::Never).await;
    clean(&attempt)?;
    remembered("about the recipient", fixture.recipient_after.as_ref(), attempt.memory.recipient.as_ref())?;
    remembered("about the note", fixture.note_after.as_ref(), attempt.memory.note.as_ref())?;
    let media = attempt.memory.media.as_ref().map(|media| serde_json::json!(media));
    remembered("about the media", fixture.media_after.as_ref(), media.as_ref())?;
    match (&attempt.result, fixture.expected) {
        (Ok(_), None) => accepted(descriptor, fixture, &attempt)?,
        (Err(error), Some(kind)) => {
            equal("kind", &error.kind, &kind)?;
            let expected = fixture.retry_after.map(Duration::from_secs_f64);
            equal("retry_after", &error.retry_after, &expected)?;
            if let Some(scope) = &fixture.scope {
                equal("scope", &serde_json::json!(error.scope), scope)?;
            }
            let until = error.until.map(|until| serde_json::json!(until));
            equal("until", &until, &fixture.until)?;
        }
        (result, expected) => return Err(format!("{result:?} instead of {expected:?}").into()),
    }
    // Last, because an attempt that ended differently has other problems too.
    ensure(attempt.problems.is_empty(), || attempt.problems.join("; "))
}

fn remembered(what: &str, expected: Option<&Value>, actual: Option<&Value>) -> Outcome {
    let Some(expected) = expected else { return Ok(()) };
    equal(&format!("memory {what}"), actual.unwrap_or(&Value::Null), expected)
}

fn accepted(descriptor: &Descriptor, fixture: &Fixture, attempt: &Attempt) -> Outcome {
    let Ok(accepted) = &attempt.result else { return Err("not accepted".into()) };
    let last = fixture.script.last().map_or("", |exchange| exchange.answer.body());
    let id = &accepted.message_id;
    let right = fixture.message_id.as_ref().map_or_else(|| last.contains(id), |expected| expected == id);
    ensure(!id.is_empty() && right, || format!("the id {id:?} is not the provider's"))?;
    equal("form", &accepted.form.unwrap_or(fixture.form), &fixture.form_after.unwrap_or(fixture.form))?;
    equal("warnings", &accepted.warnings, &fixture.warnings)?;
    let not_before =
        accepted.not_before.map(|(until, scope)| format!("{until} {}", serde_json::json!(scope)));
    equal("not_before", &not_before.map(|text| text.replace('"', "")), &fixture.not_before)?;
    let (method, path) = attempt.dispatched.as_ref().ok_or("no dispatch")?;
    let shown = attempt.requests.iter().find(|request| request.method == *method && request.target == *path);
    let shown = shown.ok_or("the dispatch never arrived")?;
    let provider = run::build(descriptor, run::example(descriptor));
    if provider.capabilities().idempotency.is_some() {
        let key = fixture.idempotency_key.as_ref().ok_or("an ok fixture needs @expect.idempotency_key")?;
        let sent = format!("{:?}{}", shown.headers, String::from_utf8_lossy(&shown.body));
        ensure(sent.contains(key), || format!("the key {key} is not on the wire"))?;
    }
    snapshot(descriptor, &fixture.name, &attempt.requests, &attempt.secrets);
    Ok(())
}

pub fn snapshot(descriptor: &Descriptor, name: &str, requests: &[Recorded], secrets: &BTreeSet<String>) {
    let requests: Vec<String> = requests.iter().map(|request| printed(request, secrets)).collect();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(crate::fixture::folder(descriptor.name).join("requests"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, requests.join("\n\n")));
}

/// A request as a reader wants it, with everything that differs from run to run taken out.
fn printed(request: &Recorded, secrets: &BTreeSet<String>) -> String {
    let json: Option<Value> = serde_json::from_slice(&request.body).ok();
    let mut text = format!("{} {}\n", request.method, request.target);
    for (name, value) in &request.headers {
        let varies =
            matches!(name.as_str(), "host" | "user-agent") || (json.is_some() && name == "content-length");
        if !varies {
            text += &format!("{name}: {value}\n");
        }
    }
    if let Some(json) = json {
        text += &format!("\n{json:#}");
    } else if let Some(parts) = form::parts(request) {
        for part in parts {
            let bytes = format!("({} bytes, sha256 {})", part.body.len(), crate::fixture::sha256(&part.body));
            let body = match (&part.filename, serde_json::from_slice::<Value>(&part.body)) {
                (Some(_), _) => bytes,
                (None, Ok(json)) => format!("{json:#}"),
                (None, Err(_)) => String::from_utf8(part.body).unwrap_or(bytes),
            };
            let (filename, kind) = (part.filename.unwrap_or_default(), part.content_type.unwrap_or_default());
            text += format!("\n--- {} {filename} {kind}", part.name).trim_end();
            text += &format!("\n{body}");
        }
    } else if !request.body.is_empty() {
        let sha256 = crate::fixture::sha256(&request.body);
        text += &format!("\n({} bytes, sha256 {sha256})", request.body.len());
    }
    secrets.iter().fold(text.trim_end().to_owned(), |text, secret| text.replace(secret, "[secret]"))
}

/// Requirements on every attempt, however it ends.
fn clean(attempt: &Attempt) -> Outcome {
    clean_requests(&attempt.requests, &attempt.secrets, attempt.secret_in_path)?;
    let Err(error) = &attempt.result else { return Ok(()) };
    ensure(!error.detail.is_empty(), || "an error that says nothing".into())?;
    let shown = format!("{error} {error:?}");
    let number: String = attempt.note.to.to_string().chars().filter(char::is_ascii_digit).collect();
    ensure(number.len() < 7 || !shown.contains(&number), || format!("a phone number in {shown}"))?;
    keeps_secrets(error, &attempt.secrets)
}

/// `in_path` allows a secret in the path, for APIs that want it there. The query never contains one.
pub fn clean_requests(requests: &[Recorded], secrets: &BTreeSet<String>, in_path: bool) -> Outcome {
    for request in requests {
        let target = &request.target;
        let visible = if in_path { target.split_once('?').map_or("", |(_, query)| query) } else { target };
        let leaked = secrets.iter().any(|secret| visible.contains(secret));
        ensure(!leaked, || format!("a secret in the URL of {} {target}", request.method))?;
        let lengths = request.headers.iter().filter(|(name, _)| name == "content-length").count();
        ensure(lengths <= 1, || format!("Content-Length twice in {} {target}", request.method))?;
        ensure(!target.starts_with('('), || format!("{target} does not keep the path of base_url"))?;
    }
    Ok(())
}

/// The provider's words are for the tenant: a number may be in them, a secret may not.
pub fn keeps_secrets(error: &SendError, secrets: &BTreeSet<String>) -> Outcome {
    let shown = format!("{error} {error:?}");
    let told = error.upstream.clone().unwrap_or_default();
    let told = [told.code, told.message, told.trace].map(Option::unwrap_or_default).join(" ");
    for secret in secrets {
        ensure(!shown.contains(secret) && !told.contains(secret), || format!("{secret} in {shown} {told}"))?;
    }
    Ok(())
}

// Faults, made from `send/ok.http`

/// Position of the fault in the script.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum At {
    Prepare(usize),
    Dispatch,
}

/// The adapter stops reading an answer without an end.
pub const ENDLESS: usize = 48 * 1024 * 1024;

pub const NOBODY_KNOWS: &[SendErrorKind] = &[SendErrorKind::OutcomeUnknown];
const NOT_UNDERSTOOD: &[SendErrorKind] = &[SendErrorKind::Unexpected, SendErrorKind::OutcomeUnknown];

/// Name, answer, and how an adapter may name it in dispatch.
pub fn faults() -> Vec<(&'static str, Answer, &'static [SendErrorKind])> {
    let html = "<html><body><h1>502 Bad Gateway</h1></body></html>";
    vec![
        ("stall", Answer::Stall, NOBODY_KNOWS),
        ("close", Answer::Close, NOBODY_KNOWS),
        ("broken", Answer::Broken, NOBODY_KNOWS),
        ("endless", Answer::Endless, NOBODY_KNOWS),
        ("500", Answer::new("500 Internal Server Error", ""), NOBODY_KNOWS),
        ("502_html", Answer::new("502 Bad Gateway", html), NOBODY_KNOWS),
        ("503", Answer::new("503 Service Unavailable", "{}"), NOBODY_KNOWS),
        ("504", Answer::new("504 Gateway Timeout", "null"), NOBODY_KNOWS),
        ("redirect", Answer::new("307 Temporary Redirect\r\nLocation: {{base}}/", ""), NOT_UNDERSTOOD),
        ("garbage", Answer::new("200 OK", "\u{1}<not json>"), NOT_UNDERSTOOD),
        ("empty", Answer::new("200 OK", ""), NOT_UNDERSTOOD),
        ("empty_object", Answer::new("200 OK", "{}"), NOT_UNDERSTOOD),
        ("wrong_types", Answer::new("200 OK", "[[1, null, {\"id\": 7}]]"), NOT_UNDERSTOOD),
    ]
}

pub async fn fault(
    descriptor: &Descriptor,
    ok: &Fixture,
    at: At,
    answer: Answer,
    in_dispatch: &[SendErrorKind],
) -> Outcome {
    let (mut fixture, place) = (ok.clone(), place(ok, at));
    let timeout = if matches!(answer, Answer::Stall) { SHORT } else { LONG };
    // If the provider answers nothing, every answer will do.
    let any = ok.script[place].answer.body().is_empty() && answer_is_success(&answer);
    fixture.script.truncate(place + 1);
    fixture.script[place].answer = answer;
    let attempt = attempt(descriptor, &fixture, timeout, Gone::Never).await;
    clean(&attempt)?;
    ensure(attempt.endless_bytes < ENDLESS, || format!("read {} bytes", attempt.endless_bytes))?;
    match (&attempt.result, at) {
        (_, At::Prepare(_)) if any => Ok(()),
        (Ok(accepted), _) => Err(format!("accepted: {accepted:?}").into()),
        (Err(error), At::Dispatch) => {
            ensure(in_dispatch.contains(&error.kind), || format!("{error:?}, not {in_dispatch:?}"))
        }
        (Err(error), At::Prepare(_)) => {
            ensure(error.kind.disposition() != Disposition::Hold, || {
                format!("held, not repeated: {error:?}")
            })?;
            ensure(attempt.dispatched.is_none(), || "dispatched all the same".into())?;
            ensure(in_dispatch == NOT_UNDERSTOOD || error.kind == SendErrorKind::Unavailable, || {
                format!("{error:?} is not Unavailable")
            })
        }
    }?;
    ensure(attempt.problems.is_empty() || any, || attempt.problems.join("; "))
}

fn place(ok: &Fixture, at: At) -> usize {
    if let At::Prepare(place) = at { place } else { ok.script.len() - 1 }
}

pub fn answer_is_success(answer: &Answer) -> bool {
    matches!(answer, Answer::Whole { head, .. } if head.first().is_some_and(|line| line.contains(" 200 ")))
}

pub async fn refused_connection(descriptor: &Descriptor, ok: &Fixture, gone: Gone) -> Outcome {
    let attempt = attempt(descriptor, ok, LONG, gone).await;
    clean(&attempt)?;
    let kind = attempt.result.err().map(|error| error.kind);
    equal("kind", &kind, &Some(SendErrorKind::Unavailable))
}

/// A provider that repeats everything it was told.
pub async fn echo(descriptor: &Descriptor, ok: &Fixture, at: At, status: &str) -> Outcome {
    let probe = attempt(descriptor, ok, LONG, Gone::Never).await;
    let said: Vec<&str> = probe.secrets.iter().map(String::as_str).collect();
    let link = probe.note.audio().map_or("", |audio| audio.link.as_str());
    let said = format!("{} {link} to {}", said.join(" "), probe.note.to);
    for body in echoes(&said) {
        let (mut fixture, place) = (ok.clone(), place(ok, at));
        fixture.script.truncate(place + 1);
        fixture.script[place].answer = Answer::new(&format!("{status}\r\nX-Trace-ID: {said}"), &body);
        let attempt = attempt(descriptor, &fixture, LONG, Gone::Never).await;
        clean(&attempt)?;
        if at == At::Dispatch {
            ensure(attempt.result.is_err(), || format!("accepted: {body}"))?;
        }
    }
    Ok(())
}

/// Answers that repeat `said` in every place where an adapter might read.
pub fn echoes(said: &str) -> [String; 4] {
    let inner = serde_json::json!({"message": said, "code": said, "type": said, "description": said});
    [
        serde_json::json!({"error": inner, "message": said, "code": said, "trace_id": said}).to_string(),
        serde_json::json!({"error": said, "status": 400}).to_string(),
        said.to_owned(),
        format!("<error><message>{said}</message></error>"),
    ]
}
