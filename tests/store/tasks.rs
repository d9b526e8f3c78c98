//! Tests of tasks and of the notes that a recovery finds, run for every store.

use jiff::Timestamp;
use voicegate::{
    model::{
        id::TaskId,
        note::{Metadata, Note, NoteId, Status},
        task::{Order, Recovery, Task, TaskStatus},
    },
    store::{
        Begun, Change, Found, KeyClaim, LeasedTask, MOST_TASKS, NewNote, NewTask, Step, StoreError, Unarrived,
    },
};

use crate::support::{Any, LEASE, after, claim, horizon, new_note, start};

fn order(limit: u64) -> Order {
    let statuses = Recovery::USUAL.to_vec();
    Order::Recover(Recovery { statuses, since: None, until: None, via: None, limit }.canonical())
}

fn new_task(tenant: &str, order: Order) -> NewTask {
    NewTask { task: Task::new(tenant, order, 3, start()), key: None }
}

fn with_key(new: NewTask, key: &str, expires_at: Timestamp) -> NewTask {
    NewTask { key: Some((key.to_owned(), expires_at)), ..new }
}

fn replayed(begun: Begun) -> TaskId {
    let Begun::Replayed(task) = begun else { panic!("{begun:?}") };
    task.id
}

pub async fn order_has_one_task_while_it_runs(store: Any) {
    let first = new_task("t", order(5));
    assert_eq!(store.begin_task(&first).await.expect("begun"), Begun::Created);
    let again = store.begin_task(&new_task("t", order(5))).await.expect("begun");
    assert_eq!(replayed(again), first.task.id);
    for other in [new_task("t", order(6)), new_task("u", order(5))] {
        assert_eq!(store.begin_task(&other).await.expect("begun"), Begun::Created);
    }
    assert_eq!(store.task(first.task.id, "t").await.expect("read"), Some(first.task.clone()));
    assert_eq!(store.task(first.task.id, "u").await.expect("read"), None, "of another tenant");
    let mut running = store.running_tasks().await.expect("counted");
    running.sort();
    assert_eq!(running, [("t".to_owned(), 2), ("u".to_owned(), 1)]);
    // The first task is the oldest of those with the fewest steps, together with the others of that time.
    loop {
        let mut leased =
            store.claim_task(start(), start() + LEASE).await.expect("claimed").expect("a task is due");
        let is_first = leased.task.id == first.task.id;
        leased.task.end(None, after(1));
        store.save_task(&leased, after(1)).await.expect("saved");
        if is_first {
            break;
        }
    }
    let later = store.begin_task(&new_task("t", order(5))).await.expect("begun");
    assert_eq!(later, Begun::Created, "the same order is a new task once the first is done");
}

pub async fn key_of_an_order_gets_its_task_until_it_expires(store: Any) {
    let first = with_key(new_task("t", order(5)), "k", after(100));
    assert_eq!(store.begin_task(&first).await.expect("begun"), Begun::Created);
    let mut leased = store.claim_task(start(), after(60)).await.expect("claimed").expect("a task");
    leased.task.end(None, after(1));
    store.save_task(&leased, after(1)).await.expect("saved");
    let again = store.begin_task(&with_key(new_task("t", order(5)), "k", after(200))).await.expect("begun");
    assert_eq!(replayed(again), first.task.id, "although it is done");
    let other = store.begin_task(&with_key(new_task("t", order(6)), "k", after(200))).await.expect("begun");
    assert_eq!(other, Begun::KeyTaken);
    let foreign = with_key(new_task("u", order(6)), "k", after(200));
    assert_eq!(store.begin_task(&foreign).await.expect("begun"), Begun::Created);
    let mut late = with_key(new_task("t", order(6)), "k", after(300));
    late.task.created_at = after(100);
    assert_eq!(store.begin_task(&late).await.expect("begun"), Begun::Created, "the key was forgotten");

    let claim = KeyClaim { key: "n".to_owned(), fingerprint: String::new(), expires_at: after(100) };
    let note = NewNote { idempotency: Some(claim), ..new_note("t", "a", "+1", start()) };
    store.accept(&note).await.expect("accepted");
    let mixed = with_key(new_task("t", order(7)), "n", after(100));
    assert_eq!(store.begin_task(&mixed).await.expect("begun"), Begun::KeyTaken, "it belongs to a note");
}

