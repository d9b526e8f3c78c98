//! The worker: leases what is due, runs tries side by side, and sleeps until something can be due again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio_util::task::TaskTracker;

use super::{attempt, fetch, housekeeping, tell, watch};
use crate::{
    gateway::Gateway,
    store::{Claim, ClaimRequest, Class, Job, Rooms, StoreError},
};

/// Where this much is in flight, a look at the queue is followed by a pause as long as the look, so that what ends at
/// nearly the same time shares the next one: it costs about as much for one note as for many, and processes that share a
/// database take turns at it.
const MUCH: usize = 8;

/// The longest pause.
const PAUSE: Duration = Duration::from_millis(20);

/// How long the queue is left alone after it could not be read.
const BREATH: Duration = Duration::from_secs(1);

/// With another process on the same database, news can come without a wake-up.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How often old audio and notes are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// Every how many rounds of it audio without a note is looked for.
const ORPHANS: u64 = 60;

#[derive(Debug)]
pub struct Worker {
    gateway: Arc<Gateway>,
    tries: TaskTracker,
    leases: Leases,
}

/// What is in flight, by delivery.
type Leases = Arc<Mutex<HashMap<i64, Held>>>;

#[derive(Debug)]
struct Held {
    fence: i64,
    class: Class,
    /// `TENANT/CONNECTION`, by which the queue bounds it.
    connection: String,
}

impl Worker {
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway, tries: TaskTracker::new(), leases: Arc::default() }
    }

    /// Works until the gateway stops, then lets what is in flight finish for at most `server.shutdown_grace`.
    pub async fn run(self) {
        let stop = self.gateway.stop.clone();
        let housekeeping = tokio::spawn(keep_house(self.gateway.clone()));
        let renewing = tokio::spawn(renew(self.gateway.clone(), self.leases.clone()));
        while !stop.is_cancelled() {
            let now = self.gateway.clock.now();
            let begun = Instant::now();
            let Ok(found) = self.claim(now).await else {
                // What was due meanwhile is due at once when the database is back.
                let _ = stop.run_until_cancelled(tokio::time::sleep(BREATH)).await;
                continue;
            };
            let pause = tokio::time::sleep(begun.elapsed().min(PAUSE));
            if found == 0 {
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
        self.gateway.drained.cancel();
    }

    /// Leases as much as there is room for and starts it; how much that was.
    async fn claim(&self, now: Timestamp) -> Result<usize, StoreError> {
        let live = self.gateway.live();
        let (rooms, held) = self.rooms(live.config.delivery.in_flight);
        if rooms.are_full() {
            return Ok(0);
        }
        let request = ClaimRequest {
            now,
            lease_until: now + self.gateway.store.renewed_lease().unwrap_or_else(|| live.lease()),
            rooms,
            held: &held,
            bounds: &|connection| self.gateway.server_slots.narrow(connection, live.bounds(connection)),
        };
        let claims = self.gateway.store.claim(&request).await;
        let claims = claims
            .inspect_err(|error| tracing::error!(%error, "the queue cannot be read; it is tried again"))?;
        let count = claims.len();
        for claim in claims {
            let delivery = claim.delivery;
            let held = Held { fence: claim.fence, class: claim.class, connection: claim.connection.clone() };
            lock(&self.leases).insert(delivery, held);
            let leases = self.leases.clone();
            let gateway = self.gateway.clone();
            let running = self.tries.spawn(async move { run(&gateway, claim).await });
            let gateway = self.gateway.clone();
            tokio::spawn(async move {
                if running.await.is_err() {
                    tracing::error!("a try panicked; its note is taken up when its lease ends");
                }
                lock(&leases).remove(&delivery);
                // The lane's next note and the connection's next place are free now.
                gateway.wake_worker();
            });
        }
        Ok(count)
    }

    /// The free places of every class, and what has the others.
    fn rooms(&self, in_flight: usize) -> (Rooms, Vec<i64>) {
        let leases = lock(&self.leases);
        let of = |class| leases.values().filter(move |held: &&Held| held.class == class);
        let connections = |class| of(class).map(|held| held.connection.as_str());
        let rooms = Rooms::new(|class| self.gateway.server_slots.room(class, in_flight, connections(class)));
        (rooms, leases.keys().copied().collect())
    }

    /// Waits for anything after which `claim` may find more than it found at `now`.
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

/// Plain numbers, which no panic leaves half changed.
fn lock(leases: &Leases) -> MutexGuard<'_, HashMap<i64, Held>> {
    leases.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Renews the leases of what is in flight, several times before they end. By the machine's own time: what has to be
/// beaten is the real lease of a store that other processes share.
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

/// Does what the queue asks for.
async fn run(gateway: &Gateway, claim: Claim) {
    match &claim.job {
        Job::Send => attempt::run(gateway, claim).await,
        Job::Fetch => fetch::run(gateway, claim).await,
        Job::Tell(event) => tell::run(gateway, &claim, event).await,
        Job::Overdue => watch::overdue(gateway, &claim).await,
        Job::LookUp => watch::look_up(gateway, &claim).await,
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
        let next = gateway.clock.now() + HOUSEKEEPING;
        tokio::select! {
            () = gateway.stop.cancelled() => return,
            () = gateway.clock.sleep_until(next) => {}
        }
    }
}
