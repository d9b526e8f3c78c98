//! What each target accepts, what is made for it, and what that takes.

pub(crate) mod plan;
pub(crate) mod profile;
pub(crate) mod table;
pub(crate) mod words;
