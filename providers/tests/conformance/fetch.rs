//! The requirements on fetching the audio of received notes: `fixtures/<provider>/fetch/<end>.http`.

use std::time::Duration;

use libtest_mimic::Failed;
use voicegate_providers::{Descriptor, SendErrorKind, Stage};

use crate::{
    checks::{self, NOBODY_KNOWS, Outcome, ensure},
    fixture::{Answer, Fixture},
    run::{self, LONG, Received, SHORT},
    stub::Recorded,
};

/// Ends that every provider has.
pub const OWED: &[&str] = &["ok", "rejected", "unauthorized", "rate_limited", "unavailable"];

/// No recipient and no visible request are involved.
const KINDS: &[SendErrorKind] = &[
    SendErrorKind::Rejected,
    SendErrorKind::MediaTooLarge,
    SendErrorKind::Unauthorized,
    SendErrorKind::Misconfigured,
    SendErrorKind::RateLimited,
    SendErrorKind::NotReady,
    SendErrorKind::Unavailable,
];

/// Largest audio that the receiver takes, in bytes.
const LIMIT: usize = 1024 * 1024;

pub async fn fetch(descriptor: &Descriptor, fixture: &Fixture) -> Outcome {
    let received = run::fetch(descriptor, fixture, LONG, LIMIT, false).await;
    clean(&received)?;
    match (&received.result, fixture.expected) {
        (Ok(fetched), None) => {
            ensure(received.written == audio(fixture).as_bytes(), || {
                format!("other audio: {:?}", String::from_utf8_lossy(&received.written))
            })?;
            ensure(fetched.mime_type == fixture.mime_type_after, || format!("{:?}", fetched.mime_type))?;
            let name = format!("fetch.{}", fixture.name);
            checks::snapshot(descriptor, &name, &received.requests, &received.secrets);
        }
        (Err(error), Some(kind)) => {
            ensure(error.kind == kind, || format!("{error:?} instead of {kind:?}"))?;
            let expected = fixture.retry_after.map(Duration::from_secs_f64);
            ensure(error.retry_after == expected, || format!("retry_after {:?}", error.retry_after))?;
        }
        (result, expected) => return Err(format!("{result:?} instead of {expected:?}").into()),
    }
    ensure(received.problems.is_empty(), || received.problems.join("; "))
}

fn audio(fixture: &Fixture) -> &str {
    let last = fixture.script.last().map_or("", |exchange| exchange.answer.body());
    fixture.audio_after.as_deref().unwrap_or(last)
}

/// Requirements on every fetch, however it ends.
fn clean(received: &Received) -> Outcome {
    checks::clean_requests(&received.requests, &received.secrets, received.secret_in_path)?;
    ensure(received.requests.len() <= 4, || format!("{} requests", received.requests.len()))?;
    ensure(received.endless_bytes < checks::ENDLESS, || format!("read {} bytes", received.endless_bytes))?;
    for request in received.requests.iter().filter(|request| went_elsewhere(request)) {
        let sent =
            format!("{} {:?} {}", request.target, request.headers, String::from_utf8_lossy(&request.body));
        let stolen = received.secrets.iter().find(|secret| sent.contains(*secret));
        ensure(stolen.is_none(), || format!("a credential went to a foreign host: {}", request.target))?;
    }
    let Err(error) = &received.result else { return Ok(()) };
    checks::keeps_secrets(error, &received.secrets)?;
    ensure(KINDS.contains(&error.kind), || format!("{error:?} can be no end of this"))?;
    ensure(error.stage == Stage::Fetch, || format!("stage {:?}", error.stage))?;
    let number = error.detail.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() >= 7);
    ensure(!number && !error.detail.is_empty(), || format!("not for a bot's eyes: {:?}", error.detail))
}

/// Whether a request went to the stub under its other name, which no adapter names as an origin for credentials.
fn went_elsewhere(request: &Recorded) -> bool {
    request.headers.iter().any(|(name, value)| name == "host" && value.starts_with("localhost"))
}

