//! `server.memory`: what requests bring into memory is charged here before it is filled, and shared fairly.
//!
//! A holder may have as much as is still free. So one tenant alone gets half, two get a third each, and whoever comes next
//! always finds room. Beyond that every tenant may have one request's fields at any time, however little is free: nobody's
//! requests are refused because of what others hold.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::model::problem::Problem;

/// The fields of one request: as they came, copied, and as values. A tenant always gets this much.
pub const ONE_REQUEST: u64 = 256 << 10;

/// The largest callback of a provider.
pub const ONE_CALLBACK: u64 = 1 << 20;

/// Callbacks together have at most this part of all memory: anybody can send what looks like one.
const CALLBACKS: u64 = 4;

#[derive(Clone, Debug)]
pub struct Memory(Arc<Mutex<Accounts>>);

#[derive(Debug)]
struct Accounts {
    total: u64,
    used: u64,
    used_by_callbacks: u64,
    held: HashMap<Holder, u64>,
}

/// For whom memory is held.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Holder {
    /// The bodies and event streams of a tenant.
    Requests(Arc<str>),
    /// Requests that claim to come from the providers of a tenant.
    Callbacks(Arc<str>),
}

/// All of it is in use, or the holder has its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("server.memory is in use")]
pub struct Full;

impl From<Full> for Problem {
    fn from(_: Full) -> Self {
        Self::overloaded("too many bodies are being read at once; try again shortly, or send raw audio")
    }
}

impl Memory {
    pub fn new(total: u64) -> Self {
        let accounts = Accounts { total, used: 0, used_by_callbacks: 0, held: HashMap::new() };
        Self(Arc::new(Mutex::new(accounts)))
    }

    /// An empty reservation for a request or a stream of the tenant.
    pub fn for_request(&self, tenant: &str) -> Holding {
        self.holding(Holder::Requests(tenant.into()))
    }

    /// An empty reservation for a callback to the tenant.
    pub fn for_callback(&self, tenant: &str) -> Holding {
        self.holding(Holder::Callbacks(tenant.into()))
    }

    fn holding(&self, holder: Holder) -> Holding {
        Holding { held: 0, account: Some((self.clone(), holder)) }
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.lock().used
    }

    /// Plain numbers, which no panic leaves half changed.
    fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accounts {
    fn take(&mut self, holder: &Holder, bytes: u64) -> Result<(), Full> {
        let held = self.held.get(holder).copied().unwrap_or_default() + bytes;
        let free = self.total.saturating_sub(self.used);
        let fits = match holder {
            Holder::Requests(_) => held <= ONE_REQUEST || held <= free,
            Holder::Callbacks(_) => {
                let most = (self.total / CALLBACKS).max(2 * ONE_CALLBACK);
                let free = free.max(ONE_CALLBACK).min(most.saturating_sub(self.used_by_callbacks));
                bytes <= free && (held <= 2 * ONE_CALLBACK || held <= free)
            }
        };
        if !fits {
            return Err(Full);
        }
        self.used += bytes;
        if matches!(holder, Holder::Callbacks(_)) {
            self.used_by_callbacks += bytes;
        }
        self.held.insert(holder.clone(), held);
        Ok(())
    }

    fn give_back(&mut self, holder: &Holder, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
        if matches!(holder, Holder::Callbacks(_)) {
            self.used_by_callbacks = self.used_by_callbacks.saturating_sub(bytes);
        }
        if let Some(held) = self.held.get_mut(holder) {
            *held = held.saturating_sub(bytes);
            if *held == 0 {
                self.held.remove(holder);
            }
        }
    }
}

/// Memory that is charged to somebody; given back when dropped. The default charges nobody.
#[derive(Debug, Default)]
pub struct Holding {
    held: u64,
    account: Option<(Memory, Holder)>,
}

impl Holding {
    /// Charges `bytes` more.
    ///
    /// # Errors
    /// [`Full`]; then nothing was charged.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let bytes = bytes as u64;
        if let Some((memory, holder)) = self.account.as_ref().filter(|_| bytes > 0) {
            memory.lock().take(holder, bytes)?;
        }
        self.held += bytes;
        Ok(())
    }

    /// Charges as much as is missing to `bytes` in all.
    ///
    /// # Errors
    /// [`Full`]; then nothing was charged.
    pub fn reach(&mut self, bytes: usize) -> Result<(), Full> {
        self.grow(bytes.saturating_sub(usize::try_from(self.held).unwrap_or(usize::MAX)))
    }

    /// Gives `bytes` back.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = (bytes as u64).min(self.held);
        if let Some((memory, holder)) = self.account.as_ref().filter(|_| bytes > 0) {
            memory.lock().give_back(holder, bytes);
        }
        self.held -= bytes;
    }

    /// An empty reservation for the same holder.
    #[must_use]
    pub fn another(&self) -> Self {
        Self { held: 0, account: self.account.clone() }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.shrink(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// Takes 64 KiB at a time for as long as that works.
    fn fill(mut holding: Holding) -> Holding {
        while holding.grow(64 << 10).is_ok() {}
        holding
    }

    #[test]
    fn one_tenant_leaves_half_and_a_newcomer_finds_room() {
        let memory = Memory::new(64 << 20);
        let first = fill(memory.for_request("a"));
        assert_eq!(first.held, 32 << 20);
        let more = memory.for_request("a").grow(MIB);
        assert_eq!(more, Err(Full), "another request of the same tenant does not get more");
        let second = fill(memory.for_request("b"));
        assert_eq!(second.held, 16 << 20);
        drop(first);
        assert_eq!(memory.used(), 16 << 20);
        drop(second);
        assert_eq!((memory.used(), memory.lock().held.len()), (0, 0));
    }

    #[test]
    fn every_tenant_has_one_request_whatever_others_hold() {
        let memory = Memory::new(1 << 20);
        let full: Vec<Holding> = (0..40).map(|n| fill(memory.for_request(&format!("t{n}")))).collect();
        assert!(full.iter().all(|holding| holding.held >= ONE_REQUEST));
        let mut last = memory.for_request("last");
        assert_eq!(last.grow(ONE_REQUEST as usize), Ok(()));
        assert_eq!(last.grow(1), Err(Full));
    }

    #[test]
    fn callbacks_have_a_part_of_their_own_and_share_it() {
        let memory = Memory::new(64 << 20);
        let flood = fill(memory.for_callback("a"));
        assert_eq!(flood.held, 8 << 20);
        assert_eq!(memory.for_callback("b").grow(MIB), Ok(()));
        let all: Vec<Holding> = (0..40).map(|n| fill(memory.for_callback(&format!("t{n}")))).collect();
        assert!(memory.used() <= 16 << 20);
        assert_eq!(memory.for_request("a").grow(MIB), Ok(()));
        drop(all);
        let small = Memory::new(1 << 20);
        assert_eq!(small.for_callback("a").grow(MIB), Ok(()), "the largest callback fits into little memory");
    }

    #[test]
    fn a_holding_is_charged_once_for_what_it_reaches() {
        let memory = Memory::new(64 << 20);
        let mut holding = memory.for_request("a");
        for bytes in [100, 50, 200] {
            holding.reach(bytes).expect("room");
        }
        assert_eq!(memory.used(), 200);
        holding.shrink(150);
        assert_eq!(memory.used(), 50);
    }
}
