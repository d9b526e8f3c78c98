//! Tests of several processes on one PostgreSQL: each store handle stands for one process.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;
use voicegate::{
    config::Rate,
    model::note::{NoteId, Status},
    store::{
        Acceptance, Bounds, Change, Claim, ClaimRequest, EventQuery, PostgresStore, ReceiptBatch,
        ReceivedReceipt, SlotsByClass, Step, Store, Time,
    },
};
use voicegate_providers::{Receipt, ReceiptStatus};

use crate::{
    postgres_server::Database,
    support::{Any, after, new_note, retry, start, write},
};

/// Timeout that turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(60);

async fn open(database: &Database, time: Time) -> Any {
    Arc::new(PostgresStore::open(&database.url(), time).await.expect("a store"))
}

/// Opens a connection besides those of the stores.
async fn raw(database: &Database) -> PgConnection {
    PgConnection::connect(&database.url()).await.expect("a connection")
}

async fn handles<const N: usize>(database: &Database) -> [Any; N] {
    let mut stores = Vec::new();
    for _ in 0..N {
        stores.push(open(database, Time::Caller).await);
    }
    stores.try_into().expect("as many as asked for")
}

async fn claim_within(store: &Any, now: Timestamp, limit: usize, bounds: Bounds) -> Vec<Claim> {
    let request = ClaimRequest {
        now,
        lease_until: now + PATIENCE * 10,
        slots: SlotsByClass::each(limit, 0),
        held: &[],
        bounds: &|_| bounds,
    };
    store.claim(&request).await.expect("claimed").notes
}

const WIDE: Bounds = Bounds::of(1000, None);

#[tokio::test]
async fn concurrent_starts_on_an_empty_database_succeed() {
    let Some(database) = Database::make().await else { return };
    let url = database.url();
    let mut starts = JoinSet::new();
    for _ in 0..4 {
        let url = url.clone();
        starts.spawn(async move { PostgresStore::open(&url, Time::Caller).await });
    }
    for started in starts.join_all().await {
        started.expect("a store").ping().await.expect("alive");
    }
}

/// The record of leased deliveries that the test keeps.
#[derive(Default)]
struct UnderWay {
    lanes: HashSet<String>,
    most: HashMap<String, usize>,
    now: HashMap<String, usize>,
    /// Finished deliveries by lane, in order.
    done: BTreeMap<String, Vec<NoteId>>,
}

impl UnderWay {
    fn begin(&mut self, claim: &Claim) {
        assert!(self.lanes.insert(claim.note.lane()), "two of one lane are under way");
        let connection = &claim.note.current().connection;
        let now = self.now.entry(connection.clone()).or_default();
        *now += 1;
        let most = self.most.entry(connection.clone()).or_default();
        *most = (*most).max(*now);
    }

    fn end(&mut self, claim: &Claim, is_done: bool) {
        let lane = claim.note.lane();
        self.lanes.remove(&lane);
        *self.now.get_mut(&claim.note.current().connection).expect("it began") -= 1;
        if is_done {
            self.done.entry(lane).or_default().push(claim.note.id);
        }
    }
}

