//! Downloads `audio.url`, which a caller chose: with address rules, limits, and precise errors.

use std::{
    collections::BTreeMap,
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use reqwest::{
    Method, Response, StatusCode,
    header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT},
};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;
use url::Url;
use voicegate_providers::{
    Unanswered,
    guard::{AddressRules, GuardedClient},
    trust::Trust,
    wire::in_time,
};

use super::FileReservation;
use crate::{
    model::{
        code::{Code, Stage},
        problem::Problem,
    },
    telemetry::metrics,
};

/// Highest number of redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// Name of the server in error texts, because a URL may contain a token.
const SERVER: &str = "the server behind the URL";

/// The longest type of a file that is looked at, in bytes.
const LONGEST_TYPE: usize = 255;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub struct Fetcher {
    client: GuardedClient,
    timeout: Duration,
}

#[derive(Debug)]
pub struct FetchRequest<'a> {
    pub url: &'a str,
    /// Headers of the caller. They are sent to the first host only.
    pub headers: &'a BTreeMap<String, String>,
    pub max_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A repetition would fail in the same way.
    #[error("{0}")]
    Final(Problem),
    /// A repetition may succeed.
    #[error("{0}")]
    ForNow(Problem),
    #[error("the download cannot be stored: {0}")]
    Disk(#[from] io::Error),
}

/// A caller who waits for the download gets the problem, whether or not the download will be repeated.
impl From<FetchError> for Problem {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Final(problem) | FetchError::ForNow(problem) => problem,
            FetchError::Disk(error) => error.into(),
        }
    }
}

impl Fetcher {
    /// Creates the client.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn new(rules: AddressRules, timeout: Duration, trust: &Trust) -> Result<Self, reqwest::Error> {
        Ok(Self { client: GuardedClient::new(rules, CONNECT_TIMEOUT.min(timeout), trust)?, timeout })
    }

    /// The client for other URLs that callers chose.
    pub fn client(&self) -> &GuardedClient {
        &self.client
    }

    /// Checks the URL without sending a request.
    ///
    /// # Errors
    /// A problem with the field `audio.url`.
    pub fn check(&self, url: &str) -> Result<(), Problem> {
        let parsed: Url =
            url.parse().map_err(|_| Problem::invalid("audio.url", "this is no absolute URL"))?;
        self.client.request(Method::GET, parsed).map(drop).map_err(|why| forbidden(&why.to_string()))
    }

    /// Downloads into `file`, and returns the type that the server states.
    ///
    /// # Errors
    /// [`FetchError`], with the status of the server if it answered.
    pub async fn fetch(
        &self,
        request: &FetchRequest<'_>,
        file: &mut NamedTempFile,
        room: FileReservation,
    ) -> Result<Option<String>, FetchError> {
        let (started, answered) = (Instant::now(), AtomicBool::new(false));
        let fetched = in_time(self.timeout, self.download(request, file, room, &answered)).await;
        let fetched = fetched.unwrap_or_else(|| {
            let seconds = self.timeout.as_secs();
            Err(FetchError::ForNow(unreachable(if answered.into_inner() {
                format!("the download took longer than {seconds} s")
            } else {
                format!("{SERVER} did not answer within {seconds} s")
            })))
        });
        let outcome = match &fetched {
            Ok(_) => "ok",
            Err(FetchError::Final(_)) => "refused",
            Err(FetchError::ForNow(_)) => "failed",
            Err(FetchError::Disk(_)) => "disk",
        };
        metrics::fetched(outcome, started.elapsed());
        fetched
    }

    async fn download(
        &self,
        request: &FetchRequest<'_>,
        file: &mut NamedTempFile,
        mut room: FileReservation,
        answered: &AtomicBool,
    ) -> Result<Option<String>, FetchError> {
        let response = self.follow(request).await?;
        answered.store(true, Ordering::Relaxed);
        let too_large = || {
            let detail =
                format!("the file behind the URL is larger than the limit of {} bytes", request.max_bytes);
            FetchError::Final(Problem::new(Code::AudioTooLarge, detail).stage(Stage::Fetch))
        };
        if response.content_length().is_some_and(|length| length > request.max_bytes) {
            return Err(too_large());
        }
        let stated = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let stated = stated.filter(|text| text.len() <= LONGEST_TYPE).map(str::to_owned);
        let mut out = tokio::fs::File::from_std(file.reopen()?);
        let mut size = 0_u64;
        let mut response = response;
        while let Some(chunk) = response.chunk().await.map_err(|error| no_answer(&error))? {
            size += chunk.len() as u64;
            if size > request.max_bytes {
                return Err(too_large());
            }
            room.take(chunk.len())?;
            out.write_all(&chunk).await?;
        }
        out.flush().await?;
        Ok(stated)
    }

    /// Follows redirects one by one, so that each target is checked against the address rules.
    async fn follow(&self, request: &FetchRequest<'_>) -> Result<Response, FetchError> {
        let mut url: Url = request
            .url
            .parse()
            .map_err(|_| FetchError::Final(Problem::invalid("audio.url", "this is no absolute URL")))?;
        let first_host = origin(&url);
        for _ in 0..=MAX_REDIRECTS {
            let mut builder = self
                .client
                .request(Method::GET, url.clone())
                .map_err(|why| FetchError::Final(forbidden(&why.to_string())))?
                .header(USER_AGENT, concat!("voicegate/", env!("CARGO_PKG_VERSION")))
                .header(ACCEPT, "audio/*, */*;q=0.5");
            if origin(&url) == first_host {
                builder = builder.headers(secret_headers(request.headers));
            }
            let response = builder.send().await.map_err(|error| no_answer(&error))?;
            let status = response.status();
            if status.is_success() {
                return if is_whole(&response) { Ok(response) } else { Err(not_whole(status)) };
            }
            let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            match target.and_then(|target| url.join(target).ok()) {
                Some(next) if status.is_redirection() => url = next,
                _ => return Err(bad_status(status)),
            }
        }
        Err(FetchError::Final(unreachable(format!("the URL redirects more than {MAX_REDIRECTS} times"))))
    }
}

