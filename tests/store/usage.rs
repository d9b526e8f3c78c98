//! Tests of the usage of tenants, run for every store: each note counts once, whatever becomes of it.

use std::collections::BTreeMap;

use jiff::civil::date;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use voicegate::{
    model::{
        note::{Attempt, Note, NoteId, Outcome, SentAudio, Status},
        usage::{Days, UsageBy, UsageGroup, Used},
    },
    store::{Change, Claim, Step, UsageQuery},
};
use voicegate_audio::Work;
use voicegate_providers::AudioFacts;

use crate::{
    lists::upload,
    support::{Any, after, claim, horizon, new_note, retry, start},
};

const DAY: u64 = 24 * 60 * 60;

/// Notes, milliseconds, bytes in, bytes out and attempts.
type Sum = (u64, u64, u64, u64, u64);

/// The sums of each group of a tenant, over all days.
type Sums = BTreeMap<(String, String), Sum>;

async fn usage(store: &Any, tenant: &str, by: UsageBy) -> Sums {
    usage_of(store, tenant, by, Days { first: date(2026, 1, 1), last: date(2026, 12, 31) }).await
}

async fn usage_of(store: &Any, tenant: &str, by: UsageBy, days: Days) -> Sums {
    let groups = store.usage(&UsageQuery { tenant, days, by }).await.expect("counted");
    let sums: Vec<_> = groups
        .into_iter()
        .map(|UsageGroup { key, status, used }| {
            let Used { notes, ms, bytes_in, bytes_out, attempts } = used;
            ((key, status), (notes, ms, bytes_in, bytes_out, attempts))
        })
        .collect();
    assert!(sums.is_sorted_by_key(|(key, _)| key), "{sums:?}");
    let count = sums.len();
    let sums: Sums = sums.into_iter().collect();
    assert_eq!(sums.len(), count, "one sum for each group");
    sums
}

fn sums(groups: &[(&str, &str, Sum)]) -> Sums {
    groups.iter().map(|(key, status, used)| (((*key).to_owned(), (*status).to_owned()), *used)).collect()
}

/// The note after `attempts` attempts, with this much audio as received and as sent.
fn worked_on(note: &Note, status: Status, (bytes_in, bytes_out): (u64, u64), attempts: u32) -> Note {
    let mut probed = upload("t", start()).probed;
    (probed.facts.size_bytes, probed.facts.duration_ms) = (bytes_in, 10 * bytes_in);
    let facts = AudioFacts { size_bytes: bytes_out, ..probed.facts.clone() };
    let sent = SentAudio { facts, profile: "linq-1".to_owned(), work: Work::Transcoded, checks: Vec::new() };
    let last = Attempt {
        n: attempts,
        connection: note.current().connection.clone(),
        outcome: if status.is_accepted() { Outcome::Accepted } else { Outcome::Deferred },
        at: note.created_at,
        took_ms: 1,
        trace: None,
        error: None,
    };
    Note {
        status,
        probed: Some(probed),
        sent: Some(sent),
        attempts: if attempts > 0 { vec![last] } else { Vec::new() },
        ..note.clone()
    }
}

async fn accepted(store: &Any, tenant: &str, connection: &str, seconds: u64) -> NoteId {
    let new = new_note(tenant, connection, &NoteId::new().to_string(), after(seconds));
    store.accept(&new).await.expect("accepted");
    new.note.id
}

async fn claimed(store: &Any, id: NoteId) -> Claim {
    let claims = claim(store, after(400 * DAY)).await;
    claims.into_iter().find(|claim| claim.note.id == id).expect("leased")
}

async fn write(store: &Any, claim: &Claim, note: Note, step: Step) {
    store.write(claim, &Change::new(note, step)).await.expect("written");
}

