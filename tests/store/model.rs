//! Comparison of the queue with a simple model: after any sequence of events, the store leases exactly the deliveries
//! that the model predicts.

use std::{collections::BTreeMap, time::Duration};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use voicegate::{
    model::note::{NoteId, Status},
    store::{Bounds, Change, Claim, ClaimRequest, ReceiptBatch, ReceivedReceipt, SlotsByClass, Step},
};
use voicegate_providers::{Receipt, ReceiptStatus};

use crate::support::{Any, after, new_note, retry};

const LEASE: u64 = 60;

/// A random event. Numbers select among the existing items.
#[derive(Clone, Debug)]
enum Event {
    Accept { lane: u8, in_seconds: u64 },
    Claim,
    End { which: usize, end: End },
    Cancel { which: usize },
    Receipt { which: usize },
    Pass { seconds: u64 },
}

#[derive(Clone, Copy, Debug)]
enum End {
    Dispatching,
    Done,
    Retry(u64),
    Hold(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let end = prop_oneof![
        Just(End::Dispatching),
        Just(End::Done),
        (0..40_u64).prop_map(End::Retry),
        (0..40_u64).prop_map(End::Hold),
    ];
    let event = prop_oneof![
        3 => (0..3_u8, prop_oneof![Just(0), 0..40_u64])
            .prop_map(|(lane, in_seconds)| Event::Accept { lane, in_seconds }),
        3 => Just(Event::Claim),
        4 => (any::<usize>(), end).prop_map(|(which, end)| Event::End { which, end }),
        1 => any::<usize>().prop_map(|which| Event::Cancel { which }),
        1 => any::<usize>().prop_map(|which| Event::Receipt { which }),
        2 => (0..90_u64).prop_map(|seconds| Event::Pass { seconds }),
    ];
    prop::collection::vec(event, 1..60)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Queued { due: u64 },
    Leased { until: u64 },
    Sending { until: u64 },
    Held { until: u64 },
    Gone,
}

struct Known {
    id: NoteId,
    lane: u8,
    /// Time at which it first became due, and number of notes accepted before it.
    order: (u64, usize),
    state: State,
    /// Fence of the newest lease.
    claim: Option<Claim>,
    /// Whether the provider may have it.
    is_named: bool,
    /// Whether a receipt came while it was leased.
    has_receipt: bool,
}

impl Known {
    fn is_under_way(&self) -> bool {
        matches!(self.state, State::Leased { .. } | State::Sending { .. } | State::Held { .. })
    }
}

#[derive(Default)]
struct Model {
    now: u64,
    notes: Vec<Known>,
}

impl Model {
    /// Predicts the deliveries that a claim leases now, and whether each was interrupted.
    fn claimable(&mut self) -> BTreeMap<NoteId, bool> {
        let now = self.now;
        for note in &mut self.notes {
            if matches!(note.state, State::Held { until } if until <= now) {
                note.state = State::Gone;
            }
        }
        let mut out = BTreeMap::new();
        for note in &self.notes {
            match note.state {
                State::Leased { until } if until <= now => drop(out.insert(note.id, false)),
                State::Sending { until } if until <= now => drop(out.insert(note.id, true)),
                _ => {}
            }
        }
        for lane in 0..3 {
            let in_lane = || self.notes.iter().filter(move |note| note.lane == lane);
            if in_lane().any(Known::is_under_way) {
                continue;
            }
            let waiting = in_lane().filter(|note| matches!(note.state, State::Queued { .. }));
            if let Some(first) = waiting.min_by_key(|note| note.order)
                && matches!(first.state, State::Queued { due } if due <= now)
            {
                out.insert(first.id, false);
            }
        }
        out
    }

    fn depth(&self) -> usize {
        self.notes.iter().filter(|note| note.state != State::Gone).count()
    }
}

async fn play(store: &Any, events: &[Event]) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    for event in events {
        step(store, &mut model, event).await?;
        let depth = store.queue_depth().await.expect("a number");
        prop_assert_eq!(depth, model.depth() as u64, "after {:?}", event);
    }
    Ok(())
}

