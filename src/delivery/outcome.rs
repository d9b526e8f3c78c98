//! The consequences of an attempt's outcome for its note. These are pure functions, so that every rule can be tested
//! without a clock or a network.

use std::time::Duration;

use jiff::Timestamp;
use voicegate_providers::{
    Accepted, Disposition, Form, Idempotency, Scope, SendError, SendErrorKind, SendWarning,
};

use super::{backoff, ladder::form_degraded, read_audio::DownloadError};
use crate::{
    config::OnUnknown,
    gateway::speaking::Unspoken,
    media::FetchError,
    model::{
        code::{Code, Stage, WarningCode},
        note::{Attempt, Note, Outcome, Status, Warning},
        problem::Problem,
    },
    store::{Health, Step},
};
use voicegate_audio::{AudioError, AudioErrorKind};

/// The failure of an attempt, in any of its parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub problem: Problem,
    pub disposition: Disposition,
    pub retry_after: Option<Duration>,
    /// The limit after which the note is given up. `None`: it is retried until it expires.
    pub most: Option<Most>,
    /// The health of the connection after this failure. `None` if the provider did not cause it.
    pub health: Option<Health>,
    /// Only the health check of the connection failed, and the note itself was not attempted. The wait stays short,
    /// since only one note at a time makes the check, and no recipient sees it.
    pub asked_only: bool,
    /// The kind that the adapter reported. `None` if the provider did not cause the failure.
    pub kind: Option<SendErrorKind>,
    /// The scope of a limit or a refusal.
    pub scope: Scope,
    /// The time after which a refused attempt may be repeated, if the provider named one.
    pub until: Option<Timestamp>,
}

/// The limit after which a note is given up although a retry would be possible.
#[derive(Clone, Debug, PartialEq)]
pub enum Most {
    /// The number of attempts, regardless of their outcomes.
    Attempts(u32),
    /// The number of attempts with the same problem. The note then ends with the given problem, or with that one.
    Alike(u32, Option<Box<Problem>>),
}

/// The most attempts to download audio from a bot's own server, or to let a server speak. The bot learns of the failure
/// within about a minute instead of a day, during which every later note to the same recipient would have to wait.
const FETCH_ATTEMPTS: u32 = 7;

impl Failure {
    fn new(problem: Problem, disposition: Disposition) -> Self {
        Self {
            problem,
            disposition,
            retry_after: None,
            most: None,
            health: None,
            asked_only: false,
            kind: None,
            scope: Scope::Connection,
            until: None,
        }
    }

    pub fn stop(problem: Problem) -> Self {
        Self::new(problem, Disposition::Stop)
    }

    pub fn for_now(problem: Problem) -> Self {
        Self::new(problem, Disposition::Retry)
    }

    /// The health check of a connection that failed before has failed again. The note is not to blame for it.
    pub fn still_failing(error: SendError) -> Self {
        let health = Some(Health::Fails(error.detail.clone()));
        Self {
            health,
            retry_after: error.retry_after,
            asked_only: true,
            // A check by itself is no stage of a note: it is asked before the note is handed over.
            ..Self::for_now(Problem::from(&error).stage(Stage::Dispatch))
        }
    }

    /// The gateway itself crashed during the visible request.
    pub fn interrupted() -> Self {
        let detail = "the gateway was stopped while the note was handed over, so it may or may not arrive";
        Self::new(Problem::new(Code::ProviderUnavailable, detail).stage(Stage::Dispatch), Disposition::Hold)
    }

    /// The note may have arrived, and the provider no longer recognises a repetition.
    pub fn too_late_to_repeat() -> Self {
        let detail =
            "the note may or may not have arrived, and it is too late to repeat it without sending it twice";
        Self::new(Problem::new(Code::ProviderUnavailable, detail).stage(Stage::Dispatch), Disposition::Hold)
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        Self {
            retry_after: error.retry_after,
            health: Some(health(&error)),
            kind: Some(error.kind),
            scope: error.scope,
            until: error.until,
            most: error.most.map(|most| Most::Alike(most, None)),
            ..Self::new(Problem::from(&error), error.kind.disposition())
        }
    }
}

