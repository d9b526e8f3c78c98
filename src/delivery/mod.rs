//! From an accepted request to its end: [`accept`] makes it durable, `worker` leases what is due, `fetch` downloads,
//! `attempt` makes one try, [`outcome`] says what its end means, `backoff` when the next one follows. [`receive`] takes in what the
//! provider says afterwards, `watch` asks where it says nothing, `tell` passes it on to the bot. [`erase`] forgets whom a
//! finished note was for; [`plan`] says beforehand what would happen.

pub mod accept;
mod attempt;
mod backoff;
pub mod cancel;
pub mod erase;
mod fetch;
pub mod housekeeping;
mod known;
pub mod ladder;
mod making;
pub mod outcome;
mod persist;
pub mod plan;
mod read_audio;
pub mod receive;
pub mod resend;
pub mod route;
mod tell;
mod trial;
pub mod upload;
mod watch;
mod worker;

pub use accept::{Receipt, VoiceRequest};
pub use worker::Worker;
