//! Problems (RFC 9457): the one form in which the gateway says that something is wrong.

use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use voicegate_providers::{SendError, Upstream};

use super::code::{Code, Stage};
use voicegate_audio::AudioError;

/// `code` is stable and decides the HTTP status; `detail` says what to do. Never a stack, a path, a secret or a
/// URL with a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error, ToSchema)]
#[error("{code}: {detail}")]
#[schema(
    description = "A problem (RFC 9457). `code` is stable and decides the status; `detail` says what to do."
)]
pub struct Problem {
    /// A reference to the description of this kind of problem: a relative reference (RFC 9457, section 3.1.1), since the gateway that answers also
    /// serves what it means.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference", examples("/docs/errors#invalid_request"))]
    pub kind: String,
    /// The title, which is the same for every problem with this code.
    #[schema(examples("The request is not valid"))]
    pub title: String,
    /// The HTTP status that goes with the code.
    #[schema(minimum = 400, maximum = 599, examples(400))]
    pub status: u16,
    /// The problem in this case, and what to do about it.
    #[schema(examples("expected a duration above zero"))]
    pub detail: String,
    pub code: Code,
    /// The voice note that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub id: Option<String>,
    /// The stage in which the problem occurred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub stage: Option<Stage>,
    /// The field, parameter or header that is to blame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("expires_in"))]
    pub field: Option<String>,
    /// The number of seconds to wait before trying again; also in the header `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub retry_after: Option<u64>,
    /// The request that was answered with this: `X-Request-Id`. Not in a note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 128, examples("0199fd9c2f6c7d128d0a4c0f3c1d2e3f"))]
    pub request_id: Option<String>,
    /// The provider's own words about the problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ProviderAnswer>, nullable = false)]
    pub provider: Option<Upstream>,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("/docs/errors#{code}"),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
            id: None,
            stage: None,
            field: None,
            retry_after: None,
            request_id: None,
            provider: None,
        }
    }

    /// A problem with one field of the request.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Code::InvalidRequest, detail).field(field).stage(Stage::Request)
    }

    pub fn internal() -> Self {
        Self::new(
            Code::Internal,
            "this is the gateway's fault, not yours; its log says more. Try again later",
        )
    }

    pub fn storage_full() -> Self {
        let detail = "the gateway's disk is full; try again when its operator made room";
        Self { retry_after: Some(30), ..Self::new(Code::StorageFull, detail) }
    }

    /// The problem for a note whose stored record is damaged. It is not sent, and cannot be shown.
    pub fn unreadable() -> Self {
        let detail = "the stored record of this note is damaged and cannot be read; if the note was not sent yet, it will \
                      not be. Erase it with DELETE; the gateway's log says more";
        Self::new(Code::WrongState, detail)
    }

    pub fn rate_limited(wait: Duration) -> Self {
        let detail = "this tenant makes more requests than it may; wait for as long as Retry-After says";
        let mut problem = Self::new(Code::RateLimited, detail).stage(Stage::Request);
        problem.retry_after = Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        problem
    }

    pub fn overloaded(detail: impl Into<String>) -> Self {
        let mut problem = Self::new(Code::Overloaded, detail);
        problem.retry_after = Some(5);
        problem
    }

    #[must_use]
    pub fn stage(mut self, stage: Stage) -> Self {
        self.stage = Some(stage);
        self
    }

    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    #[must_use]
    pub fn of_note(mut self, id: impl std::fmt::Display) -> Self {
        self.id = Some(id.to_string());
        self
    }

    pub fn http_status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// The problem for a caller who waits for the audio. After a short failure of ffmpeg, the caller may repeat the
/// request.
impl From<AudioError> for Problem {
    fn from(error: AudioError) -> Self {
        if error.kind.is_for_now() {
            let detail =
                format!("the gateway cannot work on this audio at the moment ({error}); try again shortly");
            return Self::overloaded(detail).stage(error.stage.into());
        }
        let problem = Self::new(Code::from(error.kind.code()), error.detail).stage(error.stage.into());
        if problem.code == Code::Overloaded { Self { retry_after: Some(5), ..problem } } else { problem }
    }
}

