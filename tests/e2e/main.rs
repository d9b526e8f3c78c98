//! Black-box tests, from the view of a bot, an operator and a provider.

mod accept;
mod audio;
mod batches;
mod bodies;
mod bot;
mod bucket;
mod clock;
mod convert;
mod delivery;
mod dialect_events;
mod dialects;
mod doors;
mod events;
mod fetch;
mod ffmpeg;
mod fields;
mod forged;
mod harness;
mod hostile;
mod hostile_received;
mod house;
mod idle;
mod inbound;
#[path = "../support/keys.rs"]
mod keys;
mod ladder;
mod limits;
mod links;
mod lists;
mod manage;
mod mcp;
mod metrics;
mod microphone;
mod observe;
mod openapi;
mod plan;
#[path = "../support/postgres.rs"]
mod postgres_server;
mod receipts;
mod received_bucket;
mod received_faults;
mod recover;
mod render;
mod renders;
mod requests;
#[path = "../support/s3.rs"]
mod s3;
mod shared;
mod shares;
mod slow;
mod speech;
mod strangers;
mod tenants;
mod transcripts;
mod truth;
mod uploads;
mod usage;
#[path = "../support/waha_server.rs"]
mod waha_server;
mod webhooks;
