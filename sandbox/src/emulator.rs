//! What an emulator brings: one folder, and one line in [`EMULATORS`].

use axum::Router;
use axum::http::Method;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};

use crate::Sandbox;
use crate::faults::Operation;
use crate::hooks::Outgoing;
use crate::ledger::LedgerEntry;
use crate::receipts::{ReceiptStatus, ReceiptStep};
use crate::state::State;

/// One provider's HTTP API, emulated below `/NAME`.
pub(crate) trait Emulator: Sync {
    /// The name of the provider, as the gateway's configuration spells it.
    fn name(&self) -> &'static str;

    /// How the inbox page shows it.
    fn look(&self) -> Look;

    /// The provider's API.
    fn router(&self, sandbox: &Sandbox) -> Router;

    /// What a request is for; the path is the one below `/NAME/`.
    fn classify(&self, method: &Method, path: &str) -> Operation;

    /// The provider's own envelope for an error with this status.
    fn scripted(&self, status: u16, retry_after: Option<u64>) -> Response;

    /// The provider's word for "not ready yet", where it has one; else a 503.
    fn not_ready(&self) -> Response {
        self.scripted(503, None)
    }

    /// Refusals of the provider's own that a fault may ask for by name.
    fn refusals(&self) -> &'static [&'static str] {
        &[]
    }

    /// One of [`Self::refusals`], in the provider's words.
    fn refusal(&self, _name: &str) -> Response {
        self.scripted(400, None)
    }

    /// A last change to every answer: a trace id. The path is the one below `/NAME/`.
    fn finish(&self, response: Response, _path: &str) -> Response {
        response
    }

    /// The credentials that it accepts, which are not written down anywhere.
    fn secrets<'a>(&self, sandbox: &'a Sandbox) -> Vec<&'a str>;

    /// The connection's settings with which a gateway reaches it, `base_url` included.
    fn settings(&self, sandbox: &Sandbox, base_url: &str) -> Value;

    /// What it tells of a message unless a rule says otherwise.
    fn usual_receipts(&self, _entry: &LedgerEntry, _is_group: bool) -> Vec<ReceiptStep> {
        Vec::new()
    }

    /// Whether it ever says that of a message.
    fn says(&self, _status: ReceiptStatus) -> bool {
        false
    }

    /// The requests by which it tells that.
    fn receipts(
        &self,
        _sandbox: &Sandbox,
        _entry: &LedgerEntry,
        _step: &ReceiptStep,
        _at: &str,
    ) -> Vec<Outgoing> {
        Vec::new()
    }

    /// Takes over what stays when the sandbox is cleared: registered addresses.
    fn keep(&self, _before: &mut State, _after: &mut State) {}
}

/// Colours and words of a phone on the page.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Look {
    /// The app that a person sees the note in.
    pub app: &'static str,
    /// How the note came there: `through Linq`.
    pub through: &'static str,
    /// Somebody whom the emulator knows.
    pub to: &'static str,
    /// The colour of bubbles: a CSS colour.
    pub bubble: &'static str,
    /// The colour of their text and bars.
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

/// The emulator that a path belongs to, and the rest of the path.
pub(crate) fn of_path(path: &str) -> Option<(&'static dyn Emulator, &str)> {
    let (name, rest) = path.strip_prefix('/')?.split_once('/')?;
    EMULATORS.iter().find(|emulator| emulator.name() == name).map(|emulator| (*emulator, rest))
}

/// For the page.
pub(crate) fn listed() -> Value {
    let shown = |emulator: &&dyn Emulator| {
        let says =
            [ReceiptStatus::Read, ReceiptStatus::Played].into_iter().filter(|status| emulator.says(*status));
        json!({
            "name": emulator.name(),
            "look": emulator.look(),
            "says": says.collect::<Vec<_>>(),
            "refusals": emulator.refusals(),
        })
    };
    EMULATORS.iter().map(shown).collect()
}
