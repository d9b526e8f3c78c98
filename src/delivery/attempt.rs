//! One try: source, probe, render, `prepare`, commit `sending`, `dispatch`. A source that is a URL was downloaded before
//! (`fetch.rs`).

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::Value;
use tracing::Instrument;
use voicegate_providers::{Accepted, Disposition, Memory, OutboundAudio, OutboundNote, parse_recipient};

use super::outcome::{self, Failure, Policy, Timing};
use super::persist;
use super::route::{native_reply, reply_dropped};
use super::watch::FIRST_LOOK;
use crate::{
    config::{Connection, OnUnknown},
    gateway::{Gateway, Live, counted, places::hung},
    media::{AudioFile, Which},
    model::{
        code::{Code, Stage},
        note::{ConvertChoice, Note, NoteId, SentAudio, Source, Status, Warning},
        problem::Problem,
    },
    store::{Change, Claim, Health, Learned, Step, StoreError, connection_key, queue_key},
    telemetry::metrics,
};
use voicegate_audio::{self as audio, Profile, Work};

/// How long the commit before the visible request is tried again when the database refuses it. What was prepared is
/// kept meanwhile, and so are its places.
const DISPATCH_PATIENCE: Duration = Duration::from_secs(45);

/// A note that was given back because the database failed is not taken up again before.
const BREATH: Duration = Duration::from_secs(2);

/// Work shorter than this skips the "processing" commit.
const AT_ONCE: Duration = Duration::from_millis(100);

