//! What is done again where a connection broke or two transactions got in each other's way.

use std::time::Duration;

use crate::store::StoreError;

/// How often a change is begun anew that a broken connection or a deadlock ended, and how far apart. A database that
/// restarts closes every connection of the pool, and each is found out by its next use.
const TRIES: u32 = 40;
const BETWEEN_TRIES: Duration = Duration::from_millis(250);

/// Asks again where a connection broke or two got in each other's way: for what may be done twice. A macro, because the
/// future of a closure that borrows cannot be shown to be `Send`.
macro_rules! again {
    ($ask:expr) => {{
        let mut tries = $crate::store::postgres::retry::Tries::new();
        loop {
            match $ask.await {
                Err(error) if tries.left_after(&error).await => {}
                done => break done,
            }
        }
    }};
}

/// Makes a change to a note in one transaction, and again as above. Where the answer to a commit got lost, the note's
/// document tells whether it was made; then the result is `$made`.
macro_rules! change {
    ($store:ident, $note:expr, $made:expr, $tx:ident => $apply:expr) => {{
        let (mut tries, mut in_doubt) = ($crate::store::postgres::retry::Tries::new(), false);
        loop {
            if in_doubt && $store.has($note).await? {
                break Ok($made);
            }
            let done = async {
                let mut begun = $store.pool.begin().await?;
                let $tx = &mut begun;
                let done = $apply.await?;
                begun.commit().await?;
                Ok::<_, $crate::store::StoreError>(done)
            };
            match done.await {
                Err(error) if tries.left_after(&error).await => {
                    in_doubt |= $crate::store::postgres::retry::is_broken(&error)
                }
                done => break done,
            }
        }
    }};
}

pub(super) use {again, change};

/// How often something was begun.
pub struct Tries(u32);

impl Tries {
    pub fn new() -> Self {
        Self(0)
    }

    /// Waits a little before the next one; `false` where there is none.
    pub async fn left_after(&mut self, error: &StoreError) -> bool {
        self.0 += 1;
        let left = self.0 < TRIES && passes(error);
        if left {
            tracing::debug!(%error, "the database is asked again");
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
        left
    }
}

/// Whether the same may go well in a moment.
fn passes(error: &StoreError) -> bool {
    // Deadlock, serialization failure. https://www.postgresql.org/docs/current/errcodes-appendix.html
    is_broken(error) || matches!(code(error).as_deref(), Some("40P01" | "40001"))
}

/// Whether the connection is gone, and with it the answer.
pub fn is_broken(error: &StoreError) -> bool {
    match error {
        StoreError::Database(sqlx::Error::Io(_) | sqlx::Error::Protocol(_)) => true,
        // Shut down by an operator, crashed, starting up.
        _ => matches!(code(error).as_deref(), Some("57P01" | "57P02" | "57P03")),
    }
}

fn code(error: &StoreError) -> Option<String> {
    let StoreError::Database(error) = error else { return None };
    Some(error.as_database_error()?.code()?.into_owned())
}
