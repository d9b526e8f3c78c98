//! Problems (RFC 9457): the one form in which the gateway says that something is wrong.

use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use voicegate_providers::{SendError, Upstream};

use crate::view::schema::{ProblemCode, ProviderAnswer, Stage};
use voicegate_audio::AudioError;

/// `code` is stable and decides the HTTP status; `detail` says what to do. Never a stack, a path, a secret or a
/// URL with a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error, ToSchema)]
#[error("{code}: {detail}")]
#[schema(
    description = "What is wrong (RFC 9457). `code` is stable and decides the status; `detail` says what to do."
)]
pub struct Problem {
    /// What this kind of problem is: a relative reference (RFC 9457, section 3.1.1), since the gateway that answers also
    /// serves what it means.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference", examples("/docs/errors#invalid_request"))]
    pub kind: String,
    /// The same for every problem with this code.
    #[schema(examples("The request is not valid"))]
    pub title: String,
    /// The HTTP status that goes with the code.
    #[schema(minimum = 400, maximum = 599, examples(400))]
    pub status: u16,
    /// What is wrong in this case, and what to do about it.
    #[schema(examples("expected a duration above zero"))]
    pub detail: String,
    #[schema(value_type = ProblemCode)]
    pub code: String,
    /// The voice note that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub id: Option<String>,
    /// Where it went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Stage>, nullable = false)]
    pub stage: Option<String>,
    /// The field, parameter or header that is to blame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("expires_in"))]
    pub field: Option<String>,
    /// How many seconds to wait before trying again; also in the header `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub retry_after: Option<u64>,
    /// The request that was answered with this: `X-Request-Id`. Not in a note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 128, examples("0199fd9c2f6c7d128d0a4c0f3c1d2e3f"))]
    pub request_id: Option<String>,
    /// What the provider itself said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ProviderAnswer>, nullable = false)]
    pub provider: Option<Upstream>,
}

/// Every code there is: its status and its title. `docs/errors.md` has a section for each.
pub const CODES: &[(&str, u16, &str)] = &[
    ("invalid_request", 400, "The request is not valid"),
    ("recipient_invalid", 400, "The recipient fits no known form"),
    ("unauthorized", 401, "The API key is missing or wrong"),
    ("not_found", 404, "There is no such thing here"),
    ("method_not_allowed", 405, "This path does not take that method"),
    ("idempotency_key_reused", 409, "The idempotency key belongs to another request"),
    ("wrong_state", 409, "The note is not in a state for that"),
    ("media_expired", 410, "The audio is no longer kept"),
    ("audio_too_large", 413, "The audio is too large"),
    ("unsupported_media_type", 415, "The request body has a type that is not read here"),
    ("audio_unreadable", 422, "The audio cannot be read"),
    ("audio_inconsistent", 422, "The audio contradicts itself"),
    ("audio_unsupported", 422, "The audio is of a kind that cannot be handled"),
    ("audio_too_long", 422, "The audio is too long"),
    ("audio_format_required", 422, "Headerless audio needs its format declared"),
    ("source_unreachable", 422, "The audio could not be downloaded"),
    ("source_forbidden", 422, "The audio URL is not allowed"),
    ("recipient_unsupported", 422, "The recipient cannot be reached over this connection"),
    ("unknown_connection", 422, "There is no such connection or route"),
    ("convert_refused", 422, "The audio would have to be converted"),
    ("reply_unsupported", 422, "Replies are not possible over this connection"),
    ("text_unsupported", 422, "No connection of the route shows a text"),
    ("provider_rejected", 424, "The provider refused the note"),
    ("provider_unauthorized", 424, "The provider does not accept this account's request"),
    ("provider_unavailable", 424, "The provider gave no usable answer"),
    ("rate_limited", 429, "Too many requests"),
    ("internal", 500, "Something went wrong inside the gateway"),
    ("overloaded", 503, "The gateway is at its limit"),
    ("storage_full", 507, "The gateway's storage is full"),
    ("quota_exceeded", 507, "The tenant keeps as much audio as it may"),
];