pub async fn tenant_has_a_limited_number_of_running_tasks(store: Any) {
    for number in 0..MOST_TASKS.unsigned_abs() {
        let begun = store.begin_task(&new_task("t", order(number + 1))).await.expect("begun");
        assert_eq!(begun, Begun::Created);
    }
    assert_eq!(store.begin_task(&new_task("t", order(99))).await.expect("begun"), Begun::TooMany);
    assert_eq!(store.begin_task(&new_task("u", order(99))).await.expect("begun"), Begun::Created);
}

pub async fn step_of_a_task_has_one_holder(store: Any) {
    let new = new_task("t", order(5));
    store.begin_task(&new).await.expect("begun");
    assert_eq!(store.next_task(start()).await.expect("asked"), Some(start()));
    let claims = (0..4).map(|_| store.claim_task(start(), after(60)));
    let claims = futures_util::future::join_all(claims).await;
    let mut leased: Vec<LeasedTask> =
        claims.into_iter().filter_map(|claimed| claimed.expect("claimed")).collect();
    assert_eq!(leased.len(), 1);
    let old = leased.remove(0);
    assert_eq!(store.next_task(start()).await.expect("asked"), Some(after(60)));
    assert!(store.claim_task(after(59), after(90)).await.expect("claimed").is_none());
    // The holder died, and its successor goes on.
    let mut next = store.claim_task(after(60), after(90)).await.expect("claimed").expect("a task");
    assert!(next.fence > old.fence);
    assert!(matches!(store.save_task(&old, after(60)).await, Err(StoreError::LeaseLost)));
    next.task.done = 2;
    next.task.updated_at = after(61);
    store.save_task(&next, after(70)).await.expect("saved");
    assert_eq!(store.task(new.task.id, "t").await.expect("read").expect("a task").done, 2);
    assert!(store.claim_task(after(69), after(90)).await.expect("claimed").is_none(), "it waits");
    let last = store.claim_task(after(70), after(90)).await.expect("claimed").expect("a task");
    // A start of the only process ends all leases at once.
    store.end_all_leases(after(70)).await.expect("ended");
    let mut taken = store.claim_task(after(70), after(90)).await.expect("claimed").expect("a task");
    assert!(taken.fence > last.fence);
    taken.task.end(None, after(71));
    store.save_task(&taken, after(71)).await.expect("saved");
    assert_eq!(store.next_task(after(71)).await.expect("asked"), None);
    assert!(store.running_tasks().await.expect("counted").is_empty());
    store.forget(&horizon(after(70))).await.expect("forgotten");
    let ended = store.task(new.task.id, "t").await.expect("read").expect("a task");
    assert_eq!((ended.status, ended.ended_at), (TaskStatus::Done, Some(after(71))));
    store.forget(&horizon(after(71))).await.expect("forgotten");
    assert_eq!(store.task(new.task.id, "t").await.expect("read"), None);
}

pub async fn tasks_take_turns(store: Any) {
    let new = [new_task("t", order(5)), new_task("u", order(5))];
    for new in &new {
        store.begin_task(new).await.expect("begun");
    }
    let mut turns = Vec::new();
    for _ in 0..4 {
        let leased = store.claim_task(start(), after(60)).await.expect("claimed").expect("a task");
        turns.push(leased.task.tenant.clone());
        store.save_task(&leased, start()).await.expect("saved");
    }
    turns[..2].sort();
    turns[2..].sort();
    assert_eq!(turns, ["t", "u", "t", "u"]);
}

/// Accepts a note that then ends with this status.
async fn ended(store: &Any, status: Status, change: impl FnOnce(Note) -> Note) -> NoteId {
    let new = new_note("t", "a", "+1", start());
    let new = NewNote { note: change(new.note), ..new };
    let at = new.note.created_at;
    store.accept(&new).await.expect("accepted");
    let claims = claim(store, at).await;
    let leased = claims.iter().find(|claim| claim.note.id == new.note.id).expect("it is due");
    let mut note = leased.note.clone();
    (note.status, note.updated_at) = (status, at);
    store.write(leased, &Change::new(note, Step::Done)).await.expect("written");
    new.note.id
}

fn at(seconds: u64) -> impl FnOnce(Note) -> Note {
    move |note| Note { created_at: after(seconds), ..note }
}

const ALL: [Status; 3] = Recovery::STATUSES;

