//! Receives audio: in memory while it is small, else in a temporary file.

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

use voicegate_audio::Ready;

use super::{FileReservation, MediaStore};

/// Size limit of audio that is kept in memory and stored in the database, in bytes. A voice note of a minute has 100
/// to 500 KB; larger ones cost more in a database than as a file.
pub const MAX_IN_MEMORY: usize = 256 << 10;

/// Limit on all bytes in memory, in KiB. Beyond it, audio is written to files.
const ROOM: usize = 32 << 10;

/// Complete audio that was received.
pub struct SpooledAudio {
    pub bytes: AudioBytes,
    /// SHA-256 digest in hexadecimal.
    pub sha256: String,
}

/// Location of received bytes, which are discarded when this value is dropped.
pub enum AudioBytes {
    Memory(Bytes, MemoryPermit),
    File(NamedTempFile),
}

/// Writes bytes to a temporary file. The file is not flushed, because the bytes are stored elsewhere too. Blocking.
///
/// # Errors
/// The disk failed.
pub(super) fn lend(bytes: &[u8], media: &MediaStore) -> io::Result<NamedTempFile> {
    let mut file = media.incoming_file()?;
    file.write_all(bytes)?;
    Ok(file)
}

/// Reads a file that is small enough to be kept in memory; `None` if it is larger. Blocking.
///
/// # Errors
/// The disk failed.
pub(super) fn small(path: &Path) -> io::Result<Option<Bytes>> {
    let size = std::fs::metadata(path)?.len();
    let is_small = usize::try_from(size).is_ok_and(|size| size <= MAX_IN_MEMORY);
    if is_small { std::fs::read(path).map(|bytes| Some(Bytes::from(bytes))) } else { Ok(None) }
}

/// A file with audio of a note.
#[derive(Debug)]
pub enum AudioFile {
    /// The stored file itself.
    Stored(std::path::PathBuf),
    /// A temporary file, removed when dropped.
    Temporary(NamedTempFile),
    /// A file of the render cache, which exists for as long as this value does.
    Cached(Arc<Ready>, std::path::PathBuf),
    /// A temporary copy from a bucket, with the time at which the original was stored.
    Fetched(NamedTempFile, SystemTime),
}

impl AudioFile {
    pub fn path(&self) -> &Path {
        match self {
            Self::Stored(path) | Self::Cached(_, path) => path,
            Self::Temporary(file) | Self::Fetched(file, _) => file.path(),
        }
    }
}

/// Budget for audio in memory.
#[derive(Clone, Debug)]
pub(super) struct MemoryBudget(Arc<Semaphore>);

impl MemoryBudget {
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(ROOM)))
    }
}

/// A part of the budget, returned when this value is dropped.
#[derive(Debug, Default)]
pub struct MemoryPermit {
    taken: Option<OwnedSemaphorePermit>,
}

impl MemoryPermit {
    /// Extends the permit to `size` bytes in all. Returns `false` if the budget is used up.
    fn reach(&mut self, budget: &MemoryBudget, size: usize) -> bool {
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

/// Receives bytes piece by piece, and hashes them.
pub struct Spool<'a> {
    media: &'a MediaStore,
    hash: Sha256,
    /// Number of bytes that may still arrive.
    left: u64,
    bytes: Vec<u8>,
    room: MemoryPermit,
    disk: FileReservation,
    file: Option<(NamedTempFile, tokio::fs::File)>,
}

/// More bytes arrived than permitted.
#[derive(Debug)]
pub struct TooMuch;

impl<'a> Spool<'a> {
    /// Accepts at most `most` bytes, and reserves room for `stated` bytes.
    ///
    /// # Errors
    /// `StorageFull` if too little room is left on the disk, on which bytes in memory are stored in the end as well.
    pub fn new(media: &'a MediaStore, most: u64, stated: Option<u64>) -> io::Result<Self> {
        let disk = media.room_for(stated)?;
        let (bytes, room) = (Vec::new(), MemoryPermit::default());
        Ok(Self { media, hash: Sha256::new(), left: most, bytes, room, disk, file: None })
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// The disk failed or is full.
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
                self.room = MemoryPermit::default();
                empty.insert((file, out))
            }
        };
        out.write_all(piece).await?;
        Ok(Ok(()))
    }

    /// Completes the audio.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn finish(self) -> io::Result<SpooledAudio> {
        let bytes = match self.file {
            Some((file, mut out)) => {
                out.flush().await?;
                AudioBytes::File(file)
            }
            None => AudioBytes::Memory(self.bytes.into(), self.room),
        };
        Ok(SpooledAudio { bytes, sha256: hex::encode(self.hash.finalize()) })
    }

    /// Receives everything that `source` yields. Returns `None` if that is more than permitted. Blocking.
    ///
    /// # Errors
    /// The source or the disk failed.
    pub fn fill(mut self, mut source: impl io::Read) -> io::Result<Option<SpooledAudio>> {
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
                self.room = MemoryPermit::default();
            }
            if let Some(file) = &mut file {
                file.write_all(piece)?;
            }
        }
        let bytes = file.map_or_else(|| AudioBytes::Memory(self.bytes.into(), self.room), AudioBytes::File);
        Ok(Some(SpooledAudio { bytes, sha256: hex::encode(self.hash.finalize()) }))
    }

    fn count(&mut self, piece: &[u8]) -> Result<(), TooMuch> {
        self.left = self.left.checked_sub(piece.len() as u64).ok_or(TooMuch)?;
        self.hash.update(piece);
        Ok(())
    }

    /// Adds the piece to the bytes in memory, if there is room for it.
    fn stays(&mut self, piece: &[u8]) -> bool {
        let size = self.bytes.len() + piece.len();
        if size > MAX_IN_MEMORY || !self.room.reach(&self.media.memory, size) {
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
