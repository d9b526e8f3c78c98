//! Checks that the folders in the configuration can be written to and have free space.

use std::path::Path;

use bytesize::ByteSize;

use super::line::Line;
use crate::{config::Config, media::disk};

/// Free space that the database needs: a note takes a few KiB, and its journal may grow to some MiB.
const DATABASE_FLOOR: u64 = 64 << 20;

/// A folder with less than this many times the minimum gets a note.
const COMFORT: u64 = 10;

pub fn check(config: &Config) -> Vec<Line> {
    let storage = &config.storage;
    let mut lines = Vec::new();
    if let Some(database) = storage.database_folder() {
        lines.push(folder("storage.database", &database, DATABASE_FLOOR.max(storage.min_free.0)));
    }
    let (key, work) = storage.work_folder();
    lines.push(folder(&format!("storage.{key}"), work, media_floor(config).max(storage.min_free.0)));
    lines
}

/// Space that the audio workers alone may need at a time: for each a source and its converted file, at their largest.
fn media_floor(config: &Config) -> u64 {
    let workers = match config.audio.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    config.audio.max_bytes.0.saturating_mul(2).saturating_mul(workers as u64)
}

/// Checks that the folder, or its nearest parent that exists, can be written to and has free space.
fn folder(key: &str, path: &Path, floor: u64) -> Line {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = absolute.ancestors().find(|folder| folder.exists()).unwrap_or(&absolute);
    // This file has no name and disappears when it is closed.
    if let Err(error) = tempfile::tempfile_in(existing) {
        return Line::fail(format!(
            "{key}: {} cannot be written to ({}); let this user write there, or name another folder",
            existing.display(),
            error.kind()
        ));
    }
    let shown = absolute.display();
    match disk::free(existing) {
        Ok(free) => judge(key, &shown.to_string(), free, floor),
        Err(error) => Line::note(format!("{key}: {shown}; its free space cannot be determined ({error})")),
    }
}

fn judge(key: &str, folder: &str, free: u64, floor: u64) -> Line {
    let text = format!("{key}: {folder}, {} free", ByteSize(free));
    if free >= floor.saturating_mul(COMFORT) {
        return Line::ok(text);
    }
    let needed = format!("{text}, where {} can be needed at once", ByteSize(floor));
    if free < floor {
        Line::fail(format!("{needed}; make room, or name a folder on another disk"))
    } else {
        Line::note(format!("{needed} and more is kept for storage.retention; make room soon"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_judged_by_what_can_be_needed_at_once() {
        let line = |free| judge("storage.media", "/data", free, 100 << 20).to_string();
        assert_eq!(line(1000 << 20), "ok    storage.media: /data, 1000.0 MiB free");
        assert!(line(999 << 20).starts_with("note  storage.media: /data, 999.0 MiB free, where 100.0 MiB"));
        assert!(line(99 << 20).starts_with("FAIL  storage.media: /data, 99.0 MiB free, where 100.0 MiB"));
        assert!(judge("k", "/", u64::MAX - 1, u64::MAX).is_failure());
    }
}
