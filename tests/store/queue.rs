//! Tests of the queue. Each function is one clause of the contract and gets an empty store.

use std::{collections::HashSet, num::NonZeroU32, time::Duration};

use jiff::Timestamp;
use serde_json::json;
use voicegate::{
    config::Rate,
    model::note::{AudioSource, NoteId, Status},
    store::{
        Acceptance, Bounds, Change, Claim, ClaimRequest, Class, FreeSlots, Job, KeyClaim, KeyHolder, Learned,
        NewNote, Responsiveness, SlotsByClass, Step, StoreError, fetch_key,
    },
};

use crate::support::{
    Any, LEASE, accept, after, claim, claim_up_to, horizon, ids, new_note, retry, start, write,
};

pub async fn accepted_note_is_stored_and_due(store: Any) {
    let new = new_note("t", "c", "r", start());
    assert_eq!(store.accept(&new).await.expect("accepted"), Acceptance::Created);
    assert_eq!(store.note(new.note.id, None).await.expect("read").as_ref(), Some(&new.note));
    assert_eq!(store.note(NoteId::new(), None).await.expect("read"), None);
    assert_eq!(store.queue_depth().await.expect("a number"), 1);
    let claims = claim(&store, start()).await;
    assert_eq!(claims[0].note, new.note);
    assert!(!claims[0].interrupted);
    write(&store, &claims[0], Step::Done).await.expect("written");
    assert_eq!(store.queue_depth().await.expect("a number"), 0);
    store.ping().await.expect("alive");
}

pub async fn idempotency_key_is_claimed_once_and_expires(store: Any) {
    let with_key = |fingerprint: &str, now: Timestamp| {
        let key = KeyClaim { key: "k".into(), fingerprint: fingerprint.into(), expires_at: now + LEASE };
        NewNote { idempotency: Some(key), ..new_note("t", "c", "r", now) }
    };
    let first = with_key("f", start());
    assert_eq!(store.accept(&first).await.expect("accepted"), Acceptance::Created);
    let holder = KeyHolder { fingerprint: "f".into(), note: first.note.id };
    let second = with_key("g", after(59));
    assert_eq!(store.accept(&second).await.expect("answered"), Acceptance::KeyTaken(holder.clone()));
    assert_eq!(store.note(second.note.id, None).await.expect("read"), None);
    assert_eq!(store.idempotency("t", "k", after(59)).await.expect("read"), Some(holder));
    assert_eq!(store.idempotency("other", "k", after(59)).await.expect("read"), None);
    assert_eq!(store.idempotency("t", "k", after(60)).await.expect("read"), None);
    let third = with_key("h", after(61));
    assert_eq!(store.accept(&third).await.expect("accepted"), Acceptance::Created);
}

pub async fn simultaneous_requests_with_one_key_make_one_note(store: Any) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let store = store.clone();
        tasks.spawn(async move {
            let key = KeyClaim { key: "k".into(), fingerprint: "f".into(), expires_at: after(60) };
            let new = NewNote { idempotency: Some(key), ..new_note("t", "c", "r", start()) };
            store.accept(&new).await.expect("answered")
        });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|answer| **answer == Acceptance::Created).count(), 1);
    assert_eq!(store.queue_depth().await.expect("a number"), 1);
}

pub async fn full_queue_refuses_and_stores_nothing(store: Any) {
    let bounded = |tenant: &str, key: &str| NewNote {
        idempotency: Some(KeyClaim { key: key.into(), fingerprint: "f".into(), expires_at: after(60) }),
        max_queue: 3,
        max_queue_per_tenant: 2,
        ..new_note(tenant, "c", "r", start())
    };
    for (tenant, key, answer) in [
        ("a", "1", Acceptance::Created),
        ("a", "2", Acceptance::Created),
        ("a", "3", Acceptance::QueueFull),
        ("b", "1", Acceptance::Created),
        ("b", "2", Acceptance::QueueFull),
    ] {
        assert_eq!(store.accept(&bounded(tenant, key)).await.expect("answered"), answer, "{tenant}{key}");
    }
    assert_eq!(
        store.idempotency("a", "3", start()).await.expect("read"),
        None,
        "a refused note claims no key"
    );
}

