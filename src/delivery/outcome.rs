//! What an attempt's end means for its note: pure, so that every rule can be tested without a clock or a network.

use std::time::Duration;

use jiff::Timestamp;
use voicegate_providers::{Accepted, Disposition, SendError, SendErrorKind};

use super::backoff;
use crate::{
    audio::{AudioError, AudioErrorKind},
    config::OnUnknown,
    media::FetchError,
    note::{Attempt, Note, Outcome, Status},
    problem::Problem,
    store::{Health, Step},
};

/// How an attempt failed, whichever part of it did.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub problem: Problem,
    pub disposition: Disposition,
    pub retry_after: Option<Duration>,
    /// How many attempts of the note may end like this; `None`: as many as fit before it expires.
    pub most: Option<u32>,
    /// What this says about the connection; `None` where the trouble is not the provider's.
    pub health: Option<Health>,
}

/// A bot's own server that does not answer is the bot's to mend: it is told within about a minute instead of a day,
/// during which every later note to the same recipient would have to wait.
const FETCH_ATTEMPTS: u32 = 5;

impl Failure {
    pub fn stop(problem: Problem) -> Self {
        Self { problem, disposition: Disposition::Stop, retry_after: None, most: None, health: None }
    }

    pub fn for_now(problem: Problem) -> Self {
        Self { problem, disposition: Disposition::Retry, retry_after: None, most: None, health: None }
    }

    /// A connection that failed before does not work again yet. That is not the note's fault, whatever the reason.
    pub fn still_failing(error: SendError) -> Self {
        let health = Some(Health::Fails(error.detail.clone()));
        Self { health, retry_after: error.retry_after, ..Self::for_now(Problem::from(&error)) }
    }

    /// The gateway itself died while the visible request was under way.
    pub fn interrupted() -> Self {
        let detail = "the gateway was stopped while the note was handed over, so it may or may not arrive";
        let problem = Problem::new("provider_unavailable", detail).stage("dispatch");
        Self { problem, disposition: Disposition::Hold, retry_after: None, most: None, health: None }
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        Self {
            problem: Problem::from(&error),
            disposition: error.kind.disposition(),
            retry_after: error.retry_after,
            most: None,
            health: Some(health(&error)),
        }
    }
}

/// A provider that refuses one note for a reason of its own works; one that does not answer, or not this account, fails.
fn health(error: &SendError) -> Health {
    use SendErrorKind::{Misconfigured, OutcomeUnknown, Unauthorized, Unavailable, Unexpected};
    match error.kind {
        Unauthorized | Misconfigured | Unavailable | OutcomeUnknown | Unexpected => {
            Health::Fails(error.detail.clone())
        }
        _ => Health::Works,
    }
}

impl From<AudioError> for Failure {
    fn from(error: AudioError) -> Self {
        let kind = error.kind;
        let problem = Problem::from(error);
        match kind {
            AudioErrorKind::Overloaded => Self::for_now(problem),
            AudioErrorKind::Internal => Self { most: Some(RENDER_ATTEMPTS), ..Self::for_now(problem) },
            _ => Self::stop(problem),
        }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Final(problem) => Self::stop(problem),
            FetchError::ForNow(problem) => Self { most: Some(FETCH_ATTEMPTS), ..Self::for_now(problem) },
            FetchError::Disk(error) => Self::for_now(Problem::from(error)),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::for_now(Problem::from(error))
    }
}

/// A full disk passes, a file that no encoder gets right does not.
const RENDER_ATTEMPTS: u32 = 3;

/// What the connection's settings say about the end of an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Repeating is harmless or wanted.
    pub may_repeat: bool,
    pub unknown_grace: Duration,
}

impl Policy {
    pub fn new(on_unknown: OnUnknown, idempotent_send: bool, unknown_grace: Duration) -> Self {
        Self { may_repeat: idempotent_send || on_unknown == OnUnknown::Resend, unknown_grace }
    }
}

/// Attempts that are kept with a note; later ones push out the oldest but the first.
const MAX_ATTEMPTS: usize = 50;

/// The longest that one answer can make a whole connection wait; its note may have to wait longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// When the attempt took place.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub started: Timestamp,
    pub ended: Timestamp,
    /// Uniform in 0..1.
    pub jitter: f64,
}

