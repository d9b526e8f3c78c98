//! A pool of workers that is shared fairly: a tenant with many jobs queues behind its own jobs, not in front of others.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// A fixed number of workers, and a bounded queue for jobs that wait for one.
#[derive(Clone, Debug)]
pub(crate) struct FairPool {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    workers: usize,
    /// Number of idle workers.
    free: usize,
    places: usize,
    /// Number of free places in the queue.
    room: usize,
    /// Tenants with a running or waiting job; others have no entry.
    shares: BTreeMap<Arc<str>, TenantShare>,
    /// Logical time, which advances with every worker handed out.
    clock: u64,
}

#[derive(Debug, Default)]
struct TenantShare {
    running: usize,
    /// Logical time at which this tenant last got a worker.
    served: u64,
    waiting: VecDeque<oneshot::Sender<Worker>>,
}

/// A worker, reserved for one job until this value is dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    /// `None` if the job was abandoned before it got the worker, so that dropping returns nothing.
    pool: Option<FairPool>,
    tenant: Arc<str>,
}

impl FairPool {
    pub fn new(workers: usize, room: usize) -> Self {
        let shares = BTreeMap::new();
        Self {
            state: Arc::new(Mutex::new(State {
                workers,
                free: workers,
                places: room,
                room,
                shares,
                clock: 0,
            })),
        }
    }

    /// Waits for a worker for a job of `tenant`. Returns `None` at once if the queue is full.
    pub async fn take(&self, tenant: &Arc<str>) -> Option<Worker> {
        let waiting = {
            let mut state = self.lock();
            if state.free == 0 && state.room == 0 {
                return None;
            }
            let (sender, receiver) = oneshot::channel();
            state.room = state.room.saturating_sub(1);
            state.shares.entry(tenant.clone()).or_default().waiting.push_back(sender);
            self.hand_out(&mut state);
            receiver
        };
        waiting.await.ok()
    }

    pub fn workers(&self) -> usize {
        self.lock().workers
    }

    /// Number of jobs that wait for a worker.
    pub fn waiting(&self) -> usize {
        let state = self.lock();
        state.places.saturating_sub(state.room)
    }

    /// Assigns idle workers: to the tenant with the fewest running jobs first, then to the one served longest ago.
    fn hand_out(&self, state: &mut State) {
        while state.free > 0 {
            let waiting = state.shares.iter_mut().filter(|(_, share)| !share.waiting.is_empty());
            let Some((tenant, share)) = waiting.min_by_key(|(_, share)| (share.running, share.served)) else {
                return;
            };
            let Some(next) = share.waiting.pop_front() else { return };
            state.room += 1;
            let worker = Worker { pool: Some(self.clone()), tenant: tenant.clone() };
            match next.send(worker) {
                Ok(()) => {
                    state.clock += 1;
                    share.running += 1;
                    share.served = state.clock;
                    state.free -= 1;
                }
                // The waiting job was abandoned, so the worker was never assigned.
                Err(mut worker) => worker.pool = None,
            }
        }
    }

    fn give_back(&self, tenant: &Arc<str>) {
        let mut state = self.lock();
        state.free += 1;
        if let Some(share) = state.shares.get_mut(tenant) {
            share.running -= 1;
        }
        self.hand_out(&mut state);
        state.shares.retain(|_, share| share.running > 0 || !share.waiting.is_empty());
    }

    /// A panic cannot leave these counters half updated, so a poisoned lock is safe to use.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.give_back(&self.tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn tenant(name: &str) -> Arc<str> {
        name.into()
    }

    #[tokio::test]
    async fn busy_tenant_does_not_starve_quiet_tenant() {
        let pool = FairPool::new(2, 100);
        let (flood, one) = (tenant("flood"), tenant("one"));
        let mut running =
            vec![pool.take(&flood).await.expect("a worker"), pool.take(&flood).await.expect("a worker")];
        let mut queue: Vec<_> = (0..50).map(|_| Box::pin(pool.take(&flood))).collect();
        assert!(queue.iter_mut().all(|waiting| waiting.now_or_never().is_none()));
        let mut late = Box::pin(pool.take(&one));
        assert!((&mut late).now_or_never().is_none());
        running.pop();
        let worker = late.now_or_never().expect("the next worker is theirs").expect("a worker");
        drop((worker, running));
        for waiting in queue {
            drop(waiting.await.expect("a worker"));
        }
    }

    #[tokio::test]
    async fn abandoned_job_frees_its_place_in_the_queue() {
        let pool = FairPool::new(1, 2);
        let (a, b) = (tenant("a"), tenant("b"));
        let running = pool.take(&a).await.expect("a worker");
        let mut waiting = [Box::pin(pool.take(&a)), Box::pin(pool.take(&b))];
        assert!(waiting.iter_mut().all(|waiting| waiting.now_or_never().is_none()));
        assert!(pool.take(&b).await.is_none(), "no room");
        drop(waiting);
        drop(running);
        let worker = pool.take(&b).await.expect("a worker");
        assert!(pool.lock().shares.len() == 1 && pool.lock().room == 2);
        drop(worker);
        assert!(pool.lock().shares.is_empty() && pool.lock().free == 1);
    }
}
