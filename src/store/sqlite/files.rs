//! Checks of the files of an open database. SQLite goes on writing into files that were deleted or replaced, and those
//! writes are lost at the next start; so the open files are compared with their paths.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::SqliteConnection;

use crate::{media::disk::Identity, store::StoreError};

/// Length of the journal header. <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>
const HEAD: usize = 32;

/// Length of a frame header.
const FRAME_HEAD: u64 = 24;

/// Minimum length of a database, which is that of its header.
/// <https://www.sqlite.org/fileformat2.html#the_database_header>
const LEAST: u64 = 100;

#[derive(Debug)]
pub struct Files {
    /// Paths of the database as configured, possibly a symbolic link, of its journal and of the journal's index.
    paths: [PathBuf; 3],
    opened: OnceLock<Opened>,
    /// Reason for which nothing is stored any more.
    trouble: Mutex<Option<Arc<str>>>,
    /// Whether the store was closed, after which SQLite may remove the journal.
    closed: AtomicBool,
}

#[derive(Debug)]
struct Opened {
    identities: [Identity; 3],
    /// The open journal. The other two files are not opened, because SQLite keeps its locks on them, which are lost as
    /// soon as this process closes one of them.
    /// <https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_>
    journal: File,
}

impl Files {
    /// `configured` resolves to `file`, which SQLite opens.
    pub fn new(configured: &Path, file: &Path) -> Self {
        let beside = |suffix: &str| {
            let mut name = file.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        let paths = [configured.to_owned(), beside("-wal"), beside("-shm")];
        Self { paths, opened: OnceLock::new(), trouble: Mutex::default(), closed: AtomicBool::new(false) }
    }

    /// Records the current files. It must be called while connections hold them. `database` is the file that the path
    /// named before the first connection.
    pub fn remember(&self, database: Identity) -> io::Result<()> {
        let [path, journal, index] = &self.paths;
        let identities = [Identity::of(path)?, Identity::of(journal)?, Identity::of(index)?];
        if identities[0] != database {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the file was replaced while it was opened"));
        }
        let journal = File::open(journal)?;
        // The store is opened once, so nothing was recorded before.
        let _ = self.opened.set(Opened { identities, journal });
        self.compare().map_err(io::Error::other)
    }

    /// Checks that data written now is found at the next start. Costs a few microseconds.
    ///
    /// # Errors
    /// `OutOfOrder`, from the first failed check on.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(StoreError::OutOfOrder("the database is closed".into()));
        }
        if let Some(why) = self.trouble() {
            return Err(StoreError::OutOfOrder(why));
        }
        self.compare().map_err(|why| self.give_up(why))
    }

    /// Refuses all further use.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Reason for which nothing is stored any more.
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops all writing until the next start.
    pub fn give_up(&self, why: String) -> StoreError {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let why = trouble.get_or_insert_with(|| {
            tracing::error!("nothing is accepted or sent any more: {why}");
            format!("{why}; the gateway has to be restarted once that is mended").into()
        });
        StoreError::OutOfOrder(why.clone())
    }

    fn compare(&self) -> Result<(), String> {
        let Some(opened) = self.opened.get() else { return Ok(()) };
        for ((path, was), what) in
            self.paths.iter().zip(opened.identities).zip(["file", "journal (-wal)", "index (-shm)"])
        {
            match Identity::of(path) {
                Ok(is) if is == was => {}
                Ok(_) => return Err(format!("the database's {what} was replaced while it was open")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(format!("the database's {what} was deleted or moved while it was open"));
                }
                // The file cannot be inspected at the moment. If that is serious, writes fail by themselves.
                Err(_) => {}
            }
        }
        if std::fs::metadata(&self.paths[0]).is_ok_and(|facts| facts.len() < LEAST) {
            return Err("the database's file was emptied while it was open".to_owned());
        }
        // The header is read several times, because it may just be written.
        if (0..3).all(|turn| {
            std::thread::sleep(Duration::from_millis(turn * 5));
            !begins_well(&opened.journal)
        }) {
            return Err(
                "the database's journal (-wal) was emptied or overwritten while it was open".to_owned()
            );
        }
        Ok(())
    }

    /// Whether the journal is as long as SQLite assumes.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn journal_is_whole(&self, reader: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        let Some(opened) = self.opened.get() else { return Ok(true) };
        // This checkpoint mode only reports. <https://www.sqlite.org/pragma.html#pragma_wal_checkpoint>
        let (_, frames, _): (i64, i64, i64) =
            sqlx::query_as("PRAGMA wal_checkpoint = NOOP").fetch_one(&mut *reader).await?;
        let page: i64 = sqlx::query_scalar("PRAGMA page_size").fetch_one(reader).await?;
        let needed = match frames.max(0).unsigned_abs() {
            0 => 0,
            frames => HEAD as u64 + frames * (FRAME_HEAD + page.unsigned_abs()),
        };
        Ok(opened.journal.metadata().is_ok_and(|facts| facts.len() >= needed))
    }
}

/// Whether a journal is empty or has a valid header. Without one, the next start ignores the whole journal.
fn begins_well(journal: &File) -> bool {
    let mut head = [0; HEAD];
    match read(journal, &mut head) {
        Ok(0) => true,
        Ok(HEAD) => is_header(&head),
        Ok(_) => false,
        // Errors of the disk are reported by the next write.
        Err(_) => true,
    }
}

fn read(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// Checks magic number and checksum. <https://www.sqlite.org/fileformat2.html#walcksm>
fn is_header(head: &[u8; HEAD]) -> bool {
    const MAGIC: u32 = 0x377f_0682;
    let words: Vec<[u8; 4]> = head.as_chunks().0.to_vec();
    let magic = u32::from_be_bytes(words[0]);
    if magic & !1 != MAGIC {
        return false;
    }
    let number: fn([u8; 4]) -> u32 = if magic & 1 == 1 { u32::from_be_bytes } else { u32::from_le_bytes };
    let (mut first, mut second) = (0_u32, 0_u32);
    for pair in words[..6].as_chunks::<2>().0 {
        first = first.wrapping_add(number(pair[0])).wrapping_add(second);
        second = second.wrapping_add(number(pair[1])).wrapping_add(first);
    }
    (first, second) == (u32::from_be_bytes(words[6]), u32::from_be_bytes(words[7]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the header of a journal written by SQLite 3.51.
    fn header() -> [u8; HEAD] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.db");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            use sqlx::{ConnectOptions, Executor};
            let mut connection = sqlx::sqlite::SqliteConnectOptions::new()
                .filename(&path)
                .create_if_missing(true)
                .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
                .connect()
                .await
                .expect("a database");
            connection.execute("CREATE TABLE t (x)").await.expect("executed");
            let bytes = std::fs::read(folder.path().join("x.db-wal")).expect("a journal");
            bytes[..HEAD].try_into().expect("long enough")
        })
    }

    #[test]
    fn journal_header_with_any_flipped_bit_is_invalid() {
        let good = header();
        assert!(is_header(&good));
        for bit in 0..HEAD * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_header(&bad), "bit {bit}");
        }
        assert!(!is_header(&[0; HEAD]));
    }
}
