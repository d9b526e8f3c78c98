//! Free disk space for the gateway's files, and the decision whether new audio is accepted.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytesize::ByteSize;
use rustix::fs::statvfs;

use crate::config::Storage;

/// Time for which a reading of free space is reused. No disk fills up in less, and requests arrive more often.
const FRESH: Duration = Duration::from_secs(1);

/// Free bytes on the disk of `folder`.
///
/// # Errors
/// The file system cannot be asked.
pub fn free(folder: &Path) -> io::Result<u64> {
    let disk = statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Identity of a file or folder, with symbolic links followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Reads the identity of the file at `path`.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub fn of(path: &Path) -> io::Result<Self> {
        let facts = std::fs::metadata(path)?;
        Ok(Self { device: facts.dev(), inode: facts.ino() })
    }
}

/// Folders of the gateway whose disks are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    Database,
    /// The media folder or, with audio in a bucket, the scratch folder.
    Work,
}

/// Bytes to reserve at once for a file of unknown size.
const STEP: u64 = 1 << 20;

/// The disks of the database, and of the media folder or, with audio in a bucket, the scratch folder.
pub struct Disks {
    /// A database on another machine has no folder.
    folders: [(&'static str, Option<PathBuf>); 2],
    /// Both folders are on one disk, so their reservations add up.
    is_one: bool,
    min_free: u64,
    free: fn(&Path) -> io::Result<u64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seen: Option<(Instant, [Option<u64>; 2])>,
    /// Reserved bytes that are not yet written, by folder.
    reserved: [u64; 2],
    /// Bytes written since free space was last read.
    written: [u64; 2],
    /// Bytes written before that reading. Some may not have reached the disk at that time.
    written_before: [u64; 2],
}

impl Disks {
    pub fn new(storage: &Storage) -> Self {
        let (work, folder) = storage.work_folder();
        let folders = [("database", storage.database_folder()), (work, Some(folder.to_owned()))];
        let [database, work] =
            [0, 1].map(|index| folders[index].1.as_deref().and_then(|folder| Identity::of(folder).ok()));
        let is_one = database.zip(work).is_some_and(|(database, work)| database.device == work.device);
        Self { folders, is_one, min_free: storage.min_free.0, free, state: Mutex::default() }
    }

    /// Two disks with constant free space.
    #[cfg(test)]
    pub fn pretending(min_free: u64, free: fn(&Path) -> io::Result<u64>) -> Self {
        let folders = [("database", Some(PathBuf::from("d"))), ("media", Some(PathBuf::from("m")))];
        Self { folders, is_one: false, min_free, free, state: Mutex::default() }
    }

    pub fn min_free(&self) -> u64 {
        self.min_free
    }

    /// Free bytes by folder, at most a second old. `None` if the disk cannot be asked.
    pub fn room(&self) -> [(&'static str, Option<u64>); 2] {
        let room = self.seen(&mut self.state());
        [0, 1].map(|index| (self.folders[index].0, room[index]))
    }

    /// Checks whether audio without an earlier promise may be stored.
    ///
    /// # Errors
    /// A sentence for the operator that names the disk that is too full.
    pub fn check(&self) -> Result<(), String> {
        let state = &mut *self.state();
        [Folder::Database, Folder::Work].into_iter().try_for_each(|folder| self.has(state, folder, 0))
    }

    /// Counts bytes that are written to a folder now.
    ///
    /// # Errors
    /// A sentence for the operator if less than `storage.min_free` would be left.
    pub fn write(&self, folder: Folder, bytes: u64) -> Result<(), String> {
        let state = &mut *self.state();
        self.has(state, folder, bytes)?;
        state.written[folder as usize] += bytes;
        Ok(())
    }

    /// Reserves bytes that will be written later.
    ///
    /// # Errors
    /// A sentence for the operator if less than `storage.min_free` would be left.
    pub fn reserve(self: &Arc<Self>, folder: Folder, bytes: u64) -> Result<Reservation, String> {
        let mut reservation = Reservation { disks: self.clone(), folder, left: 0 };
        reservation.add(bytes)?;
        Ok(reservation)
    }

    fn has(&self, state: &mut State, folder: Folder, bytes: u64) -> Result<(), String> {
        let own = folder as usize;
        // If the free space is unknown, the first failing write reports the problem.
        let Some(free) = self.seen(state)[own] else { return Ok(()) };
        let sum = |taken: &[u64; 2]| if self.is_one { taken[0] + taken[1] } else { taken[own] };
        let taken = sum(&state.reserved) + sum(&state.written) + sum(&state.written_before);
        let left = free.saturating_sub(taken);
        if left >= self.min_free.saturating_add(bytes) {
            return Ok(());
        }
        let (room, wanted) = (ByteSize(left), ByteSize(self.min_free));
        Err(match bytes {
            0 => format!(
                "storage.{}: {room} free, below storage.min_free ({wanted}); make room",
                self.folders[own].0
            ),
            _ => format!(
                "storage.{}: {room} free, and {} more would leave less than storage.min_free ({wanted}); make room",
                self.folders[own].0,
                ByteSize(bytes)
            ),
        })
    }

    fn seen(&self, state: &mut State) -> [Option<u64>; 2] {
        match state.seen {
            Some((at, room)) if at.elapsed() < FRESH => room,
            _ => {
                let room = [0, 1].map(|index| (self.free)(self.folders[index].1.as_deref()?).ok());
                state.seen = Some((Instant::now(), room));
                state.written_before = std::mem::take(&mut state.written);
                room
            }
        }
    }

    /// A panic cannot leave these numbers half updated, so a poisoned lock is safe to use.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reserved bytes. The unused part is released when this value is dropped.
#[derive(Debug)]
pub struct Reservation {
    disks: Arc<Disks>,
    folder: Folder,
    left: u64,
}

impl Reservation {
    /// Counts bytes as written, and reserves more if the reservation is too small.
    ///
    /// # Errors
    /// A sentence for the operator if less than `storage.min_free` would be left.
    pub fn write(&mut self, bytes: u64) -> Result<(), String> {
        let missing = bytes.saturating_sub(self.left);
        if missing > 0 && (missing >= STEP || self.add(STEP).is_err()) {
            self.add(missing)?;
        }
        self.left -= bytes;
        let state = &mut *self.disks.state();
        state.reserved[self.folder as usize] -= bytes;
        state.written[self.folder as usize] += bytes;
        Ok(())
    }

    fn add(&mut self, bytes: u64) -> Result<(), String> {
        let state = &mut *self.disks.state();
        self.disks.has(state, self.folder, bytes)?;
        state.reserved[self.folder as usize] += bytes;
        self.left += bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.disks.state().reserved[self.folder as usize] -= self.left;
    }
}

impl std::fmt::Debug for Disks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disks").field("min_free", &self.min_free).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Expires the reading of free space, as after a second.
    fn look_again(disks: &Disks) {
        disks.state().seen = None;
    }

    #[test]
    fn one_full_disk_stops_new_audio() {
        let free = |folder: &Path| Ok(if folder == Path::new("m") { 99 << 20 } else { 1 << 40 });
        assert_eq!(Disks::pretending(99 << 20, free).check(), Ok(()));
        let why = Disks::pretending(100 << 20, free).check().expect_err("too little");
        assert!(why.starts_with("storage.media: 99.0 MiB free, below storage.min_free (100.0 MiB)"), "{why}");
    }

    #[test]
    fn unknown_free_space_stops_nothing() {
        let silent = Arc::new(Disks::pretending(1, |_| Err(io::ErrorKind::Unsupported.into())));
        assert_eq!(silent.check(), Ok(()));
        assert!(silent.reserve(Folder::Work, u64::MAX / 2).is_ok());
        assert_eq!(silent.room(), [("database", None), ("media", None)]);
    }

    #[test]
    fn free_space_is_read_at_most_once_a_second() {
        use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
        static ASKED: AtomicU64 = AtomicU64::new(0);
        let disks = Disks::pretending(0, |_| Ok(ASKED.fetch_add(1, Relaxed)));
        assert_eq!(disks.room(), disks.room());
        assert_eq!(ASKED.load(Relaxed), 2, "each folder once");
        let past = Instant::now().checked_sub(FRESH).expect("some time ago");
        disks.state().seen = Some((past, [None; 2]));
        assert_eq!(disks.room(), [("database", Some(2)), ("media", Some(3))]);
    }

    #[test]
    fn reserved_space_is_exclusive_until_released() {
        let disks = Arc::new(Disks::pretending(256 * MIB, |_| Ok(356 * MIB)));
        let held: Vec<_> = (0..4).map(|_| disks.reserve(Folder::Work, 25 * MIB).expect("room")).collect();
        let why = disks.reserve(Folder::Work, 1).expect_err("all is taken");
        assert!(why.contains("storage.min_free"), "{why}");
        assert!(disks.write(Folder::Work, 1).is_err());
        disks.write(Folder::Database, 100 * MIB).expect("another disk");
        drop(held);
        disks.write(Folder::Work, 100 * MIB).expect("let go");
    }

    #[test]
    fn written_bytes_count_until_free_space_is_read_again() {
        let disks = Arc::new(Disks::pretending(0, |_| Ok(10 * MIB)));
        let mut body = disks.reserve(Folder::Work, 0).expect("room");
        for _ in 0..10 {
            body.write(MIB).expect("as it comes");
        }
        assert!(body.write(1).is_err(), "the disk is full, though it was not looked at");
        drop(body);
        assert!(disks.write(Folder::Work, 1).is_err(), "written is written");
        look_again(&disks);
        assert!(disks.write(Folder::Work, 1).is_err(), "some of it may be on its way");
        look_again(&disks);
        disks.write(Folder::Work, 10 * MIB).expect("the disk has the last word");
    }

    #[test]
    fn folders_on_one_disk_share_its_space() {
        let mut disks = Disks::pretending(0, |_| Ok(10 * MIB));
        disks.is_one = true;
        let disks = Arc::new(disks);
        let _held = disks.reserve(Folder::Work, 6 * MIB).expect("room");
        disks.write(Folder::Database, 4 * MIB).expect("room");
        assert!(disks.write(Folder::Database, 1).is_err());
    }
}
