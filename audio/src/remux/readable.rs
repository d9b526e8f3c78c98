//! Provides the file that decoders read: the source itself, or a patched copy of it.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{AudioError, AudioErrorKind, Stage};
use crate::ffmpeg::job::{JobContext, blocking, scratch_file};
use crate::ffmpeg::pass::not_run;
use crate::formats::patched::PatchedFile;

/// A file for decoders.
#[derive(Debug)]
pub(crate) struct Readable {
    source: PathBuf,
    patched: Option<NamedTempFile>,
}

impl Readable {
    pub fn path(&self) -> &Path {
        self.patched.as_ref().map_or(&self.source, NamedTempFile::path)
    }
}

/// Returns the source itself, or writes the patched file. The file lives as long as the returned value.
pub(crate) async fn readable(
    context: &JobContext<'_>,
    source: &Path,
    patched: Option<&PatchedFile>,
) -> Result<Readable, AudioError> {
    let source = source.to_owned();
    let Some(patched) = patched.cloned() else { return Ok(Readable { source, patched: None }) };
    let file = scratch_file(context.scratch).map_err(|error| not_run(&error, Stage::Probe))?;
    blocking(move || {
        let written = File::open(&source)
            .and_then(|from| patched.write(&mut BufReader::new(from), &mut BufWriter::new(file.as_file())));
        written.map_err(|error| {
            tracing::error!(%error, "a source could not be written as a patched file");
            AudioError::probe(AudioErrorKind::Internal, "there is no room for working files")
        })?;
        Ok(Readable { source, patched: Some(file) })
    })
    .await
}
