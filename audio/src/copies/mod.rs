//! Copies of a source that are written without decoding it.

pub(crate) mod mended;
pub(crate) mod readable;
pub(crate) mod rewrap;
#[cfg(test)]
mod tests;