pub async fn only_the_head_of_a_lane_is_leased(store: Any) {
    let first = accept(&store, "c", "r").await;
    let second = accept(&store, "c", "r").await;
    let elsewhere = accept(&store, "c", "s").await;
    let other = accept(&store, "d", "r").await;
    let claims = claim(&store, start()).await;
    assert_eq!(ids(&claims), [first, elsewhere, other]);
    assert_eq!(ids(&claim(&store, start()).await), []);
    write(&store, &claims[0], Step::Done).await.expect("written");
    assert_eq!(ids(&claim(&store, start()).await), [second]);
}

pub async fn connection_gets_no_more_leases_than_its_concurrency(store: Any) {
    for recipient in ["1", "2", "3", "4"] {
        accept(&store, "c", recipient).await;
    }
    let other = accept(&store, "d", "1").await;
    let claims = claim_up_to(&store, start(), 100, 2).await;
    assert_eq!((claims.len(), claims[2].note.id), (3, other));
    assert_eq!(ids(&claim_up_to(&store, start(), 100, 2).await), []);
    write(&store, &claims[0], Step::Done).await.expect("written");
    assert_eq!(claim_up_to(&store, start(), 100, 2).await.len(), 1);
    assert_eq!(claim_up_to(&store, start(), 1, 9).await.len(), 1, "the limit holds, too");
}

pub async fn lease_is_exclusive_until_it_expires(store: Any) {
    let id = accept(&store, "c", "r").await;
    let first = claim(&store, start()).await.remove(0);
    assert_eq!(store.next_due(start()).await.expect("a time"), Some(after(60)));
    assert_eq!(ids(&claim(&store, after(59)).await), []);
    let second = claim(&store, after(60)).await.remove(0);
    assert_eq!((second.note.id, second.interrupted), (id, false));
    assert!(second.fence > first.fence);
}

pub async fn write_with_an_old_fence_changes_nothing(store: Any) {
    let id = accept(&store, "c", "r").await;
    let mut old = claim(&store, start()).await.remove(0);
    let new = claim(&store, after(60)).await.remove(0);
    old.note.status = Status::Failed;
    let steps =
        [Step::Progress, Step::Dispatching, retry(after(1)), Step::Hold { until: after(1) }, Step::Done];
    for step in steps {
        assert!(matches!(write(&store, &old, step).await, Err(StoreError::LeaseLost)), "{step:?}");
    }
    assert_eq!(store.note(id, None).await.expect("read").map(|note| note.status), Some(Status::Queued));
    write(&store, &new, Step::Done).await.expect("written");
    assert!(matches!(write(&store, &new, Step::Done).await, Err(StoreError::LeaseLost)), "done is done");
}

pub async fn lease_that_expires_while_sending_is_an_interruption(store: Any) {
    let id = accept(&store, "c", "r").await;
    let first = claim(&store, start()).await.remove(0);
    write(&store, &first, Step::Progress).await.expect("written");
    write(&store, &first, Step::Dispatching).await.expect("written");
    assert!(
        matches!(write(&store, &first, Step::Dispatching).await, Err(StoreError::LeaseLost)),
        "a dispatch begins once"
    );
    let second = claim(&store, after(60)).await.remove(0);
    assert_eq!((second.note.id, second.interrupted), (id, true));
    // The process that takes it over may die, too.
    let third = claim(&store, after(120)).await.remove(0);
    assert!(third.interrupted);
    write(&store, &third, Step::Hold { until: after(150) }).await.expect("written");
}

pub async fn retry_waits_until_due_and_keeps_its_place_in_the_lane(store: Any) {
    let first = accept(&store, "c", "r").await;
    let second = accept(&store, "c", "r").await;
    let claimed = claim(&store, start()).await.remove(0);
    write(&store, &claimed, retry(after(10))).await.expect("written");
    assert_eq!(store.next_due(start()).await.expect("a time"), Some(after(10)));
    assert_eq!(ids(&claim(&store, after(9)).await), [], "the second waits for the first");
    let claimed = claim(&store, after(10)).await.remove(0);
    assert_eq!(claimed.note.id, first);
    write(&store, &claimed, Step::Done).await.expect("written");
    assert_eq!(ids(&claim(&store, after(10)).await), [second]);
}

