//! Reads back what was made, and compares it with the source.

pub(crate) mod heard;
pub(crate) mod proof;
#[cfg(test)]
mod tests;
pub(crate) mod verify;
