//! Stores audio in a folder that only gateways on one database use.

use std::{
    fs::{File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream, stream::BoxStream};
use tempfile::NamedTempFile;

use super::{AudioFile, BlobName, BlobStore, vanished};
use crate::{
    media::{AudioVariant, ReceivedPart, blocking, disk::Identity, spool::small},
    model::id::{NoteId, ReceivedId, UploadId},
};

#[derive(Debug)]
pub struct FolderStore {
    root: PathBuf,
    /// Identities of its subfolders at the time of opening.
    opened: OpenedFolders,
}

/// Files in a folder that was deleted or replaced would not be found by the next start, so nothing is written there.
#[derive(Clone, Debug)]
struct OpenedFolders(Vec<(PathBuf, Identity)>);

impl OpenedFolders {
    fn check(&self) -> io::Result<()> {
        let Self(folders) = self;
        for (path, was) in folders {
            match Identity::of(path) {
                Ok(is) if is == *was => {}
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => return Err(vanished()),
            }
        }
        Ok(())
    }
}

impl FolderStore {
    /// Opens the folder, and creates it if necessary.
    ///
    /// # Errors
    /// The folder cannot be created, or its permissions cannot be set.
    pub fn open(root: &Path) -> io::Result<Self> {
        let mut opened = Vec::new();
        for folder in ["notes", "uploads", "received"].map(|name| root.join(name)) {
            std::fs::create_dir_all(&folder)?;
            std::fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
            let identity = Identity::of(&folder)?;
            opened.push((folder, identity));
        }
        Ok(Self { root: root.to_owned(), opened: OpenedFolders(opened) })
    }

    fn notes_folder(&self) -> PathBuf {
        self.root.join("notes")
    }

    fn uploads_folder(&self) -> PathBuf {
        self.root.join("uploads")
    }

    fn received_folder(&self) -> PathBuf {
        self.root.join("received")
    }

    fn path(&self, name: BlobName) -> PathBuf {
        self.root.join(name.to_string())
    }
}

#[async_trait]
impl BlobStore for FolderStore {
    async fn put(&self, file: NamedTempFile, name: BlobName) -> io::Result<AudioFile> {
        let (path, notes, opened) = (self.path(name), self.notes_folder(), self.opened.clone());
        let received = self.received_folder();
        blocking(move || {
            opened.check()?;
            let folder = make_folder(&path)?;
            // The content is flushed before the folders: a journalling file system writes the names with it, so the
            // folders' own flushes are cheap. Nobody reads the file before all three flushes are done.
            let file = file.persist(&path).map_err(|error| error.error)?;
            file.sync_all()?;
            match name {
                BlobName::Note(..) => sync(&[&folder, &notes])?,
                BlobName::Received(..) => sync(&[&folder, &received])?,
                BlobName::Upload(_) => sync(&[&folder])?,
            }
            // The folder may have been moved in the meantime, and the file with it.
            opened.check()?;
            if !path.try_exists()? {
                return Err(vanished());
            }
            Ok(AudioFile::Stored(path))
        })
        .await
    }

    async fn get(&self, name: BlobName, _incoming: &Path) -> io::Result<Option<AudioFile>> {
        let path = self.path(name);
        if !tokio::fs::try_exists(&path).await? {
            self.opened.check()?;
            return Ok(None);
        }
        Ok(Some(AudioFile::Stored(path)))
    }

    async fn read_small(&self, name: BlobName) -> io::Result<Option<Bytes>> {
        let (path, opened) = (self.path(name), self.opened.clone());
        blocking(move || {
            opened.check()?;
            small(&path)
        })
        .await
    }

    async fn copy(&self, from: BlobName, to: BlobName) -> io::Result<()> {
        let (from, to, notes, opened) =
            (self.path(from), self.path(to), self.notes_folder(), self.opened.clone());
        blocking(move || {
            opened.check()?;
            let folder = make_folder(&to)?;
            // The content never changes, so a hard link is enough. It was flushed when it was stored.
            if let Err(error) = std::fs::hard_link(&from, &to) {
                if error.kind() == io::ErrorKind::NotFound {
                    let _ = std::fs::remove_dir(&folder); // made for nothing
                    return Err(error);
                }
                // Some file systems do not support hard links.
                std::fs::copy(&from, &to)?;
                File::open(&to)?.sync_all()?;
            }
            sync(&[&folder, &notes])?;
            opened.check()
        })
        .await
    }

    async fn remove_note(&self, note: NoteId) -> io::Result<()> {
        self.opened.check()?;
        let file = self.path(BlobName::Note(note, AudioVariant::Source));
        gone(tokio::fs::remove_dir_all(file.parent().unwrap_or(&file)).await)
    }

    async fn remove_upload(&self, upload: UploadId) -> io::Result<()> {
        self.opened.check()?;
        gone(tokio::fs::remove_file(self.path(BlobName::Upload(upload))).await)
    }

    async fn remove_received(&self, received: ReceivedId) -> io::Result<()> {
        self.opened.check()?;
        let file = self.path(BlobName::Received(received, ReceivedPart::Native));
        gone(tokio::fs::remove_dir_all(file.parent().unwrap_or(&file)).await)
    }

    async fn received(&self) -> io::Result<BoxStream<'static, io::Result<ReceivedId>>> {
        names(self.received_folder()).await
    }

    async fn notes(&self) -> io::Result<BoxStream<'static, io::Result<NoteId>>> {
        names(self.notes_folder()).await
    }

    async fn uploads(&self) -> io::Result<BoxStream<'static, io::Result<UploadId>>> {
        names(self.uploads_folder()).await
    }

    async fn check(&self) -> io::Result<()> {
        self.opened.check()?;
        tokio::fs::read_dir(self.notes_folder()).await.map(drop)
    }
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Creates the folder of a file. The parent folder is never created again, because it may be the mount point of a disk
/// that is not mounted.
fn make_folder(file: &Path) -> io::Result<PathBuf> {
    let folder = file.parent().unwrap_or(file).to_owned();
    match std::fs::create_dir(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(folder),
    }
}