pub async fn pause_affects_only_its_connection(store: Any) {
    let first = accept(&store, "c", "r").await;
    let claimed = claim(&store, start()).await.remove(0);
    let second = accept(&store, "c", "s").await;
    let other = accept(&store, "d", "s").await;
    let pause = Step::Retry { at: after(10), pause_connection_until: Some(after(20)) };
    write(&store, &claimed, pause).await.expect("written");
    assert_eq!(ids(&claim(&store, after(1)).await), [other]);
    assert_eq!(ids(&claim(&store, after(19)).await), []);
    let due: HashSet<_> = ids(&claim(&store, after(20)).await).into_iter().collect();
    assert_eq!(due, HashSet::from([first, second]));
}

pub async fn held_lane_is_released_in_time(store: Any) {
    let first = accept(&store, "c", "r").await;
    let second = accept(&store, "c", "r").await;
    let mut claimed = claim(&store, start()).await.remove(0);
    claimed.note.status = Status::Unknown;
    write(&store, &claimed, Step::Hold { until: after(30) }).await.expect("written");
    assert_eq!(store.next_due(start()).await.expect("a time"), Some(after(30)));
    assert_eq!(ids(&claim(&store, after(29)).await), []);
    assert_eq!(ids(&claim(&store, after(30)).await), [second]);
    assert_eq!(store.note(first, None).await.expect("read").map(|note| note.status), Some(Status::Unknown));
}

pub async fn expired_note_is_claimed_from_a_blocked_lane(store: Any) {
    accept(&store, "c", "r").await;
    let mut short = new_note("t", "c", "r", start());
    short.note.expires_at = after(10);
    store.accept(&short).await.expect("accepted");
    let first = claim(&store, start()).await.remove(0);
    write(&store, &first, retry(after(40))).await.expect("written");
    assert_eq!(store.next_due(start()).await.expect("a time"), Some(after(10)));
    assert_eq!(ids(&claim(&store, after(10)).await), [short.note.id]);
}

pub async fn note_that_changes_connection_joins_the_new_lane(store: Any) {
    let first = accept(&store, "c", "r").await;
    let second = accept(&store, "c", "r").await;
    let mut claimed = claim(&store, start()).await.remove(0);
    assert!(claimed.note.next_connection());
    write(&store, &claimed, retry(start())).await.expect("written");
    let claims = claim(&store, start()).await;
    assert_eq!(ids(&claims), [first, second], "the old lane is free, and the new one has its note");
    assert_eq!(claims[0].note.current().connection, "next");
}

pub async fn learned_facts_are_kept_until_they_expire_or_are_dropped(store: Any) {
    let learn = async |claim: &Claim, learned: Learned| {
        store
            .write(claim, &Change { learned, ..Change::new(claim.note.clone(), Step::Done) })
            .await
            .expect("written");
    };
    accept(&store, "c", "r").await;
    let claimed = claim(&store, start()).await.remove(0);
    assert_eq!(claimed.learned, None);
    let lane = claimed.note.lane();
    let set = Learned::Set { lane: lane.clone(), value: json!({ "chat": 1 }), expires_at: after(100) };
    learn(&claimed, set).await;

    accept(&store, "c", "r").await;
    accept(&store, "c", "s").await;
    let claims = claim(&store, after(99)).await;
    assert_eq!(claims[0].learned, Some(json!({ "chat": 1 })));
    assert_eq!(claims[1].learned, None, "another recipient");
    learn(&claims[0], Learned::Keep).await;
    accept(&store, "c", "r").await;
    let claimed = claim(&store, after(100)).await.remove(0);
    assert_eq!(claimed.learned, None, "too old");
    learn(&claimed, Learned::Set { lane: lane.clone(), value: json!(2), expires_at: after(900) }).await;
    accept(&store, "c", "r").await;
    let claimed = claim(&store, after(101)).await.remove(0);
    assert_eq!(claimed.learned, Some(json!(2)));
    learn(&claimed, Learned::Forget { lane }).await;
    accept(&store, "c", "r").await;
    assert_eq!(claim(&store, after(102)).await[0].learned, None);
}