/// Runs accepts, claims, retries, cancellations and ends concurrently from four handles.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_claims_keep_lanes_and_limits_under_load() {
    const LANES: usize = 12;
    const NOTES: usize = 25;
    const ROOM: usize = 3;
    let Some(database) = Database::make().await else { return };
    let stores: [Any; 4] = handles(&database).await;
    let under_way = Arc::new(Mutex::new(UnderWay::default()));
    let mut tasks = JoinSet::new();
    // One writer for each lane, so that there is an order to keep.
    for lane in 0..LANES {
        let store = stores[lane % stores.len()].clone();
        tasks.spawn(async move {
            let (connection, recipient) = (["a", "b", "c"][lane % 3], lane.to_string());
            let mut expected = Vec::new();
            for number in 0..NOTES {
                let new = new_note("t", connection, &recipient, start());
                assert_eq!(store.accept(&new).await.expect("answered"), Acceptance::Created);
                let mut cancelled = new.note.clone();
                cancelled.status = Status::Canceled;
                let gone = number % 7 == 3 && store.cancel(&cancelled, false).await.expect("answered");
                if !gone {
                    expected.push(new.note.id);
                }
            }
            let lane = new_note("t", connection, &recipient, start()).note.lane();
            Some((lane, expected))
        });
    }
    for number in 0..8 {
        let (store, under_way) = (stores[number % stores.len()].clone(), under_way.clone());
        tasks.spawn(async move {
            let bounds = Bounds::of(ROOM, None);
            let mut idle = 0;
            // The writers may be slower than the workers.
            while idle < 50 || store.queue_depth().await.expect("a number") > 0 {
                let claims = claim_within(&store, start(), 5, bounds).await;
                idle = if claims.is_empty() { idle + 1 } else { 0 };
                if claims.is_empty() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                claims.iter().for_each(|claim| under_way.lock().expect("sound").begin(claim));
                for mut claim in claims {
                    claim.note.status = Status::Sending;
                    write(&store, &claim, Step::Dispatching).await.expect("written");
                    // Every third is tried twice, and keeps its place.
                    let again = claim.tries == 0 && claim.delivery % 3 == 0;
                    claim.note.status = if again { Status::Queued } else { Status::Accepted };
                    under_way.lock().expect("sound").end(&claim, !again);
                    let step = if again { retry(start()) } else { Step::Done };
                    write(&store, &claim, step).await.expect("written");
                }
            }
            None
        });
    }
    let ended = tokio::time::timeout(PATIENCE, tasks.join_all()).await.expect("in time");
    let expected: BTreeMap<_, _> = ended.into_iter().flatten().collect();
    assert_eq!(stores[0].queue_depth().await.expect("a number"), 0);
    let under_way = under_way.lock().expect("sound");
    assert_eq!(under_way.done, expected, "each once, in the order of its lane");
    assert_eq!(under_way.most.len(), 3);
    for (connection, most) in &under_way.most {
        assert!(*most <= ROOM, "{most} at once over {connection}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rate_holds_over_all_processes() {
    let Some(database) = Database::make().await else { return };
    let stores: [Any; 3] = handles(&database).await;
    for recipient in 0..60 {
        stores[0].accept(&new_note("t", "c", &recipient.to_string(), start())).await.expect("accepted");
    }
    let rate = Rate { count: NonZeroU32::new(7).expect("seven"), per: Duration::from_secs(60) };
    for minute in 0..3 {
        let mut tasks = JoinSet::new();
        for number in 0..9 {
            let store = stores[number % 3].clone();
            let bounds = Bounds::of(1000, Some(rate));
            tasks.spawn(async move { claim_within(&store, after(minute * 60), 4, bounds).await.len() });
        }
        assert_eq!(tasks.join_all().await.iter().sum::<usize>(), 7, "minute {minute}");
    }
}

#[tokio::test]
async fn lost_lease_is_taken_over_and_its_first_holder_changes_nothing() {
    let Some(database) = Database::make().await else { return };
    let [first, second] = handles(&database).await;
    first.accept(&new_note("t", "c", "r", start())).await.expect("accepted");
    let held = claim_within(&first, start(), 1, WIDE).await.remove(0);
    assert!(claim_within(&second, after(599), 1, WIDE).await.is_empty());
    let taken = claim_within(&second, after(600), 1, WIDE).await.remove(0);
    write(&first, &held, Step::Dispatching).await.expect_err("the lease was lost");
    write(&second, &taken, Step::Dispatching).await.expect("written");
}

/// A machine whose clock is off by an hour is as good as any other.
#[tokio::test]
async fn renewed_lease_holds_and_lost_lease_does_not() {
    let Some(database) = Database::make().await else { return };
    let [first, second] = handles(&database).await;
    let new = new_note("t", "a", "+1", start());
    assert_eq!(first.accept(&new).await.expect("accepted"), Acceptance::Created);
    let request = |now| ClaimRequest {
        now,
        lease_until: now + Duration::from_secs(60),
        slots: SlotsByClass::each(10, 0),
        held: &[],
        bounds: &|_| WIDE,
    };
    let claim = first.claim(&request(start())).await.expect("claimed").notes.remove(0);
    first.renew(&[(claim.delivery, claim.fence)], after(50), after(110)).await.expect("renewed");
    assert!(second.claim(&request(after(109))).await.expect("claimed").notes.is_empty());
    let taken = second.claim(&request(after(111))).await.expect("claimed").notes;
    assert_eq!(taken.len(), 1);
    first
        .renew(&[(claim.delivery, claim.fence)], after(112), after(1000))
        .await
        .expect("nothing was renewed");
    assert_eq!(first.claim(&request(after(172))).await.expect("claimed").notes.len(), 1);
}

#[tokio::test]
async fn due_times_follow_the_clock_of_the_database() {
    let Some(database) = Database::make().await else { return };
    let (right, wrong) = (open(&database, Time::Database).await, open(&database, Time::Database).await);
    #[expect(clippy::disallowed_methods, reason = "the database has the real time")]
    let now = Timestamp::from_millisecond(Timestamp::now().as_millisecond()).expect("a time");
    let fast = now + Duration::from_secs(3600);
    let new = new_note("t", "c", "r", fast);
    wrong.accept(&new).await.expect("accepted");
    let claimed = claim_within(&right, now, 1, WIDE).await.remove(0);
    assert_eq!(claimed.note.id, new.note.id, "due at once");
    assert!(claim_within(&wrong, fast, 1, WIDE).await.is_empty(), "the lease has just begun");
    let mut note = claimed.note.clone();
    note.updated_at = now;
    let pause = Step::Retry { at: now + PATIENCE, pause_connection_until: None };
    right.write(&claimed, &Change::new(note, pause)).await.expect("written");
    assert!(claim_within(&wrong, fast, 1, WIDE).await.is_empty());
    // The time is converted to the caller's clock.
    let due = wrong.next_due(fast).await.expect("an answer").expect("a time");
    let off = due.duration_since(fast + PATIENCE).abs();
    assert!(off < Duration::from_secs(10).try_into().expect("short"), "{due} is {off} off");
}

#[tokio::test]
async fn notices_reach_other_processes_also_after_an_outage() {
    let Some(database) = Database::make().await else { return };
    let [one, other] = handles(&database).await;
    let mut heard = other.notices().expect("several processes");
    let mut own = one.notices().expect("several processes");
    let say = async || {
        let new = new_note("t", "c", "r", start());
        one.accept(&new).await.expect("accepted");
        let mut cancelled = new.note.clone();
        cancelled.status = Status::Canceled;
        assert!(one.cancel(&cancelled, false).await.expect("answered"));
        new.note.id
    };
    // A process that does not listen yet, or not again, receives the next notice.
    let mut until_heard = async || {
        let mut said = say().await;
        let hearing = async {
            loop {
                match tokio::time::timeout(Duration::from_millis(500), heard.recv()).await {
                    Ok(notice) if notice.as_ref().is_ok_and(|notice| notice.notes.contains(&said)) => {
                        return notice.expect("one");
                    }
                    Ok(_) => {}
                    Err(_) => said = say().await,
                }
            }
        };
        assert!(tokio::time::timeout(PATIENCE, hearing).await.expect("heard").due);
    };
    until_heard().await;

    let mut operator = raw(&database).await;
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .execute(&mut operator)
    .await
    .expect("executed");
    operator.close().await.expect("closed");
    // All connections of both stores are broken. A sender is not affected, and a listener reconnects.
    until_heard().await;
    while let Ok(notice) = own.try_recv() {
        assert_eq!(notice.notes, [], "nobody hears himself");
    }
}

/// A reader that continues after the last event that it saw misses none, whichever commits first.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn event_reader_misses_nothing_with_concurrent_writers() {
    const WRITERS: usize = 8;
    const NOTES: usize = 30;
    let Some(database) = Database::make().await else { return };
    let stores: [Any; 3] = handles(&database).await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = stores[writer % 3].clone();
        writers.spawn(async move {
            for _ in 0..NOTES {
                let new = new_note("t", "c", &writer.to_string(), start());
                store.accept(&new).await.expect("accepted");
                let mut cancelled = new.note.clone();
                cancelled.status = Status::Canceled;
                assert!(store.cancel(&cancelled, false).await.expect("answered"));
            }
        });
    }
    let reading = async {
        let (mut seen, mut position) = (Vec::new(), None);
        while seen.len() < WRITERS * NOTES {
            let wanted = EventQuery { tenant: "t", note: None, after: position.as_deref(), limit: 10 };
            let events = stores[2].events(&wanted).await.expect("events");
            seen.extend(events.iter().map(|event| event.subject.id().note().expect("a note")));
            position = events.last().map(|event| event.position.clone()).or(position);
        }
        seen
    };
    let seen = tokio::time::timeout(PATIENCE, reading).await.expect("every event is seen");
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), WRITERS * NOTES, "each once");
    writers.join_all().await;
}