/// A provider that refuses a single note is healthy. A provider that does not answer, or refuses the account, is
/// failing.
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
        let AudioError { kind, detail, stage } = error.clone();
        let internal = Problem::new(Code::Internal, detail.clone()).stage(stage.into());
        let alike = |most, end: Option<Problem>| Some(Most::Alike(most, end.map(Box::new)));
        let stage = Stage::from(stage);
        let blamed = |code, detail: String| Some(Problem::new(code, detail).stage(stage.clone()));
        match kind {
            AudioErrorKind::Overloaded => Self::for_now(error.into()),
            // The audio is not to blame. The note waits for ffmpeg until it expires.
            AudioErrorKind::Outage => Self::for_now(internal),
            AudioErrorKind::Died => {
                let detail = "ffmpeg ended on this audio without saying why, each time it was tried, and works with \
                              other audio; the audio may be damaged";
                let most = alike(DEATHS, blamed(Code::AudioUnsupported, detail.to_owned()));
                Self { most, ..Self::for_now(internal) }
            }
            AudioErrorKind::Slow => {
                let end = if stage == Stage::Probe { blamed(Code::AudioUnreadable, detail) } else { None };
                Self { most: alike(RENDER_ATTEMPTS, end), ..Self::for_now(internal) }
            }
            AudioErrorKind::Internal => {
                Self { most: Some(Most::Attempts(RENDER_ATTEMPTS)), ..Self::for_now(internal) }
            }
            _ => Self::stop(error.into()),
        }
    }
}

impl From<DownloadError> for Failure {
    fn from(error: DownloadError) -> Self {
        match error {
            DownloadError::Disk(error) => error.into(),
            DownloadError::Fetch(error) => (*error).into(),
        }
    }
}

impl From<Unspoken> for Failure {
    fn from(error: Unspoken) -> Self {
        let Unspoken { problem, passes, retry_after } = error;
        if !passes {
            return Self::stop(*problem);
        }
        Self { most: Some(Most::Attempts(FETCH_ATTEMPTS)), retry_after, ..Self::for_now(*problem) }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Final(problem) => Self::stop(problem),
            FetchError::ForNow(problem) => {
                Self { most: Some(Most::Attempts(FETCH_ATTEMPTS)), ..Self::for_now(problem) }
            }
            FetchError::Disk(error) => Self::for_now(Problem::from(error)),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::for_now(Problem::from(error))
    }
}

/// The most attempts to render audio. A busy machine recovers in that time; a file that cannot be encoded does not.
const RENDER_ATTEMPTS: u32 = 3;

/// A note is given up after this many runs of ffmpeg that were killed or crashed, which takes about two minutes by the
/// schedule, at most four. A shortage of memory is over by then; a file that crashes ffmpeg still crashes it.
const DEATHS: u32 = 16;

/// The settings of a connection that decide about the outcome of an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The tenant wants notes with an unknown outcome to be repeated.
    pub resend: bool,
    /// The provider's support for recognising a repetition.
    pub idempotency: Option<Idempotency>,
    pub unknown_grace: Duration,
}

impl Policy {
    pub fn new(on_unknown: OnUnknown, idempotency: Option<Idempotency>, unknown_grace: Duration) -> Self {
        Self { resend: on_unknown == OnUnknown::Resend, idempotency, unknown_grace }
    }

    /// Whether a note whose outcome was first unknown at `first` may be sent again at `now`.
    fn may_repeat(&self, first: Timestamp, now: Timestamp) -> bool {
        self.resend || self.idempotency.is_some_and(|idempotency| now < first + idempotency.window)
    }

    /// Whether a note may be sent at `now`: always, unless it may have arrived already.
    pub fn may_send(&self, note: &Note, now: Timestamp) -> bool {
        first_unknown(note).is_none_or(|first| self.may_repeat(first, now))
    }
}

/// The start of the first attempt with an unknown outcome.
fn first_unknown(note: &Note) -> Option<Timestamp> {
    let unknown = note.attempts.iter().find(|attempt| attempt.outcome == Outcome::Unknown);
    unknown.map(|attempt| attempt.at)
}

/// The most attempts that are stored with a note. A further one replaces the oldest, except for the first.
const MAX_ATTEMPTS: usize = 50;

/// The longest pause of a whole connection that one answer can cause. Its note may have to wait longer.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// The times of an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub started: Timestamp,
    pub ended: Timestamp,
    /// A random number, uniform in 0..1.
    pub jitter: f64,
}

