//! Reads back produced files, verifies them, and compares them with the source.

pub(crate) mod kept;
pub(crate) mod likeness;
pub(crate) mod proof;
#[cfg(test)]
mod tests;
pub(crate) mod verify;
