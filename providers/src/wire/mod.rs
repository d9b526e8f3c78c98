//! HTTP the way every adapter needs it: bounded answers, honest transport errors, `Retry-After`, no secrets.

mod download;
mod head;
mod multipart;

pub use download::{Downloaded, Out, download, download_guarded, refused, write};
pub use multipart::Multipart;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use reqwest::{
    Method, Request, RequestBuilder, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use crate::{
    Context, SendError, SendErrorKind, Stage, Upstream,
    dial::{Exchange, Sent},
    guard::GuardedClient,
};

/// Longest part of an answer that is kept, in bytes. Most providers answer with a few KiB.
pub const MAX_ANSWER: usize = 1024 * 1024;

/// Longest answer that is read to its end, in bytes: a provider that repeats the file in its answer has taken the note,
/// and an answer that breaks off would make that unknown.
pub const MAX_READ: usize = 32 * 1024 * 1024;

/// Longest quotation of a provider's words, in characters.
const MAX_QUOTE: usize = 300;

/// A complete answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The body, or its first [`MAX_ANSWER`] bytes.
    pub body: Bytes,
    /// The body was longer.
    pub is_cut: bool,
}

impl Answer {
    /// The body as JSON; `Null` where it is none. Of a body that was cut, the members that are whole.
    pub fn json(&self) -> Value {
        if self.is_cut {
            return head::read(&self.body).unwrap_or(Value::Null);
        }
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// The reason why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// No connection came about (refused, DNS, TLS), or it was closed before the first byte of the request: nothing left
    /// this machine.
    NotSent,
    /// The host resolved to addresses that the rules forbid (only by [`call_guarded`]): nothing left this
    /// machine.
    Forbidden,
    /// The proxy on the way refused its credentials (407), and passed nothing on.
    Proxy,
    /// The request may have arrived: reset, time-out, or an answer that broke off.
    Lost,
}

impl NoAnswer {
    /// The error for a request that may be repeated freely.
    pub fn in_prepare(self) -> SendError {
        let (kind, detail) = match self {
            Self::NotSent => (SendErrorKind::Unavailable, "the provider could not be reached"),
            Self::Forbidden => {
                (SendErrorKind::Misconfigured, "the provider named a host that is not on the public internet")
            }
            Self::Proxy => (SendErrorKind::Misconfigured, REFUSED_BY_PROXY),
            Self::Lost => (SendErrorKind::Unavailable, "the provider did not answer in time"),
        };
        SendError::new(kind, detail)
    }

    /// The error for a request that only asks how things are.
    pub fn in_check(self) -> SendError {
        let detail = match self {
            Self::Proxy => return self.in_prepare(),
            Self::NotSent | Self::Forbidden => {
                "no connection to the provider came about; check base_url, and that this machine may reach it"
            }
            Self::Lost => "the provider gave no whole answer in time; check base_url, or try again later",
        };
        SendError::new(SendErrorKind::Unavailable, detail)
    }

    /// The error for a request for the audio of a received note.
    pub fn in_fetch(self) -> SendError {
        let error = match self {
            Self::Forbidden => {
                let detail = "the provider named an address for the audio that is not on the public internet over https";
                SendError::new(SendErrorKind::Rejected, detail).forbidden()
            }
            Self::NotSent | Self::Proxy | Self::Lost => self.in_prepare(),
        };
        error.at(Stage::Fetch)
    }

