//! Describes a patched copy of a source that decoders would misread: the same sound without a foreign tag in front, in
//! one piece, and with a header on which decoders agree.
//!
//! Decoders differ about such files, even between versions of ffmpeg. So every file that our own readers interpret
//! differently from a standard file of its container is rewritten before a decoder reads it. The facts that a caller
//! sees (size, digest) remain those of the source, and the source itself is then never sent untouched.

use std::io::{self, Read, Seek, SeekFrom, Write};

use serde::{Deserialize, Serialize};

/// The parts of a patched file, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchedFile(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Part {
    /// New bytes: a header or a field of one.
    Bytes(Vec<u8>),
    /// A range of the source: the offsets of its first byte and of the first byte after it.
    Source(u64, u64),
}

impl PatchedFile {
    pub(crate) fn bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.push(Part::Bytes(bytes.into()));
        self
    }

    pub(crate) fn source(mut self, from: u64, to: u64) -> Self {
        self.0.push(Part::Source(from, to));
        self
    }

    /// Appends a source of `length` bytes in which some fields are replaced. `fields` are offsets and bytes, in order.
    pub(crate) fn with_fields(self, fields: Vec<(u64, Vec<u8>)>, length: u64) -> Self {
        let (plain, done) = fields.into_iter().fold((self, 0), |(plain, done), (at, field)| {
            let end = at + field.len() as u64;
            (plain.source(done, at).bytes(field), end)
        });
        plain.source(done, length)
    }

    /// Converts offsets that count from the start of the container, at `begins_at`, into offsets of the source.
    pub(crate) fn moved(self, begins_at: u64) -> Self {
        let moved = |part| match part {
            Part::Source(from, to) => Part::Source(from + begins_at, to + begins_at),
            bytes => bytes,
        };
        Self(self.0.into_iter().map(moved).collect())
    }

    pub(crate) fn write(&self, source: &mut (impl Read + Seek), target: &mut impl Write) -> io::Result<()> {
        for part in &self.0 {
            match part {
                Part::Bytes(bytes) => target.write_all(bytes)?,
                Part::Source(from, to) => {
                    source.seek(SeekFrom::Start(*from))?;
                    io::copy(&mut source.by_ref().take(to.saturating_sub(*from)), target)?;
                }
            }
        }
        target.flush()
    }
}

/// A file read from the start of its container: every position counts from there.
#[derive(Debug)]
pub(crate) struct FromStart<R> {
    file: R,
    start: u64,
}

impl<R: Read + Seek> FromStart<R> {
    pub fn new(mut file: R, start: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(start))?;
        Ok(Self { file, start })
    }
}

impl<R: Read> Read for FromStart<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl<R: Seek> Seek for FromStart<R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        let position = match position {
            SeekFrom::Start(at) => {
                SeekFrom::Start(at.checked_add(self.start).ok_or(io::ErrorKind::InvalidInput)?)
            }
            other => other,
        };
        let at = self.file.seek(position)?;
        at.checked_sub(self.start).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn patched_file_contains_its_parts_in_order() {
        let plain = PatchedFile::default().bytes(*b"head").source(0, 2).source(4, 6).moved(1);
        let written = |plain: &PatchedFile| {
            let mut written = Vec::new();
            plain.write(&mut Cursor::new(b"x0123456789"), &mut written).unwrap();
            String::from_utf8(written).unwrap()
        };
        assert_eq!(written(&plain), "head0145");
        let fields = vec![(1, b"a".to_vec()), (3, b"bc".to_vec())];
        assert_eq!(written(&PatchedFile::default().with_fields(fields, 7)), "xa1bc45");
        let stored = serde_json::to_string(&plain).unwrap();
        assert_eq!(serde_json::from_str::<PatchedFile>(&stored).unwrap(), plain);
    }

    #[test]
    fn positions_count_from_the_start_of_the_container() {
        let mut file = FromStart::new(Cursor::new(b"tagRIFF...."), 3).unwrap();
        let mut found = [0; 4];
        file.read_exact(&mut found).unwrap();
        assert_eq!(&found, b"RIFF");
        assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), 8);
        assert_eq!(file.seek(SeekFrom::Start(4)).unwrap(), 4);
        assert_eq!(file.stream_position().unwrap(), 4);
    }
}