/// The critical moment: a later event is committed while an earlier one has a place and is not yet committed.
#[tokio::test]
async fn event_reader_waits_for_uncommitted_earlier_events() {
    let Some(database) = Database::make().await else { return };
    let [store, reader] = handles(&database).await;
    let notes = ["first", "second"].map(|recipient| new_note("t", "c", recipient, start()));
    for new in &notes {
        store.accept(new).await.expect("accepted");
    }
    let mut raw = raw(&database).await;
    let mut slow = raw.begin().await.expect("begun");
    sqlx::query(
        "INSERT INTO events (id, tenant, note_id, kind, at, doc)
         SELECT 'ev_00000000-0000-7000-8000-000000000000', tenant, id, 'voice.canceled', 0, doc FROM notes WHERE id = $1",
    )
    .bind(notes[0].note.id.to_string())
    .execute(&mut *slow)
    .await
    .expect("inserted");
    sqlx::query("SET CONSTRAINTS ALL IMMEDIATE").execute(&mut *slow).await.expect("placed");
    let mut cancelled = notes[1].note.clone();
    cancelled.status = Status::Canceled;
    assert!(store.cancel(&cancelled, false).await.expect("answered"));

    let reading = tokio::spawn(async move {
        let wanted = EventQuery { tenant: "t", note: None, after: None, limit: 10 };
        reader.events(&wanted).await.expect("events")
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!reading.is_finished(), "the first may still come");
    slow.commit().await.expect("committed");
    let events = tokio::time::timeout(PATIENCE, reading).await.expect("in time").expect("no panic");
    let seen: Vec<_> = events.iter().map(|event| event.subject.id().note().expect("a note")).collect();
    assert_eq!(seen, notes.map(|new| new.note.id));
}

/// Receipts arrive at any moment of an attempt, including the commit of its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_receipt_is_lost_between_two_processes() {
    const NOTES: usize = 60;
    let Some(database) = Database::make().await else { return };
    let [sender, receiver] = handles(&database).await;
    let mut tasks = JoinSet::new();
    let mut ids = Vec::new();
    for number in 0..NOTES {
        let new = new_note("t", "c", &number.to_string(), start());
        ids.push(new.note.id);
        sender.accept(&new).await.expect("accepted");
        let (sender, receiver) = (sender.clone(), receiver.clone());
        let name = format!("m-{number}");
        let receipt = Receipt {
            message_id: name.clone(),
            correlation_id: None,
            guess: None,
            status: ReceiptStatus::Delivered,
            at: after(3),
            failure: None,
            trace: None,
        };
        let received = ReceiptBatch {
            tenant: "t".to_owned(),
            connection: "c".to_owned(),
            receipts: vec![ReceivedReceipt { id: name.clone(), receipt }],
            voices: Vec::new(),
            now: after(4),
            notify: true,
        };
        let claim = claim_within(&sender, start(), 1, WIDE).await.remove(0);
        tasks.spawn(async move {
            let mut note = claim.note.clone();
            (note.status, note.updated_at) = (Status::Accepted, after(2));
            note.provider_message_id = Some(name);
            sender
                .write(&claim, &Change { notify: true, ..Change::new(note, Step::Done) })
                .await
                .expect("ok");
        });
        tasks.spawn(async move {
            receiver.receive(&received).await.expect("received");
        });
    }
    tokio::time::timeout(PATIENCE, tasks.join_all()).await.expect("in time");
    for id in ids {
        let note = sender.note(id, None).await.expect("read").expect("a note");
        assert_eq!(note.status, Status::Delivered);
    }
}

