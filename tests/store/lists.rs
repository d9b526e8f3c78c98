//! Tests of lists and retention, run for every store.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use voicegate::{
    model::{
        id::UploadId,
        note::{NoteId, Status},
        upload::Upload,
    },
    store::{Change, Health, Learned, NewNote, NoteQuery, QueueGroup, Step},
};
use voicegate_audio::{Findings, Hints, Probed, SourceDetail};
use voicegate_providers::{AudioFacts, Codec, Container};

use crate::raw::Raw;
use crate::support::{Any, accept, after, claim, horizon, new_note, retry, start, write};

pub fn wanted(tenant: &str) -> NoteQuery<'_> {
    NoteQuery { tenant, status: None, to: None, via: None, before: None, limit: 100 }
}

pub async fn list_shows_one_tenant_newest_first_and_filtered(store: Any) {
    let mut notes = Vec::new();
    for (tenant, connection, recipient) in
        [("t", "c", "r"), ("t", "d", "r"), ("t", "c", "s"), ("u", "c", "r")]
    {
        let new = new_note(tenant, connection, recipient, start());
        store.accept(&new).await.expect("accepted");
        notes.push(new.note.id);
    }
    let [first, second, third, foreign] = notes[..] else { unreachable!("four were made") };
    let list = async |wanted: NoteQuery<'_>| -> Vec<NoteId> {
        store.notes(&wanted).await.expect("a list").notes.iter().map(|note| note.id).collect()
    };
    assert_eq!(list(wanted("t")).await, [third, second, first]);
    assert_eq!(list(wanted("u")).await, [foreign]);
    assert_eq!(list(wanted("nobody")).await, []);
    assert_eq!(list(NoteQuery { limit: 2, ..wanted("t") }).await, [third, second]);
    assert_eq!(list(NoteQuery { before: Some(second), ..wanted("t") }).await, [first]);
    assert_eq!(list(NoteQuery { to: Some("r"), ..wanted("t") }).await, [second, first]);
    assert_eq!(list(NoteQuery { via: Some("c"), ..wanted("t") }).await, [third, first]);
    assert_eq!(list(NoteQuery { status: Some(Status::Accepted), ..wanted("t") }).await, []);

    // Filters match the final status and the final connection of a note.
    let mut claim = claim(&store, start()).await.swap_remove(0);
    assert_eq!(claim.note.id, first);
    (claim.note.status, claim.note.position) = (Status::Accepted, 1);
    write(&store, &claim, Step::Done).await.expect("written");
    assert_eq!(list(NoteQuery { status: Some(Status::Accepted), ..wanted("t") }).await, [first]);
    assert_eq!(list(NoteQuery { via: Some("next"), ..wanted("t") }).await, [first]);
    assert_eq!(list(NoteQuery { via: Some("c"), to: Some("r"), ..wanted("t") }).await, []);
}

pub async fn source_is_stored_beside_its_note_and_removed_with_its_audio(store: Any) {
    let audio = Bytes::from(vec![7; 30_000]);
    let mut notes = Vec::new();
    for recipient in ["erased", "old", "kept"] {
        let new = NewNote { source: Some(audio.clone().into()), ..new_note("t", "c", recipient, start()) };
        store.accept(&new).await.expect("accepted");
        notes.push(new.note.id);
    }
    let without = accept(&store, "d", "r").await;
    assert_eq!(store.source(without).await.expect("read"), None);
    for leased in claim(&store, start()).await {
        write(&store, &leased, Step::Done).await.expect("written");
    }
    let [erased, old, kept] = notes[..] else { unreachable!("three were made") };
    assert_eq!(store.source(erased).await.expect("read"), Some(audio.clone()));
    let note = store.note(erased, None).await.expect("read").expect("a note");
    assert!(store.erase(&note.erased(), &[]).await.expect("asked"));
    assert_eq!(store.source(erased).await.expect("read"), None);
    store.audio_removed(old).await.expect("removed");
    assert_eq!(store.source(old).await.expect("read"), None);
    assert_eq!(store.source(kept).await.expect("read"), Some(audio));
}

