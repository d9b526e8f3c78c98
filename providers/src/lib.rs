//! The provider port and every adapter behind it.
//!
//! This crate knows how to speak to messaging providers and nothing else: it cannot see the gateway's HTTP
//! server, its database, ffmpeg or the configuration loader, because it does not depend on them.
//!
//! * [`Provider`] is the port: `prepare` (repeatable) and `dispatch` (the one visible request).
//! * [`Capabilities`] states as data what a connection can do.
//! * [`SendError`] names what happened; [`SendErrorKind::disposition`] is the one place that decides what the
//!   queue does about it.
//! * [`PROVIDERS`] lists every adapter.
//!
#![doc = include_str!("../README.md")]

mod audio;
mod callback;
mod capabilities;
pub mod dial;
mod error;
#[cfg(debug_assertions)]
#[doc(hidden)]
pub mod fuzzing;
pub mod guard;
mod note;
mod provider;
mod recipient;
mod settings;
mod signature;
#[cfg(test)]
mod test_tls;
mod unanswered;
pub mod wire;

mod linq;
mod wawp;

pub use audio::{AudioFacts, Codec, Container};
pub use callback::{
    Callback, CallbackError, CallbackRequest, Doubtful, LookUp, Receipt, ReceiptFailure, ReceiptStatus,
    Registration,
};
pub use capabilities::{Capabilities, Intake, ReplySupport};
pub use error::{Disposition, SendError, SendErrorKind, Upstream};
pub use note::{Accepted, Degrade, Form, Memory, OutboundAudio, OutboundNote};
pub use provider::{Context, Descriptor, Prepared, Provider};
pub use recipient::{JidServer, Recipient, RecipientError, masked_number, visible};
pub use settings::{BaseUrl, ConfigError, Secrets, Settings, without_values};
pub use unanswered::Unanswered;

/// Every adapter there is, in the order in which documentation lists them.
pub static PROVIDERS: &[&Descriptor] = &[&linq::DESCRIPTOR, &wawp::DESCRIPTOR];

/// The adapter that `provider = "NAME"` in the configuration means.
pub fn find(name: &str) -> Option<&'static Descriptor> {
    PROVIDERS.iter().find(|descriptor| descriptor.name == name).copied()
}

/// Providers whose ids the grammar of `to` knows, whether or not there is an adapter for them yet.
const NATIVE_IDS: &[&str] = &["linq", "telegram", "discord", "meta"];

/// Every `PROVIDER` that `PROVIDER:ID` may name in a recipient.
pub fn native_ids() -> impl Iterator<Item = &'static str> {
    let adapters = PROVIDERS.iter().map(|descriptor| descriptor.name);
    NATIVE_IDS.iter().copied().chain(adapters.filter(|name| !NATIVE_IDS.contains(name)))
}

/// Reads a recipient; `PROVIDER:` may be any provider that there is or that the grammar knows.
///
/// # Errors
/// [`RecipientError::Invalid`] where `text` fits no form.
pub fn parse_recipient(text: &str) -> Result<Recipient, RecipientError> {
    Recipient::parse(text, |name| native_ids().any(|known| known == name))
}
