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
mod inbound;
mod note;
mod presence;
mod provider;
pub mod proxy;
mod recipient;
mod settings;
pub mod signature;
pub mod speech;
#[cfg(test)]
mod test_tls;
pub mod trust;
mod unanswered;
pub mod whatsapp_web;
pub mod wire;

mod discord;
mod evolution;
mod http;
mod linq;
mod telegram;
mod waha;
mod wawp;
mod whatsapp_cloud;

pub use self::http::preview as preview_recipe;
pub use audio::{AudioFacts, Codec, Container};
pub use callback::{
    Callback, CallbackError, CallbackRequest, Fetched, InboundVoice, LookUp, MediaRef, ProviderEvent,
    Receipt, ReceiptFailure, ReceiptStatus, Registration, UnknownSend, What,
};
pub use capabilities::{Capabilities, FormSupport, Idempotency, Intake, ReplySupport};
pub use error::{Disposition, SendError, SendErrorKind, Stage, Upstream};
pub use note::{
    Accepted, Content, Degrade, Form, MediaHandle, Memory, OutboundAudio, OutboundNote, Scope, SendWarning,
};
pub use presence::Presence;
pub use provider::{Callbacks, Context, Descriptor, NativeId, Prepared, Proof, Provider, USUAL_CALLBACK};
pub use recipient::{JidServer, Recipient, RecipientError, masked_number, visible};
pub use settings::{BaseUrl, ConfigError, Secrets, Settings, without_values};
pub(crate) use settings::{require_text, secret_header};
pub use unanswered::Unanswered;

/// Every adapter there is, in the order in which documentation lists them.
pub static PROVIDERS: &[&Descriptor] = &[
    &linq::DESCRIPTOR,
    &wawp::DESCRIPTOR,
    &waha::DESCRIPTOR,
    &evolution::DESCRIPTOR,
    &whatsapp_cloud::DESCRIPTOR,
    &telegram::DESCRIPTOR,
    &discord::DESCRIPTOR,
    &http::DESCRIPTOR,
];

/// The adapter that `provider = "NAME"` in the configuration means.
pub fn find(name: &str) -> Option<&'static Descriptor> {
    PROVIDERS.iter().find(|descriptor| descriptor.name == name).copied()
}

/// Every form of a provider's own ids that `to` takes.
pub fn native_ids() -> impl Iterator<Item = &'static NativeId> {
    PROVIDERS.iter().filter_map(|descriptor| descriptor.native_id.as_ref())
}

/// Reads a recipient; `PREFIX:` may be any of [`native_ids`].
///
/// # Errors
/// [`RecipientError::Invalid`] where `text` fits no form.
pub fn parse_recipient(text: &str) -> Result<Recipient, RecipientError> {
    Recipient::parse(text, native_ids)
}
