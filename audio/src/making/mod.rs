//! Makes what a profile needs of a source, once for all who need the same.

pub(crate) mod kept;
pub(crate) mod render;
