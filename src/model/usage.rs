//! The usage of a tenant: how many notes, and how much audio and work they were.

use jiff::civil::Date;
use serde::Deserialize;
use utoipa::ToSchema;

use super::note::Note;

/// By what usage is grouped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UsageBy {
    /// The day on which the notes were accepted, in UTC.
    #[default]
    Day,
    /// The connection in use.
    Connection,
    /// The status of the notes as it is now.
    Status,
}

/// Days in UTC, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days {
    pub first: Date,
    pub last: Date,
}

impl Days {
    /// The days as numbers since 1970: the first, and the one after the last.
    pub fn numbers(self) -> (i64, i64) {
        (number(self.first), number(self.last) + 1)
    }

    pub fn count(self) -> i64 {
        let (first, end) = self.numbers();
        end - first
    }
}

const EPOCH: Date = jiff::civil::date(1970, 1, 1);

fn number(day: Date) -> i64 {
    day.duration_since(EPOCH).as_hours() / 24
}

/// The day with this number since 1970.
pub fn day(number: i64) -> Option<Date> {
    EPOCH.checked_add(jiff::SignedDuration::try_from_hours(number.checked_mul(24)?)?).ok()
}

/// An amount of usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub notes: u64,
    /// The length of the audio as received, in milliseconds.
    pub ms: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Attempts at providers.
    pub attempts: u64,
}

impl Used {
    /// The share of one note.
    pub fn by(note: &Note) -> Self {
        let source = note.probed.as_ref().map(|probed| &probed.facts);
        Self {
            notes: 1,
            ms: source.map_or(0, |facts| facts.duration_ms),
            bytes_in: source.map_or(0, |facts| facts.size_bytes),
            bytes_out: note.sent.as_ref().map_or(0, |sent| sent.facts.size_bytes),
            // Attempts in the middle of a long list are dropped, and their numbers go on.
            attempts: note.attempts.last().map_or(0, |last| u64::from(last.n)),
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.notes += other.notes;
        self.ms += other.ms;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.attempts += other.attempts;
    }
}

/// The usage by notes of one group that have the same status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageGroup {
    /// The number of the day since 1970, the name of the connection, or the status.
    pub key: String,
    pub status: String,
    pub used: Used,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_since_1970() {
        let days = Days { first: EPOCH, last: jiff::civil::date(1970, 12, 31) };
        assert_eq!((days.numbers(), days.count()), ((0, 365), 365));
        for text in ["1970-01-01", "2024-02-29", "2026-11-30", "9999-12-31"] {
            let date: Date = text.parse().expect("a date");
            assert_eq!(day(number(date)), Some(date));
        }
        assert_eq!(day(i64::MAX), None);
    }
}
