//! Limits, forms and capabilities that connections of these gateways have in common.
//!
//! None of them publishes limits. Those of WhatsApp hold:
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/audio-messages>

use super::RECEIPTS;
use crate::{Capabilities, Form, FormSupport, Intake, ReplySupport, Secrets};

/// Largest audio file on WhatsApp, in bytes.
const MAX_BYTES: u64 = 16_000_000;

/// For how long a phone shows that somebody is recording, in seconds, unless it is told again.
pub(crate) const PRESENCE: u32 = 10;

/// Longest text and longest caption on WhatsApp, in characters.
const MAX_TEXT: usize = 4096;
const MAX_CAPTION: usize = 1024;

pub(crate) fn voice(intake: Intake) -> FormSupport {
    FormSupport::audio(Form::Voice, "whatsapp-1", intake, MAX_BYTES)
}

pub(crate) fn audio(intake: Intake) -> FormSupport {
    FormSupport::audio(Form::Audio, "m4a-1", intake, MAX_BYTES)
}

pub(crate) fn file(intake: Intake) -> FormSupport {
    FormSupport::audio(Form::File, "m4a-1", intake, MAX_BYTES).with_caption(MAX_CAPTION)
}

pub(crate) fn text() -> FormSupport {
    FormSupport::text(MAX_TEXT)
}

/// The capabilities of a connection. `proofs` are the secrets without which no callback is believed.
pub(crate) fn capabilities(
    forms: Vec<FormSupport>,
    reply: ReplySupport,
    recipients: &'static [&'static str],
    proofs: &Secrets,
) -> Capabilities {
    Capabilities {
        forms,
        profile_family: "whatsapp-",
        provider_converts: Some("mp3-1"),
        reply,
        idempotency: None,
        look_up: false,
        receipts: proofs.first().map_or_else(Vec::new, |_| RECEIPTS.to_vec()),
        inbound: proofs.first().is_some(),
        listens: false,
        presence: None,
        media_reuse: false,
        recipients,
    }
}
