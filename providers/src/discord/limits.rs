//! Buckets of requests: <https://docs.discord.com/developers/topics/rate-limits>. Each channel has its own.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::{
    Scope,
    wire::{self, Answer},
};

/// The time of the next message to the channel, if this one was the last that its bucket takes for now.
///
/// `X-RateLimit-Reset-After` counts from the answer, of which only the earliest and the latest time are known; where
/// Discord's clock, which `X-RateLimit-Reset` goes by, says something between the two, that holds.
pub(crate) fn not_before(answer: &Answer, asked: Timestamp, timeout: Duration) -> Option<(Timestamp, Scope)> {
    let number = |name: &str| answer.header(name)?.parse::<f64>().ok();
    if number("x-ratelimit-remaining")? > 0.0 {
        return None;
    }
    let wait = SignedDuration::try_from(wire::wait_of_seconds(number("x-ratelimit-reset-after")?)?).ok()?;
    let earliest = asked.checked_add(wait).ok()?;
    let latest = earliest.checked_add(SignedDuration::try_from(timeout).ok()?).ok()?;
    let told = number("x-ratelimit-reset").and_then(|seconds| {
        SignedDuration::try_from_secs_f64(seconds)
            .ok()
            .and_then(|since| Timestamp::UNIX_EPOCH.checked_add(since).ok())
    });
    let until = told.unwrap_or(earliest).clamp(earliest, latest);
    Some((until, if is_global(answer) { Scope::Connection } else { Scope::Recipient }))
}

/// Whether an answer is about the limit that all channels share.
fn is_global(answer: &Answer) -> bool {
    answer.header("x-ratelimit-global").is_some() || answer.header("x-ratelimit-scope") == Some("global")
}

/// Requests that a 429 is about. One without any of Discord's headers is Cloudflare's, about this machine.
pub(super) fn scope(answer: &Answer) -> Scope {
    let body = answer.json();
    let is_bucket = answer.header("x-ratelimit-bucket").is_some()
        || matches!(answer.header("x-ratelimit-scope"), Some("user" | "shared"));
    let is_global = body["global"] == true || is_global(answer);
    if is_bucket && !is_global { Scope::Recipient } else { Scope::Connection }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use reqwest::{StatusCode, header::HeaderMap};

    use super::*;

    fn answer(headers: &[(&'static str, &str)]) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a header value"));
        }
        Answer { status: StatusCode::OK, headers: map, body: Bytes::new(), is_cut: false }
    }

    #[test]
    fn an_empty_bucket_names_the_time_of_the_next_message() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let limit = |headers: &[(&'static str, &str)]| {
            not_before(&answer(headers), now, Duration::from_secs(60)).map(|(until, _)| until.to_string())
        };
        let empty = ("x-ratelimit-remaining", "0");
        assert_eq!(limit(&[]), None);
        assert_eq!(limit(&[("x-ratelimit-remaining", "1"), ("x-ratelimit-reset-after", "3.5")]), None);
        let after = ("x-ratelimit-reset-after", "3.5");
        assert_eq!(limit(&[empty, after]).as_deref(), Some("2026-01-01T00:00:03.5Z"));
        // By Discord's clock the answer took two seconds.
        let reset = ("x-ratelimit-reset", "1767225605.5");
        assert_eq!(limit(&[empty, after, reset]).as_deref(), Some("2026-01-01T00:00:05.5Z"));
        // Clocks that disagree do not make it shorter, and no longer than a request may take.
        let early = ("x-ratelimit-reset", "1");
        assert_eq!(limit(&[empty, after, early]).as_deref(), Some("2026-01-01T00:00:03.5Z"));
        let late = ("x-ratelimit-reset", "1967225605");
        assert_eq!(limit(&[empty, after, late]).as_deref(), Some("2026-01-01T00:01:03.5Z"));
        let nonsense = ("x-ratelimit-reset", "NaN");
        assert_eq!(limit(&[empty, after, nonsense]).as_deref(), Some("2026-01-01T00:00:03.5Z"));
    }

    #[test]
    fn limit_applies_to_the_channel_unless_it_is_global() {
        let bucket = ("x-ratelimit-bucket", "abcd");
        for (headers, expected) in [
            (vec![bucket, ("x-ratelimit-scope", "user")], Scope::Recipient),
            (vec![("x-ratelimit-scope", "shared")], Scope::Recipient),
            (vec![bucket, ("x-ratelimit-scope", "global")], Scope::Connection),
            (vec![bucket, ("x-ratelimit-global", "true")], Scope::Connection),
            (vec![], Scope::Connection),
        ] {
            assert_eq!(scope(&answer(&headers)), expected, "{headers:?}");
        }
    }
}