/// Fetches the same files with every address in them at another host, which must hear no secret whatever the outcome.
pub async fn canary(descriptor: &Descriptor, ok: &Fixture) -> Outcome {
    for allow_loopback in [true, false] {
        let moved = |text: &str| text.replace("{{base}}", "{{elsewhere}}");
        let mut fixture = Fixture { media: moved(&ok.media), allow_loopback, ..ok.clone() };
        for exchange in &mut fixture.script {
            if let Answer::Whole { head, body } = &mut exchange.answer {
                *head = head.iter().map(|line| moved(line)).collect();
                *body = moved(body);
            }
        }
        let received = run::fetch(descriptor, &fixture, LONG, LIMIT, false).await;
        clean(&received)?;
        let foreign = received.requests.iter().any(went_elsewhere);
        ensure(allow_loopback || !foreign, || "a forbidden address was dialled".into())?;
    }
    Ok(())
}

/// A redirect leads nowhere.
pub async fn redirect(descriptor: &Descriptor, ok: &Fixture, place: usize) -> Outcome {
    let answer = Answer::new("302 Found\r\nLocation: {{elsewhere}}/stolen", "");
    let fixture = Fixture { allow_loopback: true, ..answered(ok, place, answer) };
    let received = run::fetch(descriptor, &fixture, LONG, LIMIT, false).await;
    clean(&received)?;
    let followed = received.requests.iter().any(|request| request.target.contains("stolen"));
    ensure(!followed && received.result.is_err(), || "the redirect was followed".into())
}

/// The receiver takes the audio to its last byte, and nothing that is longer.
pub async fn limit(descriptor: &Descriptor, ok: &Fixture) -> Outcome {
    let size = audio(ok).len();
    let received = run::fetch(descriptor, ok, LONG, size, false).await;
    ensure(received.result.is_ok(), || format!("{:?}", received.result))?;
    let received = run::fetch(descriptor, ok, LONG, size - 1, false).await;
    clean(&received)?;
    let error = failed(&received)?;
    ensure(error == SendErrorKind::MediaTooLarge, || format!("{error:?} is not MediaTooLarge"))
}

pub async fn fault(
    descriptor: &Descriptor,
    ok: &Fixture,
    place: usize,
    answer: Answer,
    in_dispatch: &[SendErrorKind],
) -> Outcome {
    let timeout = if matches!(answer, Answer::Stall) { SHORT } else { LONG };
    let endless = matches!(answer, Answer::Endless);
    let handed_out = answer.body().to_owned();
    let received = run::fetch(descriptor, &answered(ok, place, answer), timeout, LIMIT, false).await;
    clean(&received)?;
    // The provider may hand out any bytes; the gateway judges later whether they are audio.
    if received.result.is_ok() && in_dispatch != NOBODY_KNOWS {
        return ensure(received.written == handed_out.as_bytes(), || "other bytes than those".into());
    }
    let error = failed(&received)?;
    let too_large = endless && error == SendErrorKind::MediaTooLarge;
    ensure(in_dispatch != NOBODY_KNOWS || too_large || error == SendErrorKind::Unavailable, || {
        format!("{error:?} is not Unavailable")
    })
}

pub async fn refused_connection(descriptor: &Descriptor, ok: &Fixture) -> Outcome {
    let received = run::fetch(descriptor, ok, LONG, LIMIT, true).await;
    clean(&received)?;
    let error = failed(&received)?;
    ensure(error == SendErrorKind::Unavailable, || format!("{error:?} is not Unavailable"))
}

/// A provider that repeats everything it was told.
pub async fn echo(descriptor: &Descriptor, ok: &Fixture, place: usize, status: &str) -> Outcome {
    let mut settings = run::example(descriptor);
    settings.extend(ok.settings.clone());
    let secrets = run::secrets(&settings);
    let said = secrets.iter().map(String::as_str).chain(["+15550001111"]).collect::<Vec<_>>().join(" ");
    for body in checks::echoes(&said) {
        let answer = Answer::new(&format!("{status}\r\nX-Trace-ID: {said}"), &body);
        clean(&run::fetch(descriptor, &answered(ok, place, answer), LONG, LIMIT, false).await)?;
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

fn failed(received: &Received) -> Result<SendErrorKind, Failed> {
    match &received.result {
        Ok(fetched) => Err(format!("fetched {fetched:?}").into()),
        Err(error) => Ok(error.kind),
    }
}
