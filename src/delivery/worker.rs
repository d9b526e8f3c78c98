//! The worker: leases due jobs, runs them concurrently, and sleeps until the next job can be due.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio_util::task::TaskTracker;

use super::{attempt, fetch, housekeeping, inbound, presence, retell, tasks, transcribe, watch, webhook};
use crate::{
    gateway::Gateway,
    store::{Claim, ClaimRequest, Class, Job, ReceivedClaim, ReceivedJob, SlotsByClass, StoreError},
};

/// With this many jobs in flight, each query of the queue is followed by a pause of the same length. Jobs that end at
/// nearly the same time then share the next query, which costs about as much for one note as for many. Processes that
/// share a database take turns at it.
const MUCH: usize = 8;

/// A claim that finds at most this many jobs has found all that are due: it reads no less of each connection. The next
/// claim waits for news.
const FEW: usize = 3;

/// The longest pause.
const PAUSE: Duration = Duration::from_millis(20);

/// The pause after the queue could not be read.
const BREATH: Duration = Duration::from_secs(1);

/// The longest sleep. Another process on the same database may add jobs without waking this one.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The interval at which expired audio and notes are removed.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// Audio without a note is removed once in this many rounds.
const ORPHANS: u64 = 60;

#[derive(Debug)]
pub struct Worker {
    gateway: Arc<Gateway>,
    tries: TaskTracker,
    leases: Leases,
}

/// The jobs in flight, by delivery.
type Leases = Arc<Mutex<HashMap<i64, Held>>>;

#[derive(Debug)]
struct Held {
    fence: i64,
    class: Class,
    /// `TENANT/CONNECTION`, the key by which the queue limits concurrency.
    connection: String,
}

