//! The state of the emulators, and its limits.

use std::any::{Any, TypeId};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicU64};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{Semaphore, broadcast, watch};
use uuid::Uuid;

use crate::SandboxOptions;
use crate::emulator::EMULATORS;
use crate::faults::{self, Fault};
use crate::fetch::Fetcher;
use crate::hooks::{CallbackLog, MOST_AT_A_TIME};
use crate::idle;
use crate::inbound::SentIn;
use crate::ledger::{LedgerEntry, RequestLog};
use crate::linq::{Attachment, Chat, Subscription, default_chats};
use crate::receipts::{Receipt, ReceiptRule};
use crate::wawp::Hook;

/// Limits that keep a sandbox that runs for days small; tests stay far below them.
const LEDGER_MAX: usize = 100_000;
const REQUESTS_MAX: usize = 200_000;
const CALLBACKS_MAX: usize = 200_000;
const AUDIO_MAX_BYTES: usize = 512 * 1024 * 1024;

pub(crate) struct Inner {
    pub options: SandboxOptions,
    pub fetcher: Fetcher,
    /// Key that signs upload links. It is new for each run, so links of an earlier run are refused.
    pub upload_key: String,
    pub events: broadcast::Sender<Event>,
    /// Client for requests to registered addresses.
    pub places: Semaphore,
    pub idle: watch::Sender<idle::Limit>,
    /// Number of accepted connections.
    pub connections: AtomicU64,
    state: Mutex<State>,
}

#[derive(Clone)]
pub(crate) enum Event {
    Entry(Box<LedgerEntry>),
    /// All receipts of an entry.
    Receipts(Uuid, Vec<Receipt>),
    /// A message that a person sent in; once more when it was answered.
    SentIn(Box<SentIn>),
    Cleared,
}

#[derive(Default)]
pub(crate) struct State {
    pub ledger: VecDeque<LedgerEntry>,
    pub audio: HashMap<Uuid, Bytes>,
    audio_order: VecDeque<Uuid>,
    audio_bytes: usize,
    pub requests: VecDeque<RequestLog>,
    /// Numbers of the requests that brought the entries of the ledger.
    brought_by: HashMap<Uuid, u64>,
    next_request: u64,
    pub faults: Vec<Fault>,
    pub rules: Vec<ReceiptRule>,
    pub subscriptions: Vec<Subscription>,
    pub hooks: Vec<Hook>,
    pub callbacks: VecDeque<CallbackLog>,
    next_callback: u64,
    pub chats: Vec<Chat>,
    pub attachments: HashMap<Uuid, Attachment>,
    /// Linq idempotency key to the answer first given for it.
    pub answers: HashMap<String, Value>,
    /// State of other emulators, each in a type of its own.
    own: HashMap<TypeId, Box<dyn Any + Send>>,
    /// Part of it that survives clearing: registered addresses.
    kept: HashMap<TypeId, Box<dyn Any + Send>>,
}

impl Inner {
    pub fn new(options: SandboxOptions) -> Self {
        let state = State { chats: default_chats(&options.linq_from), ..State::default() };
        Self {
            options,
            fetcher: Fetcher::default(),
            upload_key: Uuid::new_v4().simple().to_string(),
            events: broadcast::channel(256).0,
            places: Semaphore::new(MOST_AT_A_TIME),
            idle: watch::Sender::new(None),
            connections: AtomicU64::new(0),
            state: Mutex::new(state),
        }
    }

    /// The state is plain data that no panic leaves half changed in a harmful way, so a poisoned lock is usable.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits a note as delivered, whatever answer the caller gets.
    pub fn deliver(&self, entry: LedgerEntry, audio: Option<Bytes>) {
        let mut state = self.lock();
        if let Some(bytes) = audio {
            state.keep_audio(entry.id, bytes);
        }
        if state.ledger.len() == LEDGER_MAX
            && let Some(oldest) = state.ledger.pop_front()
        {
            state.brought_by.remove(&oldest.id);
        }
        if let Some(number) = faults::request_number() {
            state.brought_by.insert(entry.id, number);
        }
        state.ledger.push_back(entry.clone());
        // The event is sent under the lock, so that a page that reads the ledger and then the events misses nothing.
        let _ = self.events.send(Event::Entry(Box::new(entry)));
    }

    pub fn clear(&self) {
        let mut state = self.lock();
        let chats = std::mem::take(&mut state.chats);
        // Request numbers continue, so that an answer still in flight is not recorded for a later request.
        let (next_request, next_callback) = (state.next_request, state.next_callback);
        let (subscriptions, hooks) =
            (std::mem::take(&mut state.subscriptions), std::mem::take(&mut state.hooks));
        let kept = std::mem::take(&mut state.kept);
        let mut after =
            State { chats, subscriptions, hooks, kept, next_request, next_callback, ..State::default() };
        for emulator in EMULATORS {
            emulator.keep(&mut state, &mut after);
        }
        *state = after;
        let _ = self.events.send(Event::Cleared);
    }
}

impl State {
    /// Returns the state of an emulator.
    pub fn own<T: Any + Default + Send>(&mut self) -> &mut T {
        let kept = self.own.entry(TypeId::of::<T>()).or_insert_with(|| Box::<T>::default());
        kept.downcast_mut().expect("it is kept under its own type")
    }

    /// Returns the state of an emulator that survives clearing.
    pub fn kept<T: Any + Default + Send>(&mut self) -> &mut T {
        let kept = self.kept.entry(TypeId::of::<T>()).or_insert_with(|| Box::<T>::default());
        kept.downcast_mut().expect("it is kept under its own type")
    }

    fn keep_audio(&mut self, id: Uuid, bytes: Bytes) {
        self.audio_bytes += bytes.len();
        self.audio.insert(id, bytes);
        self.audio_order.push_back(id);
        while self.audio_bytes > AUDIO_MAX_BYTES {
            let Some(oldest) = self.audio_order.pop_front() else { break };
            if let Some(bytes) = self.audio.remove(&oldest) {
                self.audio_bytes -= bytes.len();
            }
        }
    }

    pub fn log_request(&mut self, mut request: RequestLog) -> u64 {
        let number = self.next_request;
        request.n = number;
        self.next_request += 1;
        if self.requests.len() == REQUESTS_MAX {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
        number
    }

    pub fn log_callback(&mut self, mut callback: CallbackLog) -> u64 {
        callback.n = self.next_callback;
        self.next_callback += 1;
        if self.callbacks.len() == CALLBACKS_MAX {
            self.callbacks.pop_front();
        }
        let number = callback.n;
        self.callbacks.push_back(callback);
        number
    }

    /// Finds the request that brought an entry of the ledger, unless it was removed meanwhile.
    pub fn request_of(&self, entry_id: &Uuid) -> Option<&RequestLog> {
        let (number, first) = (self.brought_by.get(entry_id)?, self.requests.front()?.n);
        self.requests.get(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    /// Finds the logged request with this number, unless it was removed meanwhile.
    pub fn request_mut(&mut self, number: u64) -> Option<&mut RequestLog> {
        let first = self.requests.front()?.n;
        let index = usize::try_from(number.checked_sub(first)?).ok()?;
        self.requests.get_mut(index)
    }
}

/// Formats a time as RFC 3339 in UTC with milliseconds.
pub(crate) fn stamp(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// Returns the time of the emulated providers, which have their own clock, whatever clock a test gives the gateway.
#[allow(clippy::disallowed_methods, reason = "the one place in this crate that reads the clock")]
pub(crate) fn clock() -> Timestamp {
    Timestamp::now()
}

pub(crate) fn now() -> String {
    stamp(clock())
}
