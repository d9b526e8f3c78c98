//! A file that an adapter writes a download to, within limits on its size and on the disk.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tempfile::NamedTempFile;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{FileReservation, MediaStore};

/// An incoming file. It fails at its limit, and then says why.
pub struct LimitedFile {
    file: NamedTempFile,
    out: tokio::fs::File,
    written: u64,
    most: u64,
    room: FileReservation,
    overrun: Option<Overrun>,
}

/// The limit that a download met.
#[derive(Debug)]
pub enum Overrun {
    TooLarge,
    Disk(io::Error),
}

impl LimitedFile {
    /// Accepts at most `most` bytes.
    ///
    /// # Errors
    /// The disk failed; `StorageFull` if too little room is left.
    pub fn new(media: &MediaStore, most: u64) -> io::Result<Self> {
        let room = media.room_for(None)?;
        let file = media.incoming_file()?;
        let out = tokio::fs::File::from_std(file.reopen()?);
        Ok(Self { file, out, written: 0, most, room, overrun: None })
    }

    /// The limit that stopped the download, if one did.
    pub fn overrun(&mut self) -> Option<Overrun> {
        self.overrun.take()
    }

    /// Records that the disk failed. The adapter gets an error of the same kind.
    fn failed(&mut self, error: io::Error) -> io::Error {
        let kind = error.kind();
        self.overrun = Some(Overrun::Disk(error));
        kind.into()
    }

    /// Completes the file, and returns it with its size.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn finish(mut self) -> io::Result<(NamedTempFile, u64)> {
        self.out.flush().await?;
        Ok((self.file, self.written))
    }
}

impl AsyncWrite for LimitedFile {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.len() as u64 > self.most - self.written {
            self.overrun = Some(Overrun::TooLarge);
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        let count = match ready!(Pin::new(&mut self.out).poll_write(cx, bytes)) {
            Ok(count) => self.room.take(count).map(|()| count),
            Err(error) => Err(error),
        };
        Poll::Ready(match count {
            Ok(count) => {
                self.written += count as u64;
                Ok(count)
            }
            Err(error) => Err(self.failed(error)),
        })
    }

    /// Bytes are written behind the caller's back, so a full disk may be found out only here.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.out).poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| self.failed(error)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = ready!(Pin::new(&mut self.out).poll_shutdown(cx));
        Poll::Ready(shut.map_err(|error| self.failed(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn file_takes_no_byte_more_than_its_limit() {
        let folder = tempfile::tempdir().expect("a folder");
        let media = MediaStore::open(folder.path()).expect("a store");
        let mut file = LimitedFile::new(&media, 10).expect("begun");
        file.write_all(b"0123456789").await.expect("within the limit");
        assert!(file.overrun().is_none());
        let error = file.write_all(b"0").await.expect_err("one too many");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(matches!(file.overrun(), Some(Overrun::TooLarge)));
        let (file, size) = file.finish().await.expect("whole");
        assert_eq!((size, std::fs::read(file.path()).expect("read")), (10, b"0123456789".to_vec()));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn full_disk_is_blamed_whenever_it_is_found_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let media = MediaStore::open(folder.path()).expect("a store");
        let full = || {
            let mut file = LimitedFile::new(&media, 10).expect("begun");
            let full = std::fs::File::options().write(true).open("/dev/full").expect("a full disk");
            file.out = tokio::fs::File::from_std(full);
            file
        };
        let is_blamed = |file: &mut LimitedFile| matches!(file.overrun(), Some(Overrun::Disk(error)) if error.kind() == io::ErrorKind::StorageFull);
        let mut file = full();
        file.write_all(b"01").await.expect("not written yet");
        assert_eq!(file.flush().await.expect_err("full").kind(), io::ErrorKind::StorageFull);
        assert!(is_blamed(&mut file));
        let mut file = full();
        file.write_all(b"01").await.expect("not written yet");
        file.shutdown().await.expect_err("full");
        assert!(is_blamed(&mut file));
    }
}
