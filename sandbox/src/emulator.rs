//! The trait of an emulator, which consists of one folder and one line in [`EMULATORS`].

use axum::Router;
use axum::http::Method;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};

use crate::Sandbox;
use crate::faults::Operation;
use crate::hooks::Outgoing;
use crate::inbound::Note;
use crate::ledger::LedgerEntry;
use crate::receipts::{ReceiptStatus, ReceiptStep};
use crate::state::State;

/// One provider's HTTP API, emulated below `/NAME`.
pub(crate) trait Emulator: Sync {
    /// The name of the provider, as the gateway's configuration spells it.
    fn name(&self) -> &'static str;

    /// Appearance on the inbox page.
    fn look(&self) -> Look;

    /// The provider's API.
    fn router(&self, sandbox: &Sandbox) -> Router;

    /// Classifies a request; the path is the one below `/NAME/`.
    fn classify(&self, method: &Method, path: &str) -> Operation;

    /// Builds the provider's error envelope for this status.
    fn scripted(&self, status: u16, retry_after: Option<u64>) -> Response;

    /// Builds the provider's answer for "not ready yet", if it has one; otherwise a 503 is used.
    fn not_ready(&self) -> Response {
        self.scripted(503, None)
    }

    /// Refusals specific to the provider that a fault may request by name.
    fn refusals(&self) -> &'static [&'static str] {
        &[]
    }

    /// Builds one of [`Self::refusals`], in the provider's format.
    fn refusal(&self, _name: &str) -> Response {
        self.scripted(400, None)
    }

    /// Completes every answer, for example with a trace id. The path is the one below `/NAME/`.
    fn finish(&self, response: Response, _path: &str) -> Response {
        response
    }

    /// Accepted credentials, which are removed from all records.
    fn secrets<'a>(&self, sandbox: &'a Sandbox) -> Vec<&'a str>;

    /// The connection's settings with which a gateway reaches it, `base_url` included.
    fn settings(&self, sandbox: &Sandbox, base_url: &str) -> Value;

    /// Receipts for a message, unless a rule says otherwise.
    fn usual_receipts(&self, _entry: &LedgerEntry, _is_group: bool) -> Vec<ReceiptStep> {
        Vec::new()
    }

    /// Whether it ever sends this receipt.
    fn says(&self, _status: ReceiptStatus) -> bool {
        false
    }

    /// Builds the requests of this receipt.
    fn receipts(
        &self,
        _sandbox: &Sandbox,
        _entry: &LedgerEntry,
        _step: &ReceiptStep,
        _at: &str,
    ) -> Vec<Outgoing> {
        Vec::new()
    }

    /// Gives a message that a person wrote its id and its conversation.
    ///
    /// # Errors
    /// Says in a sentence what is wrong with it; also where nobody can write to the provider's accounts here.
    fn receive(&self, _sandbox: &Sandbox, _note: &mut Note) -> Result<(), String> {
        Err(format!("nobody can write to the emulated accounts of {}", self.name()))
    }

    /// Builds the requests that tell registered addresses of messages that people wrote.
    fn inbound(&self, _sandbox: &Sandbox, _notes: &[Note]) -> Vec<Outgoing> {
        Vec::new()
    }

    /// Whether people can write to its accounts.
    fn takes_inbound(&self) -> bool {
        false
    }

    /// Copies the state that survives clearing: registered addresses.
    fn keep(&self, _before: &mut State, _after: &mut State) {}
}

/// Colours and texts of a phone on the page.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Look {
    /// Name of the app in which a person sees the note.
    pub app: &'static str,
    /// Text about the provider: `through Linq`.
    pub through: &'static str,
    /// Example recipient that the emulator knows.
    pub to: &'static str,
    /// CSS colour of bubbles.
    pub bubble: &'static str,
    /// CSS colour of their text and bars.
    pub ink: &'static str,
}

/// Every emulator, in the order in which the page shows them.
pub(crate) static EMULATORS: &[&dyn Emulator] = &[
    &crate::linq::Linq,
    &crate::wawp::Wawp,
    &crate::waha::Waha,
    &crate::evolution::Evolution,
    &crate::whatsapp_cloud::WhatsAppCloud,
    &crate::telegram::Telegram,
    &crate::discord::Discord,
    &crate::recipes::Recipes,
];

/// Servers that speak and transcribe. They have no phones, and answer whatever providers are emulated.
pub(crate) static SPEECH_SERVERS: &[&dyn Emulator] = &[&crate::speech::OpenAi, &crate::speech::ElevenLabs];

/// Everything that is emulated.
pub(crate) fn all() -> impl Iterator<Item = &'static dyn Emulator> {
    EMULATORS.iter().chain(SPEECH_SERVERS).copied()
}

/// Finds the emulator of a path, and returns the rest of the path.
pub(crate) fn of_path(path: &str) -> Option<(&'static dyn Emulator, &str)> {
    let (name, rest) = path.strip_prefix('/')?.split_once('/')?;
    all().find(|emulator| emulator.name() == name).map(|emulator| (emulator, rest))
}

/// Description of the emulators that answer, for the page.
pub(crate) fn listed(sandbox: &Sandbox) -> Value {
    let shown = |emulator: &&dyn Emulator| {
        let says =
            [ReceiptStatus::Read, ReceiptStatus::Played].into_iter().filter(|status| emulator.says(*status));
        json!({
            "name": emulator.name(),
            "look": emulator.look(),
            "says": says.collect::<Vec<_>>(),
            "refusals": emulator.refusals(),
            "inbound": emulator.takes_inbound(),
        })
    };
    EMULATORS.iter().filter(|emulator| sandbox.answers(emulator.name())).map(shown).collect()
}
