//! Background checks of the files of an open database.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::sqlite::SqliteConnectOptions;

use super::{
    files::Files,
    integrity::{Inspection, Round},
};
use crate::telemetry::metrics;

/// Interval at which paths and files are compared.
const COMPARING: Duration = Duration::from_secs(2);

/// Compares the files with their paths and checks their pages, until a problem is found.
pub async fn run(files: Arc<Files>, reading: SqliteConnectOptions) {
    let mut inspection = Inspection::default();
    let mut due = Instant::now();
    while files.check().is_ok() {
        if due <= Instant::now() {
            let begun = Instant::now();
            match inspection.round(&reading, &files).await {
                Ok(round) => {
                    metrics::inspected(round.word());
                    if let Round::Damaged(what) = round {
                        files.give_up(format!("the database is damaged: {what}"));
                        return;
                    }
                }
                Err(error) => {
                    metrics::inspected("failed");
                    tracing::debug!(%error, "the database could not be looked through");
                }
            }
            due = Instant::now() + Inspection::pause(begun.elapsed());
        }
        tokio::time::sleep(COMPARING).await;
    }
}
