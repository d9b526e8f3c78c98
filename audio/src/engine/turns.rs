//! Workers, handed out fairly: whoever brings much waits behind his own, and not in front of everybody else.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// A number of workers and of places to wait for one.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    workers: usize,
    /// Workers that nobody has.
    free: usize,
    places: usize,
    /// Places to wait that nobody has.
    room: usize,
    /// By whose they are; who has nothing is missing.
    parties: BTreeMap<Arc<str>, Party>,
    /// Grows with every turn.
    clock: u64,
}

#[derive(Debug, Default)]
struct Party {
    running: usize,
    /// When its last turn came.
    served: u64,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// A worker, until dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    /// `None` once it is known that nobody takes it.
    turns: Option<Turns>,
    whose: Arc<str>,
}

impl Turns {
    pub fn new(workers: usize, room: usize) -> Self {
        let parties = BTreeMap::new();
        Self {
            state: Arc::new(Mutex::new(State {
                workers,
                free: workers,
                places: room,
                room,
                parties,
                clock: 0,
            })),
        }
    }

    /// A worker for `whose` work, waited for; `None` where there is no room to wait.
    pub async fn take(&self, whose: &Arc<str>) -> Option<Turn> {
        let waiting = {
            let mut state = self.lock();
            if state.free == 0 && state.room == 0 {
                return None;
            }
            let (sender, receiver) = oneshot::channel();
            state.room = state.room.saturating_sub(1);
            state.parties.entry(whose.clone()).or_default().waiting.push_back(sender);
            self.hand_out(&mut state);
            receiver
        };
        waiting.await.ok()
    }

    pub fn workers(&self) -> usize {
        self.lock().workers
    }

    /// How many wait for a worker.
    pub fn waiting(&self) -> usize {
        let state = self.lock();
        state.places.saturating_sub(state.room)
    }

    /// Gives free workers to those who wait: first to whom has fewest, then to whom has waited longest for a turn.
    fn hand_out(&self, state: &mut State) {
        while state.free > 0 {
            let waiting = state.parties.iter_mut().filter(|(_, party)| !party.waiting.is_empty());
            let Some((whose, party)) = waiting.min_by_key(|(_, party)| (party.running, party.served)) else {
                return;
            };
            let Some(next) = party.waiting.pop_front() else { return };
            state.room += 1;
            let turn = Turn { turns: Some(self.clone()), whose: whose.clone() };
            match next.send(turn) {
                Ok(()) => {
                    state.clock += 1;
                    party.running += 1;
                    party.served = state.clock;
                    state.free -= 1;
                }
                // Nobody waits for it any more, and it never was one.
                Err(mut turn) => turn.turns = None,
            }
        }
    }

    fn give_back(&self, whose: &Arc<str>) {
        let mut state = self.lock();
        state.free += 1;
        if let Some(party) = state.parties.get_mut(whose) {
            party.running -= 1;
        }
        self.hand_out(&mut state);
        state.parties.retain(|_, party| party.running > 0 || !party.waiting.is_empty());
    }

    /// Counts, which no panic leaves half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = &self.turns {
            turns.give_back(&self.whose);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn whose(name: &str) -> Arc<str> {
        name.into()
    }

    #[tokio::test]
    async fn who_brings_little_does_not_wait_behind_who_brings_much() {
        let turns = Turns::new(2, 100);
        let (flood, one) = (whose("flood"), whose("one"));
        let mut running =
            vec![turns.take(&flood).await.expect("a turn"), turns.take(&flood).await.expect("a turn")];
        let mut queue: Vec<_> = (0..50).map(|_| Box::pin(turns.take(&flood))).collect();
        assert!(queue.iter_mut().all(|waiting| waiting.now_or_never().is_none()));
        let mut late = Box::pin(turns.take(&one));
        assert!((&mut late).now_or_never().is_none());
        running.pop();
        let turn = late.now_or_never().expect("the next turn is theirs").expect("a turn");
        drop((turn, running));
        for waiting in queue {
            drop(waiting.await.expect("a turn"));
        }
    }

    #[tokio::test]
    async fn who_goes_away_leaves_nothing_behind() {
        let turns = Turns::new(1, 2);
        let (a, b) = (whose("a"), whose("b"));
        let running = turns.take(&a).await.expect("a turn");
        let mut waiting = [Box::pin(turns.take(&a)), Box::pin(turns.take(&b))];
        assert!(waiting.iter_mut().all(|waiting| waiting.now_or_never().is_none()));
        assert!(turns.take(&b).await.is_none(), "no room");
        drop(waiting);
        drop(running);
        let turn = turns.take(&b).await.expect("a turn");
        assert!(turns.lock().parties.len() == 1 && turns.lock().room == 2);
        drop(turn);
        assert!(turns.lock().parties.is_empty() && turns.lock().free == 1);
    }
}
