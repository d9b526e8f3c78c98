//! Retries after a broken connection or a conflict of two transactions.

use std::time::{Duration, Instant};

use crate::{store::StoreError, telemetry::metrics};

/// Time for which a change is retried after a temporary failure, and the pause between tries. A database that restarts
/// closes every connection of the pool, and each is noticed only when it is used.
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN_TRIES: Duration = Duration::from_millis(250);

/// Timeout for one answer. A server that hangs would otherwise block its callers for ever.
const ANSWER: Duration = Duration::from_secs(15);

/// Retries an operation after a broken connection or a conflict. The operation must be safe to repeat. This is a macro
/// because the future of a closure that borrows cannot be shown to be `Send`.
macro_rules! again {
    ($ask:expr) => {{
        let tries = $crate::store::postgres::retry::Tries::new();
        loop {
            match $crate::store::postgres::retry::answered($ask).await {
                Err(error) if tries.left_after(&error).await => {}
                done => break done,
            }
        }
    }};
}

/// Changes a note in one transaction, with retries as above. `$done` makes the change and its commit. If the answer to a commit got lost, the note's document
/// tells whether it was made; then the result is `$made`.
macro_rules! change {
    ($store:ident, $note:expr, $made:expr, $tx:ident => $apply:expr) => {
        $crate::store::postgres::retry::change!($store, $note, $made, async {
            let mut begun = $store.pool.begin().await?;
            let $tx = &mut begun;
            let done = $apply.await?;
            begun.commit().await?;
            Ok::<_, $crate::store::StoreError>(done)
        })
    };
    ($store:ident, $note:expr, $made:expr, $done:expr) => {{
        let (tries, mut in_doubt) = ($crate::store::postgres::retry::Tries::new(), false);
        loop {
            if in_doubt && $store.has($note).await? {
                break Ok($made);
            }
            match $crate::store::postgres::retry::answered($done).await {
                Err(error) if tries.left_after(&error).await => {
                    in_doubt |= $crate::store::postgres::retry::is_broken(&error)
                }
                done => break done,
            }
        }
    }};
}

pub(super) use {again, change};

/// Waits for the answer, up to the timeout.
///
/// # Errors
/// `Unavailable` after the timeout, and the errors of the operation.
pub async fn answered<T>(ask: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let answer = tokio::time::timeout(ANSWER, ask).await.unwrap_or_else(|_| Err(StoreError::no_answer()));
    answer.inspect_err(|error| {
        if error.is_of_database() {
            metrics::database_failed(error.kind());
        }
    })
}

/// The time since which an operation is tried.
pub struct Tries(Instant);

impl Tries {
    pub fn new() -> Self {
        Self(Instant::now())
    }

    /// Waits before the next try; returns `false` if there is none.
    pub async fn left_after(&self, error: &StoreError) -> bool {
        let left = error.passes() && self.0.elapsed() < PATIENCE;
        if left {
            tracing::debug!(%error, "the database is asked again");
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
        left
    }
}

/// Whether the connection is lost, and the answer with it.
pub fn is_broken(error: &StoreError) -> bool {
    let StoreError::Unavailable(error) = error else { return false };
    match &**error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        // The server was shut down by an operator, crashed, or is starting.
        // https://www.postgresql.org/docs/current/errcodes-appendix.html
        error => error
            .as_database_error()
            .and_then(|error| error.code())
            .is_some_and(|code| ["57P01", "57P02", "57P03"].contains(&&*code)),
    }
}
