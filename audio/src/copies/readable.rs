//! The file that decoders are given: the source itself, or the plain file that stands for it.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{AudioError, AudioErrorKind};
use crate::ffmpeg::job::{Bench, blocking, scratch_file};
use crate::ffmpeg::pass::not_run;
use crate::formats::plain::Plain;

/// A file that decoders are given to read.
#[derive(Debug)]
pub(crate) struct Readable {
    source: PathBuf,
    plain: Option<NamedTempFile>,
}

impl Readable {
    pub fn path(&self) -> &Path {
        self.plain.as_ref().map_or(&self.source, NamedTempFile::path)
    }
}

/// The source itself, or the plain file that stands for it, which lives as long as what is returned.
pub(crate) async fn readable(
    bench: &Bench<'_>,
    source: &Path,
    plain: Option<&Plain>,
) -> Result<Readable, AudioError> {
    let source = source.to_owned();
    let Some(plain) = plain.cloned() else { return Ok(Readable { source, plain: None }) };
    let file = scratch_file(bench.scratch).map_err(|error| not_run(&error, "probe"))?;
    blocking(move || {
        let written = File::open(&source)
            .and_then(|from| plain.write(&mut BufReader::new(from), &mut BufWriter::new(file.as_file())));
        written.map_err(|error| {
            tracing::error!(%error, "a source could not be written as a plain file");
            AudioError::probe(AudioErrorKind::Internal, "there is no room for working files")
        })?;
        Ok(Readable { source, plain: Some(file) })
    })
    .await
}
