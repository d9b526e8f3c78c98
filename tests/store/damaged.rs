//! Tests of unreadable rows, which block no others and can be removed. They run for every store.

use serde_json::json;
use voicegate::{
    model::{
        event::EventKind,
        note::{Note, NoteId, Status},
    },
    store::{
        Acceptance, Change, Job, KeyClaim, KeyHolder, Learned, NewNote, NoteQuery, ReceiptBatch,
        ReceiptOutcome, ReceivedReceipt, Stall, Step, StoreError,
    },
};
use voicegate_providers::{Receipt, ReceiptStatus};

use crate::{
    events::{events, kinds},
    lists::{upload, wanted},
    raw::Raw,
    support::{Any, accept, after, claim, horizon, ids, new_note, retry, start, write},
};

/// Examples of damaged documents.
const DOCS: [&str; 5] = ["", "{}", "null", "{\"id\":", "[[[["];

/// Builds the erased form of an unreadable note.
fn left_of(id: NoteId) -> Note {
    let mut left = new_note("t", "c", "r", start()).note.erased();
    (left.id, left.status, left.audio_expired) = (id, Status::Failed, true);
    left
}

fn is_corrupt<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Corrupt(_)))
}

pub async fn unreadable_note_does_not_block_its_lane(store: Any, raw: Raw) {
    let mut broken = Vec::new();
    for doc in DOCS {
        broken.push(accept(&store, "c", "r").await);
        raw.damage(broken[broken.len() - 1], doc).await;
    }
    // Its document says that it has no connection at all.
    let routeless = accept(&store, "c", "r").await;
    let route = "UPDATE notes SET doc = replace(doc, '\"route\":[{', $2) WHERE id = $1";
    raw.change(route, &routeless.to_string(), "\"route\":[],\"was\":[{").await;
    let sound = accept(&store, "c", "r").await;
    if let Raw::Sqlite(_) = raw {
        let bytes = "UPDATE notes SET doc = CAST(x'7bff7d' AS TEXT) WHERE id = $1 AND $2 = $2";
        raw.change(bytes, &broken[0].to_string(), "").await;
    }
    assert_eq!(store.queue_depth().await.expect("a number"), 7);
    // Each claim sets the head of the lane aside.
    let mut claimed = Vec::new();
    for _ in 0..9 {
        claimed.extend(claim(&store, start()).await);
    }
    assert_eq!(ids(&claimed), [sound], "the lane goes on behind them");
    assert_eq!(store.queue_depth().await.expect("a number"), 1);
    let bounded = NewNote { max_queue: 2, max_queue_per_tenant: 2, ..new_note("t", "c", "s", start()) };
    assert_eq!(store.accept(&bounded).await.expect("answered"), Acceptance::Created);
    let states = store.queue_state(start()).await.expect("counted");
    let unreadable = states.iter().find(|group| group.state == "unreadable").map(|group| group.count);
    assert_eq!(unreadable, Some(6), "the operator sees them");
    // The notes are finally removed like others.
    for id in broken {
        store.audio_removed(id).await.expect("removed, although it cannot be noted down");
        assert!(store.has_note(id).await.expect("asked"));
    }
    assert_eq!(store.notes_with_old_audio(after(1), 9).await.expect("a list"), [routeless]);
    assert_eq!(store.forget(&horizon(after(1))).await.expect("forgotten"), 5);
    assert_eq!(store.queue_depth().await.expect("a number"), 2);
}

pub async fn list_continues_after_an_unreadable_note(store: Any, raw: Raw) {
    let mut notes = Vec::new();
    for number in 0..6 {
        notes.insert(0, accept(&store, "c", &number.to_string()).await);
    }
    for id in [notes[0], notes[2], notes[3]] {
        raw.damage(id, "{}").await;
    }
    let mut seen = Vec::new();
    let mut before = None;
    for _ in 0..3 {
        let page = store.notes(&NoteQuery { before, limit: 2, ..wanted("t") }).await.expect("a page");
        seen.push(page.notes.iter().map(|note| note.id).collect::<Vec<_>>());
        before = page.next;
    }
    assert_eq!(seen, [vec![notes[1]], vec![], vec![notes[4], notes[5]]]);
    assert_eq!(before, None);
    assert!(is_corrupt(store.note(notes[0], Some("t")).await));
    assert_eq!(store.note(notes[0], Some("u")).await.expect("read"), None, "that is nobody else's to know");
}

pub async fn unreadable_note_can_be_erased(store: Any, raw: Raw) {
    let scheduled =
        NewNote { source: Some(bytes::Bytes::from(vec![7; 99]).into()), ..new_note("t", "c", "r", start()) };
    store.accept(&scheduled).await.expect("accepted");
    let next = accept(&store, "c", "r").await;
    let id = scheduled.note.id;
    raw.damage(id, "{}").await;
    assert_eq!(store.columns(id, "u").await.expect("read"), None);
    let columns = store.columns(id, "t").await.expect("read").expect("a row");
    assert_eq!((columns.status, columns.created_at), (Status::Queued, start()));
    assert_eq!(columns.via.as_deref(), Some("c"));
    assert!(store.erase_unreadable(&left_of(id)).await.expect("erased"), "it never got as far as a claim");
    assert_eq!(store.note(id, Some("t")).await.expect("read"), Some(left_of(id)));
    assert_eq!(store.source(id).await.expect("read"), None);
    assert_eq!(store.queue_depth().await.expect("a number"), 1);
    let claimed = claim(&store, start()).await;
    assert_eq!(ids(&claimed), [next], "the next one in its lane");
    // The worker of a note in flight writes a readable document.
    raw.damage(next, "{}").await;
    assert!(!store.erase_unreadable(&left_of(next)).await.expect("asked"));
    assert!(is_corrupt(store.note(next, None).await), "nothing was changed");
    write(&store, &claimed[0], retry(after(5))).await.expect("written");
    assert!(store.note(next, None).await.expect("read").is_some());
}

