//! One delivery attempt for a leased note, from its claim to its recorded outcome; `trial` does the work in between.
//! Audio behind a URL was downloaded before, and speech was made (`fetch.rs`).

use std::{pin::Pin, time::Duration};

use jiff::Timestamp;
use serde_json::Value;
use tracing::Instrument;
use voicegate_providers::{Accepted, Disposition};

use super::outcome::{self, Failure, Policy, Timing};
use super::trial::{Trial, deliver};
use super::watch::FIRST_LOOK;
use super::{persist, traced};
use crate::{
    config::OnUnknown,
    gateway::{Gateway, note_metrics},
    model::{
        code::{Code, Stage},
        note::{AudioSource, Note, Status},
        problem::Problem,
    },
    store::{
        Change, Claim, Closed, Health, Learned, MediaChange, NewAudio, Step, StoreError, connection_key,
    },
    telemetry::{metrics, traces},
};

/// The commit before the visible request is retried for this long if the database refuses it. The prepared note and its
/// slots are held meanwhile.
const DISPATCH_PATIENCE: Duration = Duration::from_secs(45);

/// The shortest wait before a note is claimed again that was returned to the queue because the database failed.
const BREATH: Duration = Duration::from_secs(2);

/// Work shorter than this skips the "processing" commit.
const AT_ONCE: Duration = Duration::from_millis(100);

/// The reasons that end an attempt early.
pub(super) enum Abandoned {
    /// Another process holds the lease, or the database failed for too long.
    Store(StoreError),
    /// The process is stopping, and no visible request was made.
    Stopping,
    /// No attempt is made over this connection, because every possible form is known to fail.
    NothingToTry(Box<Problem>),
    /// Any other failure. It is recorded as the outcome of the attempt.
    Failed(Box<Failure>),
}

pub(super) fn failed(failure: impl Into<Failure>) -> Abandoned {
    Abandoned::Failed(Box::new(failure.into()))
}