/// Flushes folders, without which the names in them are not on disk.
fn sync(folders: &[&Path]) -> io::Result<()> {
    folders.iter().try_for_each(|folder| File::open(folder)?.sync_all())
}

/// Lists the entries of a folder whose names are ids.
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(folder: &Path) -> NamedTempFile {
        let mut file = NamedTempFile::new_in(folder).expect("a file");
        file.write_all(b"audio").expect("written");
        file
    }

    #[tokio::test]
    async fn vanished_folder_is_refused_until_it_returns() {
        let outer = tempfile::tempdir().expect("a folder");
        let (root, moved) = (outer.path().join("media"), outer.path().join("moved"));
        std::fs::create_dir(&root).expect("made");
        let folder = FolderStore::open(&root).expect("opened");
        let (kept, upload) = (NoteId::new(), UploadId::new());
        let source = |note| BlobName::Note(note, AudioVariant::Source);
        folder.put(file(outer.path()), source(kept)).await.expect("kept");
        folder.put(file(outer.path()), BlobName::Upload(upload)).await.expect("kept");

        // The folder is moved away, and then replaced by an empty one, as if its disk were not mounted.
        std::fs::rename(&root, &moved).expect("moved");
        for _ in 0..2 {
            let errors = [
                folder.put(file(outer.path()), source(NoteId::new())).await.map(drop),
                folder.copy(BlobName::Upload(upload), source(NoteId::new())).await,
                folder.get(source(kept), outer.path()).await.map(drop),
                folder.remove_note(kept).await,
                folder.check().await,
            ];
            for error in errors {
                assert_eq!(error.expect_err("vanished").kind(), io::ErrorKind::HostUnreachable);
            }
            std::fs::create_dir_all(root.join("notes")).expect("made");
            std::fs::create_dir_all(root.join("uploads")).expect("made");
            std::fs::create_dir_all(root.join("received")).expect("made");
        }
        assert_eq!(
            std::fs::read_dir(root.join("notes")).expect("a folder").count(),
            0,
            "nothing was put there"
        );

        std::fs::remove_dir_all(&root).expect("removed");
        std::fs::rename(&moved, &root).expect("back");
        folder.check().await.expect("the folder that was opened");
        assert!(folder.get(source(kept), outer.path()).await.expect("an answer").is_some());
        folder.copy(BlobName::Upload(upload), source(NoteId::new())).await.expect("kept");
    }
}
