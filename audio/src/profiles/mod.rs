//! Profiles: the formats each target accepts, and the conversion that a source needs.

pub(crate) mod description;
pub(crate) mod plan;
pub(crate) mod profile;
pub(crate) mod table;