pub async fn old_audio_is_listed_and_old_notes_are_removed(store: Any) {
    let old = accept(&store, "c", "r").await;
    let live = accept(&store, "c", "s").await;
    let claimed = claim(&store, start()).await.remove(0);
    assert_eq!(claimed.note.id, old);
    write(&store, &claimed, Step::Done).await.expect("written");
    assert_eq!(store.notes_with_old_audio(after(1), 10).await.expect("read"), [old]);
    assert_eq!(store.forget(&horizon(after(1))).await.expect("done"), 0, "its audio is still there");
    store.audio_removed(old).await.expect("recorded");
    assert_eq!(store.notes_with_old_audio(after(1), 10).await.expect("read"), []);
    assert!(store.note(old, None).await.expect("read").expect("kept").audio_expired);
    assert_eq!(store.forget(&horizon(after(1))).await.expect("done"), 1);
    assert_eq!(store.note(old, None).await.expect("read"), None);
    assert!(store.note(live, None).await.expect("read").is_some());
}

pub async fn secret_is_created_once(store: Any) {
    assert_eq!(store.secret("links", [1; 32]).await.expect("a secret"), [1; 32]);
    assert_eq!(store.secret("links", [2; 32]).await.expect("a secret"), [1; 32]);
    assert_eq!(store.secret("other", [2; 32]).await.expect("a secret"), [2; 32]);
}

pub async fn ending_all_leases_frees_them(store: Any) {
    let leased = accept(&store, "c", "r").await;
    let sending = accept(&store, "c", "s").await;
    let claims = claim(&store, start()).await;
    write(&store, &claims[1], Step::Dispatching).await.expect("written");
    assert_eq!(store.end_all_leases(after(1)).await.expect("done"), 2);
    let mut claims = claim(&store, after(1)).await;
    claims.sort_by_key(|claim| claim.interrupted);
    assert_eq!((ids(&claims), claims[1].interrupted), (vec![leased, sending], true));
}

pub async fn concurrent_claims_never_share_a_delivery(store: Any) {
    for recipient in 0..60 {
        accept(&store, "c", &recipient.to_string()).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        tasks.spawn(async move { ids(&claim_up_to(&store, start(), 10, 100).await) });
    }
    let claimed: Vec<_> = tasks.join_all().await.concat();
    let distinct: HashSet<_> = claimed.iter().collect();
    assert_eq!((claimed.len(), distinct.len()), (60, 60));
}

pub async fn note_that_joins_a_busy_lane_waits_there(store: Any) {
    // The note is older than the one in flight in its new lane.
    accept(&store, "c", "r").await;
    let busy = accept(&store, "next", "r").await;
    let mut claims = claim(&store, start()).await;
    let moving = claims.remove(0);
    let under_way = claims.remove(0);
    assert_eq!(under_way.note.id, busy);
    let mut note = moving.note.clone();
    assert!(note.next_connection());
    let change = Change::new(note.clone(), retry(start()));
    store.write(&moving, &change).await.expect("written");
    assert_eq!(ids(&claim(&store, start()).await), [], "one at a time");
    write(&store, &under_way, Step::Hold { until: after(30) }).await.expect("written");
    assert_eq!(ids(&claim(&store, after(29)).await), [], "the grace holds");
    assert_eq!(ids(&claim(&store, after(30)).await), [note.id]);
}

pub async fn expired_notes_take_no_slots_of_their_connection(store: Any) {
    let mut old = Vec::new();
    for recipient in 0..5 {
        let mut new = new_note("t", "c", &recipient.to_string(), start());
        new.note.expires_at = after(10);
        store.accept(&new).await.expect("accepted");
        old.push(new.note.id);
    }
    let other = accept(&store, "d", "r").await;
    let busy = claim_up_to(&store, start(), 1, 1).await;
    assert_eq!(ids(&busy), old[..1]);
    let found = ids(&claim_up_to(&store, after(10), 100, 1).await);
    assert_eq!(found.len(), 5, "four expired, and the other connection's");
    assert!(found.contains(&other));
}

