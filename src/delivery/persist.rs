//! Retries for writes while the database is busy, full or unreachable. They record facts that are stored nowhere else.

use std::{fmt::Display, time::Duration};

use tokio::time::Instant;

use crate::{gateway::Gateway, store::StoreError};

/// The pause between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Retries a write about a note, or a received note, until it succeeds, at most for `patience`.
///
/// # Errors
/// The last error of the database. `LeaseLost` and other errors that a retry would not change are returned at once.
pub async fn written<T, F>(
    note: impl Display,
    what: &str,
    patience: Duration,
    write: impl Fn() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    repeated(note, what, (PAUSE, patience), write).await
}

async fn repeated<T, F>(
    note: impl Display,
    what: &str,
    (pause, patience): (Duration, Duration),
    write: impl Fn() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let end = Instant::now() + patience;
    loop {
        match write().await {
            Err(error) if may_pass(&error) && Instant::now() < end => {
                tracing::warn!(note.id = %note, %error, "{what} of note {note} could not be recorded yet");
            }
            done => return done,
        }
        tokio::time::sleep(pause).await;
    }
}

/// Whether a retry may succeed. Unknown errors are retried too, because a retry is harmless.
fn may_pass(error: &StoreError) -> bool {
    !matches!(error, StoreError::LeaseLost | StoreError::OutOfOrder(_) | StoreError::Corrupt(_))
}

/// The length of a lease. After that, another process may claim the job.
pub fn lease(gateway: &Gateway) -> Duration {
    gateway.live().lease()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::model::note::NoteId;

    fn busy() -> StoreError {
        sqlx::Error::PoolTimedOut.into()
    }

    const SOON: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn a_write_is_repeated_until_the_database_takes_it() {
        let tries = Cell::new(0);
        let write = || async {
            tries.set(tries.get() + 1);
            if tries.get() < 25 { Err(busy()) } else { Ok(tries.get()) }
        };
        let done = repeated(NoteId::new(), "x", (SOON, Duration::from_secs(600)), write).await;
        assert_eq!(done.expect("written"), 25);
    }

    #[tokio::test]
    async fn write_fails_once_patience_is_exhausted() {
        let tries = Cell::new(0);
        let write = || async {
            tries.set(tries.get() + 1);
            Err::<(), _>(StoreError::Full)
        };
        let done = repeated(NoteId::new(), "x", (SOON, 5 * SOON), write).await;
        assert!(matches!(done, Err(StoreError::Full)));
        assert!((1..=6).contains(&tries.get()), "{}", tries.get());
    }

    #[tokio::test]
    async fn permanent_errors_are_returned_without_a_retry() {
        for error in [|| StoreError::LeaseLost, || StoreError::OutOfOrder("gone".into())] {
            let tries = Cell::new(0);
            let write = || async {
                tries.set(tries.get() + 1);
                Err::<(), _>(error())
            };
            let done = repeated(NoteId::new(), "x", (SOON, Duration::from_secs(600)), write).await;
            assert!(done.is_err() && tries.get() == 1);
        }
    }
}