#[tokio::test]
async fn unreadable_note_does_not_block_other_claims() {
    let Some(database) = Database::make().await else { return };
    let store = open(&database, Time::Caller).await;
    let notes = ["broken", "sound"].map(|recipient| new_note("t", "c", recipient, start()));
    for new in &notes {
        store.accept(new).await.expect("accepted");
    }
    let mut raw = raw(&database).await;
    let broken = sqlx::query("UPDATE notes SET doc = '{}' WHERE id = $1").bind(notes[0].note.id.to_string());
    broken.execute(&mut raw).await.expect("broken");
    let claims = claim_within(&store, start(), 10, WIDE).await;
    assert_eq!(claims.iter().map(|claim| claim.note.id).collect::<Vec<_>>(), [notes[1].note.id]);
    assert!(
        claim_within(&store, after(9999), 10, WIDE)
            .await
            .iter()
            .all(|claim| claim.note.id == notes[1].note.id)
    );
}

#[tokio::test]
async fn open_error_gives_the_reason_without_the_password() {
    let Some(database) = Database::make().await else { return };
    let gone = database.url().replace("voicegate_test_", "voicegate_none_");
    let nobody = "postgres://user:S3CRET@127.0.0.1:1/voicegate".to_owned();
    for (url, expected) in [(gone, "make it: createdb --owner="), (nobody, "see that the server runs there")]
    {
        let error = PostgresStore::open(&url, Time::Caller).await.expect_err("no such database").to_string();
        assert!(error.starts_with("storage.database: ") && error.contains(expected), "{error}");
        assert!(!error.contains("S3CRET"), "{error}");
    }
}