pub async fn note_is_visible_only_to_its_tenant(store: Any) {
    let id = accept(&store, "c", "r").await;
    assert!(store.note(id, Some("t")).await.expect("read").is_some());
    assert!(store.note(id, Some("other")).await.expect("read").is_none());
}

/// Any span of a minute has at most three starts, whichever process asks.
pub async fn rate_limits_attempts_within_its_window(store: Any) {
    for recipient in 0..8 {
        accept(&store, "c", &recipient.to_string()).await;
    }
    let other = accept(&store, "d", "r").await;
    let rate = Rate { count: NonZeroU32::new(3).expect("three"), per: Duration::from_secs(60) };
    let bounds = |key: &str| Bounds::of(100, (key == "t/c").then_some(rate));
    let claim = async |now: Timestamp| {
        let request = ClaimRequest {
            now,
            lease_until: now + LEASE * 9,
            slots: SlotsByClass::each(100, 0),
            held: &[],
            bounds: &bounds,
        };
        store.claim(&request).await.expect("claimed").notes
    };
    let first = claim(start()).await;
    assert_eq!((first.len(), first[3].note.id), (4, other), "the other connection has no rate");
    write(&store, &first[0], retry(after(1))).await.expect("written");
    assert_eq!(ids(&claim(after(30)).await), [], "a failed attempt counts as well");
    assert_eq!(store.next_due(after(30)).await.expect("a time"), Some(after(60)));
    assert_eq!(claim(after(60)).await.len(), 3);
    assert_eq!(claim(after(119)).await.len(), 0);
    assert_eq!(claim(after(120)).await.len(), 3);
}

/// A scheduled note does not block its lane until it is due, and is then older than notes that came meanwhile.
pub async fn lane_is_ordered_by_due_time(store: Any) {
    let mut scheduled = new_note("t", "c", "r", start());
    scheduled.note.send_at = Some(after(100));
    store.accept(&scheduled).await.expect("accepted");
    let scheduled = scheduled.note.id;
    assert_eq!(ids(&claim(&store, start()).await), []);
    assert_eq!(store.next_due(start()).await.expect("a time"), Some(after(100)));
    let now = accept(&store, "c", "r").await;
    let claimed = claim(&store, start()).await.remove(0);
    assert_eq!(claimed.note.id, now, "what is due goes first");
    write(&store, &claimed, Step::Done).await.expect("written");
    let mut later = new_note("t", "c", "r", after(101));
    later.note.created_at = after(101);
    store.accept(&later).await.expect("accepted");
    let claimed = claim(&store, after(101)).await.remove(0);
    assert_eq!(claimed.note.id, scheduled, "it became due first");
    write(&store, &claimed, retry(after(200))).await.expect("written");
    assert_eq!(ids(&claim(&store, after(150)).await), [], "and keeps its place while it is tried again");
}

/// A few slots are left for tenants with few notes, however many another tenant has.
pub async fn reserved_slots_are_for_tenants_with_few_in_flight(store: Any) {
    for recipient in 0..20 {
        store.accept(&new_note("busy", "c", &recipient.to_string(), start())).await.expect("accepted");
    }
    let claim = async |limit, reserved| {
        let (now, bounds) = (after(5), Bounds::of(100, None));
        let request = ClaimRequest {
            now,
            lease_until: now + LEASE,
            slots: SlotsByClass::each(limit, reserved),
            held: &[],
            bounds: &|_| bounds,
        };
        let claims = store.claim(&request).await.expect("claimed").notes;
        claims.into_iter().map(|claim| claim.note.tenant).collect::<Vec<_>>()
    };
    assert_eq!(claim(12, 2).await, ["busy"; 10]);
    assert_eq!(claim(2, 2).await, [""; 0], "those are not for it");
    for recipient in ["1", "2"] {
        store.accept(&new_note("calm", "c", recipient, start())).await.expect("accepted");
    }
    assert_eq!(claim(2, 2).await, ["calm"; 2]);
    assert_eq!(claim(3, 2).await, ["busy"], "the first place is for anybody");
}

