//! Limits the number of connected clients. If all places are taken, the client that has been idle longest is
//! disconnected for a new one.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// How long a client that was asked to leave may take, and the interval until another is asked if none was idle.
const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
pub struct Seats {
    places: Arc<Semaphore>,
    idle: Arc<Mutex<Idle>>,
}

/// The clients without a request in progress, the longest idle first.
#[derive(Debug, Default)]
struct Idle {
    clients: BTreeMap<(Instant, u64), CancellationToken>,
    seats: u64,
}

/// The place of one client.
#[derive(Debug)]
pub struct Seat {
    number: u64,
    peer: IpAddr,
    idle: Arc<Mutex<Idle>>,
    state: Mutex<State>,
    /// Canceled when the client has to leave.
    leave: CancellationToken,
    _place: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct State {
    under_way: usize,
    /// Its position among the idle clients.
    since: Option<Instant>,
    has_asked: bool,
}

impl Seats {
    pub fn new(places: usize) -> Self {
        let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Self { places, idle: Arc::default() }
    }

    /// Waits for a place, and makes one if possible.
    pub async fn take(&self, peer: IpAddr) -> Arc<Seat> {
        loop {
            let place = self.places.clone().try_acquire_owned().ok();
            let place = match place {
                Some(place) => Some(place),
                None => {
                    self.make_room();
                    let place = tokio::time::timeout(PATIENCE, self.places.clone().acquire_owned()).await;
                    place.ok().and_then(Result::ok)
                }
            };
            if let Some(place) = place {
                return Arc::new(Seat::new(self.idle.clone(), peer, place));
            }
        }
    }

    /// Asks the longest idle client to leave. Returns `false` if no client is idle.
    pub fn make_room(&self) -> bool {
        let oldest = lock(&self.idle).clients.pop_first();
        if let Some((_, leave)) = &oldest {
            leave.cancel();
        }
        oldest.is_some()
    }
}

impl Seat {
    fn new(idle: Arc<Mutex<Idle>>, peer: IpAddr, place: OwnedSemaphorePermit) -> Self {
        let number = {
            let mut idle = lock(&idle);
            idle.seats += 1;
            idle.seats
        };
        let state = State { under_way: 0, since: None, has_asked: false };
        let leave = CancellationToken::new();
        let seat = Self { number, peer, idle, state: Mutex::new(state), leave, _place: place };
        seat.rest(&mut seat.state());
        seat
    }

    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Waits until another client needs the place.
    pub async fn asked_to_leave(&self) {
        self.leave.cancelled().await;
    }

    /// Whether the client has no request in progress.
    pub fn is_idle(&self) -> bool {
        self.state().under_way == 0
    }

    /// Whether the client has sent any request.
    pub fn has_asked(&self) -> bool {
        self.state().has_asked
    }

    /// Marks a request as in progress until the result is dropped.
    pub fn visit(self: &Arc<Self>) -> Visit {
        self.begin();
        Visit(self.clone())
    }

    /// Counts the client as idle until the result is dropped, although a request is in progress. A client whose answer
    /// is delayed on purpose must not keep a place from others.
    pub fn step_aside(self: &Arc<Self>) -> Aside {
        self.end();
        Aside(self.clone())
    }

    fn begin(&self) {
        let mut state = self.state();
        state.has_asked = true;
        state.under_way += 1;
        if let Some(since) = state.since.take() {
            lock(&self.idle).clients.remove(&(since, self.number));
        }
    }

    fn end(&self) {
        let mut state = self.state();
        state.under_way = state.under_way.saturating_sub(1);
        if state.under_way == 0 {
            self.rest(&mut state);
        }
    }

    fn rest(&self, state: &mut State) {
        let now = Instant::now();
        state.since = Some(now);
        lock(&self.idle).clients.insert((now, self.number), self.leave.clone());
    }

    /// The values are plain and change in one step, so a panic leaves them consistent.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let since = self.state().since;
        if let Some(since) = since {
            lock(&self.idle).clients.remove(&(since, self.number));
        }
    }
}

fn lock(idle: &Mutex<Idle>) -> MutexGuard<'_, Idle> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request in progress.
#[derive(Debug)]
pub struct Visit(Arc<Seat>);

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// See [`Seat::step_aside`].
#[derive(Debug)]
pub struct Aside(Arc<Seat>);

impl Drop for Aside {
    fn drop(&mut self) {
        self.0.begin();
    }
}

/// The body of an answer. Its request is in progress until the last byte was taken.
pub struct Answer {
    body: Body,
    visit: Option<Visit>,
}

impl Answer {
    pub fn new(body: Body, visit: Visit) -> Self {
        Self { body, visit: Some(visit) }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) {
            self.visit = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn was_asked(seat: &Seat) -> bool {
        seat.asked_to_leave().now_or_never().is_some()
    }

    #[tokio::test]
    async fn the_client_that_was_idle_longest_is_asked_to_leave() {
        let seats = Seats::new(3);
        let [first, second, busy] = [seats.take(PEER).await, seats.take(PEER).await, seats.take(PEER).await];
        let visit = busy.visit();
        drop(first.visit()); // idle from now on
        let waiting = tokio::spawn({
            let seats = seats.clone();
            async move { seats.take(PEER).await }
        });
        second.asked_to_leave().await;
        assert!(!was_asked(&first) && !was_asked(&busy));
        drop(second);
        waiting.await.expect("a place");
        drop(visit);
        assert!(busy.is_idle());
    }

    #[tokio::test]
    async fn nobody_is_asked_whose_request_is_under_way() {
        let seats = Seats::new(1);
        let busy = seats.take(PEER).await;
        let visit = busy.visit();
        assert!(!seats.make_room());
        let aside = busy.step_aside();
        assert!(busy.is_idle());
        drop(aside);
        assert!(!busy.is_idle() && !seats.make_room());
        let aside = busy.step_aside();
        assert!(seats.make_room() && was_asked(&busy));
        drop((aside, visit));
        drop(busy);
        assert!(lock(&seats.idle).clients.is_empty());
        seats.take(PEER).await;
    }
}