impl From<&SendError> for Problem {
    fn from(error: &SendError) -> Self {
        let mut problem =
            Self::new(Code::from(error.kind.code()), error.detail.clone()).stage(error.stage.into());
        problem.retry_after = error.retry_after.map(|wait| wait.as_secs());
        problem.provider.clone_from(&error.upstream);
        problem
    }
}

/// A full disk has a code of its own, because the operator has to act. After a failure of the bucket, the caller may
/// retry. Every other I/O error is internal.
impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        if matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) {
            return Self::storage_full();
        }
        if voicegate_audio::is_exhausted(&error) {
            tracing::error!(
                "the process has no file descriptor left; see server.max_clients and LimitNOFILE"
            );
            return Self::overloaded("the gateway has as many files open as it may; try again shortly");
        }
        if error.kind() == std::io::ErrorKind::HostUnreachable {
            tracing::error!("audio is out of reach: {error}");
            return Self::overloaded("the gateway's store of audio does not answer; try again shortly");
        }
        tracing::error!(%error, "an operation on a file failed");
        if passes(&error) {
            return Self::overloaded("the gateway's disk does not work right now; try again shortly");
        }
        Self::internal()
    }
}

/// Whether the cause is a failing disk or an exhausted resource of the machine, and not a bug in the gateway.
fn passes(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let of_the_moment = [
        Errno::IO,
        Errno::ROFS,
        Errno::STALE,
        Errno::NXIO,
        Errno::NODEV,
        Errno::TIMEDOUT,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
    ];
    Errno::from_io_error(error).is_some_and(|errno| of_the_moment.contains(&errno))
}

/// The provider's own description of a problem.
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for voicegate_providers::Upstream in the document")]
pub struct ProviderAnswer {
    /// The HTTP status of the provider.
    #[schema(required, examples(404))]
    status: Option<u16>,
    /// The provider's own code.
    #[schema(required, examples("2005"))]
    code: Option<String>,
    /// The provider's own words, without anything secret.
    #[schema(required, max_length = 300, examples("Chat not found"))]
    message: Option<String>,
    /// An id for the provider's support.
    #[schema(required)]
    trace: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;
    use voicegate_providers::SendErrorKind;

    #[test]
    fn every_error_kind_of_an_adapter_has_a_code() {
        use SendErrorKind::*;
        for kind in [
            InvalidRecipient,
            NotReachable,
            FormUnavailable,
            ConversationClosed,
            Outdated,
            OptedOut,
            MediaRejected,
            MediaTooLarge,
            Rejected,
            Unauthorized,
            Misconfigured,
            RateLimited,
            NotReady,
            Unavailable,
            OutcomeUnknown,
            Unexpected,
        ] {
            assert!(Code::ALL.contains(&Code::from(kind.code())), "{kind:?}");
        }
    }

    #[test]
    fn lack_of_file_descriptors_is_reported_as_overloaded() {
        let system = || std::io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
        let wrapped = std::io::Error::new(system().kind(), format!("{} at path \"/x\"", system()));
        for error in [system(), wrapped] {
            let problem = Problem::from(error);
            assert_eq!((problem.status, problem.retry_after), (503, Some(5)), "{problem:?}");
        }
        let refused = std::io::Error::from_raw_os_error(Errno::ACCESS.raw_os_error());
        assert_eq!(Problem::from(refused).status, 500);
    }

    #[test]
    fn problem_of_a_stored_note_never_has_a_5xx_status() {
        use Code::{Internal, Overloaded, QuotaExceeded, StorageFull};
        for code in
            Code::ALL.iter().filter(|code| ![Internal, Overloaded, StorageFull, QuotaExceeded].contains(code))
        {
            assert!(code.status() < 500, "{code}");
        }
    }
}
