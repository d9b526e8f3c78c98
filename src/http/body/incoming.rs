//! Bytes as they arrive: bounded in size and time, and in memory only while they are few.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::StreamExt;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

use super::MAX_FIELDS;
use crate::{
    http::memory::Holding,
    media::{MediaStore, Received, Spool, TooMuch},
    model::problem::Problem,
};

/// A whole body takes at most this many times `server.body_timeout`.
const TOTAL: u32 = 10;

/// A body in pieces, none of which may be long in coming.
pub struct Incoming {
    stream: BodyDataStream,
    pause: Duration,
    deadline: tokio::time::Instant,
    limit: u64,
    /// What the head of the request says of its length.
    stated: Option<u64>,
    seen: u64,
}

/// A body that has to be read twice or by blocking code.
pub enum Spooled {
    Memory(Vec<u8>),
    File(NamedTempFile),
}

impl Incoming {
    pub fn new(body: Body, limit: u64, stated: Option<u64>, pause: Duration) -> Self {
        let deadline = tokio::time::Instant::now() + pause * TOTAL;
        Self { stream: body.into_data_stream(), pause, deadline, limit, stated, seen: 0 }
    }

    pub async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
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

    /// Keeps everything, on disk where it is more than fields usually are. A client that sends slowly holds no
    /// thread this way. What is in memory is charged to `held`.
    pub async fn spool(mut self, media: &MediaStore, held: &mut Holding) -> Result<Spooled, Problem> {
        let mut start = Vec::new();
        while let Some(piece) = self.next().await? {
            held.grow(piece.len())?;
            start.reserve_exact(piece.len().max(start.len().min(MAX_FIELDS / 4)));
            start.extend_from_slice(&piece);
            if start.len() > MAX_FIELDS {
                let mut room = media.room_for(self.stated)?;
                let file = media.incoming_file()?;
                let mut out = tokio::fs::File::from_std(file.reopen()?);
                room.take(start.len())?;
                out.write_all(&start).await?;
                held.shrink(start.len());
                drop(start);
                while let Some(piece) = self.next().await? {
                    room.take(piece.len())?;
                    out.write_all(&piece).await?;
                }
                out.flush().await?;
                return Ok(Spooled::File(file));
            }
        }
        Ok(Spooled::Memory(start))
    }

    /// Keeps the audio that the body is, and hashes it on the way.
    pub async fn audio(mut self, media: &MediaStore) -> Result<Received, Problem> {
        let mut spool = Spool::new(media, self.limit, self.stated)?;
        while let Some(piece) = self.next().await? {
            push(&mut spool, &piece, self.limit).await?;
        }
        Ok(spool.finish().await?)
    }
}

/// Adds a piece of audio that may have `limit` bytes in all.
pub async fn push(spool: &mut Spool<'_>, piece: &[u8], limit: u64) -> Result<(), Problem> {
    spool.push(piece).await?.map_err(|TooMuch| too_large(limit))
}

pub fn too_large(limit: u64) -> Problem {
    Problem::new("audio_too_large", format!("this is more than the {limit} bytes that are allowed here"))
        .stage("request")
}

pub fn broken_off() -> Problem {
    Problem::invalid("body", "the body broke off; send it again")
}