/// Records the attempt on its note, moves the note to its next status, and says what becomes of the delivery.
pub fn settle(note: &mut Note, end: Result<Accepted, Failure>, timing: Timing, policy: Policy) -> Step {
    let connection = note.current().connection.clone();
    let n = note.attempts.last().map_or(1, |last| last.n + 1);
    let (outcome, trace, error, step) = match end {
        Ok(accepted) => {
            let trace = accepted.trace.clone();
            (Outcome::Accepted, trace, None, accept(note, accepted, timing.ended))
        }
        Err(failure) => {
            let trace = failure.problem.provider.as_ref().and_then(|upstream| upstream.trace.clone());
            let (outcome, step) = fail(note, &failure, n, timing, policy);
            (outcome, trace, Some(failure.problem), step)
        }
    };
    let took_ms =
        timing.ended.duration_since(timing.started).as_millis().max(0).try_into().unwrap_or(u64::MAX);
    if note.attempts.len() == MAX_ATTEMPTS {
        // The first stays: it says how it began. An unknown one is never forgotten.
        let dull = note.attempts.iter().skip(1).position(|attempt| attempt.outcome == Outcome::Deferred);
        note.attempts.remove(dull.map_or(1, |index| index + 1));
    }
    note.attempts.push(Attempt { n, connection, outcome, at: timing.started, took_ms, trace, error });
    note.updated_at = timing.ended;
    step
}

fn accept(note: &mut Note, accepted: Accepted, now: Timestamp) -> Step {
    note.status = Status::Accepted;
    note.accepted_at = Some(now);
    note.provider_message_id = Some(accepted.message_id);
    note.marks.extend(accepted.marks);
    note.form = accepted.form.or(note.form);
    (note.next_attempt_at, note.error) = (None, None);
    Step::Done
}

fn fail(note: &mut Note, failure: &Failure, n: u32, timing: Timing, policy: Policy) -> (Outcome, Step) {
    let retry = |note: &mut Note, at: Timestamp, pause: Option<Timestamp>| {
        // A note is looked at once more when it expires, so that its end is on time.
        let at = at.min(note.expires_at);
        note.status = Status::Queued;
        note.next_attempt_at = Some(at);
        Step::Retry { at, pause_connection_until: pause }
    };
    let later = timing.ended + backoff::wait(n, failure.retry_after, timing.jitter);
    // Once the outcome of one try was unknown, the recipient may have the note. It is sent on no other connection,
    // and nothing that follows can turn it into "was not sent".
    let doubtful = note.attempts.iter().any(|attempt| attempt.outcome == Outcome::Unknown);
    let disposition = match failure.disposition {
        Disposition::Retry if failure.most.is_some_and(|most| n >= most) => Disposition::Stop,
        other => other,
    };
    match disposition {
        Disposition::NextConnection if !doubtful && note.next_stop() => {
            (Outcome::Refused, retry(note, timing.ended, None))
        }
        Disposition::Stop | Disposition::NextConnection => {
            let status = if doubtful { Status::Unknown } else { Status::Failed };
            (Outcome::Refused, end(note, status, &failure.problem))
        }
        Disposition::Retry => (Outcome::Deferred, retry(note, later, None)),
        Disposition::SlowDown => {
            let pause = later.min(timing.ended + LONGEST_PAUSE);
            (Outcome::Deferred, retry(note, later, Some(pause)))
        }
        Disposition::Hold if policy.may_repeat => (Outcome::Unknown, retry(note, later, None)),
        Disposition::Hold => {
            end(note, Status::Unknown, &failure.problem);
            (Outcome::Unknown, Step::Hold { until: timing.ended + policy.unknown_grace })
        }
    }
}

/// The note waited longer than it may.
pub fn expire(note: &mut Note, now: Timestamp) -> Step {
    let last = note.attempts.last().and_then(|attempt| attempt.error.clone());
    let problem = last.unwrap_or_else(|| {
        Problem::new("provider_unavailable", "the note could not be sent before it expired").stage("dispatch")
    });
    note.updated_at = now;
    let doubtful = note.attempts.iter().any(|attempt| attempt.outcome == Outcome::Unknown);
    end(note, if doubtful { Status::Unknown } else { Status::Expired }, &problem)
}

fn end(note: &mut Note, status: Status, problem: &Problem) -> Step {
    // Clients repeat a request that was answered with 5xx, and this note is stored: its failure never is one.
    let problem = match problem.stage.as_deref() {
        _ if problem.status < 500 => problem.clone(),
        Some(stage @ ("probe" | "encode")) => {
            let detail =
                "the audio can be read, but nothing that plays could be made of it; it may be damaged";
            Problem::new("audio_unsupported", detail).stage(stage)
        }
        _ => Problem::new("provider_unavailable", "the gateway could not get the note ready in time"),
    };
    note.status = status;
    note.next_attempt_at = None;
    note.error = Some(problem.of_note(note.id));
    note.source.forget_secrets();
    Step::Done
}

#[cfg(test)]
mod tests;