/// What ends a try early.
pub(super) enum Abandoned {
    /// Somebody else holds the lease, or the database failed for too long.
    Store(StoreError),
    /// The process is to end, and no visible request was made.
    Stopping,
    /// Anything else; recorded as the try's outcome.
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

/// Makes one try at a leased note and records its end.
pub async fn run(gateway: &Gateway, claim: Claim) {
    let note = &claim.note;
    let n = note.attempts.last().map_or(1, |last| last.n + 1);
    // Of the highest level, so that every filter leaves it in.
    let span = tracing::error_span!(
        "attempt", request_id = note.request_id, note.id = %note.id, tenant = note.tenant,
        connection = note.current().connection, n
    );
    run_once(gateway, claim).instrument(span).await;
}

async fn run_once(gateway: &Gateway, mut claim: Claim) {
    let live = gateway.live();
    let started = gateway.clock.now();
    let stop = claim.note.current().clone();
    let lane = claim.note.lane();
    let tenant = live.tenants.get(&claim.note.tenant).cloned();
    let connection = tenant.as_ref().and_then(|tenant| tenant.connections.get(&stop.connection));
    metrics::looked_up("recipients", claim.learned.is_some());
    let mut memory = Memory { recipient: claim.learned.clone(), note: claim.note.memory.clone() };

    let end = if claim.interrupted {
        Err(Failure::interrupted())
    } else if claim.expired || started >= claim.note.expires_at {
        return end_expired(gateway, &mut claim, started).await;
    } else if claim.note.source != Source::Stored {
        // Of a version that downloaded within the attempt.
        return give_back(gateway, &mut claim, Duration::ZERO).await;
    } else if let Some(connection) = connection {
        match try_once(gateway, &live, connection, &mut claim, &mut memory).await {
            Ok(accepted) => Ok(accepted),
            Err(Abandoned::Failed(failure)) => Err(*failure),
            Err(Abandoned::Stopping) => {
                claim.note.memory = memory.note.take();
                tracing::info!("note {} goes back into the queue, because the gateway stops", claim.note.id);
                return give_back(gateway, &mut claim, Duration::ZERO).await;
            }
            Err(Abandoned::Store(error)) => {
                return give_way(gateway, &mut claim, memory.note.take(), error).await;
            }
        }
    } else {
        let detail = "the connection of this note is no longer configured; it is tried again";
        Err(Failure::for_now(Problem::new(Code::UnknownConnection, detail).stage(Stage::Dispatch)))
    };

    if matches!(&end, Err(failure) if failure.disposition == Disposition::Hold) {
        // Where a crash interrupted the attempt, this is all that is known of when it was.
        claim.note.dispatched_at.get_or_insert(started);
    }
    claim.note.memory = memory.note.take();
    let policy = Policy::new(
        connection.map_or(OnUnknown::Hold, |connection| connection.on_unknown),
        connection.is_some_and(|connection| connection.provider.capabilities().idempotent_send),
        live.config.delivery.unknown_grace.0,
    );
    let learned = match memory.recipient {
        now if now == claim.learned => Learned::Keep,
        None => Learned::Forget { lane },
        Some(value) => {
            let expires_at = gateway.clock.now() + live.config.delivery.learned_ttl.0;
            Learned::Set { lane, value, expires_at }
        }
    };
    conclude(gateway, &mut claim, end, (started, policy), learned).await;
}

/// Records the end of a try that began at `started`.
pub(super) async fn conclude(
    gateway: &Gateway,
    claim: &mut Claim,
    end: Result<Accepted, Failure>,
    (started, policy): (Timestamp, Policy),
    learned: Learned,
) {
    let stop = claim.note.current().clone();
    log_end(&claim.note, &stop.connection, &end);
    let timing = Timing { started, ended: gateway.clock.now(), jitter: rand::random() };
    let health = match &end {
        Ok(_) => Some(Health::Works),
        Err(failure) => failure.health.clone(),
    };
    let health = health.map(|health| (connection_key(&claim.note.tenant, &stop.connection), health));
    let step = outcome::settle(&mut claim.note, end, timing, policy);
    counted::attempt(&claim.note, &stop.provider);
    record(gateway, claim, step, health, learned).await;
}

/// Records that the note waited longer than it may.
pub(super) async fn end_expired(gateway: &Gateway, claim: &mut Claim, now: Timestamp) {
    let step = outcome::expire(&mut claim.note, now);
    record(gateway, claim, step, None, Learned::Keep).await;
}

/// Puts the note back as if nobody had taken it, with what was made for it so far, as soon as the database takes it.
pub(super) async fn give_back(gateway: &Gateway, claim: &mut Claim, wait: Duration) {
    let now = gateway.clock.now();
    let at = now + wait;
    claim.note.status = Status::Queued;
    (claim.note.next_attempt_at, claim.note.updated_at) = (Some(at), now);
    record(gateway, claim, Step::Retry { at, pause_connection_until: None }, None, Learned::Keep).await;
}

/// Ends a try whose progress could not be committed. No visible request was made, and a lease that is only left to run out
/// holds a place for minutes.
pub(super) async fn give_way(gateway: &Gateway, claim: &mut Claim, memory: Option<Value>, error: StoreError) {
    let id = claim.note.id;
    if matches!(error, StoreError::LeaseLost) {
        return tracing::warn!(note.id = %id, "note {id} was taken over by somebody else");
    }
    tracing::error!(note.id = %id, %error, "note {id} goes back into the queue, because the database fails");
    claim.note.memory = memory;
    give_back(gateway, claim, BREATH).await;
}

pub(super) async fn record(
    gateway: &Gateway,
    claim: &Claim,
    step: Step,
    health: Option<(String, Health)>,
    learned: Learned,
) {
    let live = gateway.live();
    let note = claim.note.clone();
    let connection = live.connection(&note.tenant, &note.current().connection);
    let watched = |wait: Duration| Some(note.updated_at + wait);
    let change = Change {
        notify: live.notifies(&note.tenant),
        deadline: connection
            .filter(|connection| {
                note.status == Status::Accepted && connection.provider.capabilities().receipts
            })
            .and_then(|connection| watched(connection.ack_deadline)),
        look_up: connection
            .filter(|connection| note.status == Status::Unknown && connection.provider.capabilities().look_up)
            .and_then(|_| watched(FIRST_LOOK)),
        health,
        learned,
        ..Change::new(note.clone(), step)
    };
    // What a provider said is known nowhere else, so a database that is busy, full or gone is asked again for as long as
    // the lease lasts; after that somebody else has the note.
    let write = || gateway.store.write(claim, &change);
    match persist::written(note.id, "the end of a try", persist::lease(gateway), write).await {
        Ok(()) => {
            counted::recorded(&change);
            gateway.changed(&note.tenant, note.id);
        }
        Err(error) => {
            tracing::error!(note.id = %note.id, %error, "the end of a try of note {} is lost", note.id);
        }
    }
}

/// One line per try, where it is handled; with no number, key or body in it.
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

async fn try_once(
    gateway: &Gateway,
    live: &Live,
    connection: &Connection,
    claim: &mut Claim,
    memory: &mut Memory,
) -> Result<Accepted, Abandoned> {
    let limit = live.prepare_limit(connection);
    let overdue = || {
        let detail =
            format!("getting the note ready took longer than {} s; it is tried again", limit.as_secs());
        Failure::for_now(Problem::new(Code::ProviderUnavailable, detail).stage(Stage::Upload))
    };
    let cx = live.context(gateway.clock.wall(), connection.timeout);
    let ready = tokio::time::timeout(limit, async {
        if claim.tally.is_open() {
            // Nothing of the note is tried before the connection has proved that it works again.
            connection.provider.check(&cx).await.map_err(|error| failed(Failure::still_failing(error)))?;
        }
        // What is left to do then takes about as long as opening a connection.
        let audio_is_ready = || {
            if let Some(url) = connection.provider.dispatches_to() {
                cx.dial.ahead(url);
            }
        };
        let (note, file) = get_ready(gateway, live, connection, claim, audio_is_ready).await?;
        let preparing = async { connection.provider.prepare(&cx, &note, memory).await.map_err(failed) };
        let preparing = preparing.instrument(tracing::info_span!("prepare"));
        let prepared = processing(gateway, claim, Box::pin(preparing)).await?;
        Ok::<_, Abandoned>((note, file, prepared))
    });
    // All of that can be done again, by whoever comes after us.
    let ready = gateway.stop.run_until_cancelled(ready).await.ok_or(Abandoned::Stopping)?;
    // The file is gone once it is let go of, and it may be read until the last byte was sent.
    let (note, _file, prepared) = ready.map_err(|_| failed(overdue()))??;

    claim.note.status = Status::Sending;
    claim.note.form = Some(prepared.form);
    claim.note.memory = memory.note.clone();
    claim.note.dispatched_at = Some(gateway.clock.now());
    claim.note.marks.clone_from(&prepared.marks);
    claim.note.marks.push(claim.note.id.to_string());
    commit_to_dispatch(gateway, claim).await?;
    let begun = Instant::now();
    let sending = connection.provider.dispatch(&cx, &note, prepared, memory);
    let sent = sending.instrument(tracing::info_span!("dispatch")).await;
    gateway.places.heard(&queue_key(&claim.note), hung(begun.elapsed(), connection.timeout));
    sent.map_err(failed)
}

/// Commits that the visible request may be made from here on, as soon as the database takes it.
async fn commit_to_dispatch(gateway: &Gateway, claim: &mut Claim) -> Result<(), Abandoned> {
    claim.note.next_attempt_at = None;
    claim.note.updated_at = gateway.clock.now();
    let notify = gateway.live().notifies(&claim.note.tenant);
    let change = Change { notify, ..Change::new(claim.note.clone(), Step::Dispatching) };
    let claim = &*claim;
    let write = || gateway.store.write(claim, &change);
    let written = persist::written(claim.note.id, "the begin of the dispatch", DISPATCH_PATIENCE, write);
    gateway.stop.run_until_cancelled(written).await.ok_or(Abandoned::Stopping)??;
    gateway.changed(&claim.note.tenant, claim.note.id);
    Ok(())
}

/// Commits what is known so far, for whoever asks. Where the database does not take it, the work goes on: it is
/// committed with the next step.
async fn progress(gateway: &Gateway, claim: &mut Claim) -> Result<(), StoreError> {
    claim.note.next_attempt_at = None;
    claim.note.updated_at = gateway.clock.now();
    let notify = gateway.live().notifies(&claim.note.tenant);
    let change = Change { notify, ..Change::new(claim.note.clone(), Step::Progress) };
    match gateway.store.write(claim, &change).await {
        Err(error) if error.passes() => {
            tracing::warn!(note.id = %claim.note.id, %error, "progress of note {} is not recorded", claim.note.id);
        }
        written => written?,
    }
    gateway.changed(&claim.note.tenant, claim.note.id);
    Ok(())
}

/// Brings the audio into the form that the connection sends. `audio_is_ready` is called before what then remains.
async fn get_ready(
    gateway: &Gateway,
    live: &Live,
    connection: &Connection,
    claim: &mut Claim,
    audio_is_ready: impl Fn(),
) -> Result<(OutboundNote, AudioFile), Abandoned> {
    let choice = connection.choice(claim.note.convert);
    let capabilities = connection.provider.capabilities();
    let profile = connection.profile_for(choice);

    let made = claim.note.sent.as_ref().filter(|sent| sent.profile == profile.name);
    let file = match made.map(|sent| sent.work) {
        Some(work) => {
            audio_is_ready();
            file(gateway, claim.note.id, sent_as(work)).await?
        }
        None => {
            let source = file(gateway, claim.note.id, Which::Source).await?;
            let made = render(gateway, claim, &source, profile, choice, audio_is_ready).await?;
            made.unwrap_or(source)
        }
    };
    let reply_to = reply(gateway, connection, &mut claim.note).await?;
    let note = &claim.note;
    let sent = note.sent.as_ref().ok_or_else(|| failed(Failure::for_now(Problem::internal())))?;
    if sent.facts.size_bytes > capabilities.max_bytes {
        let detail =
            format!("the provider takes at most {} bytes; send a shorter note", capabilities.max_bytes);
        return Err(failed(Failure::stop(Problem::new(Code::AudioTooLarge, detail).stage(Stage::Encode))));
    }
    let which = sent_as(sent.work);
    let filename = format!("voice.{}", sent.facts.extension());
    let server = &live.config.server;
    let link = gateway.links.make(
        &server.public_url,
        note.id,
        which,
        &filename,
        gateway.clock.now(),
        server.link_ttl.0,
    );
    let to = parse_recipient(&note.current().to).map_err(|error| {
        failed(Failure::stop(Problem::new(Code::RecipientUnsupported, error.to_string())))
    })?;
    let outbound = OutboundNote {
        id: note.id.to_string(),
        to,
        audio: OutboundAudio { facts: sent.facts.clone(), filename, path: file.path().to_owned(), link },
        provider_converts: connection.hands_over(choice),
        reply_to,
        text: note.text.clone(),
        degrade: connection.degrade.clone(),
    };
    Ok((outbound, file))
}

fn sent_as(work: Work) -> Which {
    if work == Work::None { Which::Source } else { Which::Sent }
}

async fn file(gateway: &Gateway, note: NoteId, which: Which) -> Result<AudioFile, Abandoned> {
    let file = gateway.audio(note, which).await.map_err(|problem| failed(Failure::for_now(problem)))?;
    file.ok_or_else(|| {
        tracing::error!(note.id = %note, "the audio of note {note} is not there");
        failed(Failure::for_now(Problem::internal()))
    })
}

/// The provider's id of the message to reply to. Where this connection has none, the note says so once.
async fn reply(
    gateway: &Gateway,
    connection: &Connection,
    note: &mut Note,
) -> Result<Option<String>, StoreError> {
    let Some(reply_to) = &note.reply_to else { return Ok(None) };
    match native_reply(gateway, &note.tenant, connection, reply_to).await? {
        Ok(id) => Ok(Some(id)),
        Err(why) => {
            note.warn(reply_dropped(why));
            Ok(None)
        }
    }
}

/// Does a part of the work. Where it is not done at once, whoever asks reads `processing` meanwhile; where it is, that
/// would be one more commit for nobody.
async fn processing<T>(
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

/// What was made; `None` where the source goes as it is. Either way the source is decoded, here or for an earlier note,
/// and what it is stands in the note.
async fn render(
    gateway: &Gateway,
    claim: &mut Claim,
    source: &AudioFile,
    profile: &'static Profile,
    choice: ConvertChoice,
    audio_is_ready: impl Fn(),
) -> Result<Option<AudioFile>, Abandoned> {
    let (hints, probed) = (claim.note.hints.clone(), claim.note.probed.clone());
    let engine = gateway.engine.for_tenant(&claim.note.tenant);
    let source = audio::Source { path: source.path(), hints: &hints, probed: probed.as_ref() };
    let preparing = async { engine.prepare(source, profile, choice.into()).await.map_err(failed) };
    let ready = processing(gateway, claim, Box::pin(preparing)).await?;
    audio_is_ready();
    let note = &mut claim.note;
    note.probed = Some(ready.source.clone());
    for found in &ready.source.findings.contradictions {
        note.warn(Warning::from(*found));
    }
    let (facts, work, checks, file) = match &ready.made {
        None => (&ready.source.facts, Work::None, [].as_slice(), None),
        Some(made) => {
            let copy = gateway.media.copy_of(made.path()).await.map_err(failed)?;
            let file = gateway.media.keep(copy, note.id, Which::Sent).await.map_err(failed)?;
            (&made.facts, made.work, made.checks.as_slice(), Some(file))
        }
    };
    let checks = checks.iter().map(|&check| check.to_owned()).collect();
    note.sent = Some(SentAudio { facts: facts.clone(), profile: profile.name.to_owned(), work, checks });
    Ok(file)
}
