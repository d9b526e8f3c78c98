//! Storage of audio in a folder or a bucket, behind one trait.

mod bucket;
mod bucket_error;
mod folder;
#[cfg(test)]
mod tests;

use std::{fmt, io, path::Path};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use tempfile::NamedTempFile;

use super::{AudioFile, AudioVariant, ReceivedPart};
use crate::model::id::{NoteId, ReceivedId, UploadId};

pub use bucket::Bucket;
pub use folder::FolderStore;

/// The error for a folder that was deleted, moved, replaced or unmounted after it was opened.
pub fn vanished() -> io::Error {
    io::Error::new(io::ErrorKind::HostUnreachable, "the folder is gone, or is not the one that was opened")
}

/// The name of a stored file. It is made of ids and never taken from a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobName {
    Note(NoteId, AudioVariant),
    Upload(UploadId),
    Received(ReceivedId, ReceivedPart),
}

/// Formats the name as a relative path.
impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Note(note, AudioVariant::Source) => write!(f, "notes/{note}/source"),
            Self::Note(note, AudioVariant::Sent) => write!(f, "notes/{note}/sent"),
            Self::Upload(upload) => write!(f, "uploads/{upload}"),
            Self::Received(received, part) => write!(f, "received/{received}/{}", part.as_str()),
        }
    }
}

/// Storage for the files of notes, uploads and received notes.
///
/// Every error of a bucket, and that of a vanished folder, has the kind `HostUnreachable`: it is temporary, or the
/// operator has to act. A missing file is `NotFound`.
#[async_trait::async_trait]
pub trait BlobStore: fmt::Debug + Send + Sync {
    /// Stores a complete file. When this returns, the file survives a power failure.
    async fn put(&self, file: NamedTempFile, name: BlobName) -> io::Result<AudioFile>;

    /// Returns the file, or a temporary copy of it in `incoming`.
    async fn get(&self, name: BlobName, incoming: &Path) -> io::Result<Option<AudioFile>>;

    /// Reads a file that is small enough to be kept in memory; `None` if it is larger, or if copying it is cheaper than
    /// reading it.
    ///
    /// # Errors
    /// `NotFound` if there is no such file.
    async fn read_small(&self, _name: BlobName) -> io::Result<Option<Bytes>> {
        Ok(None)
    }

    /// Copies a stored file to another name. The two files are independent.
    async fn copy(&self, from: BlobName, to: BlobName) -> io::Result<()>;

    /// Removes both files of a note. Missing files are no error.
    async fn remove_note(&self, note: NoteId) -> io::Result<()>;

    /// Removes an upload. A missing file is no error.
    async fn remove_upload(&self, upload: UploadId) -> io::Result<()>;

    /// Removes all files of a received note. Missing files are no error.
    async fn remove_received(&self, received: ReceivedId) -> io::Result<()>;

    /// Lists the received notes that have a file, each once.
    async fn received(&self) -> io::Result<BoxStream<'static, io::Result<ReceivedId>>>;

    /// Lists the notes that have a file, each once.
    async fn notes(&self) -> io::Result<BoxStream<'static, io::Result<NoteId>>>;

    async fn uploads(&self) -> io::Result<BoxStream<'static, io::Result<UploadId>>>;

    /// Checks whether the storage can be used, without changing it.
    async fn check(&self) -> io::Result<()>;
}