/// Records the attempt in its note, moves the note to its next status, and returns the next step of the delivery.
pub fn settle(note: &mut Note, end: Result<Accepted, Failure>, timing: Timing, policy: Policy) -> Step {
    let connection = note.current().connection.clone();
    let (outcome, trace, error, step) = match end {
        Ok(accepted) => {
            let trace = accepted.trace.clone();
            (Outcome::Accepted, trace, None, accept(note, accepted, timing.ended))
        }
        Err(failure) => {
            let trace = failure.problem.provider.as_ref().and_then(|upstream| upstream.trace.clone());
            let (outcome, step) = fail(note, &failure, next_number(note), timing, policy);
            (outcome, trace, Some(failure.problem), step)
        }
    };
    record(note, (connection, outcome, trace, error), timing);
    step
}

/// Records an attempt whose form was refused. The next form follows at once.
pub fn step_down(note: &mut Note, failure: &Failure, timing: Timing) {
    let connection = note.current().connection.clone();
    let trace = failure.problem.provider.as_ref().and_then(|upstream| upstream.trace.clone());
    record(note, (connection, Outcome::Refused, trace, Some(failure.problem.clone())), timing);
}

/// Skips a connection without an attempt, because every possible form is known to fail. If it was the last connection,
/// the note ends with the last refusal among its attempts, or with `problem` if there was none.
pub fn pass_over(note: &mut Note, problem: &Problem, now: Timestamp) -> Step {
    note.updated_at = now;
    if note.may_have_arrived() {
        return end(note, Status::Unknown, problem);
    }
    if note.next_connection() {
        return retry(note, now, None);
    }
    let refused = note.attempts.iter().rev().find(|attempt| attempt.outcome == Outcome::Refused);
    let problem = refused.and_then(|attempt| attempt.error.clone()).unwrap_or_else(|| problem.clone());
    end(note, Status::Failed, &problem)
}

fn next_number(note: &Note) -> u32 {
    note.attempts.last().map_or(1, |last| last.n + 1)
}

type Recorded = (String, Outcome, Option<String>, Option<Problem>);

fn record(note: &mut Note, (connection, outcome, trace, error): Recorded, timing: Timing) {
    let took_ms =
        timing.ended.duration_since(timing.started).as_millis().max(0).try_into().unwrap_or(u64::MAX);
    let n = next_number(note);
    if note.attempts.len() == MAX_ATTEMPTS {
        // The first attempt stays, since it shows the original failure. Unknown outcomes are never removed.
        let dull = note.attempts.iter().skip(1).position(|attempt| attempt.outcome == Outcome::Deferred);
        note.attempts.remove(dull.map_or(1, |index| index + 1));
    }
    note.attempts.push(Attempt { n, connection, outcome, at: timing.started, took_ms, trace, error });
    note.updated_at = timing.ended;
}

fn accept(note: &mut Note, accepted: Accepted, now: Timestamp) -> Step {
    note.status = Status::Accepted;
    note.accepted_at = Some(now);
    note.provider_message_id = Some(accepted.message_id);
    note.correlation_ids.extend(accepted.correlation_ids);
    if let Some(form) = accepted.form {
        if note.form == Some(Form::Voice) && form != Form::Voice {
            note.warn(form_degraded(form, "the provider does not show it as a voice note"));
        }
        note.form = Some(form);
    }
    for warning in accepted.warnings {
        note.warn(text_of(warning));
    }
    (note.next_attempt_at, note.error) = (None, None);
    Step::Done
}

/// The text of a warning that an adapter reported for an accepted note.
fn text_of(warning: SendWarning) -> Warning {
    match warning {
        SendWarning::ReplyLost => Warning::new(
            WarningCode::ReplyLost,
            "the message to reply to is not there, so the note was sent as a message of its own",
        ),
    }
}

/// Puts the note back into the queue.
fn retry(note: &mut Note, at: Timestamp, pause: Option<Timestamp>) -> Step {
    // The note is claimed once more when it expires, so that it ends on time.
    let at = at.min(note.expires_at);
    note.status = Status::Queued;
    note.next_attempt_at = Some(at);
    Step::Retry { at, pause_connection_until: pause }
}

