//! Black-box tests: what a bot, an operator and a provider see.

mod accept;
mod audio;
mod convert;
mod delivery;
mod fetch;
mod harness;
mod hostile;
mod links;
mod tenants;