/// A tenant with many deliveries in flight leaves the next slots to others.
pub async fn slots_go_to_the_tenant_with_fewest_in_flight(store: Any) {
    for recipient in 0..20 {
        let name = recipient.to_string();
        store
            .accept(&new_note("busy", if recipient % 2 == 0 { "c" } else { "d" }, &name, start()))
            .await
            .expect("ok");
    }
    for recipient in ["1", "2"] {
        store.accept(&new_note("calm", "c", recipient, after(5))).await.expect("accepted");
    }
    let tenants = |claims: &[Claim]| claims.iter().filter(|claim| claim.note.tenant == "calm").count();
    let first = claim_up_to(&store, after(4), 6, 100).await;
    assert_eq!((first.len(), tenants(&first)), (6, 0));
    let connections = first.iter().filter(|claim| claim.note.current().connection == "c").count();
    assert_eq!(connections, 3, "a tenant's connections take turns");
    let second = claim_up_to(&store, after(5), 2, 100).await;
    assert_eq!((second.len(), tenants(&second)), (2, 2));
}

pub async fn waiting_note_can_be_cancelled_and_one_in_flight_cannot(store: Any) {
    let first = accept(&store, "c", "r").await;
    let second = accept(&store, "c", "r").await;
    let third = accept(&store, "c", "r").await;
    let cancel = async |id: NoteId| {
        let mut note = store.note(id, None).await.expect("read").expect("a note");
        note.status = Status::Canceled;
        store.cancel(&note, false).await.expect("answered")
    };
    assert!(cancel(second).await);
    assert!(!cancel(second).await, "it is done");
    let claimed = claim(&store, start()).await.remove(0);
    assert_eq!(claimed.note.id, first);
    assert!(!cancel(first).await, "it is under way");
    write(&store, &claimed, retry(after(10))).await.expect("written");
    assert!(cancel(first).await, "it waits for its next attempt");
    assert_eq!(store.note(first, None).await.expect("read").expect("a note").status, Status::Canceled);
    assert_eq!(ids(&claim(&store, start()).await), [third], "the lane is free");
}

/// A note whose audio is behind a URL.
fn from_url(connection: &str, recipient: &str, url: &str) -> NewNote {
    let mut new = new_note("t", connection, recipient, start());
    new.note.source = AudioSource::Url { url: url.to_owned(), headers: Default::default(), is_whole: true };
    new
}

fn jobs(claims: &[Claim]) -> Vec<(NoteId, &'static str)> {
    let word = |claim: &Claim| if matches!(claim.job, Job::Fetch) { "fetch" } else { "send" };
    claims.iter().map(|claim| (claim.note.id, word(claim))).collect()
}

pub async fn download_takes_no_slot_of_its_connection_and_keeps_its_place_in_the_lane(store: Any) {
    let new = from_url("c", "r", "https://a.example/1");
    store.accept(&new).await.expect("accepted");
    let later = accept(&store, "c", "r").await;
    let other = accept(&store, "c", "s").await;
    let claims = claim_up_to(&store, start(), 100, 1).await;
    assert_eq!(jobs(&claims), [(new.note.id, "fetch"), (other, "send")], "the connection has one place");
    let mut note = claims[0].note.clone();
    note.source = AudioSource::Stored;
    store.write(&claims[0], &Change::new(note, retry(start()))).await.expect("written");
    write(&store, &claims[1], Step::Done).await.expect("written");
    let claims = claim(&store, start()).await;
    assert_eq!(jobs(&claims), [(new.note.id, "send")], "before what came later for the same person");
    write(&store, &claims[0], Step::Done).await.expect("written");
    assert_eq!(jobs(&claim(&store, start()).await), [(later, "send")]);
}

