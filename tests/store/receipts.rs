//! Tests of receipts, run for every store.

use jiff::Timestamp;
use voicegate::{
    model::{
        event::EventKind,
        note::{Note, NoteId, Status},
    },
    store::{Change, Claim, Job, JobEnd, ReceiptBatch, ReceiptOutcome, ReceivedReceipt, Stall, Step, Stored},
};
use voicegate_providers::{Receipt, ReceiptStatus};

use crate::{
    events::{events, kinds},
    support::{Any, accept, after, claim, retry, start, write},
};

fn receipt(message: &str, status: ReceiptStatus) -> Receipt {
    let (correlation_id, failure, trace) = (None, None, None);
    Receipt {
        message_id: message.to_owned(),
        correlation_id,
        guess: None,
        status,
        at: after(3),
        failure,
        trace,
    }
}

fn callback(id: &str, connection: &str, receipts: Vec<Receipt>) -> ReceiptBatch {
    ReceiptBatch {
        tenant: "t".to_owned(),
        connection: connection.to_owned(),
        // Events of one callback have ids of their own.
        receipts: receipts
            .into_iter()
            .enumerate()
            .map(|(n, receipt)| ReceivedReceipt { id: format!("{id} {n}"), receipt })
            .collect(),
        voices: Vec::new(),
        now: after(4),
        notify: false,
    }
}

async fn receive(store: &Any, id: &str, receipt: Receipt) -> ReceiptOutcome {
    store.receive(&callback(id, "a", vec![receipt])).await.expect("received")
}

async fn read(store: &Any, id: NoteId) -> Note {
    store.note(id, None).await.expect("an answer").expect("the note")
}

/// Accepts a leased note at the provider with this message id.
async fn taken(store: &Any, claim: &Claim, message: &str) -> Stored {
    let mut note = claim.note.clone();
    (note.status, note.updated_at) = (Status::Accepted, after(2));
    note.provider_message_id = Some(message.to_owned());
    store.write(claim, &Change::new(note, Step::Done)).await.expect("written")
}

/// Moves a leased note to its dispatch, with this correlation id.
async fn dispatching(store: &Any, now: Timestamp, correlation_id: &str) -> Claim {
    let mut claim = claim(store, now).await.remove(0);
    claim.note.status = Status::Sending;
    claim.note.correlation_ids = vec![correlation_id.to_owned()];
    write(store, &claim, Step::Dispatching).await.expect("written");
    claim
}

async fn unknown(store: &Any, claim: &Claim, step: Step) {
    let mut note = claim.note.clone();
    note.status = if matches!(step, Step::Hold { .. }) { Status::Unknown } else { Status::Queued };
    note.updated_at = after(2);
    store.write(claim, &Change::new(note, step)).await.expect("written");
}

pub async fn receipt_advances_the_note_and_a_replay_changes_nothing(store: Any) {
    let id = accept(&store, "a", "+1").await;
    taken(&store, &claim(&store, start()).await[0], "m1").await;
    let first = receive(&store, "c1", receipt("m1", ReceiptStatus::Delivered)).await;
    assert_eq!(first, ReceiptOutcome { changed: vec![id], ..ReceiptOutcome::default() });
    let replay = receive(&store, "c1", receipt("m1", ReceiptStatus::Played)).await;
    assert!(replay.duplicate && replay.changed.is_empty());
    let late = receive(&store, "c2", receipt("m1", ReceiptStatus::Sent)).await;
    assert_eq!(late.changed, [id], "that it was sent is known now");
    let note = read(&store, id).await;
    assert_eq!(
        (note.status, note.delivered_at, note.sent_at),
        (Status::Delivered, Some(after(3)), Some(after(3)))
    );
    assert_eq!(kinds(&events(&store, None, None).await), [EventKind::Accepted, EventKind::Delivered]);
    assert_eq!(store.connections("t").await.expect("states")[0].callback_at, Some(after(4)));
}