fn wanted<'a>() -> Unarrived<'a> {
    Unarrived {
        tenant: "t",
        statuses: &ALL,
        since: None,
        until: after(1000),
        via: None,
        resends_before: after(1000),
        after: None,
        limit: 100,
    }
}

async fn found(store: &Any, wanted: &Unarrived<'_>) -> Vec<NoteId> {
    store.unarrived(wanted).await.expect("found").iter().map(|found| found.place.id).collect()
}

pub async fn notes_that_did_not_arrive_are_found_in_the_order_of_their_time(store: Any) {
    let third = ended(&store, Status::Failed, at(3)).await;
    let first = ended(&store, Status::Unknown, at(1)).await;
    let second = ended(&store, Status::Expired, at(2)).await;
    let fourth = ended(&store, Status::Failed, at(4)).await;
    ended(&store, Status::Accepted, at(2)).await;
    ended(&store, Status::Canceled, at(2)).await;
    assert_eq!(found(&store, &wanted()).await, [first, second, third, fourth]);
    assert_eq!(store.count_unarrived(&wanted(), 9).await.expect("counted"), 4);
    assert_eq!(store.count_unarrived(&wanted(), 3).await.expect("counted"), 3, "no more than asked for");
    let failed = Unarrived { statuses: &[Status::Failed], ..wanted() };
    assert_eq!(found(&store, &failed).await, [third, fourth]);
    let between = Unarrived { since: Some(after(2)), until: after(3), ..wanted() };
    assert_eq!(found(&store, &between).await, [second, third], "both ends belong to it");
    assert_eq!(store.count_unarrived(&between, 9).await.expect("counted"), 2);
    let page = Unarrived { limit: 2, ..wanted() };
    let places: Vec<Found> = store.unarrived(&page).await.expect("found");
    let next = Unarrived { after: places.last().map(|found| found.place), ..wanted() };
    assert_eq!(found(&store, &next).await, [third, fourth]);
    assert!(found(&store, &Unarrived { tenant: "u", ..wanted() }).await.is_empty());
    let other = Unarrived { via: Some("b"), ..wanted() };
    let all = store.unarrived(&other).await.expect("found");
    assert!(all.len() == 4 && all.iter().all(|found| !found.fits), "listed, so that a page is bounded");
    assert_eq!(store.count_unarrived(&other, 9).await.expect("counted"), 0);
    let own = Unarrived { via: Some("a"), ..wanted() };
    assert_eq!(store.count_unarrived(&own, 9).await.expect("counted"), 4);
}

pub async fn note_that_was_sent_again_is_marked(store: Any) {
    let original = ended(&store, Status::Failed, at(1)).await;
    let metadata = format!(r#"{{"resend_of":"{original}","b":"\"resend_of\":\"vn_\""}}"#);
    let similar = |note: Note| Note {
        metadata: Metadata::parse(&metadata).expect("an object"),
        text: Some(format!(r#""resend_of":"{original}""#)),
        ..note
    };
    let liar = ended(&store, Status::Failed, |note| similar(at(2)(note))).await;
    let marks = async || {
        let all = store.unarrived(&wanted()).await.expect("found");
        all.into_iter().map(|found| (found.place.id, found.resent)).collect::<Vec<_>>()
    };
    assert_eq!(marks().await, [(original, false), (liar, false)], "a bot's own data means nothing");
    let again =
        ended(&store, Status::Failed, |note| Note { resend_of: Some(original), ..similar(at(10)(note)) })
            .await;
    assert_eq!(marks().await, [(original, true), (liar, false), (again, false)]);
    assert_eq!(store.count_unarrived(&wanted(), 9).await.expect("counted"), 2);
    // A task does not find what it made itself, even at the same moment.
    let own = Unarrived { resends_before: after(10), ..wanted() };
    assert_eq!(found(&store, &own).await, [original, liar]);
    assert_eq!(store.count_unarrived(&own, 9).await.expect("counted"), 1);
    // The mark goes with the note that made it.
    store.audio_removed(again).await.expect("removed");
    store.forget(&horizon(after(1))).await.expect("forgotten");
    assert_eq!(marks().await.len(), 3, "a note is kept while it has audio");
    store.forget(&horizon(after(10))).await.expect("forgotten");
    assert_eq!(marks().await, [(original, false), (liar, false)]);
}
