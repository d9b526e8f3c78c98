//! voicegate turns a bot's audio into a real voice note at the messaging provider of each tenant's choice.
//!
//! One request, followed through the house:
//!
//! 1. [`http`]`::voice` reads `POST /voice`: the API key names the tenant, the body becomes a
//!    [`delivery::VoiceRequest`].
//! 2. [`delivery::accept`] picks the connections that can reach the recipient, has [`voicegate_audio`] look at the bytes,
//!    keeps them in [`media`], and makes note and delivery durable in one transaction of the [`store`].
//!    The bot has its 202.
//! 3. `delivery::worker` leases what is due: of each lane (tenant, connection, recipient) only the head.
//! 4. `delivery::attempt` makes one try: download where the audio is a URL, let [`voicegate_audio`] do the least that the
//!    connection's profile needs, `prepare` at the provider's adapter, commit `sending`, `dispatch`.
//! 5. [`delivery::outcome`] decides what the end of the try means, the adapter having named only what happened,
//!    and the store commits it together with what becomes of the delivery, and with the event that it is.
//! 6. [`delivery::receive`] takes in what the provider says afterwards, and `delivery::webhook` passes events on to the
//!    bot's webhook, out of the same queue.
//!
//! Adapters live in the crate `voicegate_providers`; emulators of the providers in `voicegate_sandbox`.
//! [`gateway`] builds everything from the [`config`]; [`cli`] is what the command line reaches.

#![warn(clippy::print_stdout, clippy::print_stderr)]
#![expect(clippy::duplicate_mod, reason = "src/store/sql is compiled once for each database")]

pub mod cli;
pub mod config;
pub mod delivery;
pub mod docs;
#[cfg(debug_assertions)]
#[doc(hidden)]
pub mod fuzzing;
pub mod gateway;
pub mod http;
pub mod media;
pub mod model;
pub mod store;
pub mod telemetry;
pub mod view;
