//! The real executable: killed in the middle, reloaded by signal, fed by slow clients.

mod chaos;
mod check;
mod gateway;
mod kill;
mod memory;
#[path = "../support/postgres.rs"]
mod postgres_server;
mod serve;
mod shared;
mod stop;
