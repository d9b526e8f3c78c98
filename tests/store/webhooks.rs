//! Tests of webhook deliveries that are looked at, repeated and paused, run for every store.

use jiff::Timestamp;
use voicegate::{
    model::{
        event::{Event, EventKind},
        id::EventId,
        note::{NoteId, Status},
    },
    store::{
        Change, Claim, EVENTS, Health, Job, JobEnd, Retelling, Step, WEBHOOK_PATIENCE, WebhookAttempt,
        WebhookEnd, connection_key,
    },
};

use crate::{
    events::{events, kinds},
    support::{Any, accept, after, claim, horizon, retry, start},
};

const DAY: u64 = 24 * 60 * 60;

/// Fails a note of this recipient, and returns its id. Its bot is to be told.
async fn failed(store: &Any, recipient: &str, at: Timestamp) -> NoteId {
    let id = accept(store, "a", recipient).await;
    let claims = claim(store, at).await;
    let send = claims.iter().find(|claim| claim.note.id == id && matches!(claim.job, Job::Send));
    let send = send.expect("a send");
    let mut note = send.note.clone();
    (note.status, note.updated_at) = (Status::Failed, at);
    store.write(send, &Change { notify: true, ..Change::new(note, Step::Done) }).await.expect("written");
    // Leases of the deliveries that this claimed as well end at once.
    store.end_all_leases(at).await.expect("ended");
    id
}

async fn told(store: &Any, at: Timestamp) -> Vec<(Claim, Event)> {
    let claims = claim(store, at).await.into_iter();
    let event = |claim: Claim| match claim.job.clone() {
        Job::Webhook(event) => Some((claim, *event)),
        _ => None,
    };
    claims.filter_map(event).collect()
}

/// Ends a delivery: taken, or not and to be tried again a minute later.
async fn end(store: &Any, claim: &Claim, works: bool, at: Timestamp, settings: &str) {
    let error = (!works).then(|| "the bot answered 503".to_owned());
    let status = Some(if works { 200 } else { 503 });
    let attempt = WebhookAttempt { at, status, took_ms: 7, error };
    let health = if works { Health::Works } else { Health::Fails("the bot answered 503".to_owned()) };
    let end = JobEnd {
        step: if works { Step::Done } else { retry(at + std::time::Duration::from_secs(60)) },
        health: Some((connection_key("t", EVENTS), health)),
        told: Some(WebhookEnd { attempt, settings: settings.to_owned() }),
        now: at,
    };
    store.finish(&claim.lease(), &end).await.expect("finished");
}

pub async fn every_try_to_tell_of_an_event_is_recorded(store: Any) {
    let note = failed(&store, "+1", start()).await;
    let (claim, event) = told(&store, start()).await.remove(0);
    end(&store, &claim, false, after(1), "s").await;
    let (claim, _) = told(&store, after(61)).await.remove(0);
    end(&store, &claim, true, after(62), "s").await;
    let attempts = store.webhook_attempts(event.id).await.expect("read");
    let short: Vec<_> = attempts.iter().map(|a| (a.at, a.status, a.error.as_deref())).collect();
    assert_eq!(short, [(after(1), Some(503), Some("the bot answered 503")), (after(62), Some(200), None)]);
    let head = store.event(event.id, "t").await.expect("read").expect("an event");
    assert_eq!((head.subject.note(), head.kind, head.at), (Some(note), EventKind::Failed, start()));
    assert!(store.event(event.id, "u").await.expect("read").is_none(), "of another tenant");
    assert!(store.event(EventId::new(), "t").await.expect("read").is_none());
    let kept = store.note(note, None).await.expect("read").expect("a note");
    assert!(store.erase(&kept.erased(), &[]).await.expect("erased"));
    assert!(store.event(event.id, "t").await.expect("read").is_none());
    assert!(store.webhook_attempts(event.id).await.expect("read").is_empty());
}

