//! Where audio is kept, how it is fetched, and the signed links under which providers get it.

pub mod disk;
mod fetch;
mod held;
mod link;
mod place;
pub mod quota;

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

use self::place::{Folder, Name, Place};
use crate::{
    config::{Media, Storage},
    media::disk::{Disks, Reservation},
    model::{
        code::{Code, Stage},
        id::{NoteId, UploadId},
        problem::Problem,
    },
};

pub use fetch::{FetchError, FetchRequest, Fetcher};
pub use held::{AudioFile, Held, Received, Spool, TooMuch};
pub use link::{LinkError, Links};
pub use place::Bucket;

/// A file on its way in that was not written to for so long belongs to nobody: no body and no download pauses that long.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// Headers of a download that belong to the transfer itself; a caller cannot set them.
pub const TRANSFER_HEADERS: [&str; 4] = ["host", "content-length", "transfer-encoding", "connection"];

/// Where the audio of a request is.
pub enum AudioInput {
    /// To be downloaded. `headers` are the caller's secrets.
    Url { url: String, headers: BTreeMap<String, String> },
    /// The bytes came along.
    Bytes(Received),
    /// Uploaded before.
    Upload(UploadId),
}

impl AudioInput {
    /// Also for another tenant's upload.
    pub fn no_such_upload() -> Problem {
        let detail = "there is no such upload; it may have been deleted, so upload the audio again";
        Problem::new(Code::NotFound, detail).stage(Stage::Request).field("audio.media_id")
    }
}

impl fmt::Debug for AudioInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Url { .. } => "Url",
            Self::Bytes(_) => "Bytes",
            Self::Upload(_) => "Upload",
        })
    }
}

/// Which of a note's two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// As it came.
    Source,
    /// As made for the provider; absent where the source is sent untouched.
    Sent,
}

/// Where audio is kept, and a private folder for what is still in the making.
#[derive(Clone, Debug)]
pub struct MediaStore {
    place: Arc<dyn Place>,
    incoming: PathBuf,
    /// For what is not a file yet.
    held: held::Budget,
    disks: Option<Arc<Disks>>,
}

impl MediaStore {
    /// Opens what `storage.media` names. `environment` has the credentials of a bucket.
    ///
    /// # Errors
    /// Where a folder cannot be used, or a bucket cannot be addressed. Whether it answers is not asked.
    pub fn of(storage: &Storage, environment: &BTreeMap<String, String>) -> io::Result<Self> {
        match &storage.media {
            Media::Folder(folder) => Self::open(folder),
            Media::Bucket { name, prefix } => {
                let bucket = Bucket::open(name, prefix, environment)?;
                Self::new(Arc::new(bucket), &std::path::absolute(&storage.scratch)?)
            }
        }
    }

