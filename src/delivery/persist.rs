//! Writes that are repeated while the database is busy, full or gone: what they say is known nowhere else.

use std::time::Duration;

use tokio::time::Instant;

use crate::{gateway::Gateway, model::note::NoteId, store::StoreError};

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes something about a note until it is written, at most for `patience`.
///
/// # Errors
/// Why it was not written; `LeaseLost` and other answers that another try would not change, at once.
pub async fn written<T, F>(
    note: NoteId,
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
    note: NoteId,
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

/// Whether another try is worth it. Also after an error that nobody knows: nothing is lost by it.
fn may_pass(error: &StoreError) -> bool {
    !matches!(error, StoreError::LeaseLost | StoreError::OutOfOrder(_) | StoreError::Corrupt(_))
}

/// For as long as a lease lasts; after that somebody else has the job.
pub fn lease(gateway: &Gateway) -> Duration {
    gateway.live().lease()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

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
    async fn patience_ends() {
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
    async fn what_another_try_would_not_change_is_said_at_once() {
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
