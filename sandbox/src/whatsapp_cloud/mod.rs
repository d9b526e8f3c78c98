//! Meta's WhatsApp Cloud API, as far as voice messages need it:
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/audio-messages/>.
//!
//! Strict where Meta is: unknown parameters, types of files by their names, ids of media that it does not have. What it
//! accepts and phones do not like stands in the ledger under `problems`.

mod errors;
mod media;
mod messages;
mod numbers;
mod received;
mod statuses;

use std::collections::HashMap;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use self::errors::GraphError;
use self::media::Media;
use self::numbers::Address;
use crate::Sandbox;
use crate::emulator::{Emulator, Look};
use crate::faults::Operation;
use crate::hooks::Outgoing;
use crate::inbound::Note;
use crate::ledger::LedgerEntry;
use crate::receipts::{ReceiptStatus, ReceiptStep};
use crate::state::State;

/// Public on purpose: nothing real answers to them.
const TOKEN: &str = "sandbox-meta-token";
const APP_SECRET: &str = "sandbox-meta-app-secret";
const VERIFY_TOKEN: &str = "sandbox-meta-verify-token";

/// The app, and its two numbers.
const APP: &str = "1234567890123456";
const NUMBERS: [(&str, &str); 2] =
    [("106540352242922", "+1 631-555-5555"), ("106540352242933", "+1 631-555-6666")];

/// The account that both numbers belong to.
const ACCOUNT: &str = "102290129340398";

/// State of the emulator.
#[derive(Default)]
pub(crate) struct Memory {
    media: HashMap<String, Media>,
    /// The number that each message went out by.
    sent: HashMap<String, &'static str>,
    /// Addresses for statuses: the addresses of numbers, by the number's id, and that of the app.
    addresses: HashMap<String, Address>,
}

/// The emulator itself; what it remembers is a [`Memory`].
pub(crate) struct WhatsAppCloud;

impl Emulator for WhatsAppCloud {
    fn name(&self) -> &'static str {
        "whatsapp-cloud"
    }

    fn look(&self) -> Look {
        Look {
            app: "WhatsApp",
            through: "through Meta's Cloud API",
            to: "+15551234567",
            bubble: "#d9fdd3",
            ink: "#0b5c4b",
        }
    }

    fn router(&self, sandbox: &Sandbox) -> Router {
        Router::new()
            .route("/{version}/{node}", get(numbers::read).post(numbers::write).delete(media::delete))
            .route("/lookaside/whatsapp_business/attachments", get(received::file))
            .route("/{version}/{node}/media", post(media::upload))
            .route("/{version}/{node}/messages", post(messages::send))
            .route("/{version}/{node}/subscriptions", post(numbers::subscribe_app))
            .fallback(unknown)
            .layer(DefaultBodyLimit::disable())
            .with_state(sandbox.clone())
    }

    fn classify(&self, method: &Method, path: &str) -> Operation {
        match path.rsplit('/').next().unwrap_or_default() {
            "messages" => Operation::Voice,
            "media" => Operation::Upload,
            "attachments" => Operation::Media,
            "subscriptions" => Operation::Webhooks,
            _ if *method == Method::POST => Operation::Webhooks,
            _ if *method == Method::GET => Operation::Session,
            _ => Operation::Other,
        }
    }

    fn scripted(&self, status: u16, _: Option<u64>) -> Response {
        GraphError::usual(status).into_response()
    }

    fn secrets<'a>(&self, _: &'a Sandbox) -> Vec<&'a str> {
        vec![TOKEN, APP_SECRET, VERIFY_TOKEN]
    }

    fn settings(&self, _: &Sandbox, base_url: &str) -> Value {
        json!({
            "base_url": format!("{base_url}/v23.0"),
            "access_token": TOKEN,
            "phone_number_id": NUMBERS[0].0,
            "app_secret": APP_SECRET,
            "verify_token": VERIFY_TOKEN,
        })
    }

    fn usual_receipts(&self, entry: &LedgerEntry, _: bool) -> Vec<ReceiptStep> {
        statuses::usual(entry)
    }

    fn says(&self, status: ReceiptStatus) -> bool {
        status != ReceiptStatus::Accepted
    }

    fn receipts(&self, sandbox: &Sandbox, entry: &LedgerEntry, step: &ReceiptStep, _: &str) -> Vec<Outgoing> {
        statuses::outgoing(sandbox, entry, step)
    }

    fn takes_inbound(&self) -> bool {
        true
    }

    fn receive(&self, _: &Sandbox, note: &mut Note) -> Result<(), String> {
        received::receive(note)
    }

    fn inbound(&self, sandbox: &Sandbox, notes: &[Note]) -> Vec<Outgoing> {
        received::outgoing(sandbox, notes)
    }

    fn keep(&self, before: &mut State, after: &mut State) {
        after.own::<Memory>().addresses = std::mem::take(&mut before.own::<Memory>().addresses);
    }
}

async fn unknown() -> GraphError {
    GraphError::new(400, 2500, "Unknown path components")
}

/// Resellers hand the same token over in headers of their own.
fn authenticate(headers: &HeaderMap) -> Result<(), GraphError> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = header("authorization").map(|value| value.strip_prefix("Bearer ").unwrap_or(""));
    match bearer.or_else(|| header("d360-api-key")).or_else(|| header("x-api-key")) {
        None => Err(GraphError::new(401, 104, "An access token is required to request this resource.")),
        Some(token) if token == TOKEN => Ok(()),
        Some(_) => Err(GraphError::new(401, 190, "Invalid OAuth access token - Cannot parse access token")),
    }
}

/// A number of ours by its id.
fn number(id: &str) -> Result<(&'static str, &'static str), GraphError> {
    NUMBERS.into_iter().find(|(known, _)| *known == id).ok_or_else(|| GraphError::no_such_object(id))
}