fn origin(url: &Url) -> (String, Option<String>, Option<u16>) {
    (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default())
}

/// Converts the headers, which were checked when the note was accepted.
fn secret_headers(headers: &BTreeMap<String, String>) -> HeaderMap {
    headers
        .iter()
        .filter_map(|(name, value)| {
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
        })
        .collect()
}

fn forbidden(why: &str) -> Problem {
    Problem::new(Code::SourceForbidden, format!("{why}; use a public https URL, or send the audio itself"))
        .stage(Stage::Fetch)
        .field("audio.url")
}

fn unreachable(detail: impl Into<String>) -> Problem {
    Problem::new(Code::SourceUnreachable, detail).stage(Stage::Fetch).field("audio.url")
}

fn bad_status(status: StatusCode) -> FetchError {
    let detail = format!("{SERVER} answered {status}");
    // These answers are temporary.
    let passing = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        );
    if passing {
        FetchError::ForNow(unreachable(detail))
    } else {
        FetchError::Final(unreachable(format!("{detail}; check that the URL works without a login")))
    }
}

/// Whether a successful answer is the whole file (RFC 9110 section 15.3). No range was requested, but caches that store
/// files in slices may answer with one, sometimes without the status for it.
fn is_whole(response: &Response) -> bool {
    let range = response.headers().get(CONTENT_RANGE);
    matches!(
        response.status(),
        StatusCode::OK | StatusCode::CREATED | StatusCode::NON_AUTHORITATIVE_INFORMATION
    ) && range.is_none_or(|range| range.to_str().is_ok_and(spans_all))
}

/// Whether a range such as `bytes 0-99/100` covers the whole file.
fn spans_all(range: &str) -> bool {
    let all = |range: &str| {
        let (first, rest) = range.trim().strip_prefix("bytes ")?.split_once('-')?;
        let (last, size) = rest.split_once('/')?;
        let size: u64 = size.trim().parse().ok()?;
        Some(first.trim() == "0" && last.trim().parse::<u64>().ok()?.checked_add(1) == Some(size))
    };
    all(range).unwrap_or(false)
}

/// The error for a partial answer. A repetition may succeed, once the cache has the whole file or the file is complete.
fn not_whole(status: StatusCode) -> FetchError {
    let what = match status {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT => {
            "a part of the file, although the whole was asked for"
        }
        _ => "which comes without the file",
    };
    FetchError::ForNow(unreachable(format!("{SERVER} answered {status}: {what}")))
}

/// The text of reqwest would name the URL, which may contain a token.
fn no_answer(error: &reqwest::Error) -> FetchError {
    match Unanswered::of(error) {
        Unanswered::Forbidden => FetchError::Final(forbidden("the host is not on the public internet")),
        why => FetchError::ForNow(unreachable(why.about(SERVER))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_counts_as_whole_only_from_first_to_last_byte() {
        assert!(spans_all("bytes 0-99/100"));
        for part in ["bytes 0-98/100", "bytes 1-99/100", "bytes 0-99/*", "bytes */100", "items 0-99/100", ""]
        {
            assert!(!spans_all(part), "{part}");
        }
    }
}