pub async fn busy_host_does_not_delay_other_hosts(store: Any) {
    let (slow, quick) = ("https://a.example/1", "https://c.example/1");
    assert_ne!(fetch_key("t", slow), fetch_key("t", quick));
    let mut ids = Vec::new();
    for (recipient, url) in [("1", slow), ("2", slow), ("3", slow), ("4", quick)] {
        let new = from_url("c", recipient, url);
        store.accept(&new).await.expect("accepted");
        ids.push(new.note.id);
    }
    let bounds = |key: &str| match key {
        key if key == fetch_key("t", slow) => {
            Bounds { responsiveness: Responsiveness::Hung, ..Bounds::of(1, None) }
        }
        _ => Bounds::of(8, None),
    };
    let request = ClaimRequest {
        now: start(),
        lease_until: after(60),
        slots: SlotsByClass::each(100, 0),
        held: &[],
        bounds: &bounds,
    };
    let claims = store.claim(&request).await.expect("claimed").notes;
    assert_eq!(jobs(&claims), [(ids[0], "fetch"), (ids[3], "fetch")]);
    let groups = store.queue_state(start()).await.expect("groups");
    let told: Vec<_> = groups.iter().map(|group| (group.connection.as_str(), group.count)).collect();
    assert_eq!(told, [("t/#fetch", 2), ("t/#fetch", 2)], "leased and queued, of all hosts");
}

/// The process keeps its leases, even if the time has jumped or it was suspended.
pub async fn deliveries_in_progress_are_not_taken_from_a_living_process(store: Any) {
    for recipient in ["1", "2"] {
        accept(&store, "c", recipient).await;
    }
    let mine = claim(&store, start()).await;
    write(&store, &mine[0], Step::Dispatching).await.expect("written");
    let held: Vec<i64> = mine.iter().map(|claim| claim.delivery).collect();
    let bounds = |_: &str| Bounds::of(2, None);
    let request = |held| ClaimRequest {
        now: after(3600),
        lease_until: after(7200),
        slots: SlotsByClass::each(100, 0),
        held,
        bounds: &bounds,
    };
    assert!(store.claim(&request(&held)).await.expect("claimed").notes.is_empty());
    let accepted = accept(&store, "c", "3").await;
    assert!(store.claim(&request(&held)).await.expect("claimed").notes.is_empty(), "its places are taken");
    write(&store, &mine[0], Step::Done).await.expect("the lease is still its own");
    assert_eq!(ids(&store.claim(&request(&held)).await.expect("claimed").notes), [accepted]);
}

pub async fn deliveries_of_a_dead_process_are_subject_to_fair_shares_again(store: Any) {
    for recipient in 0..4 {
        accept(&store, "c", &recipient.to_string()).await;
    }
    assert_eq!(claim(&store, start()).await.len(), 4);
    let again = claim_up_to(&store, after(61), 100, 1).await;
    assert_eq!((again.len(), again[0].interrupted, again[0].class), (1, false, Class::Send));
}

pub async fn final_status_writes_have_slots_of_their_own(store: Any) {
    let mut new = new_note("t", "c", "r", start());
    new.note.expires_at = after(10);
    store.accept(&new).await.expect("accepted");
    let sending = accept(&store, "c", "s").await;
    let claims = claim(&store, start()).await;
    let send = claims.iter().find(|claim| claim.note.id == sending).expect("leased");
    let other = claims.iter().find(|claim| claim.note.id != sending).expect("leased");
    write(&store, send, Step::Dispatching).await.expect("written");
    write(&store, other, retry(after(1000))).await.expect("written");
    let bounds = |_: &str| Bounds::of(0, None);
    let request = ClaimRequest {
        now: after(100),
        lease_until: after(200),
        slots: SlotsByClass::new(|class| FreeSlots {
            limit: usize::from(class == Class::End) * 8,
            ..FreeSlots::default()
        }),
        held: &[],
        bounds: &bounds,
    };
    let mut over = store.claim(&request).await.expect("claimed").notes;
    over.sort_by_key(|claim| claim.interrupted);
    let facts: Vec<_> = over.iter().map(|claim| (claim.note.id, claim.expired, claim.interrupted)).collect();
    assert_eq!(facts, [(new.note.id, true, false), (sending, false, true)]);
}
