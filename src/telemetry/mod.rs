//! What an operator sees: logs, request ids and metrics. They know texts and numbers, and nothing of the domain.

pub mod logs;
pub mod metrics;
pub mod request_id;
pub mod seldom;
