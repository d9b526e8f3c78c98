//! Tests of events and webhook jobs, run for every store.

use voicegate::{
    model::{
        event::{Event, EventKind},
        note::{NoteId, Status},
    },
    store::{Change, Claim, EVENTS, EventQuery, Health, Job, JobEnd, Step, connection_key},
};

use crate::support::{Any, accept, after, claim, claim_up_to, horizon, new_note, retry, start, write};

/// Reads events after a position.
pub async fn events(store: &Any, note: Option<NoteId>, after: Option<&str>) -> Vec<Event> {
    let wanted = EventQuery { tenant: "t", note, after, limit: 100 };
    store.events(&wanted).await.expect("events")
}

pub fn kinds(events: &[Event]) -> Vec<EventKind> {
    events.iter().map(|event| event.kind).collect()
}

/// Changes a leased note's status.
async fn change(store: &Any, claim: &Claim, status: Status, step: Step, notify: bool) {
    let mut note = claim.note.clone();
    note.status = status;
    note.updated_at = after(1);
    store.write(claim, &Change { notify, ..Change::new(note, step) }).await.expect("written");
}

fn told(claims: &[Claim]) -> Vec<EventKind> {
    let event = |claim: &Claim| match &claim.job {
        Job::Webhook(event) => Some(event.kind),
        _ => None,
    };
    claims.iter().filter_map(event).collect()
}

pub async fn every_relevant_status_change_is_one_event(store: Any) {
    let id = accept(&store, "a", "+1").await;
    let claims = claim(&store, start()).await;
    change(&store, &claims[0], Status::Processing, Step::Progress, false).await;
    change(&store, &claims[0], Status::Sending, Step::Dispatching, false).await;
    assert_eq!(kinds(&events(&store, None, None).await), []);
    change(&store, &claims[0], Status::Queued, retry(after(5)), false).await;
    let claims = claim(&store, after(5)).await;
    change(&store, &claims[0], Status::Failed, Step::Done, false).await;
    let happened = events(&store, Some(id), None).await;
    assert_eq!(kinds(&happened), [EventKind::Failed]);
    let failed = happened[0].subject.note().expect("a note");
    assert_eq!((failed.id, failed.status), (id, Status::Failed));
    assert_eq!(happened[0].at, after(1), "when the note changed");
    let new = new_note("t", "a", "+2", start());
    store.accept(&new).await.expect("accepted");
    let mut canceled = new.note.clone();
    canceled.status = Status::Canceled;
    assert!(store.cancel(&canceled, false).await.expect("canceled"));
    assert_eq!(kinds(&events(&store, None, None).await), [EventKind::Failed, EventKind::Canceled]);
    assert!(claim(&store, after(60)).await.is_empty(), "nobody is to be told");
    let foreign = EventQuery { tenant: "u", note: Some(id), after: None, limit: 100 };
    assert!(store.events(&foreign).await.expect("events").is_empty());
}

pub async fn webhook_events_of_a_note_are_delivered_in_order(store: Any) {
    for recipient in ["+1", "+2"] {
        accept(&store, "a", recipient).await;
    }
    let sends = claim(&store, start()).await;
    for send in &sends {
        change(&store, send, Status::Unknown, retry(start()), true).await;
    }
    for send in claim(&store, start()).await.iter().filter(|claim| matches!(claim.job, Job::Send)) {
        change(&store, send, Status::Accepted, Step::Done, true).await;
    }
    let first = claim(&store, after(2)).await;
    assert_eq!(told(&first), [EventKind::Unknown; 2], "the second event of each waits behind its first");
    let first = claim(&store, after(120)).await;
    assert_eq!(told(&first), [EventKind::Unknown; 2], "leases that ran out");
    let key = connection_key("t", EVENTS);
    let end =
        |step, health| JobEnd { step, health: Some((key.clone(), health)), told: None, now: after(120) };
    store.finish(&first[0].lease(), &end(Step::Done, Health::Works)).await.expect("told");
    store
        .finish(&first[1].lease(), &end(retry(after(150)), Health::Fails("no answer".to_owned())))
        .await
        .expect("noted");
    let next = claim(&store, after(121)).await;
    assert_eq!(told(&next), [EventKind::Accepted], "of the note whose first event was taken");
    assert_eq!(next[0].note.id, first[0].note.id);
    let again = claim(&store, after(150)).await;
    assert_eq!((told(&again), again[0].tries), (vec![EventKind::Unknown], 2));
    let (Job::Webhook(once), Job::Webhook(twice)) = (&first[1].job, &again[0].job) else {
        panic!("webhook deliveries")
    };
    assert_eq!(once.id, twice.id, "a bot knows the repetition by its id");
    assert!(store.finish(&first[1].lease(), &end(Step::Done, Health::Works)).await.is_err(), "an old lease");
    let states = store.connections("t").await.expect("states");
    let state = states.iter().find(|state| state.connection == EVENTS).expect("the web hook");
    assert_eq!((state.failures, state.failure.as_deref()), (1, Some("no answer")));
}

pub async fn events_can_be_read_from_any_position(store: Any) {
    let beginning = store.last_event("t").await.expect("a position");
    for recipient in ["+1", "+2", "+3"] {
        accept(&store, "a", recipient).await;
    }
    for send in &claim(&store, start()).await {
        change(&store, send, Status::Failed, Step::Done, false).await;
    }
    let all = events(&store, None, None).await;
    assert_eq!(all, events(&store, None, Some(&beginning)).await);
    assert_eq!(all.len(), 3);
    assert_eq!(all[1..], events(&store, None, Some(&all[0].position)).await);
    assert_eq!(all[2].position, store.last_event("t").await.expect("a position"));
    assert!(events(&store, None, Some(&all[2].position)).await.is_empty());
    let nonsense = EventQuery { tenant: "t", note: None, after: Some("yesterday"), limit: 1 };
    assert!(store.events(&nonsense).await.is_err());
}