pub async fn early_receipt_waits_until_its_message_id_is_known(store: Any) {
    let id = accept(&store, "a", "+1").await;
    let early = receive(&store, "c1", receipt("m1", ReceiptStatus::Delivered)).await;
    assert_eq!(early, ReceiptOutcome { unmatched: 1, ..ReceiptOutcome::default() });
    taken(&store, &claim(&store, start()).await[0], "m1").await;
    assert_eq!(read(&store, id).await.status, Status::Delivered);
    assert_eq!(kinds(&events(&store, None, None).await), [EventKind::Accepted, EventKind::Delivered]);
}

/// The failure of a message names the message alone, and comes before anything tells whose message it is.
pub async fn early_receipt_is_applied_once_its_note_is_found_by_another_name(store: Any) {
    let id = accept(&store, "a", "+1").await;
    let send = dispatching(&store, start(), "file-7").await;
    unknown(&store, &send, Step::Hold { until: after(1000) }).await;
    let early = receive(&store, "c1", receipt("m1", ReceiptStatus::Delivered)).await;
    assert_eq!(early, ReceiptOutcome { unmatched: 1, ..ReceiptOutcome::default() });
    let found =
        Receipt { correlation_id: Some("file-7".to_owned()), ..receipt("m1", ReceiptStatus::Accepted) };
    assert_eq!(receive(&store, "c2", found).await.changed, [id]);
    let note = read(&store, id).await;
    assert_eq!((note.status, note.provider_message_id.as_deref()), (Status::Delivered, Some("m1")));
}

/// WhatsApp's ids of messages contain the number of the person.
pub async fn late_receipt_finds_an_erased_note_without_its_number(store: Any) {
    let id = accept(&store, "a", "+1").await;
    taken(&store, &claim(&store, start()).await[0], "true_15551234567@c.us_M1").await;
    assert!(store.erase(&read(&store, id).await.erased(), &[]).await.expect("erased"));
    let told = receipt("true_15551234567@c.us_M1", ReceiptStatus::Delivered);
    assert_eq!(receive(&store, "c1", told).await.changed, [id]);
    let note = read(&store, id).await;
    assert_eq!((note.status, note.erased), (Status::Delivered, true));
    let kept = serde_json::to_string(&note).expect("JSON");
    assert!(!kept.contains("15551234567"), "{kept}");
    let other = receipt("true_15551234567@c.us_M2", ReceiptStatus::Delivered);
    assert_eq!(receive(&store, "c2", other).await.unmatched, 1);
}

pub async fn receipt_for_a_note_in_flight_is_applied_after_the_attempt(store: Any) {
    let id = accept(&store, "a", "+1").await;
    let send = dispatching(&store, start(), "file-7").await;
    let told = Receipt { correlation_id: Some("file-7".to_owned()), ..receipt("m1", ReceiptStatus::Sent) };
    assert!(receive(&store, "c1", told).await.changed.is_empty(), "whoever sends it has the say");
    assert_eq!(read(&store, id).await.status, Status::Sending);
    assert_eq!(taken(&store, &send, "m1").await, Stored::WithReceipts, "it has to be read again");
    assert_eq!(read(&store, id).await.status, Status::Sent);

    let id = accept(&store, "a", "+2").await;
    let send = dispatching(&store, start(), "file-8").await;
    assert_eq!(taken(&store, &send, "m2").await, Stored::AsGiven);
    assert_eq!(read(&store, id).await.status, Status::Accepted);
}