    /// The error for the one request that must not be repeated blindly.
    pub fn in_dispatch(self) -> SendError {
        match self {
            Self::NotSent | Self::Forbidden | Self::Proxy => self.in_prepare(),
            Self::Lost => SendError::new(
                SendErrorKind::OutcomeUnknown,
                "the provider did not answer after the note was handed over, so it may or may not arrive",
            ),
        }
    }
}

const REFUSED_BY_PROXY: &str =
    "the proxy on the way to the provider refused user and password; check server.proxy";

/// The error for a success that names no message.
pub fn no_message_id(answer: &Answer) -> SendError {
    let upstream = Upstream { status: Some(answer.status.as_u16()), ..Upstream::default() };
    SendError::new(SendErrorKind::Unexpected, NO_MESSAGE_ID).from_upstream(upstream)
}

pub(crate) const NO_MESSAGE_ID: &str =
    "the provider's answer names no message, so the note may or may not arrive";

/// A request with a JSON body, or without any.
pub fn json_request(method: Method, url: Url, body: Option<&Value>) -> Request {
    let mut request = Request::new(method, url);
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(body) = body {
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *request.body_mut() = Some(body.to_string().into());
    }
    request
}

/// Sends `request` once and reads its whole answer, at most [`MAX_READ`] bytes, within the context's time
/// limit.
///
/// # Errors
/// [`NoAnswer`]; an answer of any status is no error here.
pub async fn call(cx: &Context, request: Request) -> Result<Answer, NoAnswer> {
    within(cx.timeout, cx.http.execute(request)).await
}

/// [`call`] for an answer that has the audio itself in it: it is kept whole.
///
/// # Errors
/// [`NoAnswer`]; an answer of any status is no error here.
pub async fn call_whole(cx: &Context, request: Request) -> Result<Answer, NoAnswer> {
    let answered = async {
        let response = cx.http.execute(request).await.map_err(|error| no_answer(&error))?;
        read_up_to(response, MAX_READ).await
    };
    in_time(cx.timeout, answered).await.unwrap_or(Err(NoAnswer::Lost))
}

/// Makes the visible request, once, over a connection that carries nothing else ([`crate::dial`]), and reads its whole
/// answer like [`call`].
///
/// # Errors
/// [`NoAnswer`]; `NotSent` only where no byte of the request went out.
pub async fn dispatch(cx: &Context, request: Request) -> Result<Answer, NoAnswer> {
    let sent = Sent::default();
    let exchange = async {
        let Exchange { response, open } = cx.dial.send(request, &sent).await?;
        let answer = read_answer(response).await?;
        if let Some(open) = open {
            open.done();
        }
        Ok(answer)
    };
    match in_time(cx.timeout, exchange).await {
        Some(ended) => ended,
        None if sent.is_nothing() => Err(NoAnswer::NotSent),
        None => Err(NoAnswer::Lost),
    }
}

/// [`call`] for a request to a URL that the provider chose (an upload URL): dialled under the address rules.
///
/// # Errors
/// [`NoAnswer`]; an answer of any status is no error here.
pub async fn call_guarded(cx: &Context, request: RequestBuilder) -> Result<Answer, NoAnswer> {
    let (client, request) = request.build_split();
    let request = request.map_err(|_| NoAnswer::NotSent)?;
    cx.guarded.judge_proxied(request.url()).await.map_err(|_| NoAnswer::Forbidden)?;
    within(cx.timeout, client.execute(request)).await
}

async fn within(
    limit: Duration,
    sent: impl Future<Output = Result<reqwest::Response, reqwest::Error>>,
) -> Result<Answer, NoAnswer> {
    let answered = async { read_answer(sent.await.map_err(|error| no_answer(&error))?).await };
    in_time(limit, answered).await.unwrap_or(Err(NoAnswer::Lost))
}

/// After a time limit, an answer that had arrived by then is taken in within this.
const ARRIVED: Duration = Duration::from_millis(500);

/// Waits for the result of `work` up to the limit; `None` means that the time is up.
///
/// An answer that has arrived counts. A process that was stopped finds the time up and the answer there, both at once,
/// and the answer needs a moment: another task reads it from the socket.
pub async fn in_time<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    match tokio::time::timeout(limit, &mut work).await {
        Ok(done) => Some(done),
        Err(_) => tokio::time::timeout(ARRIVED, &mut work).await.ok(),
    }
}

async fn read_answer(response: reqwest::Response) -> Result<Answer, NoAnswer> {
    read_up_to(response, MAX_ANSWER).await
}

/// Reads an answer to its end and keeps its first bytes.
async fn read_up_to(mut response: reqwest::Response, kept: usize) -> Result<Answer, NoAnswer> {
    let (status, headers) = (response.status(), response.headers().clone());
    // No provider answers this; a tunnel that is refused with it fails before.
    if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        return Err(NoAnswer::Proxy);
    }
    let mut body = BytesMut::new();
    let mut read = 0_usize;
    while let Some(chunk) = response.chunk().await.map_err(|_| NoAnswer::Lost)? {
        read = read.saturating_add(chunk.len());
        if read > MAX_READ {
            return Err(NoAnswer::Lost);
        }
        body.extend_from_slice(&chunk[..chunk.len().min(kept - body.len())]);
    }
    let is_cut = read > body.len();
    Ok(Answer { status, headers, body: body.freeze(), is_cut })
}

/// Only a failed connect proves that nothing was sent.
pub fn no_answer(error: &reqwest::Error) -> NoAnswer {
    if GuardedClient::refused_by_address(error) {
        NoAnswer::Forbidden
    } else if error.is_connect() || error.is_builder() {
        NoAnswer::NotSent
    } else {
        NoAnswer::Lost
    }
}

/// The purpose of a request: a step that may be repeated freely, the one visible step, a question, or fetching the audio
/// of a received note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Prepare,
    Dispatch,
    Check,
    Fetch,
}

