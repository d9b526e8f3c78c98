//! A note for unit tests.

use std::time::Duration;

use jiff::Timestamp;
use voicegate_providers::Form;

use super::{Metadata, Note, NoteId, Source, Status, Stop};
use voicegate_audio::Hints;

/// With a route of so many connections.
pub fn note(stops: usize) -> Note {
    let now = start();
    let stop = |n: usize| Stop {
        connection: format!("c{n}"),
        provider: "linq".to_owned(),
        to: "+15551234567".to_owned(),
        recipient_key: "+15551234567".to_owned(),
    };
    Note {
        id: NoteId::new(),
        tenant: "t".to_owned(),
        status: Status::Queued,
        to: "+15551234567".to_owned(),
        route: (0..stops).map(stop).collect(),
        stop: 0,
        source: Source::Url {
            url: "https://e.com/a?sig=S".to_owned(),
            headers: [("a".into(), "b".into())].into(),
        },
        hints: Hints::default(),
        convert: None,
        reply_to: None,
        text: None,
        metadata: Metadata::default(),
        expires_at: now + Duration::from_secs(3600),
        probed: None,
        sent: None,
        form: Some(Form::Voice),
        provider_message_id: None,
        memory: None,
        attempts: Vec::new(),
        warnings: Vec::new(),
        error: None,
        next_attempt_at: None,
        created_at: now,
        updated_at: now,
        accepted_at: None,
        sent_at: None,
        delivered_at: None,
        read_at: None,
        played_at: None,
        stalled: false,
        dispatched_at: None,
        marks: Vec::new(),
        send_at: None,
        request_id: None,
        resend_of: None,
        audio_expired: false,
        erased: false,
    }
}

/// When it was accepted.
pub fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}