pub async fn usage_counts_each_note_once_with_its_present_status(store: Any) {
    assert_eq!(usage(&store, "t", UsageBy::Day).await, sums(&[]));
    let first = accepted(&store, "t", "c", 0).await;
    accepted(&store, "u", "c", 0).await;
    assert_eq!(usage(&store, "t", UsageBy::Status).await, sums(&[("queued", "queued", (1, 0, 0, 0, 0))]));

    let lease = claimed(&store, first).await;
    let note = worked_on(&lease.note, Status::Sending, (100, 40), 1);
    write(&store, &lease, note.clone(), Step::Dispatching).await;
    write(&store, &lease, Note { status: Status::Accepted, ..note }, Step::Done).await;
    assert_eq!(
        usage(&store, "t", UsageBy::Connection).await,
        sums(&[("c", "accepted", (1, 1000, 100, 40, 1))]),
        "each write replaces what the one before has counted"
    );

    // The second note moves to the next connection of its route.
    let second = accepted(&store, "t", "c", DAY + 5).await;
    let lease = claimed(&store, second).await;
    let mut note = worked_on(&lease.note, Status::Queued, (7, 3), 2);
    assert!(note.next_connection());
    write(&store, &lease, note, retry(after(0))).await;
    assert_eq!(
        usage(&store, "t", UsageBy::Connection).await,
        sums(&[("c", "accepted", (1, 1000, 100, 40, 1)), ("next", "queued", (1, 70, 7, 0, 2))])
    );
    let lease = claimed(&store, second).await;
    let note = worked_on(&lease.note, Status::Failed, (7, 3), 3);
    write(&store, &lease, note, Step::Done).await;

    let (new_year, next_day) = ("20454", "20455");
    assert_eq!(
        usage(&store, "t", UsageBy::Day).await,
        sums(&[(new_year, "accepted", (1, 1000, 100, 40, 1)), (next_day, "failed", (1, 70, 7, 3, 3)),])
    );
    for (first, last, expected) in [
        (date(2026, 1, 1), date(2026, 1, 1), vec![new_year]),
        (date(2026, 1, 2), date(2026, 1, 2), vec![next_day]),
        (date(2025, 12, 31), date(2026, 1, 2), vec![new_year, next_day]),
        (date(2026, 1, 3), date(2026, 12, 31), vec![]),
        (date(2025, 1, 1), date(2025, 12, 31), vec![]),
    ] {
        let found = usage_of(&store, "t", UsageBy::Day, Days { first, last }).await;
        let days: Vec<&str> = found.keys().map(|(day, _)| day.as_str()).collect();
        assert_eq!(days, expected, "{first} to {last}");
    }
    assert_eq!(usage(&store, "u", UsageBy::Day).await.len(), 1, "tenants are counted apart");
    assert_eq!(usage(&store, "nobody", UsageBy::Day).await, sums(&[]));
}

pub async fn usage_outlives_erasure_and_removal_of_its_notes(store: Any) {
    for (seconds, status, size) in
        [(0, Status::Accepted, 100), (1, Status::Accepted, 10), (DAY, Status::Failed, 1)]
    {
        let id = accepted(&store, "t", "c", seconds).await;
        let lease = claimed(&store, id).await;
        write(&store, &lease, worked_on(&lease.note, status, (size, size / 2), 1), Step::Done).await;
    }
    let mut before = Vec::new();
    for by in [UsageBy::Day, UsageBy::Connection, UsageBy::Status] {
        before.push((by, usage(&store, "t", by).await));
    }
    let unchanged = async |when: &str| {
        for (by, sums) in &before {
            assert_eq!(usage(&store, "t", *by).await, *sums, "{when}, by {by:?}");
        }
    };
    let wanted = crate::lists::wanted("t");
    let notes = store.notes(&wanted).await.expect("a list").notes;
    assert!(store.erase(&notes[0].clone().erased(), &[]).await.expect("erased"));
    unchanged("after erasure").await;
    // One note is removed before the others, and the two of one day join in one row.
    for note in &notes {
        store.audio_removed(note.id).await.expect("recorded");
        unchanged("without audio").await;
        store.forget(&horizon(after(500 * DAY))).await.expect("forgotten");
        unchanged("after removal").await;
    }
    assert!(store.notes(&wanted).await.expect("a list").notes.is_empty());
    // New notes of the same day are added to those that are gone.
    accepted(&store, "t", "c", 5).await;
    let total: u64 = usage(&store, "t", UsageBy::Day).await.values().map(|used| used.0).sum();
    assert_eq!(total, 4);
}

