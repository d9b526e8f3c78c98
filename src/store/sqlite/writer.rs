//! The writing connection, and its recovery after a failed write.
//!
//! The state of a connection is unknown after an error of the database: SQLite may have rolled back the whole
//! transaction by itself, or none of it. The connection is therefore closed, and the next change gets a new one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::{Mutex, MutexGuard};

use super::{accept, files::Files, open::look, plain, proof::Proof};
use crate::{store::StoreError, telemetry::metrics};

/// Takes the write lock at once. A transaction that reads first and writes later fails with "busy" as soon as another
/// one has written in between, whatever the timeout. <https://www.sqlite.org/lang_transaction.html>
///
/// The commit waits for the disk: <https://www.sqlite.org/pragma.html#pragma_synchronous>.
pub const BEGIN: &str = "PRAGMA synchronous = FULL; BEGIN IMMEDIATE";

/// Begins a transaction whose commit does not wait for the disk. It survives the death of the process, and a power cut
/// once any later commit has waited. For changes that a start takes back anyway, such as leases.
pub const BEGIN_UNFLUSHED: &str = "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE";

/// Pause between two tries of the same change.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// Pause between two checks of a failed commit.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// Time that closing a connection may take before the next one is opened anyway.
const CLOSING: Duration = Duration::from_secs(1);

/// Timeouts for a database that is busy or fails.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Timeout for another process's write lock, within one try.
    pub lock: Duration,
    /// Timeout for a change including all tries, after which it is refused.
    pub change: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { lock: Duration::from_millis(500), change: Duration::from_secs(5) }
    }
}

#[derive(Debug)]
pub struct Writer {
    /// Writers queue for this lock, which is fair, instead of inside SQLite, which is not. `None` if the last
    /// connection failed, or if its use was abandoned midway.
    connection: Mutex<Option<SqliteConnection>>,
    options: SqliteConnectOptions,
    reading: SqliteConnectOptions,
    pub files: Arc<Files>,
    pub timeouts: Timeouts,
}

/// The connection, taken for one transaction. It is closed unless it is put back.
#[derive(Debug)]
pub struct Taken<'a> {
    place: MutexGuard<'a, Option<SqliteConnection>>,
    files: &'a Files,
    pub connection: SqliteConnection,
}

impl Writer {
    pub fn new(
        options: SqliteConnectOptions,
        reading: SqliteConnectOptions,
        files: Arc<Files>,
        timeouts: Timeouts,
    ) -> Self {
        Self { connection: Mutex::default(), options, reading, files, timeouts }
    }