fn fail(note: &mut Note, failure: &Failure, n: u32, timing: Timing, policy: Policy) -> (Outcome, Step) {
    // The first attempt is always stored.
    let first = note.attempts.first().map_or(timing.started, |attempt| attempt.at);
    let age = timing.ended.duration_since(first).try_into().unwrap_or_default();
    let age = if failure.asked_only { Duration::ZERO } else { age };
    let later = timing.ended + backoff::wait(n, age, failure.retry_after, timing.jitter);
    // After one unknown outcome the recipient may have the note. It is sent over no other connection, and no later
    // outcome can turn it into "not sent".
    let doubtful = note.may_have_arrived();
    // The consequence of a failure that is believed. What may pass is given up then.
    let believed = match failure.disposition {
        Disposition::Retry if failure.most.is_some() => Disposition::Stop,
        disposition => disposition,
    };
    let (disposition, problem) = match &failure.most {
        Some(Most::Attempts(most)) if n < *most => (Disposition::Retry, &failure.problem),
        Some(Most::Alike(most, _)) if alike(note, &failure.problem) + 1 < *most as usize => {
            (Disposition::Retry, &failure.problem)
        }
        Some(Most::Alike(_, end)) => (believed, end.as_deref().unwrap_or(&failure.problem)),
        Some(Most::Attempts(_)) | None => (believed, &failure.problem),
    };
    match disposition {
        Disposition::NextForm | Disposition::NextConnection if !doubtful && note.next_connection() => {
            (Outcome::Refused, retry(note, timing.ended, None))
        }
        Disposition::Stop | Disposition::NextForm | Disposition::NextConnection => {
            let status = if doubtful { Status::Unknown } else { Status::Failed };
            (Outcome::Refused, end(note, status, problem))
        }
        Disposition::Retry | Disposition::PrepareAgain => (Outcome::Deferred, retry(note, later, None)),
        // The note is the head of its lane, so nothing overtakes it there.
        Disposition::SlowDown if failure.scope == Scope::Recipient => {
            (Outcome::Deferred, retry(note, later, None))
        }
        Disposition::SlowDown => {
            let pause = later.min(timing.ended + LONGEST_PAUSE);
            (Outcome::Deferred, retry(note, later, Some(pause)))
        }
        Disposition::Hold if policy.may_repeat(first_unknown(note).unwrap_or(timing.started), later) => {
            (Outcome::Unknown, retry(note, later, None))
        }
        Disposition::Hold => {
            end(note, Status::Unknown, &failure.problem);
            (Outcome::Unknown, Step::Hold { until: timing.ended + policy.unknown_grace })
        }
    }
}

/// The number of the note's attempts that ended with the same problem.
fn alike(note: &Note, problem: &Problem) -> usize {
    let is_alike = |error: &Problem| (&error.code, &error.detail) == (&problem.code, &problem.detail);
    note.attempts.iter().filter(|attempt| attempt.error.as_ref().is_some_and(is_alike)).count()
}

/// Ends a note that has expired.
pub fn expire(note: &mut Note, now: Timestamp) -> Step {
    let last = note.attempts.last().and_then(|attempt| attempt.error.clone());
    let problem = last.map_or_else(
        || Problem::new(Code::ProviderUnavailable, "its turn did not come").stage(Stage::Dispatch),
        |problem| told_late(&problem),
    );
    note.updated_at = now;
    if note.may_have_arrived() {
        return end(note, Status::Unknown, &problem);
    }
    let detail = format!(
        "the note expired before it was sent: {}; POST /voice/{{id}}/resend sends it again",
        problem.detail
    );
    end(note, Status::Expired, &Problem { detail, ..problem })
}

fn end(note: &mut Note, status: Status, problem: &Problem) -> Step {
    let problem = told(problem);
    note.status = status;
    note.next_attempt_at = None;
    // Nothing is tried any more, so there is nothing to wait for.
    note.error = Some(Problem { retry_after: None, ..problem }.of_note(note.id));
    note.source.forget_secrets();
    Step::Done
}

/// The problem with which a stored note ends. It never has a 5xx status, because clients repeat requests that were
/// answered with one.
pub fn told(problem: &Problem) -> Problem {
    match &problem.stage {
        _ if problem.status < 500 => problem.clone(),
        Some(stage @ (Stage::Probe | Stage::Encode)) => {
            let detail =
                "the audio can be read, but nothing that plays could be made of it; it may be damaged";
            Problem::new(Code::AudioUnsupported, detail).stage(stage.clone())
        }
        _ => not_ready(),
    }
}

/// The problem with which a stored note ends whose time is over. It was never given up, so its audio is not known to be
/// bad.
pub fn told_late(problem: &Problem) -> Problem {
    if problem.status < 500 { problem.clone() } else { not_ready() }
}

fn not_ready() -> Problem {
    Problem::new(Code::ProviderUnavailable, "the gateway could not get the note ready in time")
}

#[cfg(test)]
mod tests;
