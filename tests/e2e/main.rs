//! Black-box tests, from the view of a bot, an operator and a provider.

mod accept;
mod audio;
mod bodies;
mod bot;
mod bucket;
mod clock;
mod convert;
mod delivery;
mod doors;
mod events;
mod fetch;
mod ffmpeg;
mod fields;
mod forged;
mod harness;
mod hostile;
mod idle;
#[path = "../support/keys.rs"]
mod keys;
mod ladder;
mod limits;
mod links;
mod lists;
mod manage;
mod metrics;
mod observe;
mod openapi;
mod plan;
#[path = "../support/postgres.rs"]
mod postgres_server;
mod receipts;
mod recover;
mod renders;
mod requests;
#[path = "../support/s3.rs"]
mod s3;
mod shared;
mod shares;
mod slow;
mod strangers;
mod tenants;
mod truth;
mod uploads;
mod usage;
mod webhooks;
