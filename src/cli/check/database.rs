//! Compares the tables of a database with those of this version.

use std::collections::BTreeMap;

use sqlx::migrate::Migrator;

use super::line::Line;

#[derive(Debug, PartialEq, Eq)]
pub enum Tables {
    None,
    Current,
    /// The number of missing migrations.
    Older(usize),
    OfAnotherVersion,
    Foreign,
}

impl Tables {
    /// Describes what the tables mean for the next start. `say` puts the name of the database before it.
    pub fn line(self, say: &dyn Fn(&str) -> String) -> Line {
        match self {
            Self::None => Line::ok(say("is empty; the next start makes its tables")),
            Self::Current => Line::ok(say("is up to date")),
            Self::Older(steps) => {
                let steps = if steps == 1 { "1 step".to_owned() } else { format!("{steps} steps") };
                Line::note(say(&format!(
                    "is {steps} behind; the next start brings it up to date, so keep a copy"
                )))
            }
            Self::OfAnotherVersion => Line::fail(say(
                "is not of this version: a newer voicegate has used it, or an update of it was interrupted; install \
                 the newer version, or restore a copy",
            )),
            Self::Foreign => {
                Line::fail(say("contains tables that are not voicegate's; use a separate database"))
            }
        }
    }
}

/// A migration that was applied: its version, its checksum, and whether it was completed.
pub type Applied = (i64, Vec<u8>, bool);

/// Reads the applied migrations, if there is a table of them.
pub const APPLIED: &str = "SELECT version, checksum, success FROM _sqlx_migrations";

/// Whether voicegate has ever migrated a database with tables of these names.
pub fn has_steps(names: &[String]) -> bool {
    names.iter().any(|name| name == "_sqlx_migrations")
}

/// Compares the applied migrations with those that a start would apply.
pub fn compare(names: &[String], applied: &[Applied], migrations: &Migrator) -> Tables {
    if names.is_empty() {
        return Tables::None;
    }
    if !has_steps(names) {
        return Tables::Foreign;
    }
    let ours: BTreeMap<i64, &[u8]> =
        migrations.iter().map(|step| (step.version, step.checksum.as_ref())).collect();
    let known = |(version, checksum, success): &Applied| {
        *success && ours.get(version).is_some_and(|expected| *expected == checksum.as_slice())
    };
    match ours.len() - applied.iter().filter(|step| known(step)).count() {
        _ if !applied.iter().all(known) => Tables::OfAnotherVersion,
        0 => Tables::Current,
        missing => Tables::Older(missing),
    }
}
