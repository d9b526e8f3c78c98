//! How much room there is where the gateway writes, and whether that is enough to take on more.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use bytesize::ByteSize;
use rustix::fs::statvfs;

use crate::config::Storage;

/// A disk does not fill up in less, and requests come faster than this.
const FRESH: Duration = Duration::from_secs(1);

/// Bytes that may be written on the disk of `folder`.
///
/// # Errors
/// Where the disk does not say.
pub fn free(folder: &Path) -> io::Result<u64> {
    let disk = statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// The disks of the database, and of the media folder or, where audio is in a bucket, the scratch folder.
pub struct Disks {
    /// A database elsewhere has no folder here.
    folders: [(&'static str, Option<PathBuf>); 2],
    min_free: u64,
    free: fn(&Path) -> io::Result<u64>,
    seen: Mutex<Option<(Instant, [Option<u64>; 2])>>,
}

impl Disks {
    pub fn new(storage: &Storage) -> Self {
        let (work, folder) = storage.work_folder();
        Self {
            folders: [("database", storage.database_folder()), (work, Some(folder.to_owned()))],
            min_free: storage.min_free.0,
            free,
            seen: Mutex::new(None),
        }
    }

    pub fn min_free(&self) -> u64 {
        self.min_free
    }

    /// Room by folder; none where the disk does not say. Not older than a second.
    pub fn room(&self) -> [(&'static str, Option<u64>); 2] {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let room = match *seen {
            Some((at, room)) if at.elapsed() < FRESH => room,
            _ => {
                let room = [0, 1].map(|index| (self.free)(self.folders[index].1.as_deref()?).ok());
                *seen = Some((Instant::now(), room));
                room
            }
        };
        [0, 1].map(|index| (self.folders[index].0, room[index]))
    }

    /// Whether audio may be stored that has not been promised to anybody yet.
    ///
    /// # Errors
    /// Which disk is too full, for the operator.
    pub fn check(&self) -> Result<(), String> {
        for (folder, room) in self.room() {
            // A disk that says nothing is told of by the first write that fails.
            if let Some(room) = room.filter(|room| *room < self.min_free) {
                let (room, wanted) = (ByteSize(room), ByteSize(self.min_free));
                return Err(format!(
                    "storage.{folder}: {room} free, below storage.min_free ({wanted}); make room"
                ));
            }
        }
        Ok(())
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

    fn disks(min_free: u64, free: fn(&Path) -> io::Result<u64>) -> Disks {
        let folders = [("database", Some(PathBuf::from("d"))), ("media", Some(PathBuf::from("m")))];
        Disks { folders, min_free, free, seen: Mutex::new(None) }
    }

    #[test]
    fn one_full_disk_of_two_is_enough_to_stop() {
        let free = |folder: &Path| Ok(if folder == Path::new("m") { 99 << 20 } else { 1 << 40 });
        assert_eq!(disks(99 << 20, free).check(), Ok(()));
        let why = disks(100 << 20, free).check().expect_err("too little");
        assert!(why.starts_with("storage.media: 99.0 MiB free, below storage.min_free (100.0 MiB)"), "{why}");
    }

    #[test]
    fn a_disk_that_says_nothing_stops_nobody() {
        let silent = disks(1, |_| Err(io::ErrorKind::Unsupported.into()));
        assert_eq!(silent.check(), Ok(()));
        assert_eq!(silent.room(), [("database", None), ("media", None)]);
    }

    #[test]
    fn the_disk_is_asked_once_a_second_at_most() {
        use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
        static ASKED: AtomicU64 = AtomicU64::new(0);
        let disks = disks(0, |_| Ok(ASKED.fetch_add(1, Relaxed)));
        assert_eq!(disks.room(), disks.room());
        assert_eq!(ASKED.load(Relaxed), 2, "each folder once");
        let past = Instant::now().checked_sub(FRESH).expect("some time ago");
        *disks.seen.lock().expect("unpoisoned") = Some((past, [None; 2]));
        assert_eq!(disks.room(), [("database", Some(2)), ("media", Some(3))]);
    }
}
