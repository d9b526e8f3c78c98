//! Emulators of the messaging providers' HTTP APIs, with an inbox page, a ledger and scripted faults.
//!
//! Used by `voicegate sandbox`, `voicegate demo` and the tests. The crate shares no code with the gateway or its
//! adapters, so that a mistake there cannot hide behind the same mistake here.
//!
//! One port serves everything:
//!
//! | path | what |
//! |---|---|
//! | `/NAME/…` | the API of the provider of that name, for each emulator in `EMULATORS` |
//! | `/http/NAME/…` | APIs that a gateway reaches by recipes: `z-api`, `whapi`, `line` and others |
//! | `/openai/…`, `/elevenlabs/…` | servers that speak and transcribe |
//! | `/`, `/sandbox/…` | the inbox page and the control API |

mod audio;
mod control;
mod discord;
mod emulator;
mod evolution;
mod faults;
mod fetch;
mod form;
#[cfg(debug_assertions)]
#[doc(hidden)]
pub mod fuzzing;
mod hooks;
mod idle;
mod inbound;
mod ledger;
mod linq;
mod receipts;
mod recipes;
mod server;
mod speech;
mod state;
mod telegram;
mod waha;
mod wawp;
mod whatsapp;
mod whatsapp_cloud;

use std::sync::{Arc, atomic::Ordering};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use uuid::Uuid;

pub use audio::AudioInfo;
pub use faults::{Fault, FaultAction, Operation, Provider};
pub use hooks::{CallbackLog, Try};
pub use inbound::{Inbound, MediaFault, SentIn};
pub use ledger::{LedgerEntry, RequestLog};
pub use linq::{NewChat, Service};
pub use receipts::{Receipt, ReceiptRule, ReceiptStatus, ReceiptStep};

use state::Inner;

/// The credentials that the emulators accept. The defaults are public on purpose: nothing real answers to them.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    pub linq_token: String,
    /// The one line (sender number) of the emulated Linq account.
    pub linq_from: String,
    pub wawp_instance_id: String,
    pub wawp_access_token: String,
    /// The emulators that answer, by the names of their providers; empty: all of them.
    pub only: Vec<String>,
}

/// The connection of a gateway to one of the emulators.
#[derive(Clone, Debug)]
pub struct Door {
    /// The name of the provider, as the gateway's configuration spells it.
    pub provider: &'static str,
    /// The app in which a person sees the note.
    pub app: &'static str,
    /// A recipient whom the emulator knows.
    pub to: &'static str,
    /// The settings of the connection, `base_url` included.
    pub settings: serde_json::Value,
}

/// The names of all providers that are emulated.
pub fn providers() -> impl Iterator<Item = &'static str> {
    emulator::EMULATORS.iter().map(|emulator| emulator.name())
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            linq_token: "sandbox-linq-token".into(),
            linq_from: "+12052535597".into(),
            wawp_instance_id: "SANDBOX00001".into(),
            wawp_access_token: "sandbox-wawp-token".into(),
            only: Vec::new(),
        }
    }
}

/// One sandbox: its state is shared by all clones.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

impl Sandbox {
    /// Creates a sandbox with two Linq chats: `+15551234567` (iMessage) and `+15550001111` (RCS).
    pub fn new(options: SandboxOptions) -> Self {
        Self { inner: Arc::new(Inner::new(options)) }
    }

    /// Returns the routes without a server. Faults that close the connection need [`Sandbox::serve`]: axum's own server
    /// cannot close a connection instead of answering.
    pub fn router(&self) -> Router {
        server::router(self)
    }

    /// Serves until the future is dropped, which closes every open connection.
    pub async fn serve(self, listener: tokio::net::TcpListener) {
        server::serve(self, listener).await;
    }

    /// Lists everything that reached a phone, in order.
    pub fn ledger(&self) -> Vec<LedgerEntry> {
        self.inner.lock().ledger.iter().cloned().collect()
    }

    /// Counts the entries of the ledger.
    pub fn ledger_len(&self) -> usize {
        self.inner.lock().ledger.len()
    }

    /// Lists every request to an emulator in order of arrival. It is logged before it is read, stalled or checked.
    pub fn requests(&self) -> Vec<RequestLog> {
        self.inner.lock().requests.iter().cloned().collect()
    }

    /// Adds a fault. Faults are tried in the order in which they were added; a request meets at most one.
    pub fn add_fault(&self, fault: Fault) {
        self.inner.lock().faults.push(fault);
    }

    /// Closes connections that are idle for this long, without a request in flight since the beginning or since the
    /// last answer. `None` leaves them open.
    pub fn close_idle_after(&self, time: Option<Duration>) {
        self.inner.idle.send_replace(time);
    }

    /// Counts the accepted connections.
    pub fn connections(&self) -> u64 {
        self.inner.connections.load(Ordering::Relaxed)
    }

    /// Counts the scripted faults that no request has met yet.
    pub fn pending_faults(&self) -> usize {
        self.inner.lock().faults.iter().filter(|fault| fault.times > 0).count()
    }

    /// Removes every fault that no request has met yet.
    pub fn forget_faults(&self) {
        self.inner.lock().faults.clear();
    }

    /// Clears the ledger, requests, faults, rules, uploads and idempotency keys; chats and registered addresses stay.
    pub fn clear(&self) {
        self.inner.clear();
    }

    /// Adds a Linq chat, as if its people had written to our line before.
    pub fn add_chat(&self, chat: NewChat) -> Uuid {
        linq::add_chat(&self.inner, chat)
    }

    /// Every emulator that answers, and how a gateway reaches it where this sandbox is at `sandbox_url`.
    pub fn doors(&self, sandbox_url: &str) -> Vec<Door> {
        let base = sandbox_url.trim_end_matches('/');
        let door = |one: &&'static dyn emulator::Emulator| {
            let look = one.look();
            let settings = one.settings(self, &format!("{base}/{}", one.name()));
            Door { provider: one.name(), app: look.app, to: look.to, settings }
        };
        emulator::EMULATORS.iter().filter(|one| self.answers(one.name())).map(door).collect()
    }

    /// The settings of a server that speaks or transcribes, by its name: `openai`, `elevenlabs`.
    pub fn speech_settings(&self, sandbox_url: &str, name: &str) -> Option<serde_json::Value> {
        let base = sandbox_url.trim_end_matches('/');
        let server = emulator::SPEECH_SERVERS.iter().find(|one| one.name() == name)?;
        Some(server.settings(self, &format!("{base}/{name}")))
    }

    pub(crate) fn answers(&self, provider: &str) -> bool {
        let only = &self.inner.options.only;
        only.is_empty() || only.iter().any(|name| name == provider)
    }

    /// Returns the audio of a ledger entry.
    pub fn audio(&self, entry_id: &Uuid) -> Option<Bytes> {
        self.inner.lock().audio.get(entry_id).cloned()
    }
}
