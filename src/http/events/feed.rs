//! Keeps the newest events of a tenant, which are read and formatted once for all streams that follow it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::text;
use crate::{
    gateway::{Gateway, changes::Watch},
    http::memory::{Holding, Memory},
    model::event::Event,
    store::{EventQuery, StoreError},
};

/// How many events a feed reads at once, and how many it keeps.
const PAGE: u32 = 16;
const MOST_RECENT: usize = 64;

/// The most bytes of events that a feed keeps.
const MOST_BYTES: usize = 256 << 10;

/// Streams are woken in this many groups, so that other work can run between them.
const GROUPS: usize = 64;

/// Changes within this time of each other are handled together.
const GATHER: Duration = Duration::from_millis(50);

/// If other processes write too, their notifications may get lost, so the database is read this often.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The pause after a failed read of the database.
const PAUSE: Duration = Duration::from_secs(1);

/// The feeds of the tenants that are being followed.
#[derive(Debug)]
pub struct Feeds {
    feeds: Mutex<HashMap<String, Weak<Feed>>>,
    memory: Memory,
}

#[derive(Debug)]
pub struct Feed {
    shared: Arc<Shared>,
    _reading: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    tenant: String,
    run: Mutex<Run>,
    groups: Vec<watch::Sender<()>>,
    next_group: AtomicUsize,
}

/// The newest events, without gaps.
#[derive(Debug)]
struct Run {
    /// The position of the newest event that was read.
    head: String,
    /// The next place in the feed.
    next: u64,
    /// The events. The last one has the place before `next`.
    recent: VecDeque<RecentEvent>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct RecentEvent {
    position: String,
    text: Bytes,
}

/// The content of a feed at a place.
pub enum At {
    /// An event, with its position and its text.
    Event(String, Bytes),
    /// There is no event at this place yet.
    Head,
    /// An event that the feed no longer keeps.
    Past,
}

impl Feeds {
    pub fn new(memory: Memory) -> Self {
        Self { feeds: Mutex::default(), memory }
    }

    /// An empty reservation for a stream of the tenant.
    pub fn holding(&self, tenant: &str) -> Holding {
        self.memory.for_request(tenant)
    }

    /// Returns the feed of a tenant, which reads for as long as somebody holds it.
    ///
    /// # Errors
    /// Fails if the database fails.
    pub async fn of(&self, gateway: &Arc<Gateway>, tenant: &str) -> Result<Arc<Feed>, StoreError> {
        if let Some(feed) = self.lock().get(tenant).and_then(Weak::upgrade) {
            return Ok(feed);
        }
        // The watch begins before the head is read, so that nothing is missed in between.
        let news = gateway.changes.of_tenant(tenant);
        let head = gateway.store.last_event(tenant).await?;
        let feed = Arc::new(Feed::start(gateway.clone(), self.memory.clone(), tenant, head, news));
        let mut feeds = self.lock();
        if let Some(other) = feeds.get(tenant).and_then(Weak::upgrade) {
            return Ok(other); // two callers came at the same time
        }
        feeds.retain(|_, feed| feed.strong_count() > 0);
        feeds.insert(tenant.to_owned(), Arc::downgrade(&feed));
        Ok(feed)
    }

    /// The map contains only references, which a panic cannot leave half changed.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Weak<Feed>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed {
    fn start(gateway: Arc<Gateway>, memory: Memory, tenant: &str, head: String, news: Watch<String>) -> Self {
        let shared = Arc::new(Shared {
            tenant: tenant.to_owned(),
            run: Mutex::new(Run { head, next: 0, recent: VecDeque::new(), bytes: 0 }),
            groups: (0..GROUPS).map(|_| watch::channel(()).0).collect(),
            next_group: AtomicUsize::new(0),
        });
        let reading = tokio::spawn(read(gateway, memory, shared.clone(), news));
        Self { shared, _reading: AbortOnDropHandle::new(reading) }
    }

    /// Notifies about events from now on.
    pub fn wakes(&self) -> watch::Receiver<()> {
        let group = self.shared.next_group.fetch_add(1, Relaxed) % GROUPS;
        self.shared.groups[group].subscribe()
    }

    /// The place after an event, if that is the newest one.
    pub fn place_behind(&self, position: &str) -> Option<u64> {
        let run = self.shared.run();
        (run.head == position).then_some(run.next)
    }

    pub fn at(&self, place: u64) -> At {
        let run = self.shared.run();
        let Some(back) = run.next.checked_sub(place).filter(|back| *back > 0) else { return At::Head };
        let index = usize::try_from(back).ok().and_then(|back| run.recent.len().checked_sub(back));
        match index.and_then(|index| run.recent.get(index)) {
            Some(RecentEvent { position, text }) => At::Event(position.clone(), text.clone()),
            None => At::Past,
        }
    }
}

impl Shared {
    /// The run is changed in one step, so a panic leaves it consistent.
    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wake(&self) {
        for group in self.groups.iter().filter(|group| group.receiver_count() > 0) {
            group.send_replace(());
            tokio::task::yield_now().await;
        }
    }
}

impl Run {
    fn add(&mut self, event: &Event, mut held: Holding) {
        self.head.clone_from(&event.position);
        self.next += 1;
        let text = text(event);
        if text.len() > MOST_BYTES / 2 || held.grow(text.len()).is_err() {
            // Streams read from the database what is missing here, and a run must have no gap.
            self.recent.clear();
            self.bytes = 0;
            return;
        }
        self.bytes += text.len();
        self.recent.push_back(RecentEvent { position: event.position.clone(), text: charged(text, held) });
        while self.recent.len() > MOST_RECENT || self.bytes > MOST_BYTES {
            let oldest = self.recent.pop_front();
            self.bytes -= oldest.map_or(0, |oldest| oldest.text.len());
        }
    }
}

/// Bytes whose memory stays reserved until the last user has released them.
pub fn charged(text: String, held: Holding) -> Bytes {
    struct Charged(String, #[expect(dead_code, reason = "held for as long as the text")] Holding);
    impl AsRef<[u8]> for Charged {
        fn as_ref(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }
    Bytes::from_owner(Charged(text, held))
}

/// Reads new events whenever there may be some.
async fn read(gateway: Arc<Gateway>, memory: Memory, shared: Arc<Shared>, mut news: Watch<String>) {
    let may_be_missed = gateway.store.notices().is_some();
    loop {
        let again = async {
            if may_be_missed {
                tokio::time::sleep(LOOK_AGAIN).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = gateway.stop.cancelled() => return,
            _ = news.next() => tokio::time::sleep(GATHER).await,
            () = again => {}
        }
        news.catch_up();
        while let Err(error) = read_new(&gateway, &memory, &shared).await {
            tracing::error!(%error, "events cannot be read");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn read_new(gateway: &Gateway, memory: &Memory, shared: &Shared) -> Result<(), StoreError> {
    loop {
        let after = shared.run().head.clone();
        let wanted = EventQuery {
            tenant: &shared.tenant,
            note: None,
            after: Some(after.as_str()).filter(|after| !after.is_empty()),
            limit: PAGE,
        };
        let events = gateway.store.events(&wanted).await?;
        for event in &events {
            let held = memory.for_request(&shared.tenant);
            shared.run().add(event, held);
        }
        if !events.is_empty() {
            shared.wake().await;
        }
        if events.len() < PAGE as usize {
            return Ok(());
        }
    }
}