pub async fn webhook_that_fails_for_five_days_is_paused(store: Any) {
    let mut day = 0;
    let at = |day: u64, second: u64| after(day * DAY + second);
    while store.webhook("t").await.expect("read").is_none_or(|state| state.paused_at.is_none()) {
        assert!(day <= 5, "it is paused by now");
        failed(&store, &format!("+{day}"), at(day, 0)).await;
        let (claim, _) = told(&store, at(day, 0)).await.pop().expect("a delivery");
        end(&store, &claim, false, at(day, 0), "s").await;
        store.end_all_leases(at(day, 0)).await.expect("ended");
        day += 1;
    }
    assert_eq!(day, 6, "five days after the first failure");
    let state = store.webhook("t").await.expect("read").expect("a state");
    assert_eq!((state.failing_since, state.paused_at), (Some(start()), Some(at(5, 0))));
    assert_eq!(
        state.paused_at.expect("paused").duration_since(start()),
        WEBHOOK_PATIENCE.try_into().expect("a span")
    );
    assert_eq!(store.paused_webhooks().await.expect("read"), [state]);
    let all = events(&store, None, None).await;
    let paused: Vec<&Event> = all.iter().filter(|event| event.kind == EventKind::WebhookPaused).collect();
    assert_eq!((paused.len(), paused[0].at), (1, at(5, 0)));
    let of_note = events(&store, paused[0].subject.id().note(), None).await;
    assert_eq!(kinds(&of_note), [EventKind::Failed], "it says nothing about the note");
    failed(&store, "+new", at(5, 60)).await;
    let due = told(&store, at(5, 3600)).await;
    assert!(due.iter().all(|(claim, _)| claim.expired), "nothing is posted: {due:?}");
    store.end_all_leases(at(5, 3600)).await.expect("ended");

    assert!(store.resume_webhook("t", at(5, 3600)).await.expect("resumed"));
    assert!(!store.resume_webhook("t", at(5, 3600)).await.expect("resumed"), "it was");
    assert!(store.paused_webhooks().await.expect("read").is_empty());
    let due = told(&store, at(5, 3600)).await;
    let live: Vec<_> = due.iter().filter(|(claim, _)| !claim.expired).collect();
    assert!(!live.is_empty());
    end(&store, &live[0].0, false, at(5, 3601), "s").await;
    let state = store.webhook("t").await.expect("read").expect("a state");
    assert_eq!((state.failing_since, state.paused_at), (Some(at(5, 3601)), None), "counted anew");
}

pub async fn failure_during_a_pause_does_not_shorten_it_and_a_success_ends_it(store: Any) {
    // Five failures in a row would pause the connection.
    for at in [0, 36, 72, 108].map(|hour| after(hour * 3600)) {
        failed(&store, "+before", at).await;
        let (claim, _) = told(&store, at).await.pop().expect("a delivery");
        end(&store, &claim, false, at, "s").await;
        store.end_all_leases(at).await.expect("ended");
    }
    let late = start() + WEBHOOK_PATIENCE;
    for recipient in ["+a", "+b", "+c"] {
        failed(&store, recipient, late).await;
    }
    let mut under_way = told(&store, late).await;
    under_way.retain(|(claim, _)| !claim.expired);
    assert!(under_way.len() >= 3, "{under_way:?}");
    for (claim, _) in &under_way[..2] {
        end(&store, claim, false, late, "s").await;
    }
    assert!(store.webhook("t").await.expect("read").expect("a state").paused_at.is_some());
    // The third began before the pause.
    let paused_until = async || {
        let states = store.connections("t").await.expect("read");
        states.into_iter().find(|state| state.connection == EVENTS).and_then(|state| state.paused_until)
    };
    let until = paused_until().await.expect("paused");
    assert!(until.duration_since(late).as_hours() > 1_000_000);
    end(&store, &under_way[2].0, true, late, "s").await;
    let state = store.webhook("t").await.expect("read").expect("a state");
    assert_eq!((state.failing_since, state.paused_at), (None, None));
    assert_eq!(paused_until().await, None);
}

pub async fn webhook_that_had_nothing_to_tell_for_days_has_not_failed_for_days(store: Any) {
    for recipient in ["+1", "+2"] {
        failed(&store, recipient, start()).await;
    }
    let under_way = told(&store, start()).await;
    end(&store, &under_way[0].0, false, start(), "s").await;
    let late = start() + WEBHOOK_PATIENCE;
    end(&store, &under_way[1].0, false, late, "s").await;
    let state = store.webhook("t").await.expect("read").expect("a state");
    assert_eq!((state.failing_since, state.paused_at), (Some(late), None));
}

