//! Removes data whose retention has ended, and files that a crashed process left behind.

use std::{io, time::Duration};

use futures_util::TryStreamExt;
use jiff::Timestamp;

use super::inbound;
use crate::{
    gateway::Gateway,
    store::{Horizon, OldAudio, StoreError},
};

/// The retention of events, and of the ids by which repeated callbacks are recognised.
const EVENTS_KEPT: Duration = Duration::from_secs(48 * 60 * 60);

/// The number of notes or uploads that one query returns.
const SWEEP: u32 = 500;

/// Removes audio and notes whose retention has ended, counted from the end of the note.
///
/// # Errors
/// Fails if the database does not answer. A file that cannot be removed is logged and tried again later.
pub async fn remove_what_is_old(gateway: &Gateway) -> Result<(), StoreError> {
    let storage = gateway.live().config.storage.clone();
    let now = gateway.clock.now();
    gateway.store.count_near(now).await?;
    loop {
        let notes = gateway.store.notes_with_old_audio(before(now, storage.retention.0), SWEEP).await?;
        let mut removed = 0;
        for &note in &notes {
            match gateway.media.remove(note).await {
                Ok(()) => {
                    gateway.store.audio_removed(note).await?;
                    removed += 1;
                }
                Err(error) => {
                    tracing::error!(note.id = %note, %error, "the audio of {note} could not be removed");
                    if error.kind() == io::ErrorKind::HostUnreachable {
                        break; // the storage is unreachable, so the other files would fail as well
                    }
                }
            }
        }
        if removed == 0 {
            break;
        }
    }
    remove_old_uploads(gateway, now).await?;
    remove_old_received(gateway, now).await?;
    let notes = before(now, storage.notes_retention.0);
    gateway.store.forget(&Horizon { notes, events: before(now, EVENTS_KEPT), now }).await?;
    Ok(())
}

async fn remove_old_uploads(gateway: &Gateway, now: Timestamp) -> Result<(), StoreError> {
    for upload in gateway.store.expired_uploads(now, SWEEP).await? {
        match gateway.media.remove_upload(upload).await {
            Ok(()) => gateway.store.upload_audio_removed(upload).await?,
            Err(error) => {
                tracing::error!(upload.id = %upload, %error, "the upload {upload} could not be removed");
                if error.kind() == io::ErrorKind::HostUnreachable {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Passes over what cannot be removed, so that it is in nobody's way. The next round begins with it again.
async fn remove_old_received(gateway: &Gateway, now: Timestamp) -> Result<(), StoreError> {
    let mut last = None;
    loop {
        let due = gateway.store.received_with_old_audio(now, last, SWEEP).await?;
        for &OldAudio { id, .. } in &due {
            match gateway.media.remove_received(id).await {
                Ok(()) => {
                    if let Some(note) = gateway.store.received_audio_removed(id).await? {
                        inbound::forget_renders(gateway, &note).await;
                    }
                }
                Err(error) => {
                    tracing::error!(received.id = %id, %error, "the audio of {id} could not be removed");
                    if error.kind() == io::ErrorKind::HostUnreachable {
                        return Ok(());
                    }
                }
            }
        }
        last = due.last().copied();
        if due.len() < SWEEP as usize {
            return Ok(());
        }
    }
}

/// Removes audio whose note or upload was never committed, because the process crashed between storing the bytes and
/// the commit. Files younger than an hour are kept, since their request may still be running.
///
/// # Errors
/// Fails if the database, the disk or the bucket does not answer.
pub async fn remove_orphans(gateway: &Gateway) -> anyhow::Result<()> {
    gateway.media.remove_leftovers()?;
    let old = before(gateway.clock.now(), Duration::from_secs(3600));
    let mut notes = gateway.media.list().await?;
    while let Some(id) = notes.try_next().await? {
        if id.made_at().is_some_and(|made| made < old) && !gateway.store.has_note(id).await? {
            tracing::info!(note.id = %id, "removing audio without a note");
            gateway.media.remove(id).await?;
        }
    }
    let mut uploads = gateway.media.list_uploads().await?;
    while let Some(id) = uploads.try_next().await? {
        if id.made_at().is_some_and(|made| made < old) && !gateway.store.has_upload(id, None).await? {
            tracing::info!(upload.id = %id, "removing an upload that was never answered");
            gateway.media.remove_upload(id).await?;
        }
    }
    let mut received = gateway.media.list_received().await?;
    while let Some(id) = received.try_next().await? {
        if id.made_at().is_some_and(|made| made < old) && !gateway.store.has_received(id, None).await? {
            tracing::info!(received.id = %id, "removing audio without a received note");
            gateway.media.remove_received(id).await?;
        }
    }
    Ok(())
}

fn before(now: Timestamp, span: Duration) -> Timestamp {
    now.checked_sub(span).unwrap_or(Timestamp::UNIX_EPOCH)
}
