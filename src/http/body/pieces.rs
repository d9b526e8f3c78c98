//! Feeds a form to its parser. The parser keeps everything until it finds a boundary or the end of the headers of a
//! part. So it is given no more than those may take, in pieces that are large enough that searching again is cheap.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use memchr::memmem::Finder;

use super::incoming::Incoming;
use crate::{http::memory::Holding, model::problem::Problem};

/// The most bytes before the first boundary.
const MAX_PREAMBLE: usize = 64 * 1024;

/// The most bytes of the headers of one part.
pub const MAX_HEADERS: usize = 16 * 1024;

/// Smaller pieces are collected first, because the parser searches all of its bytes for each new piece.
const GATHERED: usize = 8 * 1024;

/// The progress of the parser, as the reader of the form reports it to the piece reader.
#[derive(Debug, Default)]
pub struct Progress {
    /// The parser has searched all of its bytes and found nothing.
    is_hungry: AtomicBool,
    /// The number of bytes given to it since it last found something.
    given: AtomicUsize,
}

impl Progress {
    /// The parser found something.
    pub fn made(&self) {
        self.is_hungry.store(false, Relaxed);
        self.given.store(0, Relaxed);
    }
}

type Gathering = Pin<Box<dyn Future<Output = Result<(PieceReader, Option<Bytes>), Problem>> + Send>>;

/// The pieces of a form.
pub struct Pieces {
    progress: Arc<Progress>,
    gathering: Option<Gathering>,
}

impl Pieces {
    /// Memory for what is kept of the form is reserved from `held`.
    pub fn new(body: Incoming, boundary: &str, held: Holding) -> (Self, Arc<Progress>) {
        let progress = Arc::new(Progress::default());
        let first = format!("--{boundary}").into_bytes();
        let reader =
            PieceReader { body, held, first: Some(Finder::new(&first).into_owned()), skipped: 0, last: 0 };
        let gathering: Gathering = Box::pin(reader.next());
        (Self { progress: progress.clone(), gathering: Some(gathering) }, progress)
    }
}

impl Stream for Pieces {
    type Item = Result<Bytes, Problem>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // The parser asks for bytes before it searches those that it has. So it first gets no bytes, and asks again at
        // once if its search found nothing.
        if !self.progress.is_hungry.swap(true, Relaxed) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.progress.given.load(Relaxed) > MAX_HEADERS {
            return Poll::Ready(Some(Err(headers_too_long())));
        }
        let Some(gathering) = &mut self.gathering else { return Poll::Ready(None) };
        let gathered = match gathering.as_mut().poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(gathered) => gathered,
        };
        self.progress.is_hungry.store(false, Relaxed);
        self.gathering = None;
        let (mut reader, piece) = match gathered {
            Ok(gathered) => gathered,
            Err(problem) => return Poll::Ready(Some(Err(problem))),
        };
        let Some(piece) = piece else { return Poll::Ready(None) };
        let given = self.progress.given.fetch_add(piece.len(), Relaxed) + piece.len();
        if let Err(full) = reader.held.reach(given + reader.last) {
            return Poll::Ready(Some(Err(full.into())));
        }
        reader.last = piece.len();
        self.gathering = Some(Box::pin(reader.next()));
        Poll::Ready(Some(Ok(piece)))
    }
}

/// Reads the body and cuts it into pieces.
struct PieceReader {
    body: Incoming,
    held: Holding,
    /// Searches for the first boundary until it has come.
    first: Option<Finder<'static>>,
    /// The number of bytes before it.
    skipped: usize,
    /// The size of the last piece.
    last: usize,
}

impl PieceReader {
    /// Returns the next piece, beginning with the first boundary.
    async fn next(mut self) -> Result<(Self, Option<Bytes>), Problem> {
        let mut gathered = BytesMut::new();
        while gathered.len() < GATHERED {
            let Some(piece) = self.body.next().await? else { break };
            self.held.reach(gathered.len() + piece.len())?;
            gathered.extend_from_slice(&piece);
            let Some(first) = &self.first else { continue };
            let start = first.find(&gathered);
            // The end of the piece may be the beginning of a boundary.
            let useless = start.unwrap_or_else(|| gathered.len().saturating_sub(first.needle().len()));
            self.skipped += useless;
            if self.skipped > MAX_PREAMBLE {
                let detail = "there are more than 64 KiB before the first boundary of this form";
                return Err(Problem::invalid("body", detail));
            }
            let _ = gathered.split_to(useless);
            if start.is_some() {
                self.first = None;
            }
        }
        let piece = (!gathered.is_empty()).then(|| gathered.freeze());
        Ok((self, piece))
    }
}

pub fn headers_too_long() -> Problem {
    Problem::invalid("body", "the headers of one part of this form have more than 16 KiB")
}
