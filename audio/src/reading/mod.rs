//! Identifies a source: first from its bytes, then by decoding it.

pub(crate) mod consistency;
pub(crate) mod examine;
pub(crate) mod hexadecimal;
pub(crate) mod in_process;
pub(crate) mod names;
pub(crate) mod probe;
pub(crate) mod sniff;
pub(crate) mod structure;
pub(crate) mod tone;
pub(crate) mod wide_text;
