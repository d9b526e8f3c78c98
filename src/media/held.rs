//! Bytes on their way in: in memory while they are few, else in a private file.

use std::{
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::{
    io::AsyncWriteExt,
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{FileRoom, MediaStore};

/// Audio of at most this size is kept in memory, and then beside its note. A voice note of a minute has 100 to 500 KB;
/// in a database, larger ones cost more than a file does.
pub const MOST_HELD: usize = 256 << 10;

/// In KiB, of all that is held at once. Where that is in use, audio goes to files.
const ROOM: usize = 32 << 10;

/// Whole audio that came along.
pub struct Received {
    pub held: Held,
    /// Of its bytes, in hexadecimal.
    pub sha256: String,
}

/// Where it is. Gone when dropped.
pub enum Held {
    Memory(Bytes, Room),
    File(NamedTempFile),
}

/// Bytes as a private file, for whoever needs a path. Nothing is flushed: the bytes are elsewhere, too. Blocking.
///
/// # Errors
/// Where the disk does not play along.
pub(super) fn lend(bytes: &[u8], media: &MediaStore) -> io::Result<NamedTempFile> {
    let mut file = media.incoming_file()?;
    file.write_all(bytes)?;
    Ok(file)
}

/// A file of a note.
#[derive(Debug)]
pub enum AudioFile {
    /// In its place.
    Kept(std::path::PathBuf),
    /// Made for one use, gone when dropped.
    Lent(NamedTempFile),
    /// The same, from a bucket, where it was put at that time.
    Fetched(NamedTempFile, SystemTime),
}

impl AudioFile {
    pub fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Lent(file) | Self::Fetched(file, _) => file.path(),
        }
    }
}

/// How much may be held in memory.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(ROOM)))
    }
}

/// A part of that, given back when dropped.
#[derive(Debug, Default)]
pub struct Room {
    taken: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Makes room for `size` bytes in all; `false` where there is none.
    fn reach(&mut self, budget: &Budget, size: usize) -> bool {
        let taken = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = size.div_ceil(1024).saturating_sub(taken);
        if missing == 0 {
            return true;
        }
        let more =
            u32::try_from(missing).ok().and_then(|more| budget.0.clone().try_acquire_many_owned(more).ok());
        let Some(more) = more else { return false };
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        true
    }
}

/// Takes bytes as they come, and hashes them on the way.
pub struct Spool<'a> {
    media: &'a MediaStore,
    hash: Sha256,
    /// How many bytes may still come.
    left: u64,
    bytes: Vec<u8>,
    room: Room,
    disk: FileRoom,
    file: Option<(NamedTempFile, tokio::fs::File)>,
}

/// More came than was allowed.
#[derive(Debug)]
pub struct TooMuch;

impl<'a> Spool<'a> {
    /// For at most that many bytes, and as many as were stated.
    ///
    /// # Errors
    /// `StorageFull` where too little room is left on the disk: what is held in memory goes there in the end.
    pub fn new(media: &'a MediaStore, most: u64, stated: Option<u64>) -> io::Result<Self> {
        let disk = media.room_for(stated)?;
        let (bytes, room) = (Vec::new(), Room::default());
        Ok(Self { media, hash: Sha256::new(), left: most, bytes, room, disk, file: None })
    }

    /// # Errors
    /// Where the disk does not play along.
    pub async fn push(&mut self, piece: &[u8]) -> io::Result<Result<(), TooMuch>> {
        if let Err(too_much) = self.count(piece) {
            return Ok(Err(too_much));
        }
        if self.file.is_none() && self.stays(piece) {
            return Ok(Ok(()));
        }
        let held = if self.file.is_none() { self.bytes.len() } else { 0 };
        self.disk.take(held + piece.len())?;
        let (_, out) = match &mut self.file {
            Some(file) => file,
            empty => {
                let file = self.media.incoming_file()?;
                let mut out = tokio::fs::File::from_std(file.reopen()?);
                out.write_all(&std::mem::take(&mut self.bytes)).await?;
                self.room = Room::default();
                empty.insert((file, out))
            }
        };
        out.write_all(piece).await?;
        Ok(Ok(()))
    }

    /// # Errors
    /// Where the disk does not play along.
    pub async fn finish(self) -> io::Result<Received> {
        let held = match self.file {
            Some((file, mut out)) => {
                out.flush().await?;
                Held::File(file)
            }
            None => Held::Memory(self.bytes.into(), self.room),
        };
        Ok(Received { held, sha256: hex::encode(self.hash.finalize()) })
    }

    /// All that `source` yields; `None` where that is more than is allowed. Blocking.
    ///
    /// # Errors
    /// Of the source, or of the disk.
    pub fn fill(mut self, mut source: impl io::Read) -> io::Result<Option<Received>> {
        let mut buffer = vec![0; 32 * 1024];
        let mut file = None;
        loop {
            let count = source.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            let piece = &buffer[..count];
            if self.count(piece).is_err() {
                return Ok(None);
            }
            if file.is_none() && self.stays(piece) {
                continue;
            }
            self.disk.take(self.bytes.len() + piece.len())?;
            if file.is_none() {
                file = Some(lend(&std::mem::take(&mut self.bytes), self.media)?);
                self.room = Room::default();
            }
            if let Some(file) = &mut file {
                file.write_all(piece)?;
            }
        }
        let held = file.map_or_else(|| Held::Memory(self.bytes.into(), self.room), Held::File);
        Ok(Some(Received { held, sha256: hex::encode(self.hash.finalize()) }))
    }

    fn count(&mut self, piece: &[u8]) -> Result<(), TooMuch> {
        self.left = self.left.checked_sub(piece.len() as u64).ok_or(TooMuch)?;
        self.hash.update(piece);
        Ok(())
    }

    /// Takes the piece into memory, where it may stay there.
    fn stays(&mut self, piece: &[u8]) -> bool {
        let size = self.bytes.len() + piece.len();
        if size > MOST_HELD || !self.room.reach(&self.media.held, size) {
            return false;
        }
        self.bytes.extend_from_slice(piece);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::disk::Disks;

    const MIB: u64 = 1 << 20;

    fn media(folder: &Path) -> MediaStore {
        let disks = Disks::pretending(256 * MIB, |_| Ok(356 * MIB));
        MediaStore::open(folder).expect("a store").watching(Arc::new(disks))
    }

    #[tokio::test]
    async fn simultaneous_bodies_share_the_room_above_the_reserve() {
        let folder = tempfile::tempdir().expect("a folder");
        let media = media(folder.path());
        let begun: Vec<_> =
            (0..23).filter_map(|_| Spool::new(&media, 25 * MIB, Some(25 * MIB)).ok()).collect();
        assert_eq!(begun.len(), 4, "a hundred MiB are above the reserve");
        drop(begun);
        assert!(Spool::new(&media, 100 * MIB, Some(100 * MIB)).is_ok(), "it was let go");
    }

    #[tokio::test]
    async fn bodies_of_unknown_length_stop_at_the_reserve() {
        let folder = tempfile::tempdir().expect("a folder");
        let media = media(folder.path());
        let mut bodies: Vec<_> =
            (0..23).map(|_| Spool::new(&media, 25 * MIB, None).expect("begun")).collect();
        let piece = vec![0; MIB as usize];
        let mut written = 0;
        'all: for _ in 0..25 {
            for body in &mut bodies {
                match body.push(&piece).await {
                    Ok(taken) => taken.expect("within its limit"),
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
                        break 'all;
                    }
                }
                written += MIB;
            }
        }
        assert_eq!(written, 100 * MIB);
    }
}
