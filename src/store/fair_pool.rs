//! A limit on long reads, such as lists of notes and events. It covers only some of the read connections, so that
//! accepting a note always finds a free one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A pool of read slots, shared fairly by the tenants.
#[derive(Debug)]
pub struct FairPool {
    all: Arc<Semaphore>,
    each: usize,
    /// One small entry for each tenant of the configuration.
    tenants: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// One slot of the pool, held until it is dropped.
#[derive(Debug)]
pub struct FairPermit {
    _of_all: OwnedSemaphorePermit,
    _of_tenant: OwnedSemaphorePermit,
}

impl FairPool {
    /// Creates a pool of `all` slots, of which one tenant gets at most `each`.
    pub fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), each, tenants: Mutex::default() }
    }

    /// Waits for a slot. A tenant waits for one of its own first, so that it never blocks other tenants.
    pub async fn acquire(&self, tenant: &str) -> Option<FairPermit> {
        let own = {
            let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
            match tenants.get(tenant) {
                Some(own) => own.clone(),
                None => tenants
                    .entry(tenant.to_owned())
                    .or_insert_with(|| Arc::new(Semaphore::new(self.each)))
                    .clone(),
            }
        };
        // Neither semaphore is ever closed.
        let of_tenant = own.acquire_owned().await.ok()?;
        let of_all = self.all.clone().acquire_owned().await.ok()?;
        Some(FairPermit { _of_all: of_all, _of_tenant: of_tenant })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn tenant_limit_and_total_limit_both_hold() {
        let pool = FairPool::new(3, 2);
        let busy = [pool.acquire("busy").await, pool.acquire("busy").await];
        assert!(pool.acquire("busy").now_or_never().is_none(), "it has its two");
        let calm = pool.acquire("calm").now_or_never().expect("a place for another");
        assert!(pool.acquire("third").now_or_never().is_none(), "there are three");
        drop(busy);
        assert!(pool.acquire("third").now_or_never().is_some());
        drop(calm);
    }
}