pub async fn note_that_is_due_sooner_is_sent_first(store: Any) {
    let mut later = new_note("t", "c", "r", start());
    later.note.send_at = Some(after(100));
    store.accept(&later).await.expect("accepted");
    let sooner = accept(&store, "c", "r").await;
    let last = accept(&store, "c", "r").await;
    for (now, id) in [(start(), sooner), (start(), last), (after(100), later.note.id)] {
        let claims = claim(&store, now).await;
        assert_eq!(claims.iter().map(|claim| claim.note.id).collect::<Vec<_>>(), [id]);
        write(&store, &claims[0], Step::Done).await.expect("written");
    }
}

pub async fn only_a_finished_note_is_erased(store: Any) {
    accept(&store, "c", "r").await;
    let mut claim = claim(&store, start()).await.swap_remove(0);
    let learned = Learned::Set { lane: claim.note.lane(), value: json!("chat"), expires_at: after(1000) };
    let lanes = claim.note.lanes();
    let erased = || claim.note.clone().erased();
    assert!(!store.erase(&erased(), &lanes).await.expect("asked"), "it is under way");
    claim.note.status = Status::Unknown;
    let change = Change { learned, ..Change::new(claim.note.clone(), Step::Hold { until: after(30) }) };
    store.write(&claim, &change).await.expect("written");
    let erased = || claim.note.clone().erased();
    assert!(!store.erase(&erased(), &lanes).await.expect("asked"), "it is held");
    assert_eq!(store.note(claim.note.id, None).await.expect("read").expect("a note").to, "r");

    claim_nothing(&store, after(30)).await; // lets go of the lane
    assert!(store.erase(&erased(), &lanes).await.expect("asked"));
    assert!(store.erase(&erased(), &[]).await.expect("asked"), "twice is harmless");
    let left = store.note(claim.note.id, None).await.expect("read").expect("a note");
    assert!(left.erased && left.to.is_empty() && left.text.is_none() && left.metadata.is_empty());
    assert!(store.notes(&NoteQuery { to: Some("r"), ..wanted("t") }).await.expect("a list").notes.is_empty());
    accept(&store, "c", "r").await;
    let next = crate::support::claim(&store, after(31)).await.swap_remove(0);
    assert_eq!(next.learned, None, "what was learned of the recipient went with the note");
}

async fn claim_nothing(store: &Any, now: Timestamp) {
    assert!(claim(store, now).await.is_empty());
}

pub async fn connection_health_is_recorded(store: Any) {
    assert_eq!(store.connections("t").await.expect("a list"), []);
    let expect = async |failure: Option<&str>, paused: Option<Timestamp>| {
        let states = store.connections("t").await.expect("a list");
        let [state] = &states[..] else { panic!("{states:?}") };
        assert_eq!((state.connection.as_str(), state.failure.as_deref()), ("c", failure));
        assert_eq!(state.paused_until, paused);
        assert!(state.seen_at.is_some());
    };
    let say = async |health: Health, step: Step, now: Timestamp| {
        let claim = claim(&store, now).await.swap_remove(0);
        let health = Some(("t/c".to_owned(), health));
        let change = Change { health, ..Change::new(claim.note.clone(), step) };
        store.write(&claim, &change).await.expect("written");
    };
    accept(&store, "c", "r").await;
    say(Health::Fails("no answer".to_owned()), retry(after(1)), start()).await;
    expect(Some("no answer"), None).await;
    say(Health::Works, Step::Retry { at: after(2), pause_connection_until: Some(after(60)) }, after(1)).await;
    expect(None, Some(after(60))).await;
    // A tenant whose name has the same beginning is another tenant.
    assert_eq!(store.connections("").await.expect("a list"), []);
    assert_eq!(store.connections("_").await.expect("a list"), []);
}

pub fn upload(tenant: &str, expires_at: Timestamp) -> Upload {
    let facts = AudioFacts {
        container: Container::Mp3,
        codec: Codec("mp3".to_owned()),
        mime_type: "audio/mpeg".to_owned(),
        duration_ms: 1000,
        size_bytes: 4000,
        sample_rate: 24_000,
        channels: 1,
        sha256: "00".repeat(32),
    };
    let probed = Probed {
        facts,
        waveform: vec![0; 64],
        detail: SourceDetail::default(),
        findings: Findings::default(),
    };
    Upload {
        id: UploadId::new(),
        tenant: tenant.to_owned(),
        probed,
        hints: Hints::default(),
        created_at: start(),
        expires_at,
    }
}

