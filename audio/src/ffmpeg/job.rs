//! The context that each step of a job receives, and helpers for files.

use std::path::Path;
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::Observer;
use crate::error::{AudioError, AudioErrorKind};
use crate::ffmpeg::companions::Companions;
use crate::ffmpeg::pass::PassError;

/// Limits and resources of a job, lent by the engine.
#[derive(Debug)]
pub(crate) struct JobContext<'a> {
    pub ffmpeg: Option<&'a Path>,
    pub scratch: &'a Path,
    pub timeout: Duration,
    pub max_duration: Duration,
    /// Size limit of a source, in bytes.
    pub max_source: u64,
    /// Size limit of a produced file, in bytes.
    pub max_output: u64,
    /// Opus complexity, 0 to 10.
    pub complexity: u8,
    /// Other profiles for which the same source is rendered.
    pub companions: Option<&'a Companions>,
    pub observer: &'a dyn Observer,
    /// Runs are reported as those of the self-test.
    pub is_self_test: bool,
    /// Clean sources are decoded in this process instead of by ffmpeg.
    pub decodes_in_process: bool,
}

/// Creates an empty file in the scratch folder. It is removed when the value is dropped.
pub(crate) fn scratch_file(folder: &Path) -> Result<NamedTempFile, PassError> {
    tempfile::Builder::new().prefix("render-").tempfile_in(folder).map_err(|error| {
        tracing::error!(%error, "no scratch file could be made");
        PassError::Scratch
    })
}

/// Runs blocking file operations on a thread for such work.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AudioError> + Send + 'static,
) -> Result<T, AudioError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a step of the audio engine failed");
        AudioError::encode(AudioErrorKind::Internal, "a step of the audio engine failed")
    })?
}
