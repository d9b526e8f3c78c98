//! Tests of received notes, which run for every store.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use voicegate::{
    model::{
        code::Code,
        event::{Event, EventKind},
        id::ReceivedId,
        note::Status,
        problem::Problem,
        received::{Received, ReceivedStatus},
    },
    store::{
        Bounds, ClaimRequest, Class, EventQuery, Horizon, JobEnd, MESSAGES_KEPT, Postponed, ReceiptBatch,
        ReceiptOutcome, ReceivedChange, ReceivedClaim, ReceivedJob, ReceivedQuery, ReceivedStep,
        SlotsByClass, SmallPart, Step, StoreError,
    },
};
use voicegate_providers::{Form, InboundVoice, MediaRef};

use crate::{
    raw::Raw,
    support::{Any, LEASE, accept, after, claim, start},
};

pub fn voice(message: &str) -> InboundVoice {
    InboundVoice {
        message_id: message.to_owned(),
        from: "+1 (555) 123-4567".to_owned(),
        conversation: "120363000000000000@g.us".to_owned(),
        group: true,
        sender_name: Some("Ann".to_owned()),
        reply_to: None,
        sent_at: start(),
        form: Form::Voice,
        media: MediaRef { value: json!({ "url": "https://media.example/1" }), fetch_before: None },
    }
}

fn batch(voices: Vec<InboundVoice>) -> ReceiptBatch {
    let note = |voice| Received::new("t", "c", "waha", voice, start());
    ReceiptBatch {
        tenant: "t".to_owned(),
        connection: "c".to_owned(),
        receipts: Vec::new(),
        voices: voices.into_iter().map(note).collect(),
        now: start(),
        notify: true,
    }
}

async fn receive(store: &Any, voices: Vec<InboundVoice>) -> ReceiptOutcome {
    store.receive(&batch(voices)).await.expect("received")
}

pub async fn due(store: &Any, now: Timestamp) -> Vec<ReceivedClaim> {
    let request = ClaimRequest {
        now,
        lease_until: now + LEASE,
        slots: SlotsByClass::each(100, 0),
        held: &[],
        bounds: &|_| Bounds::of(100, None),
    };
    store.claim(&request).await.expect("claimed").received
}

/// Leases the one job that is due.
async fn leased(store: &Any, now: Timestamp) -> ReceivedClaim {
    let mut due = due(store, now).await;
    assert_eq!(due.len(), 1, "{due:?}");
    due.remove(0)
}

fn change(received: Received, step: ReceivedStep, now: Timestamp) -> ReceivedChange {
    ReceivedChange { received, audio: Vec::new(), audio_until: None, step, transcribe: None, now }
}

const DONE: ReceivedStep = ReceivedStep::Done { event: EventKind::Received, notify: true };

/// Ends a note with this many bytes of audio.
fn ended(claim: &ReceivedClaim, size: usize, now: Timestamp) -> ReceivedChange {
    let mut received = claim.received.clone();
    received.status = ReceivedStatus::Received;
    received.media = None;
    received.kept_bytes = size as u64;
    received.ended_at = Some(now);
    let part = SmallPart { part: "native".to_owned(), bytes: Bytes::from(vec![7; size]) };
    let until = Some(now + Duration::from_secs(100));
    ReceivedChange { audio: vec![part], audio_until: until, ..change(received, DONE, now) }
}

async fn end(store: &Any, claim: &ReceivedClaim, now: Timestamp) {
    store.write_received(claim, &ended(claim, 10, now)).await.expect("written");
}

async fn events(store: &Any) -> Vec<Event> {
    let wanted = EventQuery { tenant: "t", note: None, after: None, limit: 100 };
    store.events(&wanted).await.expect("a list")
}

async fn listed(store: &Any, query: ReceivedQuery<'_>) -> Vec<ReceivedId> {
    let page = store.received_notes(&query).await.expect("a list");
    page.items.iter().map(|note| note.id).collect()
}

fn all() -> ReceivedQuery<'static> {
    ReceivedQuery { tenant: "t", from: None, conversation: None, via: None, before: None, limit: 10 }
}

