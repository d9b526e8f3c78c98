//! Bounds the conversions that requests wait for, so that a flood of them delays no delivery for long.
//!
//! The audio engine shares its workers fairly between tenants, but the jobs of one tenant wait in one line. So only a few
//! of these requests may be in that line at a time; the others wait here, and a note of the same tenant overtakes them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::problem::Problem;

/// Requests of one tenant in the engine, per worker: one that runs, and one that follows it.
const PER_WORKER: usize = 2;

/// Requests of one tenant that may wait for a slot.
const WAITING: usize = 256;

/// The slots of each tenant.
#[derive(Debug)]
pub struct RenderSlots {
    each: usize,
    tenants: Mutex<HashMap<String, Slots>>,
}

#[derive(Clone, Debug)]
struct Slots {
    running: Arc<Semaphore>,
    /// Places for requests that run or wait.
    places: Arc<Semaphore>,
}

/// A slot, which is free again when this value is dropped.
#[derive(Debug)]
pub struct RenderSlot {
    _running: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

impl RenderSlots {
    /// `workers` is the number of concurrent conversions; 0 means one per core.
    pub fn new(workers: usize) -> Self {
        let workers = match workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        Self { each: workers.saturating_mul(PER_WORKER).min(WAITING), tenants: Mutex::default() }
    }

    /// Waits for a slot of this tenant.
    ///
    /// # Errors
    /// `overloaded` if too many of its requests are waiting.
    pub async fn take(&self, tenant: &str) -> Result<RenderSlot, Problem> {
        let slots = self.of(tenant);
        let overloaded = || {
            Problem::overloaded("too much audio of this tenant is waiting to be converted; try again shortly")
        };
        let place = slots.places.try_acquire_owned().map_err(|_| overloaded())?;
        // The semaphore is never closed.
        let running = slots.running.acquire_owned().await.map_err(|_| overloaded())?;
        Ok(RenderSlot { _running: running, _place: place })
    }

    fn of(&self, tenant: &str) -> Slots {
        // A panic cannot leave the map half changed.
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slots) = tenants.get(tenant) {
            return slots.clone();
        }
        let slots = Slots {
            running: Arc::new(Semaphore::new(self.each)),
            places: Arc::new(Semaphore::new(self.each + WAITING)),
        };
        tenants.insert(tenant.to_owned(), slots.clone());
        slots
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_flood_of_one_tenant_waits_for_its_own_slots() {
        let slots = RenderSlots::new(1);
        let running = [slots.take("loud").await.expect("a slot"), slots.take("loud").await.expect("a slot")];
        let mut waiting: Vec<_> = (0..WAITING).map(|_| Box::pin(slots.take("loud"))).collect();
        assert!(waiting.iter_mut().all(|next| next.now_or_never().is_none()));
        let refused = slots.take("loud").await.expect_err("refused");
        assert_eq!((refused.status, refused.retry_after), (503, Some(5)));
        slots.take("quiet").now_or_never().expect("at once").expect("a slot");
        // A client that goes away gives its place back.
        waiting.pop();
        assert!(Box::pin(slots.take("loud")).now_or_never().is_none(), "it waits");
        drop(running);
        let mut next = waiting.swap_remove(0);
        assert!(next.as_mut().now_or_never().expect("at once").is_ok());
    }
}