    /// Audio in a folder, which is created.
    ///
    /// # Errors
    /// Where the folder cannot be used.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let folder = std::path::absolute(folder)?;
        let place = Arc::new(Folder::open(&folder)?);
        // Beside what is kept, so that a finished file only has to be renamed.
        Self::new(place, &folder)
    }

    fn new(place: Arc<dyn Place>, work: &Path) -> io::Result<Self> {
        let store = Self { place, incoming: work.join("incoming"), held: held::Budget::new(), disks: None };
        std::fs::create_dir_all(&store.incoming)?;
        std::fs::set_permissions(&store.incoming, Permissions::from_mode(0o700))?;
        store.remove_leftovers()?;
        Ok(store)
    }

    /// Removes files that nobody writes to any more: their process died. Others may share the folder, and theirs are
    /// younger.
    ///
    /// # Errors
    /// Where the disk does not play along.
    pub fn remove_leftovers(&self) -> io::Result<()> {
        for file in std::fs::read_dir(&self.incoming)? {
            let file = file?;
            // One that is gone has got to its place just now.
            let written = file.metadata().and_then(|facts| facts.modified());
            if written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED)) {
                std::fs::remove_file(file.path())?;
            }
        }
        Ok(())
    }

    /// Takes in nothing new while a disk is as good as full.
    #[must_use]
    pub fn watching(mut self, disks: Arc<Disks>) -> Self {
        self.disks = Some(disks);
        self
    }

    /// An empty file for bytes that are arriving. It is gone when dropped, unless kept.
    ///
    /// # Errors
    /// Where the disk does not play along; `HostUnreachable` where the folder has vanished.
    pub fn incoming_file(&self) -> io::Result<NamedTempFile> {
        NamedTempFile::new_in(&self.incoming).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => place::vanished(),
            _ => error,
        })
    }

    /// Whether bytes may be taken in that nobody was promised anything about. What was accepted is not asked: the room
    /// that is left is for that.
    ///
    /// # Errors
    /// `StorageFull` where too little room is left.
    pub fn has_room(&self) -> io::Result<()> {
        self.disks.as_ref().map_or(Ok(()), |disks| disks.check()).map_err(full)
    }

    /// The same for so many bytes in the database, which are written now.
    ///
    /// # Errors
    /// `StorageFull`, as above.
    pub fn take_row(&self, bytes: u64) -> io::Result<()> {
        self.has_room()?;
        let written = self.disks.as_ref().map(|disks| disks.write(disk::Folder::Database, bytes));
        written.unwrap_or(Ok(())).map_err(full)
    }

    /// The same for a file of which so many bytes are promised, or of nobody knows what size. Nobody else gets them.
    ///
    /// # Errors
    /// `StorageFull`, as above.
    pub fn room_for(&self, stated: Option<u64>) -> io::Result<FileRoom> {
        self.has_room()?;
        let reserved =
            self.disks.as_ref().map(|disks| disks.reserve(disk::Folder::Work, stated.unwrap_or_default()));
        Ok(FileRoom(reserved.transpose().map_err(full)?))
    }

    /// Bytes as a private file, for whoever needs a path; gone when dropped.
    ///
    /// # Errors
    /// Where the disk does not play along.
    pub async fn lend(&self, bytes: Bytes) -> io::Result<NamedTempFile> {
        let store = self.clone();
        blocking(move || held::lend(&bytes, &store)).await
    }

    /// A file's bytes as a private file of their own, for whoever keeps it.
    ///
    /// # Errors
    /// Where the disk does not play along.
    pub async fn copy_of(&self, file: &Path) -> io::Result<NamedTempFile> {
        let (store, file) = (self.clone(), file.to_owned());
        blocking(move || {
            let mut copy = store.incoming_file()?;
            io::copy(&mut std::fs::File::open(file)?, copy.as_file_mut())?;
            Ok(copy)
        })
        .await
    }

    /// What is held, as a private file.
    ///
    /// # Errors
    /// Where the disk does not play along.
    pub async fn file_of(&self, held: Held) -> io::Result<NamedTempFile> {
        match held {
            Held::File(file) => Ok(file),
            Held::Memory(bytes, _) => self.lend(bytes).await,
        }
    }

    /// Keeps a complete file. When this returns, it outlives this process: the promise of a 202 includes it.
    ///
    /// # Errors
    /// Where disk or bucket does not play along; then the file is gone and nothing else changed.
    pub async fn keep(&self, file: NamedTempFile, note: NoteId, which: Which) -> io::Result<AudioFile> {
        self.place.put(file, Name::Note(note, which)).await
    }

    /// The same for an upload.
    ///
    /// # Errors
    /// Where disk or bucket does not play along.
    pub async fn keep_upload(&self, file: NamedTempFile, upload: UploadId) -> io::Result<()> {
        self.place.put(file, Name::Upload(upload)).await.map(drop)
    }

    /// A kept file of a note; `None` where there is none.
    ///
    /// # Errors
    /// Where disk or bucket does not play along.
    pub async fn get(&self, note: NoteId, which: Which) -> io::Result<Option<AudioFile>> {
        self.place.get(Name::Note(note, which), &self.incoming).await
    }

    /// Makes an upload the source of a note: from here on they live and end apart.
    ///
    /// # Errors
    /// `NotFound` where the upload is gone.
    pub async fn use_upload(&self, upload: UploadId, note: NoteId) -> io::Result<()> {
        self.place.copy(Name::Upload(upload), Name::Note(note, Which::Source)).await
    }

    /// Makes a note's source that of another note, too.
    ///
    /// # Errors
    /// `NotFound` where the source is gone, or beside its note and no file.
    pub async fn use_source(&self, original: NoteId, note: NoteId) -> io::Result<()> {
        let source = |note| Name::Note(note, Which::Source);
        self.place.copy(source(original), source(note)).await
    }

    /// Removes an upload. Removing what is gone already is no error.
    ///
    /// # Errors
    /// Where disk or bucket does not play along.
    pub async fn remove_upload(&self, upload: UploadId) -> io::Result<()> {
        self.place.remove_upload(upload).await
    }

    /// Removes all audio of a note. Removing what is gone already is no error.
    ///
    /// # Errors
    /// Where disk or bucket does not play along.
    pub async fn remove(&self, note: NoteId) -> io::Result<()> {
        self.place.remove_note(note).await
    }

    /// The notes that have a file, each once.
    ///
    /// # Errors
    /// Where disk or bucket does not play along.
    pub async fn list(&self) -> io::Result<BoxStream<'static, io::Result<NoteId>>> {
        self.place.notes().await
    }

    /// The uploads that are kept.
    ///
    /// # Errors
    /// Where disk or bucket does not play along.
    pub async fn list_uploads(&self) -> io::Result<BoxStream<'static, io::Result<UploadId>>> {
        self.place.uploads().await
    }

    /// Whether the place where audio is kept answers.
    ///
    /// # Errors
    /// The reason why not.
    pub async fn answers(&self) -> io::Result<()> {
        self.place.check().await
    }

    /// Whether a file can be written right now.
    ///
    /// # Errors
    /// The reason why not.
    pub async fn check(&self) -> io::Result<()> {
        let folder = self.incoming.clone();
        blocking(move || {
            let mut file = NamedTempFile::new_in(folder)?;
            io::Write::write_all(&mut file, b"voicegate")
        })
        .await
    }
}

/// Room on the disk for a file that is on its way in; what is not used is let go when dropped.
#[derive(Debug)]
pub struct FileRoom(Option<Reservation>);

impl FileRoom {
    /// Call it before so many bytes are written.
    ///
    /// # Errors
    /// `StorageFull` where too little room would be left.
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
