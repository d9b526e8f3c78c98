//! The file of a note that was sent in, as the provider's server hands it out, and the ways in which that server can
//! misbehave.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};

use super::Note;
use crate::server::hang_up;

/// Size of the pieces in which a file that is too large is sent.
const PIECE: usize = 64 * 1024;

/// Behaviour of the server when it is asked for the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum MediaFault {
    /// It hands the file out.
    #[default]
    None,
    /// It no longer has it.
    Expired,
    /// It does not answer, and closes the connection after `ms`, without `ms` never.
    Stall {
        #[serde(default)]
        ms: Option<u64>,
    },
    /// It sends so many more bytes after those of the file.
    Oversize { bytes: u64 },
    /// It redirects.
    Redirect { to: String },
    /// It answers with a web page.
    Html,
    /// It closes the connection in the middle of the file.
    Broken,
    /// The provider names this address instead of its own.
    Elsewhere { url: String },
}

impl Note {
    /// The address that the provider names, where `own` is its own.
    pub fn link(&self, own: String) -> String {
        match &self.media {
            MediaFault::Elsewhere { url } => url.clone(),
            _ => own,
        }
    }

    pub fn is_expired(&self) -> bool {
        self.media == MediaFault::Expired
    }

    /// The answer to an authentic request for the file.
    pub async fn file(&self) -> Response {
        self.answer(self.bytes.clone(), &self.mime_type).await
    }

    /// Answers with bytes, or misbehaves.
    pub async fn answer(&self, bytes: Bytes, mime_type: &str) -> Response {
        let kind =
            HeaderValue::from_str(mime_type).unwrap_or(HeaderValue::from_static("application/octet-stream"));
        match &self.media {
            MediaFault::None | MediaFault::Elsewhere { .. } => {
                ([(CONTENT_TYPE, kind)], bytes).into_response()
            }
            MediaFault::Expired => StatusCode::NOT_FOUND.into_response(),
            MediaFault::Stall { ms: Some(ms) } => {
                tokio::time::sleep(Duration::from_millis(*ms)).await;
                hang_up()
            }
            MediaFault::Stall { ms: None } => std::future::pending().await,
            MediaFault::Oversize { bytes: more } => {
                ([(CONTENT_TYPE, kind)], Body::from_stream(oversize(bytes, *more))).into_response()
            }
            MediaFault::Redirect { to } => match HeaderValue::from_str(to) {
                Ok(to) => (StatusCode::FOUND, [(LOCATION, to)]).into_response(),
                Err(_) => StatusCode::FOUND.into_response(),
            },
            MediaFault::Html => Html("<html><body><h1>Sign in</h1></body></html>").into_response(),
            MediaFault::Broken => {
                let half = bytes.slice(..bytes.len() / 2);
                let pieces = [Ok(half), Err(std::io::Error::other("scripted: the file breaks off"))];
                ([(CONTENT_TYPE, kind)], Body::from_stream(stream::iter(pieces))).into_response()
            }
        }
    }
}

/// The bytes of a file, and more bytes of zero behind them.
fn oversize(bytes: Bytes, more: u64) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> {
    stream::unfold((Some(bytes), more), async |(first, left)| {
        if let Some(first) = first {
            return Some((Ok(first), (None, left)));
        }
        let size = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        (size > 0).then(|| (Ok(Bytes::from(vec![0; size])), (None, left - size as u64)))
    })
}
