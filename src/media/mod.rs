//! Where audio is kept, how it is fetched, and the signed links under which providers get it.

mod fetch;
mod held;
mod link;

use std::{
    collections::BTreeMap,
    fmt,
    fs::{File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tempfile::NamedTempFile;

use crate::{
    disk::Disks,
    id::{NoteId, UploadId},
    problem::Problem,
};

pub use fetch::{FetchError, FetchRequest, Fetcher};
pub use held::{AudioFile, Held, Received, Spool, TooMuch};
pub use link::{LinkError, Links};

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
        Problem::new("not_found", detail).stage("request").field("audio.media_id")
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

/// A folder that only gateways on one database read and write. File names are made here, never taken from a request.
#[derive(Clone, Debug)]
pub struct MediaStore {
    root: PathBuf,
    /// For what is not a file yet.
    held: held::Budget,
    disks: Option<Arc<Disks>>,
}

impl MediaStore {
    /// Creates the folder, and removes what an earlier process left half-written.
    ///
    /// # Errors
    /// Where the folder cannot be used.
    pub fn open(root: &Path) -> io::Result<Self> {
        let root = std::path::absolute(root)?;
        let store = Self { root, held: held::Budget::new(), disks: None };
        for folder in [store.notes(), store.uploads(), store.incoming()] {
            std::fs::create_dir_all(&folder)?;
            std::fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        }
        store.remove_leftovers()?;
        Ok(store)
    }

    /// Removes files that nobody writes to any more: their process died. Others may share the folder, and theirs are
    /// younger.
    ///
    /// # Errors
    /// Where the disk does not play along.
    pub fn remove_leftovers(&self) -> io::Result<()> {
        for file in std::fs::read_dir(self.incoming())? {
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

    pub fn notes(&self) -> PathBuf {
        self.root.join("notes")
    }

    fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// An empty file for bytes that are arriving. It is gone when dropped, unless kept.
    ///
    /// # Errors
    /// Where the disk does not play along.
    pub fn incoming_file(&self) -> io::Result<NamedTempFile> {
        NamedTempFile::new_in(self.incoming())
    }

    /// Whether bytes may be taken in that nobody was promised anything about. What was accepted is not asked: the room
    /// that is left is for that.
    ///
    /// # Errors
    /// `StorageFull` where too little room is left.
    pub fn has_room(&self) -> io::Result<()> {
        if let Some(Err(why)) = self.disks.as_ref().map(|disks| disks.check()) {
            tracing::warn!("no audio is taken in: {why}");
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// Bytes as a private file, for whoever needs a path; gone when dropped.
    ///
    /// # Errors
    /// Where the disk does not play along.
    pub async fn lend(&self, bytes: Bytes) -> io::Result<NamedTempFile> {
        let store = self.clone();
        blocking(move || held::lend(&bytes, &store)).await
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

    pub fn path(&self, note: NoteId, which: Which) -> PathBuf {
        let name = match which {
            Which::Source => "source",
            Which::Sent => "sent",
        };
        self.notes().join(note.to_string()).join(name)
    }

    /// Moves a complete file to its place. When this returns, bytes and name are on disk: the promise of a 202
    /// includes them.
    ///
    /// # Errors
    /// Where the disk does not play along; then the file is gone and nothing else changed.
    pub async fn keep(&self, file: NamedTempFile, note: NoteId, which: Which) -> io::Result<()> {
        let (path, notes) = (self.path(note, which), self.notes());
        blocking(move || {
            let folder = make_folder(&path)?;
            // Its bytes last: what a journalling file system writes for them has the names in it already, and the
            // folders' own flushes find little left to do. Nobody reads it before all three are through.
            let file = file.persist(&path).map_err(|error| error.error)?;
            file.sync_all()?;
            sync(&[&folder, &notes])
        })
        .await
    }

    /// Moves a complete file to where uploads are kept. As durable as [`Self::keep`].
    ///
    /// # Errors
    /// Where the disk does not play along.
    pub async fn keep_upload(&self, file: NamedTempFile, upload: UploadId) -> io::Result<()> {
        let (path, uploads) = (self.upload_path(upload), self.uploads());
        blocking(move || {
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            sync(&[&uploads])
        })
        .await
    }

    pub fn upload_path(&self, upload: UploadId) -> PathBuf {
        self.uploads().join(upload.to_string())
    }

    /// Makes an upload the source of a note: from here on they live and end apart.
    ///
    /// # Errors
    /// `NotFound` where the upload is gone.
    pub async fn use_upload(&self, upload: UploadId, note: NoteId) -> io::Result<()> {
        self.link(self.upload_path(upload), note).await
    }

    /// Makes a note's source that of another note, too.
    ///
    /// # Errors
    /// `NotFound` where the source is gone, or beside its note and no file.
    pub async fn use_source(&self, original: NoteId, note: NoteId) -> io::Result<()> {
        self.link(self.path(original, Which::Source), note).await
    }

    async fn link(&self, from: PathBuf, note: NoteId) -> io::Result<()> {
        let (to, notes) = (self.path(note, Which::Source), self.notes());
        blocking(move || {
            let folder = make_folder(&to)?;
            // The bytes never change, so a second name for them will do. They were flushed when they came.
            if let Err(error) = std::fs::hard_link(&from, &to) {
                if error.kind() == io::ErrorKind::NotFound {
                    let _ = std::fs::remove_dir(&folder); // made for nothing
                    return Err(error);
                }
                // Some file systems have no links.
                std::fs::copy(&from, &to)?;
                File::open(&to)?.sync_all()?;
            }
            sync(&[&folder, &notes])
        })
        .await
    }

    /// Removes an upload. Removing what is gone already is no error.
    ///
    /// # Errors
    /// Where the disk does not play along.
    pub async fn remove_upload(&self, upload: UploadId) -> io::Result<()> {
        match tokio::fs::remove_file(self.upload_path(upload)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes all audio of a note. Removing what is gone already is no error.
    ///
    /// # Errors
    /// Where the disk does not play along.
    pub async fn remove(&self, note: NoteId) -> io::Result<()> {
        let folder = self.notes().join(note.to_string());
        match tokio::fs::remove_dir_all(folder).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The notes that have a folder here.
    ///
    /// # Errors
    /// Where the disk does not play along.
    pub async fn list(&self) -> io::Result<Vec<NoteId>> {
        names(self.notes()).await
    }

    /// The uploads that are here.
    ///
    /// # Errors
    /// Where the disk does not play along.
    pub async fn list_uploads(&self) -> io::Result<Vec<UploadId>> {
        names(self.uploads()).await
    }

    /// Whether a file can be written right now.
    ///
    /// # Errors
    /// The reason why not.
    pub async fn check(&self) -> io::Result<()> {
        let folder = self.incoming();
        blocking(move || {
            let mut file = NamedTempFile::new_in(folder)?;
            io::Write::write_all(&mut file, b"voicegate")
        })
        .await
    }
}

fn make_folder(file: &Path) -> io::Result<PathBuf> {
    let folder = file.parent().unwrap_or(file).to_owned();
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Names are on disk only once their folder is.
fn sync(folders: &[&Path]) -> io::Result<()> {
    folders.iter().try_for_each(|folder| File::open(folder)?.sync_all())
}

/// What in a folder is named like an id.
async fn names<T: FromStr + Send + 'static>(folder: PathBuf) -> io::Result<Vec<T>> {
    blocking(move || {
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            ids.extend(entry?.file_name().to_str().and_then(|name| name.parse().ok()));
        }
        Ok(ids)
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
