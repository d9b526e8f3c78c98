//! The requirements on every adapter beside sending: the check of its account, the registration of callbacks, their
//! status, and the look-up of a note.

use std::time::Duration;

use libtest_mimic::Failed;
use voicegate_providers::{Descriptor, SendErrorKind, Stage};

use crate::{
    checks::{self, NOBODY_KNOWS, Outcome, ensure},
    fixture::{Answer, Fixture},
    run::{self, Ask, Checked, LONG, SHORT},
    stub::Recorded,
};

/// A check sends nothing, so nothing about recipients, audio or unknown outcomes can come of it.
const KINDS: &[SendErrorKind] = &[
    SendErrorKind::Unauthorized,
    SendErrorKind::Misconfigured,
    SendErrorKind::RateLimited,
    SendErrorKind::NotReady,
    SendErrorKind::Unavailable,
];

/// A check is made every few minutes, so it is cheap. The others are bounded.
fn most_requests(ask: Ask) -> usize {
    if ask == Ask::Check { 2 } else { 10 }
}

pub async fn account(
    ask: Ask,
    descriptor: &Descriptor,
    fixture: &Fixture,
    send: Option<&Fixture>,
) -> Outcome {
    let checked = run::ask(ask, descriptor, fixture, LONG, false).await;
    clean(ask, &checked)?;
    harmless(ask, &checked.requests, send)?;
    match (&checked.result, fixture.expected) {
        (Ok(report), None) => {
            let expected = fixture.report.as_ref().ok_or("an ok fixture needs @expect.report")?;
            ensure(report == expected, || format!("reports {report:?} instead of {expected:?}"))?;
            let name = format!("{}.{}", ask.folder(), fixture.name);
            checks::snapshot(descriptor, &name, &checked.requests, &checked.secrets);
        }
        (Err(error), Some(kind)) => {
            ensure(error.kind == kind, || format!("{error:?} instead of {kind:?}"))?;
            let expected = fixture.retry_after.map(Duration::from_secs_f64);
            ensure(error.retry_after == expected, || format!("retry_after {:?}", error.retry_after))?;
            if let Some(expected) = &fixture.report {
                ensure(error.detail == *expected, || format!("says {:?}", error.detail))?;
            }
        }
        (result, expected) => return Err(format!("{result:?} instead of {expected:?}").into()),
    }
    ensure(checked.problems.is_empty(), || checked.problems.join("; "))
}

/// Requirements on every check, however it ends.
fn clean(ask: Ask, checked: &Checked) -> Outcome {
    checks::clean_requests(&checked.requests, &checked.secrets, checked.secret_in_path)?;
    ensure(checked.requests.len() <= most_requests(ask), || format!("{} requests", checked.requests.len()))?;
    ensure(checked.endless_bytes < checks::ENDLESS, || format!("read {} bytes", checked.endless_bytes))?;
    let said = match &checked.result {
        Ok(report) => report,
        Err(error) => {
            checks::keeps_secrets(error, &checked.secrets)?;
            ensure(KINDS.contains(&error.kind), || format!("{error:?} can be no end of this"))?;
            ensure(error.stage == Stage::Check, || format!("stage {:?}", error.stage))?;
            &error.detail
        }
    };
    ensure(!said.is_empty() && !said.contains(char::is_control), || format!("no line for people: {said:?}"))?;
    // A secret that was made for us, and the ids of messages, are for the caller; nothing else of that kind is.
    let said = said.split("; webhook_secret = ").next().unwrap_or_default();
    let said = if ask == Ask::LookUp && checked.result.is_ok() { "seen or not" } else { said };
    let number = said.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() >= 7);
    ensure(!number, || format!("a phone number in {said:?}"))?;
    ensure(!checked.secrets.iter().any(|secret| said.contains(secret)), || format!("a secret in {said:?}"))
}

/// Only questions: none of the requests by which sending changes something.
fn harmless(ask: Ask, requests: &[Recorded], send: Option<&Fixture>) -> Outcome {
    let asks = |request: &Recorded| {
        matches!(ask, Ask::Register | Ask::Check | Ask::Presence) || request.method == "GET"
    };
    ensure(requests.iter().all(asks), || "a question changes something".into())?;
    let changes = send.iter().flat_map(|send| &send.script).filter(|exchange| exchange.method != "GET");
    for exchange in changes {
        let path = exchange.target.split('?').next().unwrap_or_default();
        let same = |request: &&Recorded| {
            request.method == exchange.method && request.target.split('?').next() == Some(path)
        };
        ensure(!requests.iter().any(|request| same(&request)), || {
            format!("{} {path} belongs to sending, not to asking", exchange.method)
        })?;
    }
    Ok(())
}

pub async fn fault(
    ask: Ask,
    descriptor: &Descriptor,
    ok: &Fixture,
    place: usize,
    answer: Answer,
    in_dispatch: &[SendErrorKind],
) -> Outcome {
    let timeout = if matches!(answer, Answer::Stall) { SHORT } else { LONG };
    let checked = run::ask(ask, descriptor, &answered(ok, place, answer), timeout, false).await;
    clean(ask, &checked)?;
    let error = failed(&checked)?;
    // If it is not known whether anything was done, the provider is at fault and not the configuration.
    ensure(in_dispatch != NOBODY_KNOWS || error == SendErrorKind::Unavailable, || {
        format!("{error:?} is not Unavailable")
    })?;
    ensure(checked.problems.is_empty(), || checked.problems.join("; "))
}

pub async fn refused_connection(ask: Ask, descriptor: &Descriptor, ok: &Fixture) -> Outcome {
    let checked = run::ask(ask, descriptor, ok, LONG, true).await;
    clean(ask, &checked)?;
    let error = failed(&checked)?;
    ensure(error == SendErrorKind::Unavailable, || format!("{error:?} is not Unavailable"))
}

/// A provider that repeats everything it was told.
pub async fn echo(ask: Ask, descriptor: &Descriptor, ok: &Fixture, place: usize, status: &str) -> Outcome {
    let mut settings = run::example(descriptor);
    settings.extend(ok.settings.clone());
    let secrets = run::secrets(&settings);
    let said = secrets.iter().map(String::as_str).chain(["+15550001111"]).collect::<Vec<_>>().join(" ");
    for body in checks::echoes(&said) {
        let answer = Answer::new(&format!("{status}\r\nX-Trace-ID: {said}"), &body);
        let checked = run::ask(ask, descriptor, &answered(ok, place, answer), LONG, false).await;
        clean(ask, &checked)?;
        failed(&checked)?;
    }
    Ok(())
}

/// The good case up to `place`, where the provider answers otherwise.
fn answered(ok: &Fixture, place: usize, answer: Answer) -> Fixture {
    let mut fixture = ok.clone();
    fixture.script.truncate(place + 1);
    fixture.script[place].answer = answer;
    fixture
}

fn failed(checked: &Checked) -> Result<SendErrorKind, Failed> {
    match &checked.result {
        Ok(report) => Err(format!("reports {report:?}").into()),
        Err(error) => Ok(error.kind),
    }
}
