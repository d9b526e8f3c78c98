//! A folder that only gateways on one database read and write.

use std::{
    fs::{File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream, stream::BoxStream};
use tempfile::NamedTempFile;

use super::{AudioFile, Name, Place};
use crate::{
    id::{NoteId, UploadId},
    media::{Which, blocking},
};

#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Creates it.
    ///
    /// # Errors
    /// Where it cannot be used.
    pub fn open(root: &Path) -> io::Result<Self> {
        let folder = Self { root: root.to_owned() };
        for folder in [folder.notes_folder(), folder.uploads_folder()] {
            std::fs::create_dir_all(&folder)?;
            std::fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        }
        Ok(folder)
    }

    fn notes_folder(&self) -> PathBuf {
        self.root.join("notes")
    }

    fn uploads_folder(&self) -> PathBuf {
        self.root.join("uploads")
    }

    fn path(&self, name: Name) -> PathBuf {
        self.root.join(name.to_string())
    }
}

#[async_trait]
impl Place for Folder {
    async fn put(&self, file: NamedTempFile, name: Name) -> io::Result<AudioFile> {
        let (path, notes) = (self.path(name), self.notes_folder());
        blocking(move || {
            let folder = make_folder(&path)?;
            // Its bytes last: what a journalling file system writes for them has the names in it already, and the
            // folders' own flushes find little left to do. Nobody reads it before all three are through.
            let file = file.persist(&path).map_err(|error| error.error)?;
            file.sync_all()?;
            match name {
                Name::Note(..) => sync(&[&folder, &notes])?,
                Name::Upload(_) => sync(&[&folder])?,
            }
            Ok(AudioFile::Kept(path))
        })
        .await
    }

    async fn get(&self, name: Name, _incoming: &Path) -> io::Result<Option<AudioFile>> {
        let path = self.path(name);
        Ok(tokio::fs::try_exists(&path).await?.then_some(AudioFile::Kept(path)))
    }

    async fn copy(&self, from: Name, to: Name) -> io::Result<()> {
        let (from, to, notes) = (self.path(from), self.path(to), self.notes_folder());
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

    async fn remove_note(&self, note: NoteId) -> io::Result<()> {
        let file = self.path(Name::Note(note, Which::Source));
        gone(tokio::fs::remove_dir_all(file.parent().unwrap_or(&file)).await)
    }

    async fn remove_upload(&self, upload: UploadId) -> io::Result<()> {
        gone(tokio::fs::remove_file(self.path(Name::Upload(upload))).await)
    }

    async fn notes(&self) -> io::Result<BoxStream<'static, io::Result<NoteId>>> {
        names(self.notes_folder()).await
    }

    async fn uploads(&self) -> io::Result<BoxStream<'static, io::Result<UploadId>>> {
        names(self.uploads_folder()).await
    }

    async fn check(&self) -> io::Result<()> {
        tokio::fs::read_dir(self.notes_folder()).await.map(drop)
    }
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
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
async fn names<T>(folder: PathBuf) -> io::Result<BoxStream<'static, io::Result<T>>>
where
    T: FromStr + Send + 'static,
{
    let ids = blocking(move || {
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            ids.extend(entry?.file_name().to_str().and_then(|name| name.parse().ok()));
        }
        Ok(ids)
    });
    Ok(stream::iter(ids.await?.into_iter().map(Ok)).boxed())
}