impl Problem {
    /// A problem by its code. A code outside the table is a mistake of ours and comes out as `internal`.
    pub fn new(code: &str, detail: impl Into<String>) -> Self {
        let known = CODES.iter().find(|(known, ..)| *known == code);
        let (code, status, title) =
            *known.unwrap_or(&("internal", 500, "Something went wrong inside the gateway"));
        Self {
            kind: format!("/docs/errors#{code}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            code: code.to_owned(),
            id: None,
            stage: None,
            field: None,
            retry_after: None,
            request_id: None,
            provider: None,
        }
    }

    /// A mistake in the request, in one of its fields.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new("invalid_request", detail).field(field).stage("request")
    }

    pub fn internal() -> Self {
        Self::new("internal", "this is the gateway's fault, not yours; its log says more. Try again later")
    }

    pub fn storage_full() -> Self {
        let detail = "the gateway's disk is full; try again when its operator made room";
        Self { retry_after: Some(30), ..Self::new("storage_full", detail) }
    }

    /// For a note whose stored record is damaged: it is not sent, and nothing can be said of it.
    pub fn unreadable() -> Self {
        let detail = "the stored record of this note is damaged and cannot be read; if the note was not sent yet, it will \
                      not be. Erase it with DELETE; the gateway's log says more";
        Self::new("wrong_state", detail)
    }

    pub fn rate_limited(wait: Duration) -> Self {
        let detail = "this tenant makes more requests than it may; wait for as long as Retry-After says";
        let mut problem = Self::new("rate_limited", detail).stage("request");
        problem.retry_after = Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        problem
    }

    pub fn overloaded(detail: impl Into<String>) -> Self {
        let mut problem = Self::new("overloaded", detail);
        problem.retry_after = Some(5);
        problem
    }

    #[must_use]
    pub fn stage(mut self, stage: &str) -> Self {
        self.stage = Some(stage.to_owned());
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

/// For a caller who waits for it. A moment's trouble with ffmpeg is worth another request.
impl From<AudioError> for Problem {
    fn from(error: AudioError) -> Self {
        if error.kind.is_for_now() {
            let detail =
                format!("the gateway cannot work on this audio at the moment ({error}); try again shortly");
            return Self::overloaded(detail).stage(error.stage);
        }
        let problem = Self::new(error.kind.code(), error.detail).stage(error.stage);
        if problem.code == "overloaded" { Self { retry_after: Some(5), ..problem } } else { problem }
    }
}

impl From<&SendError> for Problem {
    fn from(error: &SendError) -> Self {
        let mut problem = Self::new(error.kind.code(), error.detail.clone()).stage(error.stage);
        problem.retry_after = error.retry_after.map(|wait| wait.as_secs());
        problem.provider.clone_from(&error.upstream);
        problem
    }
}

/// A full disk is the operator's to mend and has a code of its own; a bucket that does not do its part is worth another
/// try; everything else of the kind is internal.
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

/// Whether it is the disk that fails, or the machine that has no more of something, and not the gateway.
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;
    use voicegate_providers::SendErrorKind;

    #[test]
    fn every_code_that_an_adapter_can_cause_is_known() {
        use SendErrorKind::*;
        for kind in [
            InvalidRecipient,
            NotReachable,
            FormUnavailable,
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
            assert_eq!(Problem::new(kind.code(), "").code, kind.code(), "{kind:?}");
        }
    }

    #[test]
    fn without_file_descriptors_the_gateway_is_overloaded_and_not_broken() {
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
    fn a_problem_of_a_stored_note_is_never_a_5xx() {
        for (code, status, _) in CODES.iter().filter(|(code, ..)| {
            !matches!(*code, "internal" | "overloaded" | "storage_full" | "quota_exceeded")
        }) {
            assert!(*status < 500, "{code}");
        }
    }
}
