//! Storage of audio, downloads, and the signed links under which providers fetch it.

mod blob_store;
pub mod disk;
mod fetch;
mod limited;
mod link;
pub mod quota;
mod spool;

use std::{
    collections::BTreeMap,
    fmt,
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use tempfile::NamedTempFile;

use self::blob_store::{BlobName, BlobStore, FolderStore};
use crate::{
    config::{Media, Storage},
    media::disk::{Disks, Reservation},
    model::{
        code::{Code, Stage},
        id::{NoteId, ReceivedId, UploadId},
        note::SpokenText,
        problem::Problem,
    },
};

pub use blob_store::Bucket;
pub use fetch::{FetchError, FetchRequest, Fetcher};
pub use limited::{LimitedFile, Overrun};
pub use link::{LinkError, Links};
pub use spool::{AudioBytes, AudioFile, MAX_IN_MEMORY, MemoryPermit, Spool, SpooledAudio, TooMuch};

/// Age at which an unchanged incoming file is removed. No upload or download pauses that long.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// Headers that belong to the transfer of a download; a caller cannot set them.
pub const TRANSFER_HEADERS: [&str; 4] = ["host", "content-length", "transfer-encoding", "connection"];

/// Location of the audio of a request.
pub enum AudioInput {
    /// A URL to download. `headers` are secrets of the caller.
    Url { url: String, headers: BTreeMap<String, String> },
    /// The bytes came with the request.
    Bytes(SpooledAudio),
    /// An earlier upload.
    Upload(UploadId),
    /// A text to be spoken. `with` is empty where the request names no server.
    Speech(SpokenText),
}

impl AudioInput {
    /// The problem for an unknown upload, and for one of another tenant.
    pub fn no_such_upload() -> Problem {
        let detail =
            "there is no such upload: its bytes have not come yet, or it was deleted; upload the audio again";
        Problem::new(Code::NotFound, detail).stage(Stage::Request).field("audio.media_id")
    }
}

impl fmt::Debug for AudioInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Url { .. } => "Url",
            Self::Bytes(_) => "Bytes",
            Self::Upload(_) => "Upload",
            Self::Speech(_) => "Speech",
        })
    }
}

/// The two audio files of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudioVariant {
    /// The audio as it was received.
    Source,
    /// The audio as it was converted for the provider; missing if the source is sent untouched.
    Sent,
}

/// A file of a received note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceivedPart {
    /// The audio as it came.
    Native,
    /// The audio in the profile of this name.
    Render(&'static str),
}

impl ReceivedPart {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Render(profile) => profile,
        }
    }
}

/// Storage of audio, with a private folder for incomplete files.
#[derive(Clone, Debug)]
pub struct MediaStore {
    blobs: Arc<dyn BlobStore>,
    incoming: PathBuf,
    /// Budget for bytes that are kept in memory.
    memory: spool::MemoryBudget,
    disks: Option<Arc<Disks>>,
}

impl MediaStore {
    /// Opens the storage that `storage.media` names. `environment` has the credentials of a bucket.
    ///
    /// # Errors
    /// The folder cannot be used, or the bucket's address is invalid. The bucket is not contacted.
    pub fn of(storage: &Storage, environment: &BTreeMap<String, String>) -> io::Result<Self> {
        match &storage.media {
            Media::Folder(folder) => Self::open(folder),
            Media::Bucket { name, prefix } => {
                let bucket = Bucket::open(name, prefix, environment)?;
                Self::new(Arc::new(bucket), &std::path::absolute(&storage.scratch)?)
            }
        }
    }

