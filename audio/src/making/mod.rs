//! Produces files for profiles, once for all requests that need the same file.

pub(crate) mod render;
pub(crate) mod render_cache;