pub async fn upload_belongs_to_its_tenant_until_it_is_removed(store: Any) {
    let (soon, late) = (upload("t", after(10)), upload("t", after(20)));
    for upload in [&soon, &late] {
        store.add_upload(upload).await.expect("added");
    }
    assert_eq!(store.upload(soon.id, "t").await.expect("read"), Some(soon.clone()));
    assert_eq!(store.upload(soon.id, "u").await.expect("read"), None);
    assert_eq!(store.expired_uploads(after(9), 10).await.expect("a list"), []);
    assert_eq!(store.expired_uploads(after(10), 10).await.expect("a list"), [soon.id]);
    assert_eq!(store.expired_uploads(after(20), 1).await.expect("a list"), [soon.id]);
    store.upload_audio_removed(soon.id).await.expect("recorded");
    assert_eq!(store.expired_uploads(after(20), 10).await.expect("a list"), [late.id]);
    // The upload is still known without its audio, until notes of its age are removed.
    assert_eq!(store.upload(soon.id, "t").await.expect("read"), Some(soon.clone()));
    store.forget(&horizon(after(30))).await.expect("forgotten");
    assert!(!store.has_upload(soon.id, None).await.expect("asked"));
    assert!(store.has_upload(late.id, None).await.expect("asked"), "it still has its audio");
    store.remove_upload(late.id).await.expect("removed");
    assert!(!store.has_upload(late.id, None).await.expect("asked"));
    store.remove_upload(late.id).await.expect("twice is harmless");
}

pub async fn unfinished_deliveries_are_counted_by_connection_and_state(store: Any) {
    assert_eq!(store.queue_state(start()).await.expect("counted"), []);
    for (connection, recipient) in [("c", "sent"), ("c", "held"), ("c", "done"), ("d", "leased")] {
        accept(&store, connection, recipient).await;
    }
    let claims = claim(&store, start()).await;
    for (claim, step) in claims.iter().zip([Step::Dispatching, Step::Hold { until: after(600) }, Step::Done])
    {
        write(&store, claim, step).await.expect("written");
    }
    for due in [after(5), after(3), after(900)] {
        let mut new = new_note("t", "c", &due.to_string(), start());
        new.note.send_at = Some(due);
        store.accept(&new).await.expect("accepted");
    }
    let mut groups = store.queue_state(after(10)).await.expect("counted");
    groups.sort_by(|a, b| (&a.connection, &a.state).cmp(&(&b.connection, &b.state)));
    let group = |connection: &str, state: &str, count, since| QueueGroup {
        connection: connection.to_owned(),
        state: state.to_owned(),
        count,
        since,
    };
    let expected = [
        group("t/c", "held", 1, start()),
        group("t/c", "queued", 2, after(3)),
        group("t/c", "scheduled", 1, after(900)),
        group("t/c", "sending", 1, start()),
        group("t/d", "leased", 1, start()),
    ];
    assert_eq!(groups, expected);
}

/// A person looks for one recipient. The search reads a few rows, however many notes there are.
pub async fn recipient_is_found_among_100_000_notes(store: Any, raw: Raw) {
    let mut new = new_note("t", "c", "+15550000000", start());
    new.note.status = Status::Canceled;
    store.accept(&new).await.expect("accepted");
    raw.multiply(new.note.id, 100_000).await;
    let begun = std::time::Instant::now();
    for number in [1, 4711, 100_000] {
        let to = format!("+1555{number:07}");
        let page = store.notes(&NoteQuery { to: Some(&to), ..wanted("t") }).await.expect("a list");
        let found: Vec<&str> = page.notes.iter().map(|note| note.to.as_str()).collect();
        assert_eq!((found, page.next), (vec![to.as_str()], None));
    }
    let nobody = store.notes(&NoteQuery { to: Some("+15559999999"), ..wanted("t") }).await.expect("a list");
    assert!(nobody.notes.is_empty());
    let first =
        store.notes(&NoteQuery { status: Some(Status::Canceled), ..wanted("t") }).await.expect("a list");
    assert_eq!((first.notes.len(), first.next.is_some()), (100, true));
    // Each takes less than a millisecond; reading all notes would take longer than this.
    assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{:?}", begun.elapsed());
}