impl From<StoreError> for Abandoned {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Facts that an attempt has learned, besides the outcome of its note.
#[derive(Debug)]
pub(super) struct Lessons {
    /// Knowledge about the recipient.
    pub learned: Learned,
    pub media: Option<MediaChange>,
    /// Set if the connection may open no new conversations.
    pub closed: Option<Closed>,
    /// The end of a pause of the whole connection.
    pub pause: Option<Timestamp>,
    /// The end of a pause of the server with this key that gets the audio.
    pub server_pause: Option<(String, Timestamp)>,
}

impl Default for Lessons {
    fn default() -> Self {
        Self { learned: Learned::Keep, media: None, closed: None, pause: None, server_pause: None }
    }
}

impl Lessons {
    /// Adds them to a change. `connection` is the key of the attempt's connection.
    fn add_to(self, change: Change, connection: String) -> Change {
        Change {
            learned: self.learned,
            media: self.media,
            closed: self.closed.map(|closed| (connection.clone(), closed)),
            pause: self.pause.map(|until| (connection, until)).or(self.server_pause),
            ..change
        }
    }
}

/// Makes one delivery attempt for a leased note and records its outcome.
pub async fn run(gateway: &Gateway, claim: Claim) {
    let note = &claim.note;
    let n = note.attempts.last().map_or(1, |last| last.n + 1);
    // The span has the highest level, so that no filter removes it.
    let span = tracing::error_span!(
        "attempt", request_id = note.request_id, note.id = %note.id, tenant = note.tenant,
        connection = note.current().connection, n
    );
    let job = traced::begin(gateway, "attempt", note);
    traced::run(gateway, job, run_once(gateway, claim)).instrument(span).await;
}

async fn run_once(gateway: &Gateway, mut claim: Claim) {
    let live = gateway.live();
    let started = gateway.clock.now();
    let entry = claim.note.current().clone();
    let tenant = live.tenants.get(&claim.note.tenant).cloned();
    let connection = tenant.as_ref().and_then(|tenant| tenant.connections.get(&entry.connection));
    metrics::looked_up("recipients", claim.learned.is_some());
    let mut trial = Trial::begin(&claim, started);
    let policy = Policy::new(
        connection.map_or(OnUnknown::Hold, |connection| connection.on_unknown),
        connection.and_then(|connection| connection.provider.capabilities().idempotency),
        live.config.delivery.unknown_grace.0,
    );

    let end = if claim.interrupted {
        Err(Failure::interrupted())
    } else if claim.expired || started >= claim.note.expires_at {
        return end_expired(gateway, &mut claim, started).await;
    } else if claim.note.source != AudioSource::Stored {
        // An earlier version, which downloaded within the attempt, left this note.
        return give_back(gateway, &mut claim, Duration::ZERO).await;
    } else if !policy.may_send(&claim.note, started) {
        Err(Failure::too_late_to_repeat())
    } else if let Some(wait) = trial.wait(started) {
        return give_back(gateway, &mut claim, wait).await;
    } else if let Some(connection) = connection {
        match deliver(gateway, &live, connection, &mut claim, &mut trial).await {
            Ok(accepted) => Ok(accepted),
            Err(Abandoned::Failed(failure)) => Err(*failure),
            Err(Abandoned::NothingToTry(problem)) => {
                tracing::info!(
                    note.id = %claim.note.id, connection = entry.connection,
                    "no attempt is made: {}", problem.detail
                );
                claim.note.memory = trial.memory.note.take();
                let lessons = trial.lessons(gateway, &claim);
                let step = outcome::pass_over(&mut claim.note, &problem, gateway.clock.now());
                return record(gateway, &claim, step, &entry.connection, (None, lessons)).await;
            }
            Err(Abandoned::Stopping) => {
                claim.note.memory = trial.memory.note.take();
                tracing::info!("note {} goes back into the queue, because the gateway stops", claim.note.id);
                return give_back(gateway, &mut claim, Duration::ZERO).await;
            }
            Err(Abandoned::Store(error)) => {
                return give_way(gateway, &mut claim, trial.memory.note.take(), error).await;
            }
        }
    } else {
        let detail = "the connection of this note is no longer configured; it is tried again";
        Err(Failure::for_now(Problem::new(Code::UnknownConnection, detail).stage(Stage::Dispatch)))
    };

    if matches!(&end, Err(failure) if failure.disposition == Disposition::Hold) {
        // If a crash interrupted the attempt, this is the only known time of it.
        claim.note.dispatched_at.get_or_insert(started);
    }
    claim.note.memory = trial.memory.note.take();
    trial.hear(gateway, &end);
    let lessons = trial.lessons(gateway, &claim);
    conclude(gateway, &mut claim, end, (trial.started, policy), lessons).await;
}

/// Records the outcome of an attempt that began at `started`.
pub(super) async fn conclude(
    gateway: &Gateway,
    claim: &mut Claim,
    end: Result<Accepted, Failure>,
    (started, policy): (Timestamp, Policy),
    lessons: Lessons,
) {
    let entry = claim.note.current().clone();
    log_end(&claim.note, &entry.connection, &end);
    if let Err(failure) = &end {
        traces::failed(failure.problem.code.as_str());
    }
    let timing = Timing { started, ended: gateway.clock.now(), jitter: rand::random() };
    let health = match &end {
        Ok(_) => Some(Health::Works),
        Err(failure) => failure.health.clone(),
    };
    let step = outcome::settle(&mut claim.note, end, timing, policy);
    note_metrics::attempt(&claim.note, &entry.provider);
    record(gateway, claim, step, &entry.connection, (health, lessons)).await;
}

/// Records that the note has expired.
pub(super) async fn end_expired(gateway: &Gateway, claim: &mut Claim, now: Timestamp) {
    let step = outcome::expire(&mut claim.note, now);
    let connection = claim.note.current().connection.clone();
    record(gateway, claim, step, &connection, (None, Lessons::default())).await;
}

/// Returns the note to the queue unattempted, together with the audio that was made for it. Retries until the database
/// accepts the write.
pub(super) async fn give_back(gateway: &Gateway, claim: &mut Claim, wait: Duration) {
    let now = gateway.clock.now();
    let at = (now + wait).min(claim.note.expires_at.max(now));
    claim.note.status = Status::Queued;
    (claim.note.next_attempt_at, claim.note.updated_at) = (Some(at), now);
    let connection = claim.note.current().connection.clone();
    let step = Step::Retry { at, pause_connection_until: None };
    record(gateway, claim, step, &connection, (None, Lessons::default())).await;
}

/// Ends an attempt whose progress could not be committed. No visible request was made. The lease is released here,
/// because a lease that is left to expire occupies a slot for minutes.
pub(super) async fn give_way(gateway: &Gateway, claim: &mut Claim, memory: Option<Value>, error: StoreError) {
    let id = claim.note.id;
    if matches!(error, StoreError::LeaseLost) {
        return tracing::warn!(note.id = %id, "note {id} was taken over by somebody else");
    }
    tracing::error!(note.id = %id, %error, "note {id} goes back into the queue, because the database fails");
    claim.note.memory = memory;
    give_back(gateway, claim, BREATH).await;
}

/// Records the next step of a note after an attempt over the connection `tried`.
async fn record(
    gateway: &Gateway,
    claim: &Claim,
    step: Step,
    tried: &str,
    (health, lessons): (Option<Health>, Lessons),
) {
    let live = gateway.live();
    let tried = connection_key(&claim.note.tenant, tried);
    let note = claim.note.clone();
    let connection = live.connection(&note.tenant, &note.current().connection);
    let watched = |wait: Duration| Some(note.updated_at + wait);
    let change = Change {
        notify: live.notifies(&note.tenant),
        deadline: connection
            .filter(|connection| {
                note.status == Status::Accepted && !connection.provider.capabilities().receipts.is_empty()
            })
            .and_then(|connection| watched(connection.ack_deadline)),
        look_up: connection
            .filter(|connection| note.status == Status::Unknown && connection.provider.capabilities().look_up)
            .and_then(|_| watched(FIRST_LOOK)),
        health: health.map(|health| (tried.clone(), health)),
        ..Change::new(note.clone(), step)
    };
    let change = lessons.add_to(change, tried);
    // The provider's answer is stored nowhere else, so the write is retried while the database is busy, full or
    // unreachable, for as long as the lease lasts. After that another process may claim the note.
    let write = || gateway.store.write(claim, &change);
    match persist::written(note.id, "the end of a try", persist::lease(gateway), write).await {
        Ok(stored) => {
            note_metrics::change(&change);
            gateway.changed_to(change.note, stored);
        }
        Err(error) => {
            tracing::error!(note.id = %note.id, %error, "the end of a try of note {} is lost", note.id);
        }
    }
}

/// Logs one line for each attempt. It contains no phone number, key or body.
fn log_end(note: &Note, connection: &str, end: &Result<Accepted, Failure>) {
    match end {
        Ok(accepted) => tracing::info!(
            note.id = %note.id, tenant = note.tenant, connection, trace = accepted.trace,
            "note {} was accepted by the provider", note.id
        ),
        Err(failure) => tracing::warn!(
            note.id = %note.id, tenant = note.tenant, connection,
            code = failure.problem.code.as_str(),
            stage = failure.problem.stage.as_ref().map(Stage::as_str), upstream = ?failure.problem.provider,
            then = ?failure.disposition, "note {} was not accepted: {}", note.id, failure.problem.detail
        ),
    }
}

/// Commits that the visible request may be made from now on. Retries until the database accepts the write.
pub(super) async fn commit_to_dispatch(
    gateway: &Gateway,
    claim: &mut Claim,
    media: Option<MediaChange>,
) -> Result<(), Abandoned> {
    claim.note.next_attempt_at = None;
    claim.note.updated_at = gateway.clock.now();
    let notify = gateway.live().notifies(&claim.note.tenant);
    let change = Change { notify, media, ..Change::new(claim.note.clone(), Step::Dispatching) };
    let write = || gateway.store.write(claim, &change);
    let written = persist::written(claim.note.id, "the begin of the dispatch", DISPATCH_PATIENCE, write);
    let stored = gateway.stop.run_until_cancelled(written).await.ok_or(Abandoned::Stopping)??;
    claim.audio = NewAudio::default();
    gateway.changed_to(change.note, stored);
    Ok(())
}

/// Commits the current state of the note, so that `GET` shows it. If the database refuses the write, the work goes on,
/// and the state is committed with the next step.
async fn progress(gateway: &Gateway, claim: &mut Claim) -> Result<(), StoreError> {
    claim.note.next_attempt_at = None;
    claim.note.updated_at = gateway.clock.now();
    let notify = gateway.live().notifies(&claim.note.tenant);
    let change = Change { notify, ..Change::new(claim.note.clone(), Step::Progress) };
    match gateway.store.write(claim, &change).await {
        Err(error) if error.passes() => {
            tracing::warn!(note.id = %claim.note.id, %error, "progress of note {} is not recorded", claim.note.id);
        }
        written => {
            written?;
            claim.audio = NewAudio::default();
        }
    }
    gateway.changed(&claim.note.tenant, claim.note.id);
    Ok(())
}

/// Commits that the provider sent nothing, and what was learned from its answer. The note is then prepared again.
pub(super) async fn take_back(
    gateway: &Gateway,
    claim: &mut Claim,
    lessons: Lessons,
) -> Result<(), Abandoned> {
    claim.note.next_attempt_at = None;
    claim.note.updated_at = gateway.clock.now();
    let notify = gateway.live().notifies(&claim.note.tenant);
    let connection = connection_key(&claim.note.tenant, &claim.note.current().connection);
    let change = Change { notify, ..Change::new(claim.note.clone(), Step::Again) };
    let change = lessons.add_to(change, connection);
    let write = || gateway.store.write(claim, &change);
    let written = persist::written(claim.note.id, "a refusal", DISPATCH_PATIENCE, write);
    gateway.stop.run_until_cancelled(written).await.ok_or(Abandoned::Stopping)??;
    claim.audio = NewAudio::default();
    gateway.changed(&claim.note.tenant, claim.note.id);
    Ok(())
}

/// Runs a part of the work. Commits the status `processing` only if the work takes longer than [`AT_ONCE`], because
/// shorter work does not justify another commit.
pub(super) async fn processing<T>(
    gateway: &Gateway,
    claim: &mut Claim,
    mut work: Pin<Box<impl Future<Output = Result<T, Abandoned>>>>,
) -> Result<T, Abandoned> {
    match tokio::time::timeout(AT_ONCE, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            let marking = async { Ok(mark_processing(gateway, claim).await?) };
            tokio::try_join!(work, marking).map(|(done, ())| done)
        }
    }
}

pub(super) async fn mark_processing(gateway: &Gateway, claim: &mut Claim) -> Result<(), StoreError> {
    if claim.note.status == Status::Processing {
        return Ok(());
    }
    claim.note.status = Status::Processing;
    progress(gateway, claim).await
}
