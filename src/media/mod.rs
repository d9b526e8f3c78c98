//! Where audio is kept, how it is fetched, and the signed links under which providers get it.

mod fetch;
mod link;

use std::{
    fs::{File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::note::NoteId;

pub use fetch::{FetchError, FetchRequest, Fetcher};
pub use link::{LinkError, Links};

/// Which of a note's two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// As it came.
    Source,
    /// As made for the provider; absent where the source is sent untouched.
    Sent,
}

/// A folder that only this gateway reads and writes. File names are made here, never taken from a request.
#[derive(Clone, Debug)]
pub struct MediaStore {
    root: PathBuf,
}

impl MediaStore {
    /// Creates the folder, and removes what an earlier process left half-written.
    ///
    /// # Errors
    /// Where the folder cannot be used.
    pub fn open(root: &Path) -> io::Result<Self> {
        let root = std::path::absolute(root)?;
        let store = Self { root };
        for folder in [store.notes(), store.incoming()] {
            std::fs::create_dir_all(&folder)?;
            std::fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        }
        for leftover in std::fs::read_dir(store.incoming())? {
            std::fs::remove_file(leftover?.path())?;
        }
        Ok(store)
    }

    pub fn notes(&self) -> PathBuf {
        self.root.join("notes")
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
            file.as_file().sync_all()?;
            let folder = path.parent().unwrap_or(&notes);
            std::fs::create_dir_all(folder)?;
            file.persist(&path).map_err(|error| error.error)?;
            File::open(folder)?.sync_all()?;
            File::open(&notes)?.sync_all()
        })
        .await
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
        let notes = self.notes();
        blocking(move || {
            let mut ids = Vec::new();
            for entry in std::fs::read_dir(notes)? {
                ids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<NoteId>().ok()));
            }
            Ok(ids)
        })
        .await
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

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