#[expect(clippy::disallowed_methods, reason = "the database has the real time")]
fn real_time() -> Timestamp {
    Timestamp::from_millisecond(Timestamp::now().as_millisecond()).expect("a time")
}

/// Moves the server's clock as the queue sees it.
async fn set_server_clock(operator: &mut PgConnection, by_seconds: i64) {
    let set = sqlx::query("UPDATE clock SET offset_ms = offset_ms + $1").bind(by_seconds * 1000);
    set.execute(operator).await.expect("set");
}

#[tokio::test]
async fn queue_continues_evenly_after_the_servers_clock_is_set() {
    for hour in [-3600, 3600] {
        let Some(database) = Database::make().await else { return };
        let (one, other) = (open(&database, Time::Database).await, open(&database, Time::Database).await);
        let mut operator = raw(&database).await;
        for store in [&one, &other] {
            assert!(claim_within(store, real_time(), 9, WIDE).await.is_empty());
        }
        let new = new_note("t", "c", "r", real_time());
        one.accept(&new).await.expect("accepted");
        let leased = claim_within(&one, real_time(), 9, WIDE).await.remove(0);
        set_server_clock(&mut operator, hour).await;
        assert!(
            claim_within(&other, real_time(), 9, WIDE).await.is_empty(),
            "{hour}: the lease has hardly begun"
        );
        let mut note = leased.note.clone();
        note.updated_at = real_time();
        let due = note.updated_at + PATIENCE;
        one.write(&leased, &Change::new(note, retry(due))).await.expect("written");
        let later = new_note("t", "c", "r", real_time());
        other.accept(&later).await.expect("accepted");
        let overtaking = claim_within(&one, real_time(), 9, WIDE).await;
        assert!(overtaking.is_empty(), "{hour}: the later one waits for the retry");
        let next = one.next_due(real_time()).await.expect("an answer").expect("a time");
        let off = next.duration_since(due).abs();
        assert!(off < Duration::from_secs(20).try_into().expect("short"), "{hour}: it is {off} off");
        operator.close().await.expect("closed");
    }
}