    /// Stores audio in a folder, which is created if necessary.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let folder = std::path::absolute(folder)?;
        let blobs = Arc::new(FolderStore::open(&folder)?);
        // Incomplete files are on the same file system, so that a complete one only has to be renamed.
        Self::new(blobs, &folder)
    }

    fn new(blobs: Arc<dyn BlobStore>, work: &Path) -> io::Result<Self> {
        let store =
            Self { blobs, incoming: work.join("incoming"), memory: spool::MemoryBudget::new(), disks: None };
        std::fs::create_dir_all(&store.incoming)?;
        std::fs::set_permissions(&store.incoming, Permissions::from_mode(0o700))?;
        store.remove_leftovers()?;
        Ok(store)
    }

    /// Removes incomplete files of dead processes. Files of other processes in the folder are younger.
    ///
    /// # Errors
    /// The folder cannot be read or changed.
    pub fn remove_leftovers(&self) -> io::Result<()> {
        for file in std::fs::read_dir(&self.incoming)? {
            let file = file?;
            // A missing file has just been completed and moved.
            let written = file.metadata().and_then(|facts| facts.modified());
            if written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED)) {
                std::fs::remove_file(file.path())?;
            }
        }
        Ok(())
    }

    /// Refuses new audio while a disk is nearly full.
    #[must_use]
    pub fn watching(mut self, disks: Arc<Disks>) -> Self {
        self.disks = Some(disks);
        self
    }

    /// Creates an empty file for incoming bytes. It is removed when dropped, unless it is stored.
    ///
    /// # Errors
    /// The disk failed; `HostUnreachable` if the folder has vanished.
    pub fn incoming_file(&self) -> io::Result<NamedTempFile> {
        NamedTempFile::new_in(&self.incoming).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => blob_store::vanished(),
            _ => error,
        })
    }

    /// Checks whether there is room for new audio. The remaining room is reserved for notes that were accepted, which
    /// are not checked.
    ///
    /// # Errors
    /// `StorageFull` if too little room is left.
    pub fn has_room(&self) -> io::Result<()> {
        self.disks.as_ref().map_or(Ok(()), |disks| disks.check()).map_err(full)
    }

    /// Checks whether there is room for `bytes` in the database, which are written now.
    ///
    /// # Errors
    /// `StorageFull` if too little room would be left.
    pub fn take_row(&self, bytes: u64) -> io::Result<()> {
        self.has_room()?;
        let written = self.disks.as_ref().map(|disks| disks.write(disk::Folder::Database, bytes));
        written.unwrap_or(Ok(())).map_err(full)
    }

    /// Reserves room for a file of `stated` bytes, or of unknown size.
    ///
    /// # Errors
    /// `StorageFull` if too little room would be left.
    pub fn room_for(&self, stated: Option<u64>) -> io::Result<FileReservation> {
        self.has_room()?;
        let reserved =
            self.disks.as_ref().map(|disks| disks.reserve(disk::Folder::Work, stated.unwrap_or_default()));
        Ok(FileReservation(reserved.transpose().map_err(full)?))
    }

    /// Writes bytes to a temporary file, which is removed when dropped.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn lend(&self, bytes: Bytes) -> io::Result<NamedTempFile> {
        let store = self.clone();
        blocking(move || spool::lend(&bytes, &store)).await
    }

    /// Copies a file to a temporary file, which the caller may store.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn copy_of(&self, file: &Path) -> io::Result<NamedTempFile> {
        let (store, file) = (self.clone(), file.to_owned());
        blocking(move || {
            let mut copy = store.incoming_file()?;
            io::copy(&mut std::fs::File::open(file)?, copy.as_file_mut())?;
            Ok(copy)
        })
        .await
    }

    /// Returns received bytes as a temporary file.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn file_of(&self, bytes: AudioBytes) -> io::Result<NamedTempFile> {
        match bytes {
            AudioBytes::File(file) => Ok(file),
            AudioBytes::Memory(bytes, _) => self.lend(bytes).await,
        }
    }

    /// Stores a complete file of a note. When this returns, the file survives a crash, as a 202 answer promises.
    ///
    /// # Errors
    /// The disk or the bucket failed. The file is then gone, and nothing else changed.
    pub async fn keep(
        &self,
        file: NamedTempFile,
        note: NoteId,
        variant: AudioVariant,
    ) -> io::Result<AudioFile> {
        self.blobs.put(file, BlobName::Note(note, variant)).await
    }

    /// Stores a complete file of an upload.
    ///
    /// # Errors
    /// The disk or the bucket failed.
    pub async fn keep_upload(&self, file: NamedTempFile, upload: UploadId) -> io::Result<()> {
        self.blobs.put(file, BlobName::Upload(upload)).await.map(drop)
    }

    /// A stored file of a note; `None` if there is none.
    ///
    /// # Errors
    /// The disk or the bucket failed.
    pub async fn get(&self, note: NoteId, variant: AudioVariant) -> io::Result<Option<AudioFile>> {
        self.blobs.get(BlobName::Note(note, variant), &self.incoming).await
    }

    /// Stores a complete file of a received note. When this returns, the file survives a crash.
    ///
    /// # Errors
    /// The disk or the bucket failed.
    pub async fn keep_received(
        &self,
        file: NamedTempFile,
        received: ReceivedId,
        part: ReceivedPart,
    ) -> io::Result<AudioFile> {
        self.blobs.put(file, BlobName::Received(received, part)).await
    }

    /// A stored file of a received note; `None` if there is none.
    ///
    /// # Errors
    /// The disk or the bucket failed.
    pub async fn get_received(
        &self,
        received: ReceivedId,
        part: ReceivedPart,
    ) -> io::Result<Option<AudioFile>> {
        self.blobs.get(BlobName::Received(received, part), &self.incoming).await
    }

    /// Removes all files of a received note. Missing files are no error.
    ///
    /// # Errors
    /// The disk or the bucket failed.
    pub async fn remove_received(&self, received: ReceivedId) -> io::Result<()> {
        self.blobs.remove_received(received).await
    }

    /// Lists the received notes that have a file, each once.
    ///
    /// # Errors
    /// The disk or the bucket failed.
    pub async fn list_received(&self) -> io::Result<BoxStream<'static, io::Result<ReceivedId>>> {
        self.blobs.received().await
    }

    /// Reads an upload that is small enough to be kept in memory; `None` if it has to be copied instead.
    ///
    /// # Errors
    /// `NotFound` if the upload is gone; otherwise the disk failed.
    pub async fn small_upload(&self, upload: UploadId) -> io::Result<Option<Bytes>> {
        self.blobs.read_small(BlobName::Upload(upload)).await
    }

    /// The file of an upload, or a temporary copy of it; `None` if there is none.
    ///
    /// # Errors
    /// The disk or the bucket failed.
    pub async fn upload(&self, upload: UploadId) -> io::Result<Option<AudioFile>> {
        self.blobs.get(BlobName::Upload(upload), &self.incoming).await
    }

    /// Reads a file that is small enough to be kept in memory; `None` if it is larger.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn small(file: &AudioFile) -> io::Result<Option<Bytes>> {
        let path = file.path().to_owned();
        blocking(move || spool::small(&path)).await
    }

    /// Copies an upload to the source of a note. The two files are independent.
    ///
    /// # Errors
    /// `NotFound` if the upload is gone.
    pub async fn use_upload(&self, upload: UploadId, note: NoteId) -> io::Result<()> {
        self.blobs.copy(BlobName::Upload(upload), BlobName::Note(note, AudioVariant::Source)).await
    }

    /// Copies the source of a note to that of another note.
    ///
    /// # Errors
    /// `NotFound` if the source is gone, or if it is stored in the database and not as a file.
    pub async fn use_source(&self, original: NoteId, note: NoteId) -> io::Result<()> {
        let source = |note| BlobName::Note(note, AudioVariant::Source);
        self.blobs.copy(source(original), source(note)).await
    }

    /// Removes an upload. A missing file is no error.
    ///
    /// # Errors
    /// The disk or the bucket failed.
    pub async fn remove_upload(&self, upload: UploadId) -> io::Result<()> {
        self.blobs.remove_upload(upload).await
    }

    /// Removes all audio of a note. Missing files are no error.
    ///
    /// # Errors
    /// The disk or the bucket failed.
    pub async fn remove(&self, note: NoteId) -> io::Result<()> {
        self.blobs.remove_note(note).await
    }

    /// Lists the notes that have a file, each once.
    ///
    /// # Errors
    /// The disk or the bucket failed.
    pub async fn list(&self) -> io::Result<BoxStream<'static, io::Result<NoteId>>> {
        self.blobs.notes().await
    }

    /// Lists the stored uploads.
    ///
    /// # Errors
    /// The disk or the bucket failed.
    pub async fn list_uploads(&self) -> io::Result<BoxStream<'static, io::Result<UploadId>>> {
        self.blobs.uploads().await
    }

    /// Checks whether the storage answers.
    ///
    /// # Errors
    /// The reason why it does not.
    pub async fn answers(&self) -> io::Result<()> {
        self.blobs.check().await
    }

    /// Checks whether a file can be written now.
    ///
    /// # Errors
    /// The reason why it cannot.
    pub async fn check(&self) -> io::Result<()> {
        let folder = self.incoming.clone();
        blocking(move || {
            let mut file = NamedTempFile::new_in(folder)?;
            io::Write::write_all(&mut file, b"voicegate")
        })
        .await
    }
}

/// Reserved disk space for an incoming file. The unused part is released when this value is dropped.
#[derive(Debug)]
pub struct FileReservation(Option<Reservation>);

impl FileReservation {
    /// Counts bytes that are about to be written.
    ///
    /// # Errors
    /// `StorageFull` if too little room would be left.
    pub fn take(&mut self, bytes: usize) -> io::Result<()> {
        self.0.as_mut().map_or(Ok(()), |reserved| reserved.write(bytes as u64)).map_err(full)
    }
}

fn full(why: String) -> io::Error {
    tracing::warn!("nothing is taken in: {why}");
    io::ErrorKind::StorageFull.into()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
