//! Whether the database takes writes, for whoever asks often.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::store::Store;

/// An answer is given again for so long.
const FRESH: Duration = Duration::from_secs(1);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The last answer, and when it was given. Who asks meanwhile waits for the one that is under way.
#[derive(Debug, Default)]
pub struct Probe(Mutex<Option<(Instant, Result<(), String>)>>);

impl Probe {
    /// Writes to the database, at most once a second.
    ///
    /// # Errors
    /// Why it takes no writes, for the operator.
    pub async fn ask(&self, store: &dyn Store) -> Result<(), String> {
        let mut last = self.0.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < FRESH
        {
            return answer.clone();
        }
        let asked = tokio::time::timeout(PATIENCE, store.ping()).await;
        let answer = match asked {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the database did not answer within {} s", PATIENCE.as_secs())),
        };
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}
