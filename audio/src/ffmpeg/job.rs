//! What every step of a job is given, and how it works with files.

use std::path::Path;
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::Observer;
use crate::error::{AudioError, AudioErrorKind};
use crate::ffmpeg::pass::PassError;

/// What the engine lends to a job.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub ffmpeg: Option<&'a Path>,
    pub scratch: &'a Path,
    pub timeout: Duration,
    pub max_duration: Duration,
    /// Bytes of the largest source that is taken.
    pub max_source: u64,
    /// Bytes of one made file.
    pub max_output: u64,
    /// Of Opus, 0 to 10.
    pub complexity: u8,
    pub observer: &'a dyn Observer,
    /// Runs count as those of the self-test.
    pub is_self_test: bool,
}

/// An empty file in the scratch folder, gone with the value.
pub(crate) fn scratch_file(folder: &Path) -> Result<NamedTempFile, PassError> {
    tempfile::Builder::new().prefix("render-").tempfile_in(folder).map_err(|error| {
        tracing::error!(%error, "no scratch file could be made");
        PassError::Scratch
    })
}

/// Runs file work on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AudioError> + Send + 'static,
) -> Result<T, AudioError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a step of the audio engine failed");
        AudioError::encode(AudioErrorKind::Internal, "a step of the audio engine failed")
    })?
}
