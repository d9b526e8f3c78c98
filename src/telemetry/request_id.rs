//! The id of a request, given by the caller or generated, which appears in the answer, in problems and in log messages.

use std::fmt;

use uuid::Uuid;

tokio::task_local! {
    static CURRENT: RequestId;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// The caller's id, if it is safe to repeat: 1 to 128 visible ASCII characters.
    pub fn given(value: &[u8]) -> Option<Self> {
        let fit = (1..=128).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
        let text = std::str::from_utf8(value).ok().filter(|_| fit)?;
        Some(Self(text.to_owned()))
    }

    pub fn make() -> Self {
        Self(Uuid::now_v7().simple().to_string())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Runs `work` as part of this request.
    pub async fn during<T>(self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self, work).await
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of the current request; `None` outside of a request, as in a worker or a timer.
pub fn current() -> Option<String> {
    CURRENT.try_with(|id| id.0.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_request_ids_are_repeated() {
        let longest = "x".repeat(128);
        for good in ["1", "req-7/a?b=\"c\"", &longest] {
            assert_eq!(RequestId::given(good.as_bytes()).as_ref().map(RequestId::as_str), Some(good));
        }
        for bad in ["", "a b", "a\tb", "a\n", "\u{1b}[31m", "é", &"x".repeat(129)] {
            assert_eq!(RequestId::given(bad.as_bytes()), None, "{bad:?}");
        }
        assert!(RequestId::given(RequestId::make().as_str().as_bytes()).is_some());
    }
}
