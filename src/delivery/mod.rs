//! The delivery of notes, from the accepted request to the last receipt. [`accept`] stores a note, `worker` leases due
//! jobs, `fetch` downloads audio, `attempt` makes one delivery attempt, [`outcome`] decides what its result means, and
//! `backoff` computes the time of the next one. [`receive`] stores the provider's receipts, `watch` looks for receipts
//! that are missing, and `webhook` delivers events to the bot. [`erase`] removes the personal data of a finished note.
//! [`plan`] predicts what would happen to a note, without sending it. [`recover`] sends notes again that did not arrive,
//! as a task that `tasks` runs, and [`retell`] posts events again that a webhook did not take.

pub mod accept;
mod attempt;
mod backoff;
pub mod cancel;
mod conversation;
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
pub mod recover;
pub mod resend;
pub mod retell;
pub mod route;
mod tasks;
mod traced;
mod trial;
pub mod upload;
mod watch;
mod webhook;
mod worker;

pub use accept::{Admission, VoiceRequest};
pub use webhook::sign as sign_webhook;
pub use worker::Worker;
