//! What an attempt's end means for its note: pure, so that every rule can be tested without a clock or a network.

use std::time::Duration;

use jiff::Timestamp;
use voicegate_providers::{
    Accepted, Disposition, Form, Idempotency, Scope, SendError, SendErrorKind, SendWarning,
};

use super::{backoff, ladder::form_degraded, read_audio::DownloadError};
use crate::{
    config::OnUnknown,
    media::FetchError,
    model::{
        code::{Code, Stage, WarningCode},
        note::{Attempt, Note, Outcome, Status, Warning},
        problem::Problem,
    },
    store::{Health, Step},
};
use voicegate_audio::{AudioError, AudioErrorKind};

/// How an attempt failed, whichever part of it did.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub problem: Problem,
    pub disposition: Disposition,
    pub retry_after: Option<Duration>,
    /// After how many attempts the note is given up; `None`: only when it expires.
    pub most: Option<Most>,
    /// What this says about the connection; `None` where the trouble is not the provider's.
    pub health: Option<Health>,
    /// The note itself was not tried: its connection could not prove that it works again. Such a wait stays short, since
    /// only one note at a time asks, by a request that nobody notices.
    pub asked_only: bool,
    /// By the adapter's word; `None` where the failure is no provider's.
    pub kind: Option<SendErrorKind>,
    /// What a limit or a refusal is about.
    pub scope: Scope,
    /// When what was refused may be tried again, where the provider named it.
    pub until: Option<Timestamp>,
}

/// When a note is given up that could be tried again.
#[derive(Clone, Debug, PartialEq)]
pub enum Most {
    /// After so many attempts, whatever they ended with.
    Attempts(u32),
    /// After so many attempts that ended alike. The note then ends with this problem, or with theirs.
    Alike(u32, Option<Box<Problem>>),
}

/// A bot's own server that does not answer is the bot's to mend: it is told within about a minute instead of a day,
/// during which every later note to the same recipient would have to wait.
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

    /// A connection that failed before does not work again yet. That is not the note's fault, whatever the reason.
    pub fn still_failing(error: SendError) -> Self {
        let health = Some(Health::Fails(error.detail.clone()));
        Self {
            health,
            retry_after: error.retry_after,
            asked_only: true,
            ..Self::for_now(Problem::from(&error))
        }
    }

    /// The gateway itself died while the visible request was under way.
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
            ..Self::new(Problem::from(&error), error.kind.disposition())
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
        let AudioError { kind, detail, stage } = error.clone();
        let internal = Problem::new(Code::Internal, detail.clone()).stage(Stage::from(stage));
        let alike = |most, end: Option<Problem>| Some(Most::Alike(most, end.map(Box::new)));
        let stage = Stage::from(stage);
        let blamed = |code, detail: String| Some(Problem::new(code, detail).stage(stage.clone()));
        match kind {
            AudioErrorKind::Overloaded => Self::for_now(error.into()),
            // No fault of the audio: it waits for ffmpeg for as long as the note lives.
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
            DownloadError::Fetch(error) => error.into(),
        }
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

/// A busy machine passes, a file that never ends or that no encoder gets right does not.
const RENDER_ATTEMPTS: u32 = 3;

/// Runs of ffmpeg that were killed or crashed over one note before it is given up: about two minutes by the schedule, at
/// most four. Memory that ran out is there again by then; a file that ffmpeg crashes on stays one.
const DEATHS: u32 = 16;

/// What the connection's settings say about the end of an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The tenant wants a note repeated that may have arrived.
    pub resend: bool,
    /// The provider recognises a repetition.
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

/// When the first attempt began whose outcome is unknown.
fn first_unknown(note: &Note) -> Option<Timestamp> {
    let unknown = note.attempts.iter().find(|attempt| attempt.outcome == Outcome::Unknown);
    unknown.map(|attempt| attempt.at)
}

/// Attempts that are kept with a note; later ones push out the oldest but the first.
const MAX_ATTEMPTS: usize = 50;

/// The longest that one answer can make a whole connection wait; its note may have to wait longer.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

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

/// Records an attempt in a form that was refused; the next form follows at once.
pub fn step_down(note: &mut Note, failure: &Failure, timing: Timing) {
    let connection = note.current().connection.clone();
    let trace = failure.problem.provider.as_ref().and_then(|upstream| upstream.trace.clone());
    record(note, (connection, Outcome::Refused, trace, Some(failure.problem.clone())), timing);
}

