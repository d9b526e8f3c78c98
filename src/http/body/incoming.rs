//! Bytes as they arrive: bounded in size and time, and written to disk on the way.

use std::{
    io::{self, Seek, SeekFrom, Write},
    time::Duration,
};

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

use super::MAX_FIELDS;
use crate::{media::MediaStore, problem::Problem};

/// A whole body takes at most this many times `server.body_timeout`.
const TOTAL: u32 = 10;

/// A body in pieces, none of which may be long in coming.
pub struct Incoming {
    stream: BodyDataStream,
    pause: Duration,
    deadline: tokio::time::Instant,
    limit: u64,
    seen: u64,
}

/// Audio that came along, in a private file that is gone when dropped.
pub struct Received {
    pub file: NamedTempFile,
    /// Of its bytes, in hexadecimal.
    pub sha256: String,
}

/// A body that has to be read twice or by blocking code.
pub enum Spooled {
    Memory(Vec<u8>),
    File(NamedTempFile),
}

impl Incoming {
    pub fn new(body: Body, limit: u64, pause: Duration) -> Self {
        let deadline = tokio::time::Instant::now() + pause * TOTAL;
        Self { stream: body.into_data_stream(), pause, deadline, limit, seen: 0 }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let patience = self.deadline.min(tokio::time::Instant::now() + self.pause);
        let piece = tokio::time::timeout_at(patience, self.stream.next())
            .await
            .map_err(|_| Problem::invalid("body", "the body was too long in coming; send it again"))?;
        let Some(piece) = piece else { return Ok(None) };
        let piece = piece.map_err(|_| broken_off())?;
        self.seen += piece.len() as u64;
        if self.seen > self.limit {
            return Err(too_large(self.limit));
        }
        Ok(Some(piece))
    }

    /// The pieces, for a parser that pulls them.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, Problem>> + Send {
        stream::try_unfold(self, async |mut incoming: Self| {
            Ok(incoming.next().await?.map(|piece| (piece, incoming)))
        })
    }

    /// Keeps everything, on disk where it is more than fields usually are. A client that sends slowly holds no
    /// thread this way.
    pub async fn spool(mut self, media: &MediaStore) -> Result<Spooled, Problem> {
        let mut start = Vec::new();
        while let Some(piece) = self.next().await? {
            start.extend_from_slice(&piece);
            if start.len() > MAX_FIELDS {
                let file = media.incoming_file()?;
                let mut out = tokio::fs::File::from_std(file.reopen()?);
                out.write_all(&start).await?;
                while let Some(piece) = self.next().await? {
                    out.write_all(&piece).await?;
                }
                out.flush().await?;
                return Ok(Spooled::File(file));
            }
        }
        Ok(Spooled::Memory(start))
    }

    /// Writes everything into a private file, and hashes it on the way.
    pub async fn file(mut self, media: &MediaStore) -> Result<Received, Problem> {
        let mut writing = Writing::new(media, self.limit)?;
        while let Some(piece) = self.next().await? {
            writing.write(&piece).await?;
        }
        writing.finish().await
    }
}

/// Audio on its way into a file.
pub struct Writing {
    file: NamedTempFile,
    out: tokio::fs::File,
    hash: Sha256,
    room: u64,
    limit: u64,
}

impl Writing {
    pub fn new(media: &MediaStore, limit: u64) -> io::Result<Self> {
        let file = media.incoming_file()?;
        let out = tokio::fs::File::from_std(file.reopen()?);
        Ok(Self { file, out, hash: Sha256::new(), room: limit, limit })
    }

    pub async fn write(&mut self, piece: &[u8]) -> Result<(), Problem> {
        self.room = self.room.checked_sub(piece.len() as u64).ok_or_else(|| too_large(self.limit))?;
        self.hash.update(piece);
        Ok(self.out.write_all(piece).await?)
    }

    pub async fn finish(mut self) -> Result<Received, Problem> {
        self.out.flush().await?;
        Ok(Received { file: self.file, sha256: hex::encode(self.hash.finalize()) })
    }
}

/// Copies what `source` yields into a private file. Blocking.
pub fn copy(mut source: impl io::Read, media: &MediaStore, limit: u64) -> io::Result<Option<Received>> {
    let mut file = media.incoming_file()?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 32 * 1024];
    let mut room = limit;
    loop {
        let count = source.read(&mut buffer)?;
        let Some(left) = room.checked_sub(count as u64) else { return Ok(None) };
        if count == 0 {
            break;
        }
        room = left;
        hash.update(&buffer[..count]);
        file.write_all(&buffer[..count])?;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(Some(Received { file, sha256: hex::encode(hash.finalize()) }))
}

pub fn too_large(limit: u64) -> Problem {
    Problem::new("audio_too_large", format!("this is more than the {limit} bytes that are allowed here"))
        .stage("request")
}

pub fn broken_off() -> Problem {
    Problem::invalid("body", "the body broke off; send it again")
}
