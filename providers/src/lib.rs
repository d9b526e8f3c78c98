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
pub mod signature;
#[cfg(test)]
mod test_tls;
mod unanswered;
pub mod whatsapp_web;
pub mod wire;

mod evolution;
mod linq;
mod telegram;
mod waha;
mod wawp;

pub use audio::{AudioFacts, Codec, Container};
pub use callback::{
    Callback, CallbackError, CallbackRequest, Fetched, InboundVoice, LookUp, MediaRef, ProviderEvent,
    Receipt, ReceiptFailure, ReceiptStatus, Registration, UnknownSend, What,
};
pub use capabilities::{Capabilities, FormSupport, Idempotency, Intake, ReplySupport};
pub use error::{Disposition, SendError, SendErrorKind, Upstream};
pub use note::{
    Accepted, Content, Degrade, Form, MediaHandle, Memory, OutboundAudio, OutboundNote, Scope, SendWarning,
};
pub use provider::{Callbacks, Context, Descriptor, NativeId, Prepared, Proof, Provider, USUAL_CALLBACK};
pub use recipient::{JidServer, Recipient, RecipientError, masked_number, visible};
pub use settings::{BaseUrl, ConfigError, Secrets, Settings, without_values};
pub use unanswered::Unanswered;

/// Every adapter there is, in the order in which documentation lists them.
pub static PROVIDERS: &[&Descriptor] =
    &[&linq::DESCRIPTOR, &wawp::DESCRIPTOR, &waha::DESCRIPTOR, &evolution::DESCRIPTOR, &telegram::DESCRIPTOR];

/// The adapter that `provider = "NAME"` in the configuration means.
pub fn find(name: &str) -> Option<&'static Descriptor> {
    PROVIDERS.iter().find(|descriptor| descriptor.name == name).copied()
}

/// Every form of a provider's own ids that `to` takes: those of the adapters, and those that are reserved for adapters
/// to come.
pub fn native_ids() -> impl Iterator<Item = &'static NativeId> {
    PROVIDERS.iter().filter_map(|descriptor| descriptor.native_id.as_ref()).chain(RESERVED)
}

/// Ids whose adapters are not there yet. A tenant may name them in aliases before.
static RESERVED: &[NativeId] = &[
    NativeId {
        prefix: "discord",
        bare: false,
        pattern: "(?:user:)?[0-9]{5,20}",
        meaning: "a channel's number, or user: and a person's number",
        canonical: |id| {
            let number = id.strip_prefix("user:").unwrap_or(id);
            let sound = (5..=20).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
            sound.then(|| id.to_owned())
        },
        valid: &["1234567890123456789", "user:1234567890123456789"],
        invalid: &["", "user:", "general", "12 34567"],
    },
    NativeId {
        prefix: "meta",
        bare: false,
        pattern: "[A-Za-z0-9._-]{1,128}",
        meaning: "a business-scoped user id",
        canonical: |id| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            ((1..=128).contains(&id.len()) && id.chars().all(plain)).then(|| id.to_owned())
        },
        valid: &["US.13491208655302741918"],
        invalid: &["", "a b", "a/b"],
    },
];

/// Reads a recipient; `PREFIX:` may be any of [`native_ids`].
///
/// # Errors
/// [`RecipientError::Invalid`] where `text` fits no form.
pub fn parse_recipient(text: &str) -> Result<Recipient, RecipientError> {
    Recipient::parse(text, native_ids)
}