/// Leaves a connection on which no attempt is made, because all that could be tried is known to fail. Where there is no
/// other, the note ends with the last refusal of its attempts, or with `problem` where there was none.
pub fn pass_over(note: &mut Note, problem: &Problem, now: Timestamp) -> Step {
    note.updated_at = now;
    if note.may_have_arrived() {
        return end(note, Status::Unknown, problem);
    }
    if note.next_stop() {
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
        // The first stays: it says how it began. An unknown one is never forgotten.
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
    note.marks.extend(accepted.correlation_ids);
    if let Some(form) = accepted.form {
        if note.form == Some(Form::Voice) && form != Form::Voice {
            note.warn(form_degraded(form, "the provider does not show it as a voice note"));
        }
        note.form = Some(form);
    }
    for warning in accepted.warnings {
        note.warn(told(warning));
    }
    (note.next_attempt_at, note.error) = (None, None);
    Step::Done
}

/// What an adapter says of an accepted note, in words.
fn told(warning: SendWarning) -> Warning {
    match warning {
        SendWarning::ReplyLost => Warning::new(
            WarningCode::ReplyLost,
            "the message to reply to is not there, so the note was sent as a message of its own",
        ),
        SendWarning::WaveformLost => Warning::new(
            WarningCode::WaveformLost,
            "the file is too large for the provider to draw its waveform",
        ),
        SendWarning::PlayIconLost => Warning::new(
            WarningCode::PlayIconLost,
            "the file is too large for a play button, so the recipient downloads it first",
        ),
    }
}

/// Puts the note back into the queue.
fn retry(note: &mut Note, at: Timestamp, pause: Option<Timestamp>) -> Step {
    // A note is looked at once more when it expires, so that its end is on time.
    let at = at.min(note.expires_at);
    note.status = Status::Queued;
    note.next_attempt_at = Some(at);
    Step::Retry { at, pause_connection_until: pause }
}

fn fail(note: &mut Note, failure: &Failure, n: u32, timing: Timing, policy: Policy) -> (Outcome, Step) {
    // The first attempt is always kept.
    let first = note.attempts.first().map_or(timing.started, |attempt| attempt.at);
    let age = timing.ended.duration_since(first).try_into().unwrap_or_default();
    let age = if failure.asked_only { Duration::ZERO } else { age };
    let later = timing.ended + backoff::wait(n, age, failure.retry_after, timing.jitter);
    // Once the outcome of one try was unknown, the recipient may have the note. It is sent on no other connection,
    // and nothing that follows can turn it into "was not sent".
    let doubtful = note.may_have_arrived();
    let (disposition, problem) = match &failure.most {
        Some(most) if failure.disposition == Disposition::Retry => match most {
            Most::Attempts(most) if n >= *most => (Disposition::Stop, &failure.problem),
            Most::Alike(most, end) if alike(note, &failure.problem) + 1 >= *most as usize => {
                (Disposition::Stop, end.as_deref().unwrap_or(&failure.problem))
            }
            _ => (Disposition::Retry, &failure.problem),
        },
        _ => (failure.disposition, &failure.problem),
    };
    match disposition {
        Disposition::NextForm | Disposition::NextConnection if !doubtful && note.next_stop() => {
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

/// Attempts of the note that ended with the same problem.
fn alike(note: &Note, problem: &Problem) -> usize {
    let is_alike = |error: &Problem| (&error.code, &error.detail) == (&problem.code, &problem.detail);
    note.attempts.iter().filter(|attempt| attempt.error.as_ref().is_some_and(is_alike)).count()
}

/// The note waited longer than it may.
pub fn expire(note: &mut Note, now: Timestamp) -> Step {
    let last = note.attempts.last().and_then(|attempt| attempt.error.clone());
    let problem = last.map_or_else(
        || {
            Problem::new(Code::ProviderUnavailable, "the note could not be sent before it expired")
                .stage(Stage::Dispatch)
        },
        // It was never given up, so nothing is known against its audio.
        |problem| if problem.status < 500 { problem } else { not_ready() },
    );
    note.updated_at = now;
    let doubtful = note.may_have_arrived();
    end(note, if doubtful { Status::Unknown } else { Status::Expired }, &problem)
}

fn end(note: &mut Note, status: Status, problem: &Problem) -> Step {
    // Clients repeat a request that was answered with 5xx, and this note is stored: its failure never is one.
    let problem = match &problem.stage {
        _ if problem.status < 500 => problem.clone(),
        Some(stage @ (Stage::Probe | Stage::Encode)) => {
            let detail =
                "the audio can be read, but nothing that plays could be made of it; it may be damaged";
            Problem::new(Code::AudioUnsupported, detail).stage(stage.clone())
        }
        _ => not_ready(),
    };
    note.status = status;
    note.next_attempt_at = None;
    note.error = Some(problem.of_note(note.id));
    note.source.forget_secrets();
    Step::Done
}

fn not_ready() -> Problem {
    Problem::new(Code::ProviderUnavailable, "the gateway could not get the note ready in time")
}

#[cfg(test)]
mod tests;
