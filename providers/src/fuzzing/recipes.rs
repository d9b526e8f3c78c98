//! Targets of the adapter that is described by a recipe.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::{
    TOKEN, WEBHOOK_SECRET, answers, bots::signature, called, hides_secrets, judged, note, now, receipts,
};
use crate::{CallbackError, Container, Memory, Provider as _, Settings, http};

fn connection(settings: Value) -> http::Http {
    let Value::Object(settings) = settings else { unreachable!("an object") };
    http::connection(Settings::new(settings)).expect("settings that suffice")
}

/// Connections with recipes of each kind of body. Their patterns take long to compile, so they are built once.
static BODIES: LazyLock<[http::Http; 3]> = LazyLock::new(|| {
    [
        json!({"recipe": "whapi", "token": TOKEN}),
        json!({"recipe": "ultramsg", "token": TOKEN, "settings": {"instance": "instance1150"}}),
        json!({"recipe": "gowa", "base_url": "http://gowa.example", "token": TOKEN, "settings": {"user": "admin"}}),
    ]
    .map(connection)
});

/// Connections whose callbacks are proved by a token and by a signature.
static PROOFS: LazyLock<[http::Http; 2]> = LazyLock::new(|| {
    [
        json!({"recipe": "whapi", "token": TOKEN, "callback_token": WEBHOOK_SECRET}),
        json!({
            "recipe": "gowa", "base_url": "http://gowa.example", "token": TOKEN, "settings": {"user": "admin"},
            "webhook_secret": WEBHOOK_SECRET,
        }),
    ]
    .map(connection)
});

pub(super) fn http_answers(data: &[u8]) {
    let note = note(Container::Ogg);
    for http in &*BODIES {
        for answer in answers(data) {
            let mut memory = Memory::default();
            judged(&answer, http.dispatched(now(), &note, &mut memory, &answer));
            hides_secrets(http.checked(now(), &answer));
        }
    }
}

/// A body with the valid proof, and bytes as a proof.
pub(super) fn http_callbacks(data: &[u8]) {
    let [by_token, by_signature] = &*PROOFS;
    let (signed, text) = (signature(data), String::from_utf8_lossy(data));
    let header = "x-hub-signature-256";
    for kind in ["application/json", "application/x-www-form-urlencoded"] {
        let kind = ("content-type", kind);
        for (http, genuine, forged) in [
            (
                by_token,
                called(&[kind], &[("token", WEBHOOK_SECRET)], data),
                called(&[kind], &[("token", &text)], b"{}"),
            ),
            (
                by_signature,
                called(&[kind, (header, &signed)], &[], data),
                called(&[kind, (header, &text)], &[], b"{}"),
            ),
        ] {
            assert_eq!(http.admits(&genuine), Ok(()));
            let read = http.callback(&genuine);
            assert!(matches!(read, Ok(_) | Err(CallbackError::Malformed)), "genuine, and refused: {read:?}");
            receipts(http, &genuine, read, WEBHOOK_SECRET);
            let tried = http.callback(&forged);
            assert!(text == WEBHOOK_SECRET || tried == Err(CallbackError::Forged), "{tried:?}");
        }
    }
}

/// The settings that a recipe with these names of further settings needs.
pub(crate) fn settings_for<'a>(names: impl Iterator<Item = &'a str>, recipe: Value) -> Settings {
    let settings: Map<String, Value> = names.map(|name| (name.to_owned(), TOKEN.into())).collect();
    let all = json!({
        "recipe": recipe, "base_url": "https://api.example.com/base", "token": TOKEN, "settings": settings,
    });
    Settings::new(all.as_object().cloned().unwrap_or_default())
}
