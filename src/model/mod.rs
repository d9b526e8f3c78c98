//! The domain model: notes that are sent and received, their receipts and events, uploads, problems, and time. It does no input or output.

pub mod breaker;
pub mod clock;
pub mod code;
pub mod event;
pub mod id;
pub mod note;
pub mod plan;
pub mod problem;
pub mod received;
pub mod spelling;
pub mod task;
pub mod upload;
pub mod usage;
mod words;
