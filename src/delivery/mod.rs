//! The delivery of notes, from the accepted request to the last receipt. [`accept`] stores a note, `worker` leases due
//! jobs, `fetch` downloads audio, `speak` lets a server speak it, `attempt` makes one delivery attempt, [`outcome`] decides what its result means, and
//! `backoff` computes the time of the next one. [`receive`] stores the provider's receipts, `watch` looks for receipts
//! that are missing, and `webhook` delivers events to the bot. [`erase`] removes the personal data of a finished note.
//! `inbound` fetches, reads and announces what people sent. [`plan`] predicts what would happen to a note, without sending
//! it, and [`render`] makes the audio that would be sent. [`recover`] sends notes again that did not arrive,
//! as a task that `tasks` runs, and [`retell`] posts events again that a webhook did not take.

pub mod accept;
pub mod answer;
mod attempt;
mod backoff;
pub mod cancel;
mod conversation;
pub mod erase;
pub mod erase_received;
mod fetch;
pub mod housekeeping;
mod inbound;
mod known;
pub mod ladder;
mod making;
pub mod outcome;
mod persist;
pub mod plan;
pub mod presence;
mod read_audio;
pub mod receive;
pub mod recover;
pub mod render;
pub mod resend;
pub mod retell;
pub mod route;
mod speak;
mod tasks;
mod traced;
mod transcribe;
mod trial;
pub mod upload;
mod watch;
mod webhook;
mod worker;

pub use accept::{Admission, SendTime, VoiceRequest};
pub use webhook::sign as sign_webhook;
pub use worker::Worker;
