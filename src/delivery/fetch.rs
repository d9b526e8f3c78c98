//! Gets the audio of a note whose source is a URL or speech. This is a separate job, so that a slow server does not occupy
//! a slot of the connection. Afterwards the note waits at its old position in its lane.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tracing::Instrument;

use super::{
    attempt::{Abandoned, Lessons, conclude, end_expired, failed, give_back, give_way, mark_processing},
    read_audio::{self, DownloadError},
    speak, traced,
};
use crate::{
    config::OnUnknown,
    delivery::outcome::{Failure, LONGEST_PAUSE, Policy},
    gateway::{Gateway, Live, server_slots::hung},
    media::{AudioFile, AudioVariant, MediaStore},
    model::note::AudioSource,
    store::{Claim, SmallAudio, queue_key},
};

/// Gets the source of a leased note, and queues the note for sending.
pub async fn run(gateway: &Gateway, mut claim: Claim) {
    let note = &claim.note;
    let name = if note.source == AudioSource::Speech { "speech" } else { "fetch" };
    // The span has the highest level, so that no filter removes it.
    let span = tracing::error_span!(
        "fetch", request_id = note.request_id, note.id = %note.id, tenant = note.tenant,
        connection = note.current().connection
    );
    let job = traced::begin(gateway, name, note);
    traced::run(gateway, job, fetch(gateway, &mut claim)).instrument(span).await;
}

async fn fetch(gateway: &Gateway, claim: &mut Claim) {
    let live = gateway.live();
    let started = gateway.clock.now();
    if claim.expired || started >= claim.note.expires_at {
        return end_expired(gateway, claim, started).await;
    }
    let (done, flight) = match claim.note.source {
        AudioSource::Speech => speak::speak(gateway, &live, claim).await,
        _ => (download(gateway, &live, claim).await, None),
    };
    match done {
        Ok(()) => give_back(gateway, claim, Duration::ZERO).await,
        Err(Abandoned::Stopping) => {
            tracing::info!("note {} goes back into the queue, because the gateway stops", claim.note.id);
            give_back(gateway, claim, Duration::ZERO).await;
        }
        Err(Abandoned::Store(error)) => {
            let memory = claim.note.memory.take();
            give_way(gateway, claim, memory, error).await;
        }
        Err(Abandoned::NothingToTry(problem)) => {
            fail(gateway, &live, claim, (started, Failure::stop(*problem))).await;
        }
        Err(Abandoned::Failed(failure)) => fail(gateway, &live, claim, (started, *failure)).await,
    }
    // The speech is stored now, so the notes that wait for it find it.
    if let Some(flight) = flight {
        flight.end(Ok(()));
    }
}

async fn fail(gateway: &Gateway, live: &Live, claim: &mut Claim, (started, failure): (Timestamp, Failure)) {
    let policy = Policy::new(OnUnknown::Hold, None, live.config.delivery.unknown_grace.0);
    // A speech server that asks for a pause gets it from every note, whatever its text.
    let paused = failure.retry_after.filter(|_| claim.note.source == AudioSource::Speech);
    let until = paused.map(|wait| gateway.clock.now() + wait.min(LONGEST_PAUSE));
    let server_pause = until.map(|until| (queue_key(&claim.note), until));
    let lessons = Lessons { server_pause, ..Lessons::default() };
    conclude(gateway, claim, Err(failure), (started, policy), lessons).await;
}

async fn download(gateway: &Gateway, live: &Live, claim: &mut Claim) -> Result<(), Abandoned> {
    let AudioSource::Url { url, headers, .. } = claim.note.source.clone() else { return Ok(()) };
    mark_processing(gateway, claim).await?;
    let fetching = get(gateway, live, claim, &url, &headers);
    gateway.stop.run_until_cancelled(fetching).await.ok_or(Abandoned::Stopping)?
}

async fn get(
    gateway: &Gateway,
    live: &Live,
    claim: &mut Claim,
    url: &str,
    headers: &BTreeMap<String, String>,
) -> Result<(), Abandoned> {
    let full = |problem| failed(Failure::for_now(problem));
    // The size is not known yet. The quota is checked again after the download.
    gateway.room_for(&claim.note.tenant, 0).await.map_err(full)?;
    let begun = Instant::now();
    let downloaded = read_audio::download(gateway, live, url, headers).await;
    if !matches!(downloaded, Err(DownloadError::Disk(_))) {
        gateway
            .server_slots
            .record(&queue_key(&claim.note), hung(begun.elapsed(), live.config.fetch.timeout.0));
    }
    let downloaded = downloaded.map_err(failed)?;
    claim.note.hints = downloaded.hints(&claim.note.hints);
    let file = downloaded.file;
    let size = file.as_file().metadata().map_err(failed)?.len();
    let _arriving = gateway.room_for(&claim.note.tenant, size).await.map_err(full)?;
    let file = AudioFile::Temporary(file);
    // A small file is stored in the database, together with the next change of the note.
    claim.audio.source = MediaStore::small(&file).await.map_err(failed)?.map(SmallAudio::from);
    if let (None, AudioFile::Temporary(file)) = (&claim.audio.source, file) {
        gateway.media.keep(file, claim.note.id, AudioVariant::Source).await.map_err(failed)?;
    }
    // The bytes are stored now, so the URL and its secret headers are no longer needed.
    claim.note.source = AudioSource::Stored;
    Ok(())
}
