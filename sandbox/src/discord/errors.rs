//! Discord's envelope of errors: <https://docs.discord.com/developers/topics/opcodes-and-status-codes#json>.

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

#[derive(Debug)]
pub struct DiscordError {
    status: u16,
    code: u32,
    message: String,
    /// The refused fields of a form, with their faults.
    errors: Option<Value>,
    /// The limit: seconds, and whether it is global.
    limit: Option<(f64, bool)>,
}

impl DiscordError {
    pub fn new(status: u16, code: u32, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), errors: None, limit: None }
    }

    /// A mistake in a field of a form.
    pub fn field(name: &str, code: &str, message: &str) -> Self {
        let errors = json!({ name: {"_errors": [{"code": code, "message": message}]} });
        Self { errors: Some(errors), ..Self::new(400, 50_035, "Invalid Form Body") }
    }

    pub fn limit(seconds: f64, global: bool) -> Self {
        Self { limit: Some((seconds, global)), ..Self::new(429, 0, "You are being rate limited.") }
    }

    /// The usual error of a status.
    pub fn usual(status: u16, retry_after: Option<u64>) -> Self {
        match status {
            400 => Self::field("content", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 2000 in length."),
            401 => Self::new(401, 0, "401: Unauthorized"),
            403 => Self::new(403, 50_013, "Missing Permissions"),
            404 => Self::new(404, 10_003, "Unknown Channel"),
            413 => Self::new(413, 40_005, "Request entity too large"),
            429 => {
                let seconds = retry_after.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(1);
                Self::limit(f64::from(seconds), true)
            }
            503 => Self::new(503, 130_000, "API resource is currently overloaded. Try again a little later"),
            status => Self::new(status, 0, format!("{status}: Internal Server Error")),
        }
    }
}

impl IntoResponse for DiscordError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = json!({"message": self.message, "code": self.code});
        if let Some(errors) = self.errors {
            body["errors"] = errors;
        }
        let Some((seconds, global)) = self.limit else { return (status, Json(body)).into_response() };
        body["retry_after"] = json!(seconds);
        body["global"] = json!(global);
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        // Whole seconds, so that no client comes too early.
        if let Ok(value) = HeaderValue::from_str(&format!("{}", seconds.ceil())) {
            headers.insert(RETRY_AFTER, value);
        }
        let scope = if global { "global" } else { "user" };
        headers.insert("x-ratelimit-scope", HeaderValue::from_static(scope));
        if global {
            headers.insert("x-ratelimit-global", HeaderValue::from_static("true"));
        }
        response
    }
}
