//! Slows accepting while notes are being sent, so that a flood of requests does not starve the deliveries.
//!
//! Accepting a note costs a third of what delivering it costs if it needs no encoding, and far less otherwise. While
//! deliveries are in flight, a tenant that sends a lot is let in once for each delivery that ended, and some times more
//! in each second. A tenant that sends little is never delayed.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::model::problem::Problem;

/// Requests per second and processor that are let in besides those that follow a delivery.
const EACH_PROCESSOR: f64 = 125.0;

/// The most requests that are let in at once after a pause.
const BURST: f64 = 256.0;

/// Requests per second of one tenant that are never delayed, and how many of them may come at once.
const QUIET_RATE: f64 = 10.0;
const QUIET_BURST: f64 = 64.0;

/// How long the deliveries must have rested before everything is let in. Between two claims nothing is in flight for a
/// moment, although notes wait.
const REST: Duration = Duration::from_millis(100);

/// The longest time that a request waits before it is refused.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct AcceptGate {
    /// Deliveries in flight in this process.
    in_flight: AtomicUsize,
    state: Mutex<State>,
    /// Wakes the request whose turn it is.
    more: Notify,
    /// Held by the request whose turn it is. The lock is fair.
    turn: tokio::sync::Mutex<()>,
    /// Requests per second of one tenant that are never delayed.
    quiet_rate: f64,
    patience: Duration,
}

#[derive(Debug)]
struct State {
    shared: Bucket,
    /// The time when the last delivery ended.
    delivered_at: Option<Instant>,
    tenants: HashMap<String, OfTenant>,
}

#[derive(Debug)]
struct OfTenant {
    quiet: Bucket,
    /// Held by the one request of the tenant that waits for a turn, so that tenants take turns.
    line: Arc<tokio::sync::Mutex<()>>,
}

/// A token bucket.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    most: f64,
    per_second: f64,
    filled_at: Instant,
}

impl Bucket {
    fn new(most: f64, per_second: f64, now: Instant) -> Self {
        Self { tokens: most, most, per_second, filled_at: now }
    }

    fn add(&mut self, tokens: f64) {
        self.tokens = (self.tokens + tokens).min(self.most);
    }

    /// Takes a token.
    ///
    /// # Errors
    /// The time until there is one.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.add(now.duration_since(self.filled_at).as_secs_f64() * self.per_second);
        self.filled_at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / self.per_second))
    }
}

impl Default for AcceptGate {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new(EACH_PROCESSOR * processors as f64, QUIET_RATE, PATIENCE)
    }
}

impl AcceptGate {
    fn new(per_second: f64, quiet_rate: f64, patience: Duration) -> Self {
        let shared = Bucket::new(BURST, per_second, Instant::now());
        Self {
            in_flight: AtomicUsize::new(0),
            state: Mutex::new(State { shared, delivered_at: None, tenants: HashMap::new() }),
            more: Notify::new(),
            turn: tokio::sync::Mutex::new(()),
            quiet_rate,
            patience,
        }
    }

    /// Counts a delivery as in flight until the value is dropped. Its end lets another request in.
    pub fn delivering(self: &Arc<Self>) -> Delivering {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Delivering(self.clone())
    }

    /// Waits until a request of this tenant may be read.
    ///
    /// # Errors
    /// `overloaded` if that takes too long.
    pub async fn pass(&self, tenant: &str) -> Result<(), Problem> {
        let line = {
            let mut state = self.lock();
            let now = Instant::now();
            if !state.tenants.contains_key(tenant) {
                let new =
                    OfTenant { quiet: Bucket::new(QUIET_BURST, self.quiet_rate, now), line: Arc::default() };
                state.tenants.insert(tenant.to_owned(), new);
            }
            let Some(of_tenant) = state.tenants.get_mut(tenant) else { return Ok(()) };
            if of_tenant.quiet.take(now).is_ok() {
                return Ok(());
            }
            let line = of_tenant.line.clone();
            if self.is_idle(&state, now) {
                return Ok(());
            }
            line
        };
        let waiting = async {
            let _line = line.lock().await;
            let _turn = self.turn.lock().await;
            loop {
                let taken = {
                    let (mut state, now) = (self.lock(), Instant::now());
                    if self.is_idle(&state, now) { Ok(()) } else { state.shared.take(now) }
                };
                let Err(wait) = taken else { return };
                let _ = tokio::time::timeout(wait.min(REST), self.more.notified()).await;
            }
        };
        tokio::time::timeout(self.patience, waiting).await.map_err(|_| {
            let mut problem = Problem::overloaded(
                "more notes are offered than can be sent at the same time; try again shortly, with fewer requests at once",
            );
            problem.retry_after = Some(1);
            problem
        })
    }