async fn step(store: &Any, model: &mut Model, event: &Event) -> Result<(), TestCaseError> {
    let now = model.now;
    match event {
        Event::Pass { seconds } => model.now += seconds,
        Event::Accept { lane, in_seconds } => {
            let mut new = new_note("t", "a", &format!("+{lane}"), after(now));
            new.note.send_at = Some(after(now + in_seconds));
            new.note.expires_at = after(1_000_000);
            store.accept(&new).await.expect("accepted");
            let due = now + in_seconds;
            let order = (due, model.notes.len());
            let state = State::Queued { due };
            let (claim, is_named, has_receipt) = (None, false, false);
            model.notes.push(Known {
                id: new.note.id,
                lane: *lane,
                order,
                state,
                claim,
                is_named,
                has_receipt,
            });
        }
        Event::Claim => {
            let expected = model.claimable();
            let request = ClaimRequest {
                now: after(now),
                lease_until: after(now + LEASE),
                slots: SlotsByClass::each(1000, 0),
                held: &[],
                bounds: &|_| Bounds::of(1000, None),
            };
            let claims = store.claim(&request).await.expect("claimed").notes;
            let got: BTreeMap<_, _> = claims.iter().map(|claim| (claim.note.id, claim.interrupted)).collect();
            prop_assert_eq!(got.len(), claims.len(), "each once");
            prop_assert_eq!(got, expected);
            for claim in claims {
                let note = model.notes.iter_mut().find(|note| note.id == claim.note.id).expect("known");
                let until = now + LEASE;
                note.state =
                    if claim.interrupted { State::Sending { until } } else { State::Leased { until } };
                note.claim = Some(claim);
            }
        }
        Event::End { which, end } => {
            let mut leased: Vec<_> = model
                .notes
                .iter_mut()
                .filter(|note| matches!(note.state, State::Leased { .. } | State::Sending { .. }))
                .collect();
            if !leased.is_empty() {
                let which = which % leased.len();
                finish(store, leased.swap_remove(which), *end, now).await?;
            }
        }
        Event::Cancel { which } => {
            if model.notes.is_empty() {
                return Ok(());
            }
            let which = which % model.notes.len();
            let known = &mut model.notes[which];
            let mut note = store.note(known.id, None).await.expect("an answer").expect("the note");
            note.status = Status::Canceled;
            let canceled = store.cancel(&note, false).await.expect("answered");
            prop_assert_eq!(canceled, matches!(known.state, State::Queued { .. }));
            if canceled {
                known.state = State::Gone;
            }
        }
        Event::Receipt { which } => {
            let mut named: Vec<_> = model.notes.iter_mut().filter(|note| note.is_named).collect();
            if !named.is_empty() {
                let which = which % named.len();
                receive(store, named.swap_remove(which), now).await;
            }
        }
    }
    Ok(())
}

async fn finish(store: &Any, known: &mut Known, end: End, now: u64) -> Result<(), TestCaseError> {
    let claim = known.claim.clone().expect("leased");
    let mut note = claim.note.clone();
    note.updated_at = after(now);
    note.correlation_ids = vec![known.id.to_string()];
    let (status, step) = match end {
        End::Dispatching => (Status::Sending, Step::Dispatching),
        End::Done => (Status::Accepted, Step::Done),
        End::Retry(seconds) => (Status::Queued, retry(after(now + seconds))),
        End::Hold(seconds) => (Status::Unknown, Step::Hold { until: after(now + seconds) }),
    };
    note.status = status;
    if status == Status::Accepted {
        note.provider_message_id = Some(format!("message {}", known.id));
    }
    let written = store.write(&claim, &Change::new(note, step)).await;
    if matches!((end, known.state), (End::Dispatching, State::Sending { .. })) {
        prop_assert!(written.is_err(), "what is being sent is not sent again");
        return Ok(());
    }
    written.expect("nobody else has it");
    known.is_named |= matches!(end, End::Dispatching | End::Done);
    known.state = match (end, known.state) {
        (End::Dispatching, State::Leased { until }) => State::Sending { until },
        (End::Retry(seconds), _) => State::Queued { due: now + seconds },
        (End::Hold(seconds), _) => State::Held { until: now + seconds },
        _ => State::Gone,
    };
    // A receipt that waited says that the note has arrived.
    if known.has_receipt && !matches!(end, End::Dispatching) {
        known.state = State::Gone;
    }
    Ok(())
}

async fn receive(store: &Any, known: &mut Known, now: u64) {
    let receipt = Receipt {
        message_id: format!("message {}", known.id),
        correlation_id: Some(known.id.to_string()),
        guess: None,
        status: ReceiptStatus::Sent,
        at: after(now),
        failure: None,
        trace: None,
    };
    let received = ReceiptBatch {
        tenant: "t".to_owned(),
        connection: "a".to_owned(),
        receipts: vec![ReceivedReceipt { id: uuid::Uuid::now_v7().to_string(), receipt }],
        voices: Vec::new(),
        now: after(now),
        notify: false,
    };
    store.receive(&received).await.expect("received");
    match known.state {
        // The holder of the lease applies the receipt at the end.
        State::Leased { .. } | State::Sending { .. } => known.has_receipt = true,
        _ => known.state = State::Gone,
    }
}

/// Runs random sequences of events, each on a store of its own.
pub fn explore<F: Future<Output = (Any, K)>, K>(cases: u32, fresh: impl Fn() -> F) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let config = Config { cases, max_shrink_iters: 400, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&events(), |events| {
            runtime.block_on(async {
                let (store, _keep) = fresh().await;
                tokio::time::timeout(Duration::from_secs(60), play(&store, &events)).await.expect("in time")
            })
        })
        .unwrap_or_else(|error| panic!("{error}"));
}
