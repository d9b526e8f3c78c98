//! The emulators, held to the vendors' pages request by request, and the inbox page. One executable, which links faster
//! than one for each file.
#![allow(clippy::disallowed_methods, reason = "what the sandbox answers here is small")]

mod common;
mod discord;
mod evolution;
mod faults;
mod inbound;
mod linq;
mod page;
mod receipts;
mod recipes;
mod telegram;
mod waha;
mod wawp;
mod whatsapp_cloud;
