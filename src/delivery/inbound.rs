//! The job of a received note: fetches its audio from the provider, reads it as hostile, renders it, and announces it.
//!
//! The bytes are stored as soon as they are here, since a provider may remove them within minutes. Everything after that
//! can be done again from what is stored.

use std::{
    io,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use voicegate_audio::{AudioError, Convert, Hints, SourceFile};
use voicegate_providers::{Disposition, SendError, SendErrorKind, wire::in_time};

use super::{
    backoff,
    outcome::{self, Failure, Most},
    persist,
};
use crate::{
    config::{Connection, Tenant},
    gateway::{Gateway, Live, note_metrics, server_slots::hung},
    media::{AudioFile, LimitedFile, MediaStore, Overrun, ReceivedPart},
    model::{
        code::{Code, Stage},
        event::EventKind,
        problem::Problem,
        received::{Received, ReceivedRender, ReceivedStatus},
    },
    store::{FETCH_PATIENCE, ReceivedChange, ReceivedClaim, ReceivedStep, SmallPart, StoreError},
    telemetry::metrics,
};

/// A last try is made this long before the provider removes the audio.
const BEFORE_THE_END: SignedDuration = SignedDuration::from_secs(15);

/// The most tries in a row at a server that does not finish its answer in time.
const STALLS: u32 = 7;

/// The reason why a job ends without the note being ready.
enum Abandoned {
    /// The gateway stops. The work is done again after its start.
    Stopping,
    Failed(Box<Failure>),
}

impl From<Failure> for Abandoned {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

impl From<AudioError> for Abandoned {
    fn from(error: AudioError) -> Self {
        Failure::from(error).into()
    }
}

impl From<io::Error> for Abandoned {
    fn from(error: io::Error) -> Self {
        Failure::from(error).into()
    }
}

/// Audio that is about to be stored with the note.
#[derive(Default)]
struct Parts(Vec<SmallPart>);

/// Fetches, reads and renders the audio of a leased note, and announces it.
pub async fn run(gateway: &Gateway, claim: ReceivedClaim) {
    let note = &claim.received;
    // The span has the highest level, so that no filter removes it.
    let span = tracing::error_span!(
        "receive", received.id = %note.id, tenant = note.tenant, connection = note.connection
    );
    receive(gateway, claim).instrument(span).await;
}

async fn receive(gateway: &Gateway, mut claim: ReceivedClaim) {
    let live = gateway.live();
    if claim.expired {
        let now = gateway.clock.now();
        forget_renders(gateway, &claim.received).await;
        claim.received.fail_late(now);
        claim.received.error = claim.received.error.as_ref().map(|last| told(last, outcome::told_late));
        return end(gateway, &live, &claim, Parts::default()).await;
    }
    match work(gateway, &live, &mut claim).await {
        Ok(parts) => end(gateway, &live, &claim, parts).await,
        Err(Abandoned::Stopping) => {
            tracing::info!(
                "received note {} goes back into the queue, because the gateway stops",
                claim.received.id
            );
            retry(gateway, &claim, gateway.clock.now()).await;
        }
        Err(Abandoned::Failed(failure)) => fail(gateway, &live, &mut claim, *failure).await,
    }
}

async fn work(gateway: &Gateway, live: &Live, claim: &mut ReceivedClaim) -> Result<Parts, Abandoned> {
    let gone = |what: &str| {
        let detail = format!("the {what} over which the note came is no longer configured");
        Failure::stop(Problem::new(Code::UnknownConnection, detail).stage(Stage::Fetch))
    };
    let tenant = live.tenants.get(&claim.received.tenant).ok_or_else(|| gone("tenant"))?.clone();
    if claim.received.status == ReceivedStatus::Waiting {
        let connection =
            tenant.connections.get(&claim.received.connection).ok_or_else(|| gone("connection"))?;
        let (file, size) =
            until_stop(&gateway.stop, Box::pin(fetch(gateway, live, connection, claim))).await?;
        keep_native(gateway, claim, file, size).await?;
    }
    // The engine's futures are large.
    until_stop(&gateway.stop, Box::pin(read(gateway, &tenant, claim))).await
}

async fn until_stop<T>(
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, Abandoned>>,
) -> Result<T, Abandoned> {
    stop.run_until_cancelled(work).await.ok_or(Abandoned::Stopping)?
}

/// Downloads the audio into an incoming file.
async fn fetch(
    gateway: &Gateway,
    live: &Live,
    connection: &Connection,
    claim: &ReceivedClaim,
) -> Result<(NamedTempFile, u64), Abandoned> {
    let Some(media) = &claim.received.media else {
        return Err(Failure::stop(unreachable("there is no reference to the audio")).into());
    };
    // The size is not known yet. The quota is checked again after the download.
    gateway.room_for(&claim.received.tenant, 0).await.map_err(Failure::for_now)?;
    let most = live.config.audio.max_bytes.0;
    let mut out = LimitedFile::new(&gateway.media, most)?;
    let (limit, begun) = (live.config.fetch.timeout.0, Instant::now());
    // The limit for the whole download ends it before a request of the adapter does.
    let context = live.context(gateway.clock.wall(), connection.timeout.max(2 * limit));
    let fetched = in_time(limit, connection.provider.fetch(&context, media, &mut out)).await;
    let took = begun.elapsed();
    let overrun = out.overrun();
    let is_ours = matches!(overrun, Some(Overrun::Disk(_)));
    if !is_ours {
        gateway.server_slots.record(&claim.connection, hung(took, limit));
    }
    let done = match (overrun, fetched) {
        (Some(Overrun::TooLarge), _) => {
            let detail = format!("the audio has more than {most} bytes (audio.max_bytes)");
            Err(Failure::stop(Problem::new(Code::AudioTooLarge, detail).stage(Stage::Fetch)))
        }
        (Some(Overrun::Disk(error)), _) => Err(error.into()),
        (None, None) => {
            let stalled = unreachable("the provider's server did not hand out the audio in time");
            Err(Failure { most: Some(Most::Attempts(STALLS)), ..Failure::for_now(stalled) })
        }
        (None, Some(Err(error))) => Err(refused(error)),
        (None, Some(Ok(_))) => Ok(()),
    };
    let outcome = match &done {
        Ok(()) => "ok",
        Err(_) if is_ours => "disk",
        Err(failure) if is_final(failure) => "refused",
        Err(_) => "failed",
    };
    metrics::fetched_received(connection.provider_name, outcome, took);
    done?;
    Ok(out.finish().await?)
}

fn unreachable(detail: &str) -> Problem {
    Problem::new(Code::SourceUnreachable, detail).stage(Stage::Fetch)
}

/// The failure of a download, with a code that says what is wrong with the audio and not with a send.
fn refused(error: SendError) -> Failure {
    use SendErrorKind::{MediaTooLarge, Misconfigured, Unauthorized};
    let forbidden = error.is_forbidden;
    let (kind, failure) = (error.kind, Failure::from(error));
    let code = match kind {
        _ if forbidden => Code::SourceForbidden,
        MediaTooLarge => Code::AudioTooLarge,
        Unauthorized | Misconfigured => return failure,
        _ if is_final(&failure) || failure.most.is_some() => Code::SourceUnreachable,
        _ => return failure,
    };
    let Problem { detail, provider, .. } = failure.problem;
    Failure { problem: Problem { provider, ..Problem::new(code, detail).stage(Stage::Fetch) }, ..failure }
}

fn is_final(failure: &Failure) -> bool {
    use Disposition::{NextConnection, NextForm, Stop};
    matches!(failure.disposition, Stop | NextForm | NextConnection)
}

/// Stores the audio as it came, and commits that it is here.
async fn keep_native(
    gateway: &Gateway,
    claim: &mut ReceivedClaim,
    file: NamedTempFile,
    size: u64,
) -> Result<(), Abandoned> {
    let _arriving = gateway.room_for(&claim.received.tenant, size).await.map_err(Failure::for_now)?;
    let mut parts = Parts::default();
    parts.keep(gateway, &claim.received, ReceivedPart::Native, AudioFile::Temporary(file)).await?;
    // The leased note changes only after the commit. A retry writes it, and may not say that audio is here which is not.
    let received = Received {
        status: ReceivedStatus::Fetched,
        media: None,
        error: None,
        alike: 0,
        kept_bytes: size,
        ..claim.received.clone()
    };
    let now = gateway.clock.now();
    let until = now + FETCH_PATIENCE;
    let change = ReceivedChange {
        received,
        audio: parts.0,
        audio_until: None,
        step: ReceivedStep::Progress { until },
        transcribe: None,
        now,
    };
    gateway.store.write_received(claim, &change).await.map_err(|error| {
        tracing::warn!(%error, "the audio of a received note could not be recorded");
        Failure::for_now(Problem::from(error))
    })?;
    claim.received = change.received;
    Ok(())
}

/// Reads the stored audio and makes it in every profile.
async fn read(gateway: &Gateway, tenant: &Tenant, claim: &mut ReceivedClaim) -> Result<Parts, Abandoned> {
    let id = claim.received.id;
    let Some(native) = gateway.received_audio(id, ReceivedPart::Native).await.map_err(Failure::for_now)?
    else {
        tracing::error!(received.id = %id, "the audio of received note {id} is not there");
        return Err(Failure::for_now(Problem::internal()).into());
    };
    let hints = Hints::default();
    let engine = gateway.engine.for_tenant(&tenant.name);
    let mut probed = Box::pin(engine.identify(native.path(), &hints)).await?;
    // If the note fails after this, its renders are found by the digest.
    claim.received.native = Some(probed.facts.clone());
    let source = SourceFile { path: native.path(), hints: &hints, probed: Some(&probed) };
    let all = Box::pin(engine.prepare_each(source, &tenant.inbound.renders, Convert::Auto)).await?;
    let mut parts = Parts::default();
    let mut renders = Vec::new();
    for (profile, ready) in tenant.inbound.renders.iter().zip(all) {
        let facts = match &ready.made {
            None => ready.source.facts.clone(),
            Some(made) => made.facts.clone(),
        };
        if let Some(made) = &ready.made {
            let path = made.path().to_owned();
            let made = AudioFile::Cached(ready.clone(), path);
            parts.keep(gateway, &claim.received, ReceivedPart::Render(profile.name), made).await?;
        }
        renders.push(ReceivedRender {
            profile: profile.name.to_owned(),
            facts,
            is_native: ready.made.is_none(),
        });
        probed = ready.source.clone();
    }
    if probed.waveform.is_empty() {
        probed = Box::pin(engine.probe(native.path(), &hints)).await?;
    }
    let note = &mut claim.received;
    note.kept_bytes = probed.facts.size_bytes;
    note.kept_bytes +=
        renders.iter().filter(|made| !made.is_native).map(|made| made.facts.size_bytes).sum::<u64>();
    note.native = Some(probed.facts);
    note.waveform = probed.waveform;
    note.renders = renders;
    note.status = ReceivedStatus::Received;
    note.error = None;
    note.ended_at = Some(gateway.clock.now());
    Ok(parts)
}

impl Parts {
    /// Keeps a small part for the next change of the note, and stores a larger one as a file.
    async fn keep(
        &mut self,
        gateway: &Gateway,
        note: &Received,
        part: ReceivedPart,
        audio: AudioFile,
    ) -> Result<(), Abandoned> {
        if let Some(bytes) = MediaStore::small(&audio).await? {
            self.0.push(SmallPart { part: part.as_str().to_owned(), bytes });
            return Ok(());
        }
        let file = match audio {
            AudioFile::Temporary(file) => file,
            other => gateway.media.copy_of(other.path()).await?,
        };
        gateway.media.keep_received(file, note.id, part).await?;
        Ok(())
    }
}

/// Commits the end of a note and its event.
async fn end(gateway: &Gateway, live: &Live, claim: &ReceivedClaim, Parts(audio): Parts) {
    let note = &claim.received;
    let tenant = live.tenants.get(&note.tenant);
    let retention = tenant.map_or(Duration::ZERO, |tenant| tenant.inbound.retention);
    let now = gateway.clock.now();
    let has_files = note.status == ReceivedStatus::Received;
    let change = ReceivedChange {
        received: note.clone(),
        audio,
        // Files of a note that failed are due to be removed.
        audio_until: Some(if has_files { now + retention } else { now }),
        step: ReceivedStep::Done { event: EventKind::Received, notify: live.notifies(&note.tenant) },
        transcribe: tenant.and_then(|tenant| tenant.inbound.transcribe.clone()).filter(|_| has_files),
        now,
    };
    if !recorded(gateway, claim, &change).await {
        return;
    }
    note_metrics::received(note);
    let status = note.status.as_str();
    tracing::info!(
        code = note.error.as_ref().map(|error| error.code.as_str()),
        "received note {} is {status}",
        note.id
    );
    gateway.changes.tenant(&note.tenant);
    gateway.wake_worker();
    if !has_files && let Err(error) = remove_files(gateway, note).await {
        tracing::warn!(%error, "the audio of a received note that failed is removed later");
    }
}

async fn remove_files(gateway: &Gateway, note: &Received) -> anyhow::Result<()> {
    gateway.media.remove_received(note.id).await?;
    gateway.store.received_audio_removed(note.id).await?;
    Ok(())
}

/// Removes what the render cache has of the audio of a note.
pub async fn forget_renders(gateway: &Gateway, note: &Received) {
    if let Some(native) = &note.native {
        gateway.engine.for_tenant(&note.tenant).forget(&native.sha256).await;
    }
}

/// Ends the note with its problem, or schedules the next try.
async fn fail(gateway: &Gateway, live: &Live, claim: &mut ReceivedClaim, failure: Failure) {
    let now = gateway.clock.now();
    let alike = claim.received.fail_for_now(failure.problem.clone());
    if let Some(problem) = given_up(&failure, alike) {
        forget_renders(gateway, &claim.received).await;
        claim.received.fail(told(&problem, outcome::told), now);
        return end(gateway, live, claim, Parts::default()).await;
    }
    let tries = claim.tries + 1;
    tracing::warn!(
        tries,
        code = failure.problem.code.as_str(),
        "received note {} waits: {}",
        claim.received.id,
        failure.problem.detail
    );
    let age = now.duration_since(claim.queued_at).try_into().unwrap_or_default();
    let wait = backoff::wait(tries, age, failure.retry_after, rand::random());
    let at = in_good_time(&claim.received, now, now + wait);
    retry(gateway, claim, at).await;
}

/// The problem with which a note ends after so many failures of this kind in a row, if it ends.
fn given_up(failure: &Failure, alike: u32) -> Option<Problem> {
    let problem = &failure.problem;
    match &failure.most {
        Some(Most::Attempts(most)) if alike >= *most => Some(problem.clone()),
        Some(Most::Alike(most, end)) if alike >= *most => Some(end.as_deref().unwrap_or(problem).clone()),
        _ => is_final(failure).then(|| problem.clone()),
    }
}

/// The problem that the bot is told: as for a note that is sent, without our own faults. That there was no room is said,
/// since the tenant can make some.
fn told(problem: &Problem, of_sent: fn(&Problem) -> Problem) -> Problem {
    match problem.code {
        Code::QuotaExceeded | Code::StorageFull => problem.clone(),
        _ => of_sent(problem),
    }
}

/// The time of the next try: a last one comes just before the provider removes the audio.
fn in_good_time(note: &Received, now: Timestamp, at: Timestamp) -> Timestamp {
    let end = note.media.as_ref().and_then(|media| media.fetch_before).map(|end| end - BEFORE_THE_END);
    match end {
        Some(last) if now < last => at.min(last),
        _ => at,
    }
}

async fn retry(gateway: &Gateway, claim: &ReceivedClaim, at: Timestamp) {
    let change = ReceivedChange {
        received: claim.received.clone(),
        audio: Vec::new(),
        audio_until: None,
        step: ReceivedStep::Retry { at },
        transcribe: None,
        now: gateway.clock.now(),
    };
    recorded(gateway, claim, &change).await;
}

/// Writes a change until the database takes it. Returns `false` if it was not made.
async fn recorded(gateway: &Gateway, claim: &ReceivedClaim, change: &ReceivedChange) -> bool {
    let write = || gateway.store.write_received(claim, change);
    match persist::written(claim.received.id, "the end of a job", persist::lease(gateway), write).await {
        Ok(()) => true,
        // The note was erased in the meantime, or another process has taken over the job.
        Err(StoreError::LeaseLost) => false,
        Err(error) => {
            tracing::error!(%error, "the end of a job of a received note could not be recorded; it is done again");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(error: SendError) -> (String, bool) {
        let failure = refused(error);
        (failure.problem.code.as_str().to_owned(), is_final(&failure))
    }

    #[test]
    fn faults_of_our_own_are_not_announced_as_such() {
        let ours = |stage| Problem::new(Code::Internal, "ours").stage(stage);
        for (problem, code, late) in [
            (ours(Stage::Probe), Code::AudioUnsupported, Code::ProviderUnavailable),
            (ours(Stage::Encode), Code::AudioUnsupported, Code::ProviderUnavailable),
            (ours(Stage::Fetch), Code::ProviderUnavailable, Code::ProviderUnavailable),
            (Problem::internal(), Code::ProviderUnavailable, Code::ProviderUnavailable),
            (Problem::new(Code::Overloaded, "busy"), Code::ProviderUnavailable, Code::ProviderUnavailable),
            (Problem::new(Code::QuotaExceeded, "full"), Code::QuotaExceeded, Code::QuotaExceeded),
            (Problem::new(Code::StorageFull, "full"), Code::StorageFull, Code::StorageFull),
            (Problem::new(Code::AudioTooLong, "long"), Code::AudioTooLong, Code::AudioTooLong),
        ] {
            assert_eq!(told(&problem, outcome::told).code, code, "{problem:?}");
            assert_eq!(told(&problem, outcome::told_late).code, late, "{problem:?}");
        }
    }

    #[test]
    fn limits_hold_for_failures_of_one_kind_in_a_row() {
        let failure = |most| Failure { most, ..Failure::for_now(unreachable("late")) };
        let end = Problem::new(Code::AudioUnreadable, "damaged");
        assert_eq!(given_up(&failure(None), 1000), None);
        for (most, code) in [
            (Most::Attempts(7), Code::SourceUnreachable),
            (Most::Alike(7, None), Code::SourceUnreachable),
            (Most::Alike(7, Some(Box::new(end))), Code::AudioUnreadable),
        ] {
            let failure = failure(Some(most));
            assert_eq!(given_up(&failure, 6), None);
            assert_eq!(given_up(&failure, 7).map(|problem| problem.code), Some(code));
        }
    }

    #[test]
    fn failed_download_has_a_code_about_the_audio() {
        use SendErrorKind::*;
        let error = |kind| SendError::new(kind, "x").at(voicegate_providers::Stage::Fetch);
        for (error, expected, ends) in [
            (error(Rejected), "source_unreachable", true),
            (error(MediaTooLarge), "audio_too_large", true),
            (error(Unauthorized), "provider_unauthorized", true),
            (error(Misconfigured), "provider_unauthorized", true),
            (error(Unavailable), "provider_unavailable", false),
            (error(RateLimited), "provider_unavailable", false),
            (error(Unavailable).at_most(5), "source_unreachable", false),
            (error(Rejected).forbidden(), "source_forbidden", true),
        ] {
            assert_eq!(code(error), (expected.to_owned(), ends));
        }
        let failure = refused(error(Unavailable).at_most(5));
        assert_eq!(given_up(&failure, 4), None);
        assert_eq!(given_up(&failure, 5).map(|problem| problem.code), Some(Code::SourceUnreachable));
    }
}
