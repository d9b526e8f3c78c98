//! A share of the connections that read, for what may take longer: lists of notes and events. Whoever is to accept a note
//! finds another one free, however many lists are asked for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places for reads of lists.
#[derive(Debug)]
pub struct Turns {
    all: Arc<Semaphore>,
    each: usize,
    /// A few words for each tenant of the configuration.
    tenants: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _of_all: OwnedSemaphorePermit,
    _of_tenant: OwnedSemaphorePermit,
}

impl Turns {
    /// `all` places, of which one tenant has `each` at most.
    pub fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), each, tenants: Mutex::default() }
    }

    /// Waits for a place. A tenant waits for its own first, so that it never keeps others waiting in front of it.
    pub async fn take(&self, tenant: &str) -> Option<Turn> {
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
        // Neither is ever closed.
        let of_tenant = own.acquire_owned().await.ok()?;
        let of_all = self.all.clone().acquire_owned().await.ok()?;
        Some(Turn { _of_all: of_all, _of_tenant: of_tenant })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_tenant_has_its_own_places_and_all_have_no_more_than_there_are() {
        let turns = Turns::new(3, 2);
        let busy = [turns.take("busy").await, turns.take("busy").await];
        assert!(turns.take("busy").now_or_never().is_none(), "it has its two");
        let calm = turns.take("calm").now_or_never().expect("a place for another");
        assert!(turns.take("third").now_or_never().is_none(), "there are three");
        drop(busy);
        assert!(turns.take("third").now_or_never().is_some());
        drop(calm);
    }
}