/// Two notes with the same audio to the same person have the same guess. The message of one of them is known.
pub async fn guess_resolves_only_a_note_whose_message_is_not_known(store: Any) {
    let guess = || Some("sent:1@c.us:aa".to_owned());
    let told = |own: &str| Receipt {
        correlation_id: Some(own.to_owned()),
        guess: guess(),
        ..receipt(&format!("true_9@lid_{own}"), ReceiptStatus::Accepted)
    };
    let first = accept(&store, "a", "+1").await;
    let mut known = dispatching(&store, start(), "sent:1@c.us:aa").await;
    known.note.dispatched_at = Some(after(2));
    known.note.correlation_ids.push("A".to_owned());
    taken(&store, &known, "true_1@c.us_A").await;

    let second = accept(&store, "a", "+1").await;
    let mut lost = dispatching(&store, after(5), "sent:1@c.us:aa").await;
    lost.note.dispatched_at = Some(after(2));
    unknown(&store, &lost, Step::Hold { until: after(1000) }).await;
    assert!(receive(&store, "c1", told("A")).await.changed.is_empty(), "the first one is known already");
    assert_eq!(read(&store, second).await.status, Status::Unknown);
    assert_eq!(receive(&store, "c2", told("B")).await.changed, [second]);
    let note = read(&store, second).await;
    assert_eq!((note.status, note.provider_message_id.as_deref()), (Status::Accepted, Some("true_9@lid_B")));
    assert_eq!(read(&store, first).await.provider_message_id.as_deref(), Some("true_1@c.us_A"));
}

pub async fn receipt_resolves_an_unknown_note_and_releases_its_lane(store: Any) {
    let first = accept(&store, "a", "+1").await;
    let second = accept(&store, "a", "+1").await;
    let send = dispatching(&store, start(), "file-7").await;
    unknown(&store, &send, Step::Hold { until: after(1000) }).await;
    assert!(claim(&store, after(5)).await.is_empty(), "held");
    let told = Receipt { correlation_id: Some("file-7".to_owned()), ..receipt("m1", ReceiptStatus::Sent) };
    assert_eq!(receive(&store, "c1", told).await.changed, [first]);
    let note = read(&store, first).await;
    assert_eq!((note.status, note.provider_message_id.as_deref()), (Status::Sent, Some("m1")));
    assert_eq!(claim(&store, after(5)).await[0].note.id, second);
    assert_eq!(
        receive(&store, "c2", receipt("m1", ReceiptStatus::Read)).await.changed,
        [first],
        "by its id now"
    );
}

pub async fn receipts_are_processed_once_however_they_are_batched(store: Any) {
    let first = accept(&store, "a", "+1").await;
    let second = accept(&store, "a", "+2").await;
    for (claim, message) in claim(&store, start()).await.iter().zip(["m1", "m2"]) {
        taken(&store, claim, message).await;
    }
    let event = |id: &str, message: &str, status| ReceivedReceipt {
        id: id.to_owned(),
        receipt: receipt(message, status),
    };
    let batch = |receipts| ReceiptBatch { receipts, ..callback("", "a", Vec::new()) };
    let sent = event("e1", "m1", ReceiptStatus::Sent);
    let read_it = event("e2", "m1", ReceiptStatus::Read);
    let other = event("e3", "m2", ReceiptStatus::Delivered);
    let reception = store.receive(&batch(vec![sent.clone(), other.clone()])).await.expect("received");
    assert_eq!(reception.changed, [first, second]);
    // The receipts are delivered again in another group, together with a new one, which alone counts.
    let reception =
        store.receive(&batch(vec![other.clone(), read_it, sent.clone()])).await.expect("received");
    assert_eq!((reception.duplicate, reception.changed.as_slice()), (false, &[first][..]));
    let reception = store.receive(&batch(vec![sent, other])).await.expect("received");
    assert!(reception.duplicate && reception.changed.is_empty());
}

pub async fn receipt_of_another_connection_does_not_match(store: Any) {
    let id = accept(&store, "a", "+1").await;
    taken(&store, &claim(&store, start()).await[0], "m1").await;
    let foreign = callback("c1", "b", vec![receipt("m1", ReceiptStatus::Played)]);
    assert_eq!(store.receive(&foreign).await.expect("received").unmatched, 1);
    let mut other_tenant = callback("c1", "a", vec![receipt("m1", ReceiptStatus::Played)]);
    other_tenant.tenant = "u".to_owned();
    assert_eq!(store.receive(&other_tenant).await.expect("received").unmatched, 1);
    assert_eq!(read(&store, id).await.status, Status::Accepted);
}