/// A random change of one note.
#[derive(Clone, Copy, Debug)]
enum Event {
    Accept {
        tenant: u8,
        connection: u8,
        day: u8,
    },
    Try {
        which: usize,
        end: Status,
        bytes: u16,
    },
    Erase {
        which: usize,
    },
    /// Removes the audio of a note that has ended, and the note with it.
    Remove {
        which: usize,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let end = prop_oneof![
        3 => Just(Status::Accepted),
        1 => Just(Status::Failed),
        1 => Just(Status::Expired),
        1 => Just(Status::Unknown),
        2 => Just(Status::Queued),
    ];
    let event = prop_oneof![
        3 => (0..2_u8, 0..2_u8, 0..3_u8)
            .prop_map(|(tenant, connection, day)| Event::Accept { tenant, connection, day }),
        4 => (any::<usize>(), end, any::<u16>())
            .prop_map(|(which, end, bytes)| Event::Try { which, end, bytes }),
        1 => any::<usize>().prop_map(|which| Event::Erase { which }),
        2 => any::<usize>().prop_map(|which| Event::Remove { which }),
    ];
    prop::collection::vec(event, 1..40)
}

struct Known {
    id: NoteId,
    tenant: String,
    connection: String,
    day: u64,
    status: Status,
    used: (u64, u64, u64, u64, u64),
    removed: bool,
}

impl Known {
    fn has_ended(&self) -> bool {
        self.status.is_ended()
    }
}

async fn apply(store: &Any, known: &mut Vec<Known>, event: Event) {
    let ended = |known: &[Known], which: usize| {
        let ended: Vec<usize> =
            (0..known.len()).filter(|n| known[*n].has_ended() && !known[*n].removed).collect();
        ended.get(which % ended.len().max(1)).copied()
    };
    match event {
        Event::Accept { tenant, connection, day } => {
            let (tenant, connection) = (format!("t{tenant}"), format!("c{connection}"));
            let day = u64::from(day);
            let id = accepted(store, &tenant, &connection, day * DAY).await;
            let used = (1, 0, 0, 0, 0);
            known.push(Known { id, tenant, connection, day, status: Status::Queued, used, removed: false });
        }
        Event::Try { which, end, bytes } => {
            let open: Vec<usize> = (0..known.len()).filter(|n| !known[*n].has_ended()).collect();
            let Some(n) = open.get(which % open.len().max(1)).copied() else { return };
            let lease = claimed(store, known[n].id).await;
            let (bytes, attempts) = (u64::from(bytes), known[n].used.4 + 1);
            let note = worked_on(&lease.note, end, (bytes, bytes / 3), u32::try_from(attempts).expect("few"));
            let step = if end == Status::Queued { retry(after(0)) } else { Step::Done };
            write(store, &lease, note, step).await;
            // The others that were leased with it wait again.
            store.end_all_leases(after(400 * DAY)).await.expect("ended");
            known[n].status = end;
            known[n].used = (1, 10 * bytes, bytes, bytes / 3, attempts);
        }
        Event::Erase { which } => {
            let Some(n) = ended(known, which) else { return };
            let note = store.note(known[n].id, None).await.expect("read").expect("there");
            assert!(store.erase(&note.erased(), &[]).await.expect("erased"));
        }
        Event::Remove { which } => {
            let Some(n) = ended(known, which) else { return };
            store.audio_removed(known[n].id).await.expect("recorded");
            store.forget(&horizon(after(500 * DAY))).await.expect("forgotten");
            assert!(store.note(known[n].id, None).await.expect("read").is_none());
            known[n].removed = true;
        }
    }
}

/// What the usage of a tenant has to be: a plain sum over everything that was ever accepted.
fn expected(known: &[Known], tenant: &str, by: UsageBy) -> Sums {
    let mut sums = Sums::new();
    for note in known.iter().filter(|note| note.tenant == tenant) {
        let status = note.status.as_str().to_owned();
        let key = match by {
            UsageBy::Day => (20_454 + note.day).to_string(),
            UsageBy::Connection => note.connection.clone(),
            UsageBy::Status => status.clone(),
        };
        let sum = sums.entry((key, status)).or_default();
        let (notes, ms, bytes_in, bytes_out, attempts) = note.used;
        *sum = (sum.0 + notes, sum.1 + ms, sum.2 + bytes_in, sum.3 + bytes_out, sum.4 + attempts);
    }
    sums
}

/// Compares the usage after every event with a plain sum, for random sequences of events, each on a store of its own.
pub fn explore<F: Future<Output = (Any, K)>, K>(cases: u32, fresh: impl Fn() -> F) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let config = Config { cases, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&events(), |events| {
            runtime.block_on(async {
                let (store, _keep) = fresh().await;
                let mut known = Vec::new();
                for event in events {
                    apply(&store, &mut known, event).await;
                    for by in [UsageBy::Day, UsageBy::Connection, UsageBy::Status] {
                        for tenant in ["t0", "t1"] {
                            let found = usage(&store, tenant, by).await;
                            prop_assert_eq!(
                                found,
                                expected(&known, tenant, by),
                                "by {:?} after {:?}",
                                by,
                                event
                            );
                        }
                    }
                }
                Ok(())
            })
        })
        .unwrap_or_else(|error| panic!("{error}"));
}
