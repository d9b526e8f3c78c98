//! Removes what was kept long enough, and what a process that died left behind.

use std::{io, time::Duration};

use futures_util::TryStreamExt;
use jiff::Timestamp;

use crate::{
    gateway::Gateway,
    store::{Horizon, StoreError},
};

/// How long events can be read again, and callbacks are known again.
const EVENTS_KEPT: Duration = Duration::from_secs(48 * 60 * 60);

/// Notes whose old audio is looked up at once.
const SWEEP: u32 = 500;

/// Removes audio and notes that were kept long enough, counted from the end of the note.
///
/// # Errors
/// Where the database does not answer; a file that resists is logged and tried again later.
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
                        break; // the others are no nearer
                    }
                }
            }
        }
        if removed == 0 {
            break;
        }
    }
    remove_old_uploads(gateway, now).await?;
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

/// Removes audio whose note or upload never came to be: a process died after it had stored the bytes and before it had
/// committed the note. Younger than an hour, the request may still be under way.
///
/// # Errors
/// Where database, disk or bucket does not answer.
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
    Ok(())
}

fn before(now: Timestamp, span: Duration) -> Timestamp {
    now.checked_sub(span).unwrap_or(Timestamp::UNIX_EPOCH)
}
