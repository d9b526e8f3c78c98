//! Where audio is kept: in a folder, or in a bucket. Everything above asks in the same words.

mod bucket;
mod folder;
#[cfg(test)]
mod tests;
mod trouble;

use std::{fmt, io, path::Path};

use futures_util::stream::BoxStream;
use tempfile::NamedTempFile;

use super::{AudioFile, Which};
use crate::model::id::{NoteId, UploadId};

pub use bucket::Bucket;
pub use folder::Folder;

/// The folder is not the one that was opened: deleted, moved, replaced or unmounted.
pub fn vanished() -> io::Error {
    io::Error::new(io::ErrorKind::HostUnreachable, "the folder is gone, or is not the one that was opened")
}

/// The name of a kept file. Made here, never taken from a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Note(NoteId, Which),
    Upload(UploadId),
}

/// As a relative path.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Note(note, Which::Source) => write!(f, "notes/{note}/source"),
            Self::Note(note, Which::Sent) => write!(f, "notes/{note}/sent"),
            Self::Upload(upload) => write!(f, "uploads/{upload}"),
        }
    }
}

/// Errors of a bucket have the kind `HostUnreachable`, whatever they are, and so has a folder that has vanished: they pass,
/// or the operator mends them. What is not there is `NotFound` in both.
#[async_trait::async_trait]
pub trait Place: fmt::Debug + Send + Sync {
    /// Keeps a complete file. When this returns, it survives a power cut.
    async fn put(&self, file: NamedTempFile, name: Name) -> io::Result<AudioFile>;

    /// The file, or a copy of it in `incoming` for one use.
    async fn get(&self, name: Name, incoming: &Path) -> io::Result<Option<AudioFile>>;

    /// Gives a kept file a second life under another name.
    async fn copy(&self, from: Name, to: Name) -> io::Result<()>;

    /// Removes both files of a note. What is gone already is no error.
    async fn remove_note(&self, note: NoteId) -> io::Result<()>;

    /// The same for an upload.
    async fn remove_upload(&self, upload: UploadId) -> io::Result<()>;

    /// The notes that have a file here, each once.
    async fn notes(&self) -> io::Result<BoxStream<'static, io::Result<NoteId>>>;

    async fn uploads(&self) -> io::Result<BoxStream<'static, io::Result<UploadId>>>;

    /// Whether it answers. Changes nothing.
    async fn check(&self) -> io::Result<()>;
}