pub async fn new_settings_restart_the_count_of_failures(store: Any) {
    for recipient in ["+1", "+2"] {
        failed(&store, recipient, start()).await;
    }
    let under_way = told(&store, start()).await;
    end(&store, &under_way[0].0, false, start(), "old").await;
    end(&store, &under_way[1].0, false, start() + WEBHOOK_PATIENCE, "new").await;
    let state = store.webhook("t").await.expect("read").expect("a state");
    assert_eq!((state.failing_since, state.paused_at), (Some(start() + WEBHOOK_PATIENCE), None));
}

pub async fn event_is_told_again_by_order(store: Any) {
    failed(&store, "+1", start()).await;
    let (claim, event) = told(&store, start()).await.remove(0);
    assert!(store.retell(event.id, "t", after(1)).await.expect("ordered"), "it is under way and stays so");
    end(&store, &claim, false, after(1), "s").await;
    assert!(told(&store, after(2)).await.is_empty());
    assert!(store.retell(event.id, "t", after(2)).await.expect("ordered"), "it waits and is due now");
    let (claim, again) = told(&store, after(2)).await.remove(0);
    assert_eq!(again.id, event.id);
    end(&store, &claim, true, after(3), "s").await;
    assert!(told(&store, after(500)).await.is_empty());
    for _ in 0..2 {
        assert!(store.retell(event.id, "t", after(2 * DAY)).await.expect("ordered"));
    }
    let due = told(&store, after(2 * DAY)).await;
    assert_eq!((due.len(), due[0].1.id, due[0].0.expired), (1, event.id, false), "once, for a day more");
    assert!(!store.retell(event.id, "u", after(4)).await.expect("ordered"), "of another tenant");
    assert!(!store.retell(EventId::new(), "t", after(4)).await.expect("ordered"));
}

pub async fn everything_that_was_not_taken_is_told_again_in_order(store: Any) {
    let mut notes = Vec::new();
    for number in 0..6 {
        notes.push(failed(&store, &format!("+{number}"), after(number)).await);
    }
    // The first two are taken, the third waits for its next try, and the rest is given up.
    for (claim, event) in told(&store, after(10)).await {
        match notes.iter().position(|note| Some(*note) == event.subject.id().note()) {
            Some(0 | 1) => end(&store, &claim, true, after(10), "s").await,
            Some(2) => end(&store, &claim, false, after(10), "s").await,
            _ => {
                let done = JobEnd { step: Step::Done, health: None, told: None, now: after(10) };
                store.finish(&claim.lease(), &done).await.expect("given up");
            }
        }
    }
    let wanted = |after_event| Retelling {
        tenant: "t",
        since: Some(after(1)),
        until: after(4),
        after: after_event,
        now: after(20),
        limit: 2,
        most: 100,
    };
    assert_eq!(store.count_untold(&wanted(0)).await.expect("counted"), 3);
    let (mut queued, mut place) = (0, 0);
    loop {
        let page = store.retell_all(&wanted(place)).await.expect("ordered");
        queued += page.queued;
        place = page.last.unwrap_or(place);
        if !page.more {
            break;
        }
    }
    assert_eq!(queued, 3, "the third, the fourth and the fifth");
    let due = told(&store, after(20)).await;
    let again: Vec<NoteId> =
        due.iter().map(|(_, event)| event.subject.id().note().expect("a note")).collect();
    assert_eq!(again, notes[2..5]);
    let limited = Retelling { most: 1, limit: 100, ..wanted(0) };
    let page = store.retell_all(&limited).await.expect("ordered");
    assert_eq!((page.queued, page.more), (1, false), "no more than asked for");
    assert_eq!(store.count_untold(&Retelling { tenant: "u", ..wanted(0) }).await.expect("counted"), 0);
    store.forget(&horizon(after(0))).await.expect("forgotten");
}
