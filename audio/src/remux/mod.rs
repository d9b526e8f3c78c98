//! Copies of a source that are written without decoding it.

pub(crate) mod readable;
pub(crate) mod repaired;
pub(crate) mod rewrap;
#[cfg(test)]
mod tests;
