//! Integrity checks of the tables, a limited part at a time. A connection reads pages once and then works from its
//! cache, so damage would otherwise remain unnoticed for long.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{files::Files, open::look};
use crate::store::StoreError;

/// Initial time budget of a round. A table that needs longer gets more in the next one.
const BUDGET: Duration = Duration::from_millis(200);

/// Maximum time budget of a round: the journal cannot restart while it is being read.
const MOST: Duration = Duration::from_secs(1);

/// Minimum pause between two rounds, and the factor by which the pause exceeds the time of the round.
const PAUSE: Duration = Duration::from_secs(5);
const SHARE: u32 = 50;

/// Number of SQLite's steps between two checks of the time.
const STEPS: i32 = 500;

/// A table that every database of the gateway has.
const KNOWN: &str = "notes";

/// The result of a round.
#[derive(Debug, PartialEq, Eq)]
pub enum Round {
    /// All tables were checked.
    Whole,
    /// The time budget was used up before.
    Part,
    Damaged(String),
}

impl Round {
    /// Label of the result in metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Part => "part",
            Self::Damaged(_) => "damaged",
        }
    }
}

/// The progress of the checks, from which the next round continues.
#[derive(Debug)]
pub struct Inspection {
    after: String,
    budget: Duration,
}

impl Default for Inspection {
    fn default() -> Self {
        Self { after: String::new(), budget: BUDGET }
    }
}

impl Inspection {
    /// Pause after a round that took this long.
    pub fn pause(took: Duration) -> Duration {
        PAUSE.max(took * SHARE)
    }

    /// Runs a round over a new connection, whose reads come from the files.
    ///
    /// # Errors
    /// The database cannot be read at the moment, which says nothing about its pages.
    pub async fn round(
        &mut self,
        options: &SqliteConnectOptions,
        files: &Files,
    ) -> Result<Round, StoreError> {
        let round = async {
            let mut connection = options.connect().await?;
            let round = self.within(&mut connection, files).await;
            // An error here has no consequences.
            let _ = connection.close().await;
            round
        };
        match round.await.map_err(StoreError::from) {
            Ok(round) => Ok(round),
            Err(StoreError::Damaged(error)) => Ok(Round::Damaged(error.to_string())),
            Err(error) => Err(error),
        }
    }

    async fn within(
        &mut self,
        connection: &mut SqliteConnection,
        files: &Files,
    ) -> Result<Round, sqlx::Error> {
        look(connection, files).await?;
        let tables: Vec<String> =
            sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
                .fetch_all(&mut *connection)
                .await?;
        if !tables.iter().any(|table| table == KNOWN) {
            return Ok(Round::Damaged("its tables are gone".to_owned()));
        }
        if !files.journal_is_whole(connection).await? && !files.journal_is_whole(connection).await? {
            return Ok(Round::Damaged("its journal (-wal) was cut short".to_owned()));
        }
        let deadline = Instant::now() + self.budget;
        connection.lock_handle().await?.set_progress_handler(STEPS, move || Instant::now() < deadline);
        for table in tables {
            if table <= self.after {
                continue;
            }
            match inspect(connection, &table).await {
                Ok(None) => (self.after, self.budget) = (table, BUDGET),
                Ok(Some(finding)) => return Ok(Round::Damaged(finding)),
                Err(error) if Instant::now() >= deadline && is_interrupt(&error) => {
                    if self.budget >= MOST {
                        // Only the beginning of such a table is ever checked.
                        (self.after, self.budget) = (table, BUDGET);
                    } else {
                        self.budget *= 2;
                    }
                    return Ok(Round::Part);
                }
                Err(error) => return Err(error),
            }
        }
        self.after.clear();
        Ok(Round::Whole)
    }
}

/// Returns the first problem of a table or its indexes.
async fn inspect(connection: &mut SqliteConnection, table: &str) -> Result<Option<String>, sqlx::Error> {
    // https://www.sqlite.org/pragma.html#pragma_quick_check
    let sql = format!("PRAGMA quick_check('{}')", table.replace('\'', "''"));
    let findings: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(connection).await?;
    Ok(findings.into_iter().find(|finding| finding != "ok"))
}

/// Whether the error is SQLITE_INTERRUPT. <https://www.sqlite.org/rescode.html#interrupt>
fn is_interrupt(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "9")
}