pub async fn receipts_and_jobs_of_an_unreadable_note_block_no_others(store: Any, raw: Raw) {
    let key = KeyClaim { key: "k".into(), fingerprint: "f".into(), expires_at: after(600) };
    let new = NewNote { idempotency: Some(key), ..new_note("t", "c", "r", start()) };
    store.accept(&new).await.expect("accepted");
    let claimed = claim(&store, start()).await.remove(0);
    let mut note = claimed.note.clone();
    (note.status, note.provider_message_id) = (Status::Accepted, Some("m".to_owned()));
    let change = Change { deadline: Some(after(60)), ..Change::new(note, Step::Done) };
    store.write(&claimed, &change).await.expect("written");
    let deadline = claim(&store, after(60)).await.remove(0);
    raw.damage(new.note.id, "{}").await;
    let holder = KeyHolder { fingerprint: "f".into(), note: new.note.id };
    assert_eq!(store.idempotency("t", "k", start()).await.expect("read"), Some(holder));
    let receipt = |message: &str| Receipt {
        message_id: message.to_owned(),
        correlation_id: None,
        guess: None,
        status: ReceiptStatus::Delivered,
        at: after(1),
        failure: None,
        trace: None,
    };
    let received = ReceiptBatch {
        tenant: "t".to_owned(),
        connection: "c".to_owned(),
        receipts: vec![ReceivedReceipt { id: "once".to_owned(), receipt: receipt("m") }],
        voices: Vec::new(),
        now: after(2),
        notify: false,
    };
    let reception = store.receive(&received).await.expect("the provider need not call again");
    assert_eq!(reception, ReceiptOutcome { unmatched: 1, ..ReceiptOutcome::default() });
    let stall = Stall { now: after(61), notify: false, why: "no receipt".to_owned() };
    assert!(!store.stall(&deadline, &stall).await.expect("done"));
    assert_eq!(store.notes_with_old_audio(after(100), 9).await.expect("a list"), [new.note.id]);
    store.audio_removed(new.note.id).await.expect("removed");
    assert_eq!(store.forget(&horizon(after(700))).await.expect("forgotten"), 1);
}

pub async fn unreadable_event_is_skipped(store: Any, raw: Raw) {
    for recipient in ["1", "2", "3"] {
        accept(&store, "c", recipient).await;
    }
    for send in &claim(&store, start()).await {
        let mut note = send.note.clone();
        note.status = Status::Failed;
        let change = Change { notify: true, ..Change::new(note, Step::Done) };
        store.write(send, &change).await.expect("written");
    }
    let all = events(&store, None, None).await;
    raw.change("UPDATE events SET doc = $2 WHERE id = $1", &all[0].id.to_string(), "{}").await;
    raw.change("UPDATE events SET kind = $2 WHERE id = $1", &all[1].id.to_string(), "voice.lost").await;
    assert_eq!(events(&store, None, None).await, all[2..]);
    assert_eq!(events(&store, None, Some(&all[0].position)).await, all[2..]);
    let wanted = voicegate::store::EventQuery { tenant: "t", note: None, after: None, limit: 1 };
    assert_eq!(store.events(&wanted).await.expect("events"), all[2..], "however short the pages are");
    let mut told = Vec::new();
    for _ in 0..3 {
        told.extend(claim(&store, after(1)).await);
    }
    assert_eq!(ids(&told), [all[2].subject.id().note().expect("a note")], "its bot is told of the others");
    assert_eq!(kinds(&all), [EventKind::Failed; 3]);
    assert!(matches!(told[0].job, Job::Webhook(_)));
}

pub async fn unreadable_learned_facts_are_learned_again(store: Any, raw: Raw) {
    accept(&store, "c", "r").await;
    let first = claim(&store, start()).await.remove(0);
    let lane = first.note.lane();
    let learned = Learned::Set { lane: lane.clone(), value: json!("chat"), expires_at: after(600) };
    let change = Change { learned, ..Change::new(first.note.clone(), retry(start())) };
    store.write(&first, &change).await.expect("written");
    raw.change("UPDATE learned SET value = $2 WHERE lane = $1", &lane, "{").await;
    let again = claim(&store, start()).await;
    assert_eq!((ids(&again), again[0].learned.as_ref()), (vec![first.note.id], None));
}

pub async fn unreadable_upload_can_be_removed(store: Any, raw: Raw) {
    let upload = upload("t", after(10));
    store.add_upload(&upload).await.expect("added");
    raw.change("UPDATE uploads SET doc = $2 WHERE id = $1", &upload.id.to_string(), "{}").await;
    assert!(is_corrupt(store.upload(upload.id, "t").await));
    assert!(store.has_upload(upload.id, Some("t")).await.expect("asked"));
    assert!(!store.has_upload(upload.id, Some("u")).await.expect("asked"));
    assert_eq!(store.expired_uploads(after(10), 9).await.expect("a list"), [upload.id]);
    store.remove_upload(upload.id).await.expect("removed");
    assert!(!store.has_upload(upload.id, None).await.expect("asked"));
}
