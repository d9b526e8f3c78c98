//! Meta's envelope of errors, and the codes that the emulator knows:
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes/>.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use uuid::Uuid;

#[derive(Debug)]
pub struct GraphError {
    status: u16,
    code: u32,
    subcode: Option<u32>,
    message: String,
    details: Option<String>,
}

/// Code, HTTP status, and Meta's words.
const CODES: [(u32, u16, &str); 17] = [
    (4, 429, "Application request limit reached"),
    (130_429, 429, "Rate limit hit"),
    (130_472, 400, "User's number is part of an experiment"),
    (130_497, 403, "Business account is restricted from messaging users in this country."),
    (131_000, 500, "Something went wrong"),
    (131_009, 400, "Parameter value is not valid"),
    (131_016, 503, "Service unavailable"),
    (131_026, 400, "Message undeliverable"),
    (131_030, 400, "Recipient phone number not in allowed list"),
    (131_031, 403, "Business Account locked"),
    (131_042, 400, "Business eligibility payment issue"),
    (131_047, 400, "Re-engagement message"),
    (131_048, 429, "Spam rate limit hit"),
    (131_049, 400, "This message was not delivered to maintain healthy ecosystem engagement."),
    (131_050, 400, "Unable to deliver the message. This recipient has chosen to stop receiving messages"),
    (131_053, 400, "Media upload error"),
    (131_056, 400, "(Business Account, Consumer Account) pair rate limit hit"),
];

/// Meta's words for a code.
pub fn words(code: u32) -> &'static str {
    CODES.iter().find(|(known, ..)| *known == code).map_or("Something went wrong", |(_, _, words)| words)
}

impl GraphError {
    pub fn new(status: u16, code: u32, message: impl Into<String>) -> Self {
        Self { status, code, subcode: None, message: message.into(), details: None }
    }

    /// A code with the status and words that belong to it; `None` for codes that are not in the list.
    pub fn of_code(code: u32) -> Option<Self> {
        let (_, status, words) = CODES.into_iter().find(|(known, ..)| *known == code)?;
        Some(Self::new(status, code, format!("(#{code}) {words}")))
    }

    /// A parameter that Meta does not take.
    pub fn parameter(details: impl Into<String>) -> Self {
        Self::new(400, 100, "(#100) Invalid parameter").with(details)
    }

    pub fn no_such_object(id: &str) -> Self {
        let message = format!(
            "Unsupported request. Object with ID '{id}' does not exist, cannot be loaded due to missing permissions, or \
             does not support this operation"
        );
        Self { subcode: Some(33), ..Self::new(400, 100, message) }
    }

    /// The usual error of a status.
    pub fn usual(status: u16) -> Self {
        match status {
            401 => Self::new(401, 190, "Error validating access token: Session has expired"),
            403 => Self::new(403, 10, "(#10) Application does not have permission for this action"),
            404 => Self::no_such_object("0"),
            413 => Self::of(131_053, status)
                .with("Media file size too big. Max file size we currently support: 16MB."),
            429 => Self::of(130_429, status),
            503 => Self::of(131_016, status),
            500.. => Self::of(131_000, status),
            _ => Self::of(131_009, status),
        }
    }

    fn of(code: u32, status: u16) -> Self {
        Self::new(status, code, format!("(#{code}) {}", words(code)))
    }

    pub fn with(self, details: impl Into<String>) -> Self {
        Self { details: Some(details.into()), ..self }
    }
}

impl IntoResponse for GraphError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut error = json!({
            "message": self.message,
            "type": "OAuthException",
            "code": self.code,
            "fbtrace_id": format!("A{}", &Uuid::new_v4().simple().to_string()[..22]),
        });
        if let Some(subcode) = self.subcode {
            error["error_subcode"] = json!(subcode);
        }
        if let Some(details) = self.details {
            error["error_data"] = json!({"messaging_product": "whatsapp", "details": details});
        }
        (status, Json(json!({ "error": error }))).into_response()
    }
}