async fn old(store: &Any, now: Timestamp) -> Vec<ReceivedId> {
    let old = store.received_with_old_audio(now, None, 10).await.expect("a list");
    old.iter().map(|old| old.id).collect()
}

async fn kept(store: &Any) -> u64 {
    let kept = store.kept_audio().await.expect("a list");
    kept.iter().find(|(tenant, _)| tenant == "t").map_or(0, |(_, bytes)| *bytes)
}

pub async fn message_is_stored_once_however_batches_are_regrouped(store: Any) {
    let first = receive(&store, vec![voice("1"), voice("2"), voice("1")]).await;
    assert_eq!((first.duplicate, first.received.len()), (false, 2));
    for voices in [vec![voice("2")], vec![voice("2"), voice("1")], vec![voice("1"), voice("1")]] {
        let again = receive(&store, voices).await;
        assert!(again.duplicate && again.received.is_empty(), "{again:?}");
    }
    let more = receive(&store, vec![voice("3"), voice("2")]).await;
    assert_eq!((more.duplicate, more.received.len()), (false, 1));
    let elsewhere = ReceiptBatch { connection: "d".to_owned(), ..batch(vec![voice("1")]) };
    let elsewhere = store.receive(&elsewhere).await.expect("received");
    assert_eq!(elsewhere.received.len(), 1, "ids are those of a connection");
    assert_eq!(due(&store, start()).await.len(), 4);
    assert_eq!(store.queue_depth().await.expect("a number"), 0, "no place of the notes is taken");
}

