//! The capabilities that follow from a recipe.

use std::sync::{Mutex, PoisonError};

use super::{
    recipe::{AudioAs, Kind, Recipe, Sending},
    template::Name,
};
use crate::{Capabilities, Form, FormSupport, Idempotency, Intake, ReceiptStatus, ReplySupport};

/// Largest file in bytes, where the recipe names no other.
const MAX_BYTES: u64 = 16_000_000;

/// Without receipts, which need a secret of the connection's.
pub(super) fn capabilities(recipe: &Recipe, kinds: &[Kind]) -> Capabilities {
    let replies = Form::LADDER
        .iter()
        .filter_map(|form| recipe.sending(*form))
        .any(|sending| sending.uses(&Name::ReplyTo));
    Capabilities {
        forms: Form::LADDER.into_iter().filter_map(|form| support(recipe, form)).collect(),
        // A recipe may name any profile.
        profile_family: "",
        provider_converts: None,
        reply: if replies { ReplySupport::MessageId } else { ReplySupport::None },
        idempotency: recipe.repeatable.map(|span| Idempotency { window: span.0 }),
        look_up: false,
        receipts: Vec::new(),
        inbound: false,
        listens: false,
        presence: None,
        media_reuse: recipe.upload.as_ref().is_some_and(|upload| upload.valid_for.is_some()),
        recipients: interned(kinds),
    }
}

fn support(recipe: &Recipe, form: Form) -> Option<FormSupport> {
    let sending = recipe.sending(form)?;
    if form == Form::Text {
        return Some(FormSupport::text(recipe.max_text));
    }
    let intake = if links(recipe, &sending) { Intake::Url } else { Intake::Upload };
    let max_bytes = recipe.max_bytes.get(&form).copied().unwrap_or(MAX_BYTES);
    let support = FormSupport::audio(form, recipe.forms.get(&form)?, intake, max_bytes);
    Some(if sending.fields.uses(&Name::Caption) { support.with_caption(recipe.max_caption) } else { support })
}

/// Whether the provider downloads the audio.
fn links(recipe: &Recipe, sending: &Sending<'_>) -> bool {
    let direct = sending.audio.filter(|_| sending.fields.uses(&Name::Audio));
    let upload = recipe.upload.as_ref().filter(|_| sending.uses(&Name::Media));
    direct.into_iter().chain(upload.map(|upload| upload.audio)).any(|way| way == AudioAs::Link)
}

/// Returns each status of the recipe's table once, in the order in which a message has them.
pub(super) fn receipts(recipe: &Recipe) -> Vec<ReceiptStatus> {
    use ReceiptStatus::{Accepted, Delivered, Failed, Played, Read, Sent};

    let Some(callback) = &recipe.callback else { return Vec::new() };
    let known = |status: &ReceiptStatus| callback.statuses.values().any(|one| one == status);
    [Accepted, Sent, Delivered, Read, Played, Failed].into_iter().filter(known).collect()
}

/// Returns a list that lives as long as the process. There are as many as there are sets of kinds, however often the
/// configuration is read again.
pub(super) fn interned(kinds: &[Kind]) -> &'static [&'static str] {
    static LISTS: Mutex<Vec<&'static [&'static str]>> = Mutex::new(Vec::new());
    let mut names: Vec<&'static str> = Vec::new();
    for kind in kinds {
        if !names.contains(&kind.name()) {
            names.push(kind.name());
        }
    }
    names.sort_unstable();
    let mut lists = LISTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = lists.iter().find(|known| **known == names.as_slice()) {
        return known;
    }
    let made: &'static [&'static str] = names.leak();
    lists.push(made);
    made
}
