//! Uploads: stores them, finds them for notes, and removes them.

use super::read_audio;
use crate::{
    config::Tenant,
    gateway::Gateway,
    media::AudioInput,
    model::{
        code::{Code, Stage},
        id::UploadId,
        problem::Problem,
        upload::Upload,
    },
    store::StoreError,
};
use voicegate_audio::Hints;

/// Reads audio and stores it for `storage.media_retention`. When this returns, it is on disk.
///
/// # Errors
/// A problem, and nothing is stored.
pub async fn add(
    gateway: &Gateway,
    tenant: &Tenant,
    audio: AudioInput,
    hints: &Hints,
) -> Result<Upload, Problem> {
    add_as(gateway, tenant, UploadId::new(), audio, hints).await
}

/// As [`add`], with an id that was given out before the audio came.
///
/// # Errors
/// A problem, and nothing is stored.
pub async fn add_as(
    gateway: &Gateway,
    tenant: &Tenant,
    id: UploadId,
    audio: AudioInput,
    hints: &Hints,
) -> Result<Upload, Problem> {
    let live = gateway.live();
    let mut known = hints.clone();
    let file = match audio {
        AudioInput::Bytes(received) => gateway.media.file_of(received.bytes).await?,
        AudioInput::Url { url, headers } => {
            let downloaded = read_audio::download_now(gateway, &url, &headers).await?;
            known = downloaded.hints(hints);
            downloaded.file
        }
        AudioInput::Upload(_) => return Err(uploaded_already()),
        AudioInput::Speech(_) => {
            let detail = "speech is made when its note is sent, and kept for further notes with the same text; upload audio, \
                          or give `speech` with each note";
            return Err(Problem::invalid("audio.speech", detail));
        }
    };
    let size = file.as_file().metadata()?.len();
    let _arriving = gateway.room_for(&tenant.name, size).await?;
    let probed = gateway.engine.for_tenant(&tenant.name).probe(file.path(), &known).await?;
    let now = gateway.clock.now();
    let upload = Upload {
        id,
        tenant: tenant.name.clone(),
        probed,
        hints: hints.clone(),
        created_at: now,
        expires_at: now + live.config.storage.media_retention.0,
    };
    gateway.media.keep_upload(file, upload.id).await?;
    if let Err(error) = gateway.store.add_upload(&upload).await {
        gateway.media.remove_upload(upload.id).await?;
        return Err(error.into());
    }
    Ok(upload)
}

pub fn uploaded_already() -> Problem {
    Problem::invalid("audio.media_id", "this is uploaded already; give `url` or `data`")
}

/// Finds the tenant's upload with this id, while its audio is stored.
///
/// # Errors
/// `not_found`, also for an upload of another tenant; `media_expired`.
pub async fn find(gateway: &Gateway, tenant: &Tenant, id: UploadId) -> Result<Upload, Problem> {
    let upload = match gateway.store.upload(id, &tenant.name).await {
        Err(StoreError::Corrupt(_)) => {
            let detail = "the stored record of this upload is damaged; upload the audio again";
            return Err(Problem::new(Code::MediaExpired, detail).stage(Stage::Request));
        }
        upload => upload?.ok_or_else(AudioInput::no_such_upload)?,
    };
    if upload.expires_at <= gateway.clock.now() {
        let detail = "the upload was kept for storage.media_retention and is gone; upload the audio again";
        return Err(Problem::new(Code::MediaExpired, detail).stage(Stage::Request));
    }
    Ok(upload)
}

/// Removes an upload. Notes that use it keep their audio.
///
/// # Errors
/// `not_found`, also for an upload of another tenant.
pub async fn remove(gateway: &Gateway, tenant: &Tenant, id: UploadId) -> Result<(), Problem> {
    if !gateway.store.has_upload(id, Some(&tenant.name)).await? {
        return Err(AudioInput::no_such_upload());
    }
    // The file is removed first, because a row without its file is harmless and can be removed later.
    gateway.media.remove_upload(id).await?;
    gateway.store.remove_upload(id).await?;
    Ok(())
}
