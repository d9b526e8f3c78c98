//! Logs, request ids, traces and metrics for the operator. These modules know strings and numbers, and nothing of the domain.

pub mod log_throttle;
pub mod logs;
pub mod metrics;
pub mod request_id;
pub mod traces;