    fn is_idle(&self, state: &State, now: Instant) -> bool {
        let rested = state.delivered_at.is_none_or(|at| now.duration_since(at) >= REST);
        rested && self.in_flight.load(Ordering::Relaxed) == 0
    }

    /// The state consists of plain values, which a panic cannot leave half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A delivery in flight.
#[derive(Debug)]
pub struct Delivering(Arc<AcceptGate>);

impl Drop for Delivering {
    fn drop(&mut self) {
        let gate = &self.0;
        gate.in_flight.fetch_sub(1, Ordering::Relaxed);
        {
            let mut state = gate.lock();
            state.shared.add(1.0);
            state.delivered_at = Some(Instant::now());
        }
        gate.more.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::mpsc;

    use super::*;

    /// No request is let in by the passing of time alone.
    const NEVER: f64 = 1e-9;

    /// Whether a request is let in at once.
    fn at_once(gate: &AcceptGate, tenant: &str) -> Option<Result<(), Problem>> {
        // The runtime would make a task wait that never waits.
        tokio::task::unconstrained(gate.pass(tenant)).now_or_never()
    }

    /// A gate at which these tenants have used up their allowances, while a delivery is in flight.
    fn used_up(tenants: &[&str], patience: Duration) -> (Arc<AcceptGate>, Delivering) {
        let gate = Arc::new(AcceptGate::new(NEVER, NEVER, patience));
        let delivering = gate.delivering();
        for tenant in tenants {
            let burst = std::iter::repeat_with(|| at_once(&gate, tenant)).map_while(|passed| passed);
            let burst = burst.inspect(|passed| assert!(passed.is_ok())).count();
            assert!(burst >= QUIET_BURST as usize, "{burst}");
        }
        (gate, delivering)
    }

    #[tokio::test]
    async fn loud_tenant_is_let_in_once_for_each_delivery() {
        let (gate, _delivering) = used_up(&["loud"], PATIENCE);
        assert!(gate.lock().shared.tokens < 1.0, "the common burst is used up, too");
        let waiting = gate.pass("loud");
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(gate.delivering());
        waiting.await.expect("let in");
        assert!(gate.lock().shared.tokens < 1.0, "one end lets in one request");
    }

    #[tokio::test]
    async fn quiet_tenant_is_never_delayed() {
        let (gate, _delivering) = used_up(&["loud"], PATIENCE);
        let mut flood: Vec<_> = (0..200).map(|_| Box::pin(gate.pass("loud"))).collect();
        for waiting in &mut flood {
            assert!(waiting.now_or_never().is_none());
        }
        for _ in 0..QUIET_BURST as usize {
            at_once(&gate, "quiet").expect("at once").expect("let in");
        }
    }

    #[tokio::test]
    async fn loud_tenants_take_turns() {
        let (gate, _delivering) = used_up(&["loud", "other"], PATIENCE);
        let (told, mut order) = mpsc::unbounded_channel();
        for tenant in std::iter::repeat_n("loud", 30).chain(["other"]) {
            let (gate, told) = (gate.clone(), told.clone());
            tokio::spawn(async move {
                gate.pass(tenant).await.expect("let in");
                told.send(tenant).expect("heard");
            });
            tokio::task::yield_now().await;
        }
        let mut place = 0;
        loop {
            drop(gate.delivering());
            place += 1;
            if order.recv().await == Some("other") {
                break;
            }
        }
        assert!(place <= 3, "the other tenant was let in as number {place}");
    }

    #[tokio::test]
    async fn request_that_waits_for_too_long_is_refused_for_now() {
        let (gate, _delivering) = used_up(&["loud"], Duration::from_millis(20));
        let problem = gate.pass("loud").await.expect_err("refused");
        assert_eq!((problem.code.status(), problem.retry_after), (503, Some(1)));
    }

    #[tokio::test]
    async fn nothing_waits_after_the_deliveries_have_rested() {
        let (gate, delivering) = used_up(&["loud"], PATIENCE);
        let waiting = gate.pass("loud");
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(delivering);
        waiting.await.expect("let in");
        assert!(at_once(&gate, "loud").is_none(), "the next delivery may be about to begin");
        tokio::time::sleep(REST).await;
        for _ in 0..1000 {
            at_once(&gate, "loud").expect("at once").expect("let in");
        }
    }

    #[test]
    fn bucket_fills_evenly_up_to_its_size() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut bucket = Bucket::new(2.0, 10.0, start);
        assert_eq!([bucket.take(start), bucket.take(start)], [Ok(()), Ok(())]);
        assert_eq!(bucket.take(start), Err(Duration::from_millis(100)));
        assert!(bucket.take(at(50)).is_err());
        assert_eq!(bucket.take(at(101)), Ok(()));
        assert_eq!([bucket.take(at(9000)), bucket.take(at(9000))], [Ok(()), Ok(())]);
        assert!(bucket.take(at(9000)).is_err());
    }
}