/// The usual meaning of a status, for the end of an adapter's table. The table then lists only the peculiarities of its
/// provider.
pub fn default_kind(status: StatusCode, step: Step) -> (SendErrorKind, &'static str) {
    use SendErrorKind as Kind;

    match (status.as_u16(), step) {
        (429, _) => (Kind::RateLimited, "the provider limits the rate of this account"),
        (401, _) => (Kind::Unauthorized, "the provider refused the credentials; renew them"),
        (408 | 500.., Step::Dispatch) => (
            Kind::OutcomeUnknown,
            "the provider reported a fault after the note was handed over, so it may or may not arrive",
        ),
        (408 | 500.., _) => (Kind::Unavailable, "the provider has a fault"),
        (300..=399, Step::Fetch) => {
            (Kind::Rejected, "the provider answered with a redirect, which is not followed for audio")
        }
        (404 | 410, Step::Fetch) => (Kind::Rejected, crate::inbound::GONE),
        (300..=399, Step::Dispatch) => (
            Kind::Unexpected,
            "the provider answered with a redirect, so the note may or may not arrive; check base_url",
        ),
        (300..=399, _) => (Kind::Misconfigured, "the provider answered with a redirect; check base_url"),
        (404 | 405, _) => (Kind::Misconfigured, "the provider has nothing at this address; check base_url"),
        (403, _) => (Kind::Misconfigured, "the account may not do this at the provider"),
        (413, Step::Prepare | Step::Dispatch | Step::Fetch) => {
            (Kind::MediaTooLarge, "the provider says that the audio is too large")
        }
        (400..=499, Step::Check) => {
            (Kind::Misconfigured, "the provider refused the question; check base_url and credentials")
        }
        (400..=499, Step::Fetch) => (Kind::Rejected, "the provider refused to hand out the audio"),
        (400..=499, _) => (Kind::Rejected, "the provider refused the note"),
        (_, Step::Prepare | Step::Fetch) => {
            (Kind::Unavailable, "the provider's answer could not be understood")
        }
        (_, Step::Check) => (Kind::Misconfigured, "the answer is not this provider's; check base_url"),
        (_, Step::Dispatch) => (
            Kind::Unexpected,
            "the provider's answer was not understood, so the note may or may not arrive; check base_url",
        ),
    }
}

/// `Retry-After` as RFC 9110 section 10.2.3 has it: seconds (fractions are seen in the wild) or an HTTP date.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return wait_of_seconds(seconds);
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let wait = date.duration_since(now);
    Some(Duration::try_from(wait).map_or(Duration::ZERO, bounded))
}

/// A wait that a provider gives as a number of seconds.
pub fn wait_of_seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().map(bounded)
}

/// A provider that asks for more than a day is asked again after a day.
fn bounded(wait: Duration) -> Duration {
    wait.min(Duration::from_secs(24 * 60 * 60))
}

/// A provider's own words, shortened, without control characters and without any of `secrets`: providers do
/// echo credentials in their error messages.
pub fn quote(text: &str, secrets: &[&SecretString]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().map(|secret| secret.expose_secret()).filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "[removed]");
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_QUOTE).collect()
}

/// A provider's error code or trace id, fit for logs: `None` for whatever could be a sentence, a phone number
/// or a secret.
pub fn identifier(text: &str, secrets: &[&SecretString]) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let short = (1..=64).contains(&text.len()) && text.chars().all(plain);
    let number = (7..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    (short && !number && quote(text, secrets) == text).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", value.parse().expect("a header value"));
        headers
    }

    #[test]
    fn retry_after_reads_seconds_fractions_and_dates() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let read = |text: &str| retry_after(&header(text), now);
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(read("Thu, 01 Jan 2026 00:01:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(read("Wed, 31 Dec 2025 23:59:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("1e300"), None);
        assert_eq!(read("999999999"), Some(Duration::from_secs(86_400)));
        for nonsense in ["soon", "-1", "NaN", ""] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_quotation_never_contains_a_secret() {
        let token = SecretString::from("tok-123");
        assert_eq!(quote("bad token tok-123\n!", &[&token]), "bad token [removed] !");
        assert_eq!(quote(&"x".repeat(1000), &[]).len(), MAX_QUOTE);
    }

    #[test]
    fn an_identifier_is_no_sentence_number_or_secret() {
        let token = SecretString::from("tok-123");
        for text in ["invalid_session", "2001", "4bf92f3577b34da6a3ce929d0e0e4736"] {
            assert_eq!(identifier(text, &[&token]).as_deref(), Some(text));
        }
        for text in ["", "no such chat", "15550001111", "tok-123", "15550001111@c.us", &"x".repeat(65)] {
            assert_eq!(identifier(text, &[&token]), None, "{text}");
        }
    }

    /// The situation after SIGSTOP: when the process goes on, the time is up and the answer is there.
    #[tokio::test]
    async fn an_answer_that_arrived_while_the_process_stood_still_counts() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let server = std::thread::spawn({
            let listener = listener.into_std().expect("a listener");
            listener.set_nonblocking(false).expect("a mode");
            move || {
                use std::io::{Read, Write};
                let (mut socket, _) = listener.accept().expect("a client");
                let _ = socket.read(&mut [0; 4096]).expect("a request");
                std::thread::sleep(Duration::from_millis(100));
                socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").expect("answered");
                socket
            }
        });
        let limit = Duration::from_millis(400);
        // Every task of this runtime stands still from after the request until after the limit.
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            std::thread::sleep(limit * 2);
        });
        let request = reqwest::Client::new().get(url).send();
        let answer = within(limit, request).await.expect("an answer");
        assert_eq!(answer.body, "ok");
        drop(server.join().expect("it ends"));
    }

    #[tokio::test]
    async fn a_time_limit_is_a_time_limit() {
        assert_eq!(in_time(Duration::from_millis(10), std::future::pending::<()>()).await, None);
        assert_eq!(in_time(Duration::from_secs(1), async { 7 }).await, Some(7));
    }
}
