//! A note for unit tests.

use std::time::Duration;

use jiff::Timestamp;
use voicegate_providers::Form;

use super::{AudioSource, Note, RouteEntry};

/// A note with a route of the given number of connections.
pub fn note(connections: usize) -> Note {
    let now = start();
    let entry = |n: usize| RouteEntry {
        connection: format!("c{n}"),
        provider: "linq".to_owned(),
        to: "+15551234567".to_owned(),
        recipient_key: "+15551234567".to_owned(),
    };
    let source = AudioSource::Url {
        url: "https://e.com/a?sig=S".to_owned(),
        headers: [("a".into(), "b".into())].into(),
        is_whole: true,
    };
    let (route, expires_at) = ((0..connections).map(entry).collect(), now + Duration::from_secs(3600));
    let note = Note::new("t".to_owned(), "+15551234567".to_owned(), route, source, now, expires_at);
    Note { form: Some(Form::Voice), next_attempt_at: None, ..note }
}

/// The time at which the note was accepted.
pub fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

#[test]
fn stored_note_with_former_field_names_is_read() {
    let mut stored = serde_json::to_value(note(2)).expect("JSON");
    let fields = stored.as_object_mut().expect("an object");
    fields.insert("stop".to_owned(), 1.into());
    fields.insert("marks".to_owned(), serde_json::json!(["m1"]));
    assert!(fields.remove("position").is_some() && fields.remove("correlation_ids").is_some());
    let read: Note = serde_json::from_value(stored).expect("a note");
    assert_eq!((read.position, read.correlation_ids), (1, vec!["m1".to_owned()]));
}
