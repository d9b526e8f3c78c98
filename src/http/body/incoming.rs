//! Reads a body as it arrives, with limits on size and time. Only small bodies are kept in memory.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::StreamExt;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

use super::MAX_FIELDS;
use crate::{
    http::memory::Holding,
    media::{MediaStore, Spool, SpooledAudio, TooMuch},
    model::{
        code::{Code, Stage},
        problem::Problem,
    },
};

/// A whole body may take this many times `server.body_timeout`.
const TOTAL: u32 = 10;

/// A body in pieces, with a time limit for each.
pub struct Incoming {
    stream: BodyDataStream,
    pause: Duration,
    deadline: tokio::time::Instant,
    limit: u64,
    /// The length that the head of the request states.
    stated: Option<u64>,
    seen: u64,
}

/// A stored body, for code that reads it twice or blocks.
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
            .map_err(|_| Problem::invalid("body", "the body arrived too slowly; send it again"))?;
        let Some(piece) = piece else { return Ok(None) };
        let piece = piece.map_err(|_| broken_off())?;
        self.seen += piece.len() as u64;
        if self.seen > self.limit {
            return Err(too_large(self.limit));
        }
        Ok(Some(piece))
    }

    /// Stores the whole body, on disk if it is larger than fields usually are, so that a slow client does not block a
    /// thread. Memory is reserved from `held`.
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

    /// Stores the audio that is the body, and computes its hash.
    pub async fn audio(mut self, media: &MediaStore) -> Result<SpooledAudio, Problem> {
        let mut spool = Spool::new(media, self.limit, self.stated)?;
        while let Some(piece) = self.next().await? {
            push(&mut spool, &piece, self.limit).await?;
        }
        Ok(spool.finish().await?)
    }
}

/// Adds a piece of audio, whose total may have `limit` bytes.
pub async fn push(spool: &mut Spool<'_>, piece: &[u8], limit: u64) -> Result<(), Problem> {
    spool.push(piece).await?.map_err(|TooMuch| too_large(limit))
}

pub fn too_large(limit: u64) -> Problem {
    Problem::new(Code::AudioTooLarge, format!("this is more than the {limit} bytes that are allowed here; compress the audio, or send a shorter one"))
        .stage(Stage::Request)
}

pub fn broken_off() -> Problem {
    Problem::invalid("body", "the body broke off; send it again")
}