    /// Takes the connection, which is opened if there is none.
    ///
    /// # Errors
    /// `OutOfOrder` if the files are not those that were opened; `Busy` if the connection is in use for too long.
    pub async fn take(&self) -> Result<Taken<'_>, StoreError> {
        self.files.check()?;
        let place = tokio::time::timeout(self.timeouts.change, self.connection.lock()).await;
        let mut place = place.map_err(|_| StoreError::from(sqlx::Error::PoolTimedOut))?;
        let connection = match place.take() {
            Some(connection) => connection,
            None => self.open().await.inspect_err(|error| self.failed(error))?,
        };
        Ok(Taken { place, files: &self.files, connection })
    }

    async fn open(&self) -> Result<SqliteConnection, StoreError> {
        let mut connection = self.options.connect().await?;
        look(&mut connection, &self.files).await?;
        connection.execute(accept::SETUP).await?;
        connection.execute(plain::SETUP).await?;
        Ok(connection)
    }

    /// Whether the transaction with this proof was committed, as a new connection sees it. Retries until that is known,
    /// because nothing can safely be done before.
    pub async fn holds(&self, proof: &Proof) -> bool {
        loop {
            let found = async {
                let mut connection = self.reading.connect().await?;
                look(&mut connection, &self.files).await?;
                let found = proof.look(&mut connection).await?;
                connection.close().await?;
                Ok::<_, sqlx::Error>(found)
            };
            match found.await {
                Ok(found) => {
                    tracing::warn!("a commit failed; read back from the database, it was made: {found}");
                    return found;
                }
                Err(error) => tracing::error!(%error, "what became of a failed commit cannot be read yet"),
            }
            if self.files.check().is_err() {
                return false;
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    fn failed(&self, error: &StoreError) {
        failed(&self.files, error);
    }

    /// Closes the connection. As the last one it removes the journal.
    pub async fn close(&self) {
        if let Some(connection) = self.connection.lock().await.take() {
            let _ = connection.close().await;
        }
    }
}

impl Taken<'_> {
    /// Keeps the connection for the next transaction.
    pub fn put_back(mut self) {
        *self.place = Some(self.connection);
    }

    /// Closes the connection because of this error.
    pub async fn discard(self, error: &StoreError) {
        failed(self.files, error);
        tracing::debug!(%error, "the connection that writes is closed");
        let _ = tokio::time::timeout(CLOSING, self.connection.close()).await;
    }
}

fn failed(files: &Files, error: &StoreError) {
    metrics::database_failed(error.kind());
    if let StoreError::Damaged(_) = error {
        files.give_up(error.to_string());
    }
}

/// The time since which a change is tried.
pub struct Tries {
    begun: Instant,
    patience: Duration,
}

impl Tries {
    pub fn new(patience: Duration) -> Self {
        Self { begun: Instant::now(), patience }
    }

    /// Waits before the next try; returns `false` if there is none.
    pub async fn left_after(&self, error: &StoreError) -> bool {
        let left = error.passes() && self.begun.elapsed() < self.patience;
        if left {
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
        left
    }
}

/// Makes a change in a transaction of its own, and retries after a temporary failure of the database. A change that is
/// safe to repeat needs no proof; any other derives one from `done`, by which a failed commit is checked. `$begin` is
/// [`BEGIN`] or [`BEGIN_UNFLUSHED`]. This is a macro because the future of a closure that borrows cannot be shown to be `Send`.
macro_rules! change {
    ($store:ident, $tx:ident => $apply:expr) => {
        $crate::store::sqlite::writer::change!($store, $tx => $apply, _done => None)
    };
    ($store:ident, $tx:ident => $apply:expr, $done:ident => $proof:expr) => {
        $crate::store::sqlite::writer::change!(
            $store, $crate::store::sqlite::writer::BEGIN, $tx => $apply, $done => $proof)
    };
    ($store:ident, $begin:expr, $tx:ident => $apply:expr, $done:ident => $proof:expr) => {{
        let writer = &$store.writer;
        let tries = $crate::store::sqlite::writer::Tries::new(writer.timeouts.change);
        loop {
            let mut taken = match writer.take().await {
                Ok(taken) => taken,
                Err(error) if tries.left_after(&error).await => continue,
                Err(error) => break Err(error),
            };
            let outcome = async {
                let mut begun = taken.connection.begin_with($begin).await?;
                let $tx = &mut begun;
                match $apply.await {
                    Ok(done) => Ok((done, begun.commit().await.err())),
                    Err(error) if error.is_of_database() => Err(error),
                    Err(error) => {
                        begun.rollback().await?;
                        Err(error)
                    }
                }
            };
            let (done, error): (_, $crate::store::StoreError) = match outcome.await {
                Ok((done, None)) => {
                    taken.put_back();
                    break writer.files.check().map(|()| done);
                }
                Ok((done, Some(error))) => (Some(done), error.into()),
                Err(error) if error.is_of_database() => (None, error),
                Err(error) => {
                    taken.put_back();
                    break Err(error);
                }
            };
            taken.discard(&error).await;
            if let Some($done) = done {
                let proof: Option<$crate::store::sqlite::proof::Proof> = $proof;
                if let Some(proof) = proof
                    && writer.holds(&proof).await
                {
                    break writer.files.check().map(|()| $done);
                }
            }
            if !tries.left_after(&error).await {
                break Err(error);
            }
        }
    }};
}

pub(super) use change;
