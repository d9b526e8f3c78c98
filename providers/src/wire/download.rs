//! Downloads of the audio of received notes. The bytes go straight to their receiver, whose limit holds; redirects are
//! never followed.

use std::time::Duration;

use reqwest::{Method, Request, StatusCode, header::CONTENT_TYPE};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use url::Url;

use super::{Answer, NoAnswer, Step, default_kind, in_time, no_answer, read_answer, retry_after};
use crate::{Context, Fetched, SendError, SendErrorKind, Stage, Upstream};

/// The receiver of the audio. It fails with [`std::io::ErrorKind::FileTooLarge`] at its limit.
pub type Out<'a> = dyn AsyncWrite + Send + Unpin + 'a;

/// Longest media type that is reported, in bytes.
const LONGEST_TYPE: usize = 100;

/// The end of a download.
#[derive(Debug)]
pub enum Downloaded {
    /// Every byte was written.
    Whole(Fetched),
    /// The answer is no success, and nothing was written.
    Refused(Answer),
}

impl Downloaded {
    /// Turns a refusal into its usual error. The words of the answer are not quoted, because those of file servers
    /// repeat parts of signed links.
    ///
    /// # Errors
    /// The answer was a refusal.
    pub fn whole(self, cx: &Context) -> Result<Fetched, SendError> {
        match self {
            Self::Whole(fetched) => Ok(fetched),
            Self::Refused(answer) => Err(refused(cx, &answer)),
        }
    }
}

/// The usual error for an answer that hands out no audio.
pub fn refused(cx: &Context, answer: &Answer) -> SendError {
    let (kind, detail) = default_kind(answer.status, Step::Fetch);
    let upstream = Upstream { status: Some(answer.status.as_u16()), ..Upstream::default() };
    let mut error = SendError::new(kind, detail).at(Stage::Fetch).from_upstream(upstream);
    error.retry_after = retry_after(&answer.headers, cx.now);
    error
}

/// Downloads from an origin that the adapter names, with whatever credentials the request has.
///
/// # Errors
/// No whole answer came, or `out` took no more.
pub async fn download(cx: &Context, request: Request, out: &mut Out<'_>) -> Result<Downloaded, SendError> {
    receive(cx.timeout, cx.http.execute(request), out).await
}

/// Downloads from an address that the provider named: dialled under the address rules, and without any credentials.
///
/// # Errors
/// The rules forbid the address, no whole answer came, or `out` took no more.
pub async fn download_guarded(cx: &Context, url: Url, out: &mut Out<'_>) -> Result<Downloaded, SendError> {
    let forbidden = || NoAnswer::Forbidden.in_fetch();
    let request = cx.guarded.request(Method::GET, url).map_err(|_| forbidden())?;
    let (client, request) = request.build_split();
    let request = request.map_err(|_| forbidden())?;
    cx.guarded.judge_proxied(request.url()).await.map_err(|_| forbidden())?;
    receive(cx.timeout, client.execute(request), out).await
}

async fn receive(
    limit: Duration,
    sent: impl Future<Output = Result<reqwest::Response, reqwest::Error>>,
    out: &mut Out<'_>,
) -> Result<Downloaded, SendError> {
    let received = async {
        let mut response = sent.await.map_err(|error| no_answer(&error).in_fetch())?;
        if response.status() != StatusCode::OK {
            return read_answer(response).await.map(Downloaded::Refused).map_err(NoAnswer::in_fetch);
        }
        let told = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let mime_type = told.filter(|text| text.len() <= LONGEST_TYPE).map(str::to_owned);
        while let Some(chunk) = response.chunk().await.map_err(|_| NoAnswer::Lost.in_fetch())? {
            write(out, &chunk).await?;
        }
        out.flush().await.map_err(|error| not_written(&error))?;
        Ok(Downloaded::Whole(Fetched { mime_type }))
    };
    in_time(limit, received).await.unwrap_or_else(|| Err(NoAnswer::Lost.in_fetch()))
}

/// Writes bytes that are there already to the receiver.
///
/// # Errors
/// `out` takes no more.
pub async fn write(out: &mut Out<'_>, bytes: &[u8]) -> Result<(), SendError> {
    out.write_all(bytes).await.map_err(|error| not_written(&error))
}

fn not_written(error: &std::io::Error) -> SendError {
    let (kind, detail) = if error.kind() == std::io::ErrorKind::FileTooLarge {
        (SendErrorKind::MediaTooLarge, "the audio is larger than the gateway takes")
    } else {
        (SendErrorKind::Unavailable, "the audio could not be stored")
    };
    SendError::new(kind, detail).at(Stage::Fetch)
}
