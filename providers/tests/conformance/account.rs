//! What every adapter owes where it is asked whether its account can send.

use std::time::Duration;

use libtest_mimic::Failed;
use voicegate_providers::{Descriptor, SendErrorKind};

use crate::{
    checks::{self, NOBODY_KNOWS, Outcome, ensure},
    fixture::{Answer, Fixture},
    run::{self, Checked, LONG, SHORT, check},
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

/// A check is made every few minutes, so it is cheap.
const MOST_REQUESTS: usize = 2;

pub async fn account(descriptor: &Descriptor, fixture: &Fixture, send: Option<&Fixture>) -> Outcome {
    let checked = check(descriptor, fixture, LONG, false).await;
    clean(&checked)?;
    harmless(&checked.requests, send)?;
    match (&checked.result, fixture.expected) {
        (Ok(report), None) => {
            let expected = fixture.report.as_ref().ok_or("an ok fixture needs @expect.report")?;
            ensure(report == expected, || format!("reports {report:?} instead of {expected:?}"))?;
            let name = format!("check.{}", fixture.name);
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

/// What holds for every check, however it ends.
fn clean(checked: &Checked) -> Outcome {
    checks::clean_requests(&checked.requests, &checked.secrets)?;
    ensure(checked.requests.len() <= MOST_REQUESTS, || format!("{} requests", checked.requests.len()))?;
    ensure(checked.endless_bytes < 16 * 1024 * 1024, || format!("read {} bytes", checked.endless_bytes))?;
    let said = match &checked.result {
        Ok(report) => report,
        Err(error) => {
            checks::keeps_secrets(error, &checked.secrets)?;
            ensure(KINDS.contains(&error.kind), || format!("{error:?} can be no end of a check"))?;
            ensure(error.stage == "check", || format!("stage {}", error.stage))?;
            &error.detail
        }
    };
    ensure(!said.is_empty() && !said.contains(char::is_control), || format!("no line for people: {said:?}"))?;
    let number = said.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() >= 7);
    ensure(!number, || format!("a phone number in {said:?}"))?;
    ensure(!checked.secrets.iter().any(|secret| said.contains(secret)), || format!("a secret in {said:?}"))
}

/// Only questions: none of the requests by which sending changes something.
fn harmless(requests: &[Recorded], send: Option<&Fixture>) -> Outcome {
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
    descriptor: &Descriptor,
    ok: &Fixture,
    place: usize,
    answer: Answer,
    in_dispatch: &[SendErrorKind],
) -> Outcome {
    let timeout = if matches!(answer, Answer::Stall) { SHORT } else { LONG };
    let checked = check(descriptor, &answered(ok, place, answer), timeout, false).await;
    clean(&checked)?;
    let error = failed(&checked)?;
    // Where nobody knows whether anything was done, the provider is at fault and not the configuration.
    ensure(in_dispatch != NOBODY_KNOWS || error == SendErrorKind::Unavailable, || {
        format!("{error:?} is not Unavailable")
    })?;
    ensure(checked.problems.is_empty(), || checked.problems.join("; "))
}

pub async fn refused_connection(descriptor: &Descriptor, ok: &Fixture) -> Outcome {
    let checked = check(descriptor, ok, LONG, true).await;
    clean(&checked)?;
    let error = failed(&checked)?;
    ensure(error == SendErrorKind::Unavailable, || format!("{error:?} is not Unavailable"))
}

/// A provider that repeats everything it was told.
pub async fn echo(descriptor: &Descriptor, ok: &Fixture, place: usize, status: &str) -> Outcome {
    let secrets = run::secrets(&run::example(descriptor));
    let said = secrets.iter().map(String::as_str).chain(["+15550001111"]).collect::<Vec<_>>().join(" ");
    for body in checks::echoes(&said) {
        let answer = Answer::new(&format!("{status}\r\nX-Trace-ID: {said}"), &body);
        let checked = check(descriptor, &answered(ok, place, answer), LONG, false).await;
        clean(&checked)?;
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
