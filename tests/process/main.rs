//! Tests of the real executable: killed at any moment, reloaded by signal, used by slow clients.

mod accidents;
#[cfg(target_os = "linux")]
mod bounds;
mod bucket;
mod callbacks;
mod chaos;
mod check;
mod cli;
mod demo;
mod faults;
mod files;
mod gateway;
mod inbound;
#[path = "../support/keys.rs"]
mod keys;
mod kill;
mod memory;
mod pages;
#[path = "../support/postgres.rs"]
mod postgres_server;
mod providers;
mod proxy;
mod recover;
mod remote;
#[path = "../support/s3.rs"]
#[expect(dead_code, reason = "shared with tests that look closer")]
mod s3;
mod serve;
mod server;
mod shared;
mod stop;
mod traces;
mod trouble;
#[path = "../support/waha_server.rs"]
#[expect(dead_code, reason = "shared with tests that look closer")]
mod waha_server;
mod words;
