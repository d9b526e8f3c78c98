//! The real executable: killed in the middle, reloaded by signal, fed by slow clients.

mod chaos;
mod check;
mod gateway;
mod kill;
mod memory;
mod serve;
mod stop;
