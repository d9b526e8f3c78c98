//! A trait through which the engine reports its work, for metrics.

use std::fmt;
use std::time::{Duration, Instant};

/// Receives a call for each event of the engine. Every method has an empty default.
pub trait Observer: fmt::Debug + Send + Sync {
    /// A run of ffmpeg ended. `purpose` is `probe`, `encode` or `self-test`; `outcome` is `ok`, `failed`, `missing`,
    /// `timeout`, `too_much`, `died`, `error` or `canceled`.
    fn ran(&self, purpose: &'static str, outcome: &'static str, took: Duration) {
        let _ = (purpose, outcome, took);
    }

    /// A source was decoded without producing a file from it: `in_process`, or by ffmpeg because of the named reason.
    /// `structure`: its structure is not clean, or the sound too short; `no_decoder`: no decoder in this process knows
    /// it, or is fast enough; `failed`: a decoder met an error; `limit`: it took too long; `panicked`; `odd`: the
    /// channels cancel each other out, or there is next to nothing to hear.
    fn decoded(&self, way: &'static str) {
        let _ = way;
    }

    /// The render cache was asked for a file; `hit` says whether it had the file.
    fn looked_up(&self, hit: bool) {
        let _ = hit;
    }
}

/// An observer that ignores all calls.
#[derive(Clone, Copy, Debug)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// A run of ffmpeg. It is reported when this value is dropped, so an abandoned run is reported too.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    observer: &'a dyn Observer,
    purpose: &'static str,
    outcome: &'static str,
    started: Instant,
}

impl<'a> Run<'a> {
    pub fn start(observer: &'a dyn Observer, purpose: &'static str) -> Self {
        Self { observer, purpose, outcome: "canceled", started: Instant::now() }
    }

    pub fn ended(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.observer.ran(self.purpose, self.outcome, self.started.elapsed());
    }
}