pub async fn delivered_note_is_not_sent_again(store: Any) {
    let id = accept(&store, "a", "+1").await;
    let send = dispatching(&store, start(), "file-7").await;
    unknown(&store, &send, retry(after(10))).await;
    let failed =
        Receipt { correlation_id: Some("file-7".to_owned()), ..receipt("m1", ReceiptStatus::Failed) };
    receive(&store, "c1", failed).await;
    assert_eq!(read(&store, id).await.status, Status::Queued, "the next copy may arrive");
    let told =
        Receipt { correlation_id: Some("file-7".to_owned()), ..receipt("m2", ReceiptStatus::Delivered) };
    assert_eq!(receive(&store, "c2", told).await.changed, [id]);
    assert!(claim(&store, after(60)).await.is_empty());
    assert_eq!(store.queue_depth().await.expect("a count"), 0);
}

pub async fn deadline_stalls_only_a_note_without_a_receipt(store: Any) {
    let mut ids = Vec::new();
    for (recipient, message) in [("+1", "m1"), ("+2", "m2")] {
        ids.push(accept(&store, "a", recipient).await);
        let send = &claim(&store, start()).await[0];
        let mut note = send.note.clone();
        (note.status, note.updated_at) = (Status::Accepted, after(2));
        note.provider_message_id = Some(message.to_owned());
        let change = Change { deadline: Some(after(60)), ..Change::new(note, Step::Done) };
        store.write(send, &change).await.expect("written");
    }
    receive(&store, "c1", receipt("m2", ReceiptStatus::Sent)).await;
    assert!(claim(&store, after(59)).await.is_empty());
    let due = claim(&store, after(60)).await;
    assert_eq!(due.iter().map(|claim| claim.note.id).collect::<Vec<_>>(), [ids[0]]);
    assert!(matches!(due[0].job, Job::Overdue));
    let stall = Stall { now: after(60), notify: false, why: "no receipt".to_owned() };
    assert!(store.stall(&due[0], &stall).await.expect("stalled"));
    assert!(read(&store, ids[0]).await.stalled);
    assert_eq!(kinds(&events(&store, Some(ids[0]), None).await), [EventKind::Accepted, EventKind::Stalled]);
    let state = store.connections("t").await.expect("states").remove(0);
    assert_eq!((state.failure.as_deref(), state.failures), (Some("no receipt"), 0), "a mark, and no pause");
    receive(&store, "c2", receipt("m1", ReceiptStatus::Delivered)).await;
    assert!(!read(&store, ids[0]).await.stalled, "it arrived after all");
    assert!(claim(&store, after(600)).await.is_empty());
}

pub async fn look_up_is_due_once_and_ends_when_the_outcome_is_known(store: Any) {
    let id = accept(&store, "a", "+1").await;
    let send = dispatching(&store, start(), "file-7").await;
    let mut note = send.note.clone();
    (note.status, note.updated_at) = (Status::Unknown, after(2));
    let change = Change { look_up: Some(after(4)), ..Change::new(note, Step::Hold { until: after(30) }) };
    store.write(&send, &change).await.expect("written");
    assert!(claim(&store, after(3)).await.is_empty());
    let look = claim(&store, after(4)).await.remove(0);
    assert!(matches!(look.job, Job::LookUp));
    let again = JobEnd { step: retry(after(40)), health: None, told: None, now: after(4) };
    store.finish(&look.lease(), &again).await.expect("postponed");
    let look = claim(&store, after(40)).await.remove(0);
    assert_eq!((look.note.id, look.tries), (id, 1), "the lane is free by now, the question is not answered");
    let found =
        Receipt { correlation_id: Some("file-7".to_owned()), ..receipt("m1", ReceiptStatus::Accepted) };
    assert_eq!(receive(&store, "look-up", found).await.changed, [id]);
    assert_eq!(read(&store, id).await.status, Status::Accepted);
    assert!(claim(&store, after(600)).await.is_empty());
}
