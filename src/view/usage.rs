//! The usage of a tenant, as the API returns it.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::model::usage::{self, Days, UsageBy, UsageGroup, Used};

/// The usage of a period, in groups.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageList {
    /// The first day, in UTC.
    #[schema(format = Date, examples("2026-11-01"))]
    pub from: String,
    /// The last day, included.
    #[schema(format = Date, examples("2026-11-30"))]
    pub to: String,
    /// The groups that have notes, in the order of their keys.
    pub items: Vec<UsageItem>,
}

/// The usage of one group.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageItem {
    /// The day, the name of the connection, or the status.
    #[schema(examples("2026-11-30"))]
    pub key: String,
    /// How many notes were accepted. A note counts from then on, also after it was erased or removed.
    #[schema(examples(128))]
    pub notes: u64,
    /// The length of the audio as it was received. Like the bytes and attempts, it counts once the gateway has worked on
    /// the note.
    #[schema(examples(1263.4))]
    pub seconds: f64,
    /// The size of the audio as it was received.
    #[schema(examples(5218304))]
    pub bytes_in: u64,
    /// The size of the audio as it was made for the provider.
    #[schema(examples(2510336))]
    pub bytes_out: u64,
    /// How often sending was tried over a connection.
    #[schema(examples(131))]
    pub attempts: u64,
    /// How many of the notes have each status now.
    pub by_status: BTreeMap<String, u64>,
}

impl UsageList {
    /// Joins the groups, which are in the order of their keys.
    pub fn new(days: Days, by: UsageBy, groups: Vec<UsageGroup>) -> Self {
        let mut items: Vec<(String, Used, BTreeMap<String, u64>)> = Vec::new();
        for UsageGroup { key, status, used } in groups {
            let notes = used.notes;
            match items.last_mut() {
                Some((last, sum, _)) if *last == key => sum.add(&used),
                _ => items.push((key, used, BTreeMap::new())),
            }
            if let Some((_, _, statuses)) = items.last_mut() {
                *statuses.entry(status).or_default() += notes;
            }
        }
        let items = items.into_iter().map(|(key, used, by_status)| UsageItem {
            key: match by {
                UsageBy::Day => key.parse().ok().and_then(usage::day).map_or(key, |day| day.to_string()),
                UsageBy::Connection | UsageBy::Status => key,
            },
            notes: used.notes,
            seconds: seconds(used.ms),
            bytes_in: used.bytes_in,
            bytes_out: used.bytes_out,
            attempts: used.attempts,
            by_status,
        });
        Self { from: days.first.to_string(), to: days.last.to_string(), items: items.collect() }
    }
}

/// Sums stay below 2^53 milliseconds, which a fraction holds exactly, for 280,000 years of audio.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