pub async fn erased_note_leaves_no_events(store: Any) {
    let id = accept(&store, "a", "+1").await;
    let send = &claim(&store, start()).await[0];
    change(&store, send, Status::Failed, Step::Done, true).await;
    let note = store.note(id, None).await.expect("an answer").expect("the note");
    assert!(store.erase(&note.erased(), &[]).await.expect("erased"), "although its bot was not told yet");
    assert!(events(&store, None, None).await.is_empty());
    assert!(claim(&store, after(60)).await.is_empty());
}

pub async fn old_events_are_removed_unless_their_delivery_is_pending(store: Any) {
    for (recipient, notify) in [("+1", true), ("+2", false)] {
        accept(&store, "a", recipient).await;
        let sends = claim(&store, start()).await;
        let send = sends.iter().find(|claim| matches!(claim.job, Job::Send)).expect("a send");
        change(&store, send, Status::Failed, Step::Done, notify).await;
    }
    store.forget(&horizon(after(100))).await.expect("forgotten");
    let left = events(&store, None, None).await;
    assert_eq!(left.len(), 1);
    let told = claim(&store, after(100)).await;
    assert_eq!(Some(told[0].note.id), left[0].subject.id().note());
    store
        .finish(&told[0].lease(), &JobEnd { step: Step::Done, health: None, told: None, now: after(100) })
        .await
        .expect("told");
    store.forget(&horizon(after(100))).await.expect("forgotten");
    assert!(events(&store, None, None).await.is_empty());
}

/// Ends an attempt with this health of its connection.
async fn tried(store: &Any, claim: &Claim, works: bool, at: u64) {
    let mut note = claim.note.clone();
    note.updated_at = after(at);
    let health = if works { Health::Works } else { Health::Fails("down".to_owned()) };
    let step = if works { Step::Done } else { retry(after(at)) };
    let change = Change { health: Some((connection_key("t", "a"), health)), ..Change::new(note, step) };
    store.write(claim, &change).await.expect("written");
}

async fn paused_until(store: &Any) -> Option<jiff::Timestamp> {
    let states = store.connections("t").await.expect("states");
    states.into_iter().find(|state| state.connection == "a")?.paused_until
}

/// Accepts notes of eight people over one connection, and makes it fail until it is paused.
async fn broken(store: &Any) {
    for recipient in 0..8 {
        accept(store, "a", &format!("+{recipient}")).await;
    }
    for _ in 0..5 {
        let one = claim_up_to(store, start(), 1, 100).await.remove(0);
        tried(store, &one, false, 0).await;
    }
}

pub async fn repeatedly_failing_connection_is_paused_and_probed_by_one_note(store: Any) {
    broken(&store).await;
    assert_eq!(paused_until(&store).await, Some(after(4)));
    assert!(claim(&store, after(1)).await.is_empty(), "paused");
    let probes = claim(&store, after(5)).await;
    assert_eq!((probes.len(), probes[0].tally.in_a_row), (1, 5), "one attempt shows whether it works again");
    tried(&store, &probes[0], true, 5).await;
    let rest = claim(&store, after(5)).await;
    assert_eq!((rest.len(), rest[0].tally.in_a_row), (7, 0));
}

pub async fn concurrent_failures_count_once(store: Any) {
    for recipient in 0..32 {
        accept(&store, "a", &format!("+{recipient}")).await;
    }
    for round in 1..=5 {
        let together = claim(&store, after(round)).await;
        assert_eq!((together.len(), together[0].tally.in_a_row as u64), (32, round - 1));
        for claim in &together {
            tried(&store, claim, false, round).await;
        }
    }
    assert_eq!(paused_until(&store).await, Some(after(5 + 4)), "the first pause, not the longest");
}

pub async fn pause_grows_with_every_failed_probe(store: Any) {
    for recipient in 0..9 {
        accept(&store, "a", &format!("+{recipient}")).await;
    }
    let straggler = claim_up_to(&store, start(), 1, 100).await.remove(0);
    broken(&store).await;
    tried(&store, &straggler, false, 1).await;
    assert_eq!(paused_until(&store).await, Some(after(4)), "it began before");
    let probe = claim(&store, after(4)).await.remove(0);
    tried(&store, &probe, false, 4).await;
    assert_eq!(paused_until(&store).await, Some(after(4 + 8)));
    let probe = claim(&store, after(12)).await.remove(0);
    tried(&store, &probe, false, 12).await;
    assert_eq!(paused_until(&store).await, Some(after(12 + 15)));
}

pub async fn success_ends_a_pause_unless_the_provider_asked_for_it(store: Any) {
    accept(&store, "a", "+before").await;
    let straggler = claim(&store, start()).await.remove(0);
    broken(&store).await;
    assert!(claim(&store, after(1)).await.is_empty(), "paused");
    tried(&store, &straggler, true, 1).await;
    assert_eq!(paused_until(&store).await, None);
    let mut free = claim(&store, after(1)).await;
    assert_eq!((free.len(), free[0].tally.in_a_row), (8, 0), "although it began before the pause");
    let asked = Step::Retry { at: after(1), pause_connection_until: Some(after(20)) };
    write(&store, &free.remove(0), asked).await.expect("written");
    tried(&store, &free[0], true, 2).await;
    assert_eq!(paused_until(&store).await, Some(after(20)), "that is not ours to end");
    assert!(claim(&store, after(19)).await.is_empty());
}