pub async fn simultaneous_callbacks_make_one_note(store: Any) {
    let mut tasks = tokio::task::JoinSet::new();
    for turn in 0..20 {
        let store = store.clone();
        tasks.spawn(async move {
            let ids = if turn % 2 == 0 { ["1", "2", "3"] } else { ["3", "1", "2"] };
            receive(&store, ids.map(voice).to_vec()).await.received.len()
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().sum::<usize>(), 3);
    assert_eq!(due(&store, start()).await.len(), 3);
}

pub async fn received_note_is_announced_once_and_then_listed(store: Any) {
    let id = receive(&store, vec![voice("1")]).await.received[0];
    assert!(listed(&store, all()).await.is_empty() && events(&store).await.is_empty(), "not yet");
    let claim = leased(&store, start()).await;
    assert_eq!((claim.received.id, claim.class, claim.expired), (id, Class::Inbound, false));
    assert!(matches!(claim.job, ReceivedJob::Receive));
    assert_eq!(claim.connection, "t/#inbound.c");
    assert!(due(&store, start()).await.is_empty(), "leased");

    let mut fetched = claim.received.clone();
    fetched.status = ReceivedStatus::Fetched;
    fetched.kept_bytes = 4;
    let part = SmallPart { part: "native".to_owned(), bytes: Bytes::from_static(b"Opus") };
    let step = ReceivedStep::Progress { until: after(1000) };
    let progress = ReceivedChange { audio: vec![part], ..change(fetched, step, after(1)) };
    store.write_received(&claim, &progress).await.expect("written");
    assert_eq!(store.received_audio(id, "native").await.expect("read").as_deref(), Some(&b"Opus"[..]));
    assert_eq!(kept(&store).await, 4);
    assert!(events(&store).await.is_empty());

    // The process dies, and another one goes on from what is stored.
    let again = leased(&store, after(62)).await;
    assert_eq!((again.received.status, again.fence), (ReceivedStatus::Fetched, claim.fence + 1));
    end(&store, &again, after(63)).await;
    let late = store.write_received(&claim, &ended(&claim, 10, after(64))).await;
    assert!(matches!(late, Err(StoreError::LeaseLost)), "{late:?}");
    let repeated = store.write_received(&again, &ended(&again, 10, after(64))).await;
    assert!(matches!(repeated, Err(StoreError::LeaseLost)), "{repeated:?}");

    let told = events(&store).await;
    let [event] = &told[..] else { panic!("{told:?}") };
    assert_eq!(event.kind, EventKind::Received);
    assert_eq!(event.subject.received().map(|note| note.status), Some(ReceivedStatus::Received));
    assert_eq!(listed(&store, all()).await, [id]);
    assert_eq!(kept(&store).await, 10);
    let stored = store.received(id, "t").await.expect("read").expect("there");
    assert_eq!(stored.sender_name.as_deref(), Some("Ann"));
    assert!(store.received(id, "u").await.expect("read").is_none(), "another tenant's");

    // Its webhook delivery is a job like that of any event.
    let tell = leased(&store, after(64)).await;
    let ReceivedJob::Webhook(told) = &tell.job else { panic!("{tell:?}") };
    assert_eq!((told.id, tell.class), (event.id, Class::Webhook));
    let done = JobEnd { step: Step::Done, health: None, told: None, now: after(64) };
    store.finish(&tell.lease(), &done).await.expect("told");
    assert!(due(&store, after(900)).await.is_empty());
}

pub async fn job_waits_for_its_next_try_and_is_given_up_when_its_time_is_over(store: Any) {
    let mut short = voice("1");
    short.media.fetch_before = Some(after(180));
    receive(&store, vec![short]).await;
    let claim = leased(&store, start()).await;
    let mut waiting = claim.received.clone();
    waiting.error = Some(Problem::new(Code::ProviderUnavailable, "no answer"));
    let retry = change(waiting, ReceivedStep::Retry { at: after(30) }, after(1));
    store.write_received(&claim, &retry).await.expect("written");
    assert!(due(&store, after(29)).await.is_empty());
    let again = leased(&store, after(30)).await;
    assert_eq!((again.tries, again.received.error.is_some()), (1, true));
    let retry = change(again.received.clone(), ReceivedStep::Retry { at: after(400) }, after(31));
    store.write_received(&again, &retry).await.expect("written");
    assert_eq!(store.next_due(after(31)).await.expect("a time"), Some(after(180)));
    let late = leased(&store, after(180)).await;
    assert!(late.expired && late.class == Class::End);
    let mut failed = late.received.clone();
    failed.fail_late(after(180));
    store.write_received(&late, &change(failed, DONE, after(180))).await.expect("written");
    let told = events(&store).await;
    let failed = told[0].subject.received().expect("a received note");
    assert_eq!(failed.error.as_ref().map(|error| error.code.clone()), Some(Code::ProviderUnavailable));
}

pub async fn deadline_that_is_nearly_over_leaves_one_try(store: Any) {
    let mut late = voice("1");
    late.media.fetch_before = Some(start() - Duration::from_secs(5));
    receive(&store, vec![late]).await;
    assert!(!leased(&store, start()).await.expired);
}

pub async fn paused_connection_does_not_delay_received_notes(store: Any) {
    accept(&store, "c", "r").await;
    let sending = claim(&store, start()).await.remove(0);
    let until = Some(after(900));
    let step = Step::Retry { at: after(1), pause_connection_until: until };
    crate::support::write(&store, &sending, step).await.expect("written");
    assert!(claim(&store, after(2)).await.is_empty(), "paused");
    receive(&store, vec![voice("1")]).await;
    leased(&store, after(2)).await;
}

pub async fn received_notes_are_listed_by_person_chat_and_connection(store: Any) {
    let bob = InboundVoice {
        from: "bob@example.com".to_owned(),
        conversation: "bob@example.com".to_owned(),
        ..voice("2")
    };
    let ids = receive(&store, vec![voice("1"), bob, voice("3")]).await.received;
    for claim in due(&store, start()).await {
        end(&store, &claim, after(1)).await;
    }
    let newest: Vec<_> = ids.iter().rev().copied().collect();
    assert_eq!(listed(&store, all()).await, newest);
    let group = ReceivedQuery { conversation: Some("120363000000000000@g.us"), ..all() };
    assert_eq!(listed(&store, group).await, [ids[2], ids[0]]);
    let both = ReceivedQuery { from: Some("+15551234567"), conversation: Some("bob@example.com"), ..all() };
    assert!(listed(&store, both).await.is_empty());
    let ann = ReceivedQuery { from: Some("+15551234567"), via: Some("c"), ..all() };
    assert_eq!(listed(&store, ann).await, [ids[2], ids[0]], "by its canonical spelling");
    assert!(listed(&store, ReceivedQuery { via: Some("d"), ..all() }).await.is_empty());
    assert!(listed(&store, ReceivedQuery { tenant: "u", ..all() }).await.is_empty());
    let page = store.received_notes(&ReceivedQuery { limit: 2, ..all() }).await.expect("a page");
    assert_eq!((page.items.len(), page.next), (2, Some(ids[1])));
    let rest = ReceivedQuery { before: page.next, ..all() };
    assert_eq!(listed(&store, rest).await, [ids[0]]);
}

pub async fn quoted_note_of_ours_is_named_by_its_own_id(store: Any) {
    let ours = accept(&store, "c", "r").await;
    let sending = claim(&store, start()).await.remove(0);
    let mut note = sending.note.clone();
    (note.status, note.provider_message_id) = (Status::Accepted, Some("true_3EB0".to_owned()));
    store.write(&sending, &voicegate::store::Change::new(note, Step::Done)).await.expect("written");
    let quoting =
        |message, quoted: &str| InboundVoice { reply_to: Some(quoted.to_owned()), ..voice(message) };
    receive(&store, vec![quoting("1", "true_3EB0"), quoting("2", "of somebody")]).await;
    let mut quoted: Vec<_> =
        due(&store, start()).await.into_iter().map(|claim| claim.received.reply_to).collect();
    quoted.sort();
    assert_eq!(quoted, [Some("of somebody".to_owned()), Some(ours.to_string())]);
}

pub async fn erased_note_leaves_only_that_its_message_came(store: Any, raw: Raw) {
    let id = receive(&store, vec![voice("1")]).await.received[0];
    assert!(!store.erase_received(id, start()).await.expect("answered"), "it was not announced yet");
    let claim = leased(&store, start()).await;
    end(&store, &claim, after(1)).await;
    assert!(store.erase_received(id, after(2)).await.expect("answered"));
    assert!(store.received(id, "t").await.expect("read").is_none());
    assert!(store.received_audio(id, "native").await.expect("read").is_none());
    assert!(listed(&store, all()).await.is_empty() && events(&store).await.is_empty());
    assert!(due(&store, after(2)).await.is_empty(), "the bot is not told of it");
    assert_eq!(old(&store, after(2)).await, [id], "its files are due");
    store.received_audio_removed(id).await.expect("recorded");
    assert!(old(&store, after(2)).await.is_empty());
    assert_eq!(kept(&store).await, 0);
    let left = "SELECT COUNT(*) FROM received WHERE doc IS NULL AND sender = '' AND conversation = ''";
    assert_eq!(raw.number(left).await, 1);
    assert!(receive(&store, vec![voice("1")]).await.duplicate, "a repeated callback makes nothing");
    assert!(store.erase_received(id, after(3)).await.expect("answered"), "again");
}

pub async fn retention_removes_audio_then_the_note_then_its_message(store: Any, raw: Raw) {
    let id = receive(&store, vec![voice("1")]).await.received[0];
    let claim = leased(&store, start()).await;
    end(&store, &claim, after(1)).await;
    let horizon = |notes, now| Horizon { notes, events: start(), now };
    assert!(old(&store, after(100)).await.is_empty());
    store.forget(&horizon(after(90), after(90))).await.expect("done");
    assert!(store.received(id, "t").await.expect("read").is_some(), "it is kept while it has audio");
    assert_eq!(old(&store, after(101)).await, [id]);
    store.received_audio_removed(id).await.expect("recorded");
    let without = store.received(id, "t").await.expect("read").expect("there");
    assert!(without.audio_expired && kept(&store).await == 0);
    assert!(store.received_audio(id, "native").await.expect("read").is_none());
    store.forget(&horizon(after(200), after(200))).await.expect("done");
    assert!(store.received(id, "t").await.expect("read").is_none());
    assert!(events(&store).await.is_empty() && listed(&store, all()).await.is_empty());
    assert!(receive(&store, vec![voice("1")]).await.duplicate);
    let much_later = after(2) + MESSAGES_KEPT;
    store.forget(&horizon(much_later, much_later)).await.expect("done");
    assert_eq!(raw.number("SELECT COUNT(*) FROM received").await, 0);
}

pub async fn postponed_transcription_is_not_counted_and_lets_its_server_rest(store: Any) {
    let transcriptions = async |now: Timestamp| {
        let due = due(&store, now).await.into_iter();
        due.filter(|claim| matches!(claim.job, ReceivedJob::Transcribe)).collect::<Vec<_>>()
    };
    receive(&store, vec![voice("1"), voice("2")]).await;
    for claim in due(&store, start()).await {
        let with_words = ReceivedChange { transcribe: Some("ears".to_owned()), ..ended(&claim, 10, start()) };
        store.write_received(&claim, &with_words).await.expect("written");
    }
    let claims = transcriptions(start()).await;
    let [first, second] = &claims[..] else { panic!("{claims:?}") };
    let postponed = |counts, paused| Postponed { at: after(10), counts, paused, now: start() };
    store.postpone_transcription(first, postponed(false, Some(after(40)))).await.expect("postponed");
    store.postpone_transcription(second, postponed(true, None)).await.expect("postponed");
    assert!(transcriptions(after(39)).await.is_empty(), "the server rests");
    let again = transcriptions(after(40)).await;
    let tries = |id| again.iter().find(|claim| claim.received.id == id).map(|claim| claim.tries);
    assert_eq!((tries(first.received.id), tries(second.received.id)), (Some(0), Some(1)));
    let late = store.postpone_transcription(first, postponed(false, None)).await;
    assert!(matches!(late, Err(StoreError::LeaseLost)), "{late:?}");
}

pub async fn old_audio_is_listed_in_pages_also_when_it_stays(store: Any) {
    let ids = receive(&store, ["1", "2", "3", "4", "5"].map(voice).to_vec()).await.received;
    // Two end at the same time.
    for (claim, at) in due(&store, start()).await.into_iter().zip([5, 1, 3, 3, 9]) {
        end(&store, &claim, after(at)).await;
    }
    let mut found = Vec::new();
    let mut last = None;
    loop {
        let page = store.received_with_old_audio(after(105), last, 2).await.expect("a page");
        found.extend(page.iter().map(|old| (old.since, old.id)));
        last = page.last().copied();
        if last.is_none() {
            break;
        }
    }
    let times: Vec<Timestamp> = found.iter().map(|(since, _)| *since).collect();
    assert_eq!(times, [101, 103, 103, 105].map(after), "one is not due yet");
    let all: std::collections::BTreeSet<_> = found.iter().map(|(_, id)| *id).collect();
    assert!(all.len() == 4 && all.iter().all(|id| ids.contains(id)), "{all:?}");
}

pub async fn damaged_received_note_blocks_no_other_and_is_left_out(store: Any, raw: Raw) {
    let ids = receive(&store, vec![voice("1"), voice("2"), voice("3")]).await.received;
    let damage = "UPDATE received SET doc = $2 WHERE id = $1";
    raw.change(damage, &ids[0].to_string(), "{").await;
    let claims = due(&store, start()).await;
    assert_eq!(claims.len(), 2);
    for claim in &claims {
        end(&store, claim, after(1)).await;
    }
    raw.change(damage, &ids[1].to_string(), "").await;
    assert_eq!(listed(&store, all()).await, [ids[2]]);
    assert!(matches!(store.received(ids[1], "t").await, Err(StoreError::Corrupt(_))));
    assert_eq!(events(&store).await.len(), 2, "events have copies of their own");
    // The delivery of the event of a damaged note is set aside, and it can be erased.
    assert_eq!(due(&store, after(2)).await.len(), 1);
    assert!(store.erase_received(ids[1], after(3)).await.expect("answered"));
    assert!(
        store.erase_received(ids[0], after(3)).await.expect("answered"),
        "it ended when it was set aside"
    );
}
