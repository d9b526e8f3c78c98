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

use super::{AudioFile, Name, Place, vanished};
use crate::{
    media::{Which, blocking, disk::Identity},
    model::id::{NoteId, UploadId},
};

#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    /// Its two folders as they were opened.
    kept: Kept,
}

/// What is in a folder that is gone, or in another one of its name, is not found by the next start.
#[derive(Clone, Debug)]
struct Kept([(PathBuf, Identity); 2]);

impl Kept {
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

impl Folder {
    /// Creates it.
    ///
    /// # Errors
    /// Where it cannot be used.
    pub fn open(root: &Path) -> io::Result<Self> {
        let folders = ["notes", "uploads"].map(|name| root.join(name));
        for folder in &folders {
            std::fs::create_dir_all(folder)?;
            std::fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        }
        let [notes, uploads] = folders;
        let (first, second) = (Identity::of(&notes)?, Identity::of(&uploads)?);
        Ok(Self { root: root.to_owned(), kept: Kept([(notes, first), (uploads, second)]) })
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
        let (path, notes, kept) = (self.path(name), self.notes_folder(), self.kept.clone());
        blocking(move || {
            kept.check()?;
            let folder = make_folder(&path)?;
            // Its bytes last: what a journalling file system writes for them has the names in it already, and the
            // folders' own flushes find little left to do. Nobody reads it before all three are through.
            let file = file.persist(&path).map_err(|error| error.error)?;
            file.sync_all()?;
            match name {
                Name::Note(..) => sync(&[&folder, &notes])?,
                Name::Upload(_) => sync(&[&folder])?,
            }
            // Somebody may have moved the folder meanwhile, and the bytes with it.
            kept.check()?;
            if !path.try_exists()? {
                return Err(vanished());
            }
            Ok(AudioFile::Kept(path))
        })
        .await
    }

    async fn get(&self, name: Name, _incoming: &Path) -> io::Result<Option<AudioFile>> {
        let path = self.path(name);
        if !tokio::fs::try_exists(&path).await? {
            self.kept.check()?;
            return Ok(None);
        }
        Ok(Some(AudioFile::Kept(path)))
    }

    async fn copy(&self, from: Name, to: Name) -> io::Result<()> {
        let (from, to, notes, kept) =
            (self.path(from), self.path(to), self.notes_folder(), self.kept.clone());
        blocking(move || {
            kept.check()?;
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
            sync(&[&folder, &notes])?;
            kept.check()
        })
        .await
    }

    async fn remove_note(&self, note: NoteId) -> io::Result<()> {
        self.kept.check()?;
        let file = self.path(Name::Note(note, Which::Source));
        gone(tokio::fs::remove_dir_all(file.parent().unwrap_or(&file)).await)
    }

    async fn remove_upload(&self, upload: UploadId) -> io::Result<()> {
        self.kept.check()?;
        gone(tokio::fs::remove_file(self.path(Name::Upload(upload))).await)
    }

    async fn notes(&self) -> io::Result<BoxStream<'static, io::Result<NoteId>>> {
        names(self.notes_folder()).await
    }

    async fn uploads(&self) -> io::Result<BoxStream<'static, io::Result<UploadId>>> {
        names(self.uploads_folder()).await
    }

    async fn check(&self) -> io::Result<()> {
        self.kept.check()?;
        tokio::fs::read_dir(self.notes_folder()).await.map(drop)
    }
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The folder of a file. The one above it is never made again: its place may be that of a disk which is not mounted.
fn make_folder(file: &Path) -> io::Result<PathBuf> {
    let folder = file.parent().unwrap_or(file).to_owned();
    match std::fs::create_dir(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(folder),
    }
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
    async fn nothing_is_kept_in_a_folder_that_has_vanished_and_it_works_again_when_it_is_back() {
        let outer = tempfile::tempdir().expect("a folder");
        let (root, moved) = (outer.path().join("media"), outer.path().join("moved"));
        std::fs::create_dir(&root).expect("made");
        let folder = Folder::open(&root).expect("opened");
        let (kept, upload) = (NoteId::new(), UploadId::new());
        let source = |note| Name::Note(note, Which::Source);
        folder.put(file(outer.path()), source(kept)).await.expect("kept");
        folder.put(file(outer.path()), Name::Upload(upload)).await.expect("kept");

        // Moved away, and then another one in its place, as a disk that is not mounted leaves it.
        std::fs::rename(&root, &moved).expect("moved");
        for _ in 0..2 {
            let errors = [
                folder.put(file(outer.path()), source(NoteId::new())).await.map(drop),
                folder.copy(Name::Upload(upload), source(NoteId::new())).await,
                folder.get(source(kept), outer.path()).await.map(drop),
                folder.remove_note(kept).await,
                folder.check().await,
            ];
            for error in errors {
                assert_eq!(error.expect_err("vanished").kind(), io::ErrorKind::HostUnreachable);
            }
            std::fs::create_dir_all(root.join("notes")).expect("made");
            std::fs::create_dir_all(root.join("uploads")).expect("made");
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
        folder.copy(Name::Upload(upload), source(NoteId::new())).await.expect("kept");
    }
}