impl Worker {
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway, tries: TaskTracker::new(), leases: Arc::default() }
    }

    /// Works until the gateway stops, then waits at most `server.shutdown_grace` for the jobs in flight.
    pub async fn run(self) {
        let stop = self.gateway.stop.clone();
        let housekeeping = tokio::spawn(keep_house(self.gateway.clone()));
        let renewing = tokio::spawn(renew(self.gateway.clone(), self.leases.clone()));
        let tasks = tokio::spawn(tasks::run(self.gateway.clone()));
        while !stop.is_cancelled() {
            let now = self.gateway.clock.now();
            let begun = Instant::now();
            let Ok(found) = self.claim(now).await else {
                // Jobs that became due in the meantime are claimed as soon as the database is back.
                let _ = stop.run_until_cancelled(tokio::time::sleep(BREATH)).await;
                continue;
            };
            let pause = tokio::time::sleep(begun.elapsed().min(PAUSE));
            if found <= FEW {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = self.news_after(now) => {}
                }
            }
            if self.tries.len() >= MUCH {
                pause.await;
            }
        }
        self.tries.close();
        let grace = self.gateway.live().config.server.shutdown_grace.0;
        if tokio::time::timeout(grace, self.tries.wait()).await.is_err() {
            tracing::warn!(
                in_flight = self.tries.len(),
                "stopping with requests in flight; notes that were being sent will be unknown"
            );
        }
        housekeeping.abort();
        renewing.abort();
        tasks.abort();
        self.gateway.drained.cancel();
    }

    /// Leases and starts as many jobs as there are free slots, and returns their number.
    async fn claim(&self, now: Timestamp) -> Result<usize, StoreError> {
        let live = self.gateway.live();
        let (slots, held) = self.slots(live.config.delivery.in_flight);
        if slots.are_full() {
            return Ok(0);
        }
        let request = ClaimRequest {
            now,
            lease_until: now + self.gateway.store.renewed_lease().unwrap_or_else(|| live.lease()),
            slots,
            held: &held,
            bounds: &|connection| self.gateway.server_slots.narrow(connection, live.bounds(connection)),
        };
        let claims = self.gateway.store.claim(&request).await;
        let claims = claims
            .inspect_err(|error| tracing::error!(%error, "the queue cannot be read; it is tried again"))?;
        let count = claims.len();
        for claim in claims.notes {
            let gateway = self.gateway.clone();
            let held = Held { fence: claim.fence, class: claim.class, connection: claim.connection.clone() };
            let delivering = matches!(claim.job, Job::Send).then(|| gateway.accept_gate.delivering());
            self.start(claim.delivery, held, async move {
                let _delivering = delivering;
                run(&gateway, claim).await;
            });
        }
        for claim in claims.received {
            let gateway = self.gateway.clone();
            let held = Held { fence: claim.fence, class: claim.class, connection: claim.connection.clone() };
            self.start(claim.delivery, held, async move { run_received(&gateway, claim).await });
        }
        Ok(count)
    }

    /// Does the work of a leased job in a task of its own.
    fn start(&self, delivery: i64, held: Held, work: impl Future<Output = ()> + Send + 'static) {
        lock(&self.leases).insert(delivery, held);
        let leases = self.leases.clone();
        let running = self.tries.spawn(work);
        let gateway = self.gateway.clone();
        tokio::spawn(async move {
            if running.await.is_err() {
                tracing::error!("a job panicked; its note is claimed again when its lease ends");
            }
            lock(&leases).remove(&delivery);
            // The next note of the lane and a slot of the connection are free now.
            gateway.wake_worker();
        });
    }

    /// The free slots of every class, and the deliveries that hold the others.
    fn slots(&self, in_flight: usize) -> (SlotsByClass, Vec<i64>) {
        let leases = lock(&self.leases);
        let of = |class| leases.values().filter(move |held: &&Held| held.class == class);
        let connections = |class| of(class).map(|held| held.connection.as_str());
        let slots =
            SlotsByClass::new(|class| self.gateway.server_slots.room(class, in_flight, connections(class)));
        (slots, leases.keys().copied().collect())
    }

    /// Waits until `claim` may find jobs that were not there at `now`.
    async fn news_after(&self, now: Timestamp) {
        let due = self.gateway.store.next_due(now).await.ok().flatten();
        let due = async {
            match due {
                Some(at) => self.gateway.clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.gateway.woken() => {}
            () = due => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

/// The map contains plain values, which a panic cannot leave half changed.
fn lock(leases: &Leases) -> MutexGuard<'_, HashMap<i64, Held>> {
    leases.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Renews the leases of the jobs in flight, several times before they end. This uses the machine's own time, because
/// the leases of a store that other processes share end in real time.
async fn renew(gateway: Arc<Gateway>, leases: Leases) {
    let Some(lease) = gateway.store.renewed_lease() else { return };
    let mut turns = tokio::time::interval(lease / 15);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let held: Vec<_> = lock(&leases).iter().map(|(delivery, held)| (*delivery, held.fence)).collect();
        let now = gateway.clock.now();
        if !held.is_empty()
            && let Err(error) = gateway.store.renew(&held, now, now + lease).await
        {
            tracing::warn!(%error, "leases could not be renewed; it is tried again");
        }
    }
}

/// Runs a job.
async fn run(gateway: &Arc<Gateway>, claim: Claim) {
    match &claim.job {
        Job::Send => attempt::run(gateway, claim).await,
        Job::Fetch => {
            presence::begin(gateway, &claim.note);
            fetch::run(gateway, claim).await;
        }
        Job::Webhook(event) => webhook::run(gateway, &(&claim).into(), event).await,
        Job::Overdue => watch::overdue(gateway, &claim).await,
        Job::LookUp => watch::look_up(gateway, &claim).await,
    }
}

/// Runs a job of a received note.
async fn run_received(gateway: &Gateway, claim: ReceivedClaim) {
    match &claim.job {
        ReceivedJob::Receive => Box::pin(inbound::run(gateway, claim)).await,
        ReceivedJob::Transcribe => Box::pin(transcribe::run(gateway, claim)).await,
        ReceivedJob::Webhook(event) => webhook::run(gateway, &(&claim).into(), event).await,
    }
}

async fn keep_house(gateway: Arc<Gateway>) {
    for round in 0_u64.. {
        if round % ORPHANS == 0
            && let Err(error) = housekeeping::remove_orphans(&gateway).await
        {
            tracing::error!(%error, "audio without a note could not be removed");
        }
        if let Err(error) = housekeeping::remove_what_is_old(&gateway).await {
            tracing::error!(%error, "old audio and notes could not be removed");
        }
        if let Err(error) = retell::resume_changed(&gateway).await {
            tracing::error!(%error, "the pauses of webhooks could not be read");
        }
        let next = gateway.clock.now() + HOUSEKEEPING;
        tokio::select! {
            () = gateway.stop.cancelled() => return,
            () = gateway.clock.sleep_until(next) => {}
        }
    }
}
