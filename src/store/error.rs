//! The errors of a store, and the API answers that follow from them.

use std::{borrow::Cow, io, sync::Arc};

use sqlx::{postgres::PgDatabaseError, sqlite::SqliteError};

use super::document;
use crate::model::problem::Problem;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has taken the delivery over; nothing was changed.
    #[error("the lease on this delivery was lost")]
    LeaseLost,
    #[error("the database's disk is full")]
    Full,
    /// Another process has locked the database, or all connections are in use.
    #[error("the database is busy: {0}")]
    Busy(#[source] Arc<sqlx::Error>),
    /// The database cannot be reached, read or written at the moment.
    #[error("the database does not work: {0}")]
    Unavailable(#[source] Arc<sqlx::Error>),
    /// The database reports that its pages are corrupt.
    #[error("the database is damaged: {0}")]
    Damaged(#[source] Arc<sqlx::Error>),
    /// The database's files are not those that were opened, or are damaged. Only a restart can change that.
    #[error("{0}")]
    OutOfOrder(Arc<str>),
    #[error("database: {0}")]
    Database(#[source] Arc<sqlx::Error>),
    /// A row exists and cannot be read.
    #[error("the database holds a row that cannot be read: {0}")]
    Corrupt(String),
    /// A document would not survive a round trip; nothing was changed.
    #[error("the field \"{field}\" would not be read back as it is")]
    Unfit { field: String },
    /// The event position was not given out by this store.
    #[error("there is no such position")]
    Position,
    #[error("{0}")]
    Open(String),
}

impl StoreError {
    /// The database did not answer in time.
    pub(crate) fn no_answer() -> Self {
        sqlx::Error::Io(io::ErrorKind::TimedOut.into()).into()
    }

    /// Whether the change may have been made in spite of the error: the connection broke before the answer came, the
    /// disk failed during the commit and may hold all of it, or the change went into files that may still be recovered.
    pub(crate) fn is_in_doubt(&self) -> bool {
        if matches!(self, Self::OutOfOrder(_)) {
            return true;
        }
        let (Self::Unavailable(error) | Self::Damaged(error) | Self::Database(error)) = self else {
            return false;
        };
        match &**error {
            sqlx::Error::PoolClosed | sqlx::Error::PoolTimedOut => false,
            sqlx::Error::Database(error) => error.try_downcast_ref::<SqliteError>().is_some(),
            _ => true,
        }
    }

    /// Whether the same change may succeed a moment later.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Self::Full | Self::Busy(_) | Self::Unavailable(_))
    }

    /// Whether the database or the connection to it failed, rather than a rule of this store. The state of the
    /// connection is then unknown.
    pub(crate) fn is_of_database(&self) -> bool {
        matches!(
            self,
            Self::Full | Self::Busy(_) | Self::Unavailable(_) | Self::Damaged(_) | Self::Database(_)
        )
    }

    /// The label of this error in metrics.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Busy(_) => "busy",
            Self::Unavailable(_) => "unavailable",
            Self::Damaged(_) | Self::OutOfOrder(_) => "damaged",
            _ => "other",
        }
    }

    /// Copies the error for another change that was part of the same transaction.
    pub(crate) fn for_another(&self) -> Self {
        match self {
            Self::LeaseLost => Self::LeaseLost,
            Self::Full => Self::Full,
            Self::Busy(error) => Self::Busy(error.clone()),
            Self::Unavailable(error) => Self::Unavailable(error.clone()),
            Self::Damaged(error) => Self::Damaged(error.clone()),
            Self::OutOfOrder(why) => Self::OutOfOrder(why.clone()),
            Self::Database(error) => Self::Database(error.clone()),
            Self::Unfit { field } => Self::Unfit { field: field.clone() },
            other => Self::Open(other.to_string()),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        // The value is not text, or not UTF-8.
        if matches!(error, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) {
            return document::corrupt("row", &error);
        }
        let kind = match &error {
            sqlx::Error::Database(inner) => {
                let code = inner.code().unwrap_or(Cow::Borrowed(""));
                if inner.try_downcast_ref::<PgDatabaseError>().is_some() {
                    of_postgres(&code)
                } else {
                    of_sqlite(code.parse().unwrap_or_default())
                }
            }
            sqlx::Error::PoolTimedOut => Kind::Busy,
            // The connection is lost or in an unknown state.
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed
            | sqlx::Error::InvalidSavePointStatement => Kind::Unavailable,
            _ => Kind::Other,
        };
        let error = Arc::new(error);
        match kind {
            Kind::Full => Self::Full,
            Kind::Busy => Self::Busy(error),
            Kind::Unavailable => Self::Unavailable(error),
            Kind::Damaged => Self::Damaged(error),
            Kind::Other => Self::Database(error),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Full,
    Busy,
    Unavailable,
    Damaged,
    Other,
}

/// Classifies an error by the low byte of SQLite's extended result code. <https://www.sqlite.org/rescode.html>
fn of_sqlite(code: i32) -> Kind {
    match code & 0xff {
        // SQLITE_IOERR_SHORT_READ, SQLITE_IOERR_CORRUPTFS: a file ends before the page that it has to hold.
        _ if code == 522 || code == 8458 => Kind::Damaged,
        5 | 6 => Kind::Busy, // SQLITE_BUSY, SQLITE_LOCKED
        // SQLITE_NOMEM, SQLITE_READONLY, SQLITE_INTERRUPT, SQLITE_IOERR, SQLITE_CANTOPEN, SQLITE_PROTOCOL
        7..=10 | 14 | 15 => Kind::Unavailable,
        11 | 26 => Kind::Damaged, // SQLITE_CORRUPT, SQLITE_NOTADB
        13 => Kind::Full,         // SQLITE_FULL
        _ => Kind::Other,
    }
}

/// Classifies an error by PostgreSQL's code. <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn of_postgres(code: &str) -> Kind {
    match code {
        "53100" => Kind::Full, // disk_full
        // Lock timeout, cancelled statement, deadlock, serialization failure.
        "55P03" | "57014" | "40P01" | "40001" => Kind::Busy,
        // The server is read-only, the database, the user or its permission is gone, or a session was ended.
        "25006" | "25P03" | "25P04" | "3D000" | "28000" | "28P01" => Kind::Unavailable,
        // Connection exceptions, shutdown by an operator, a crash, an I/O error, damaged pages.
        _ if ["08", "57P", "58", "XX001", "XX002"].iter().any(|class| code.starts_with(class)) => {
            Kind::Unavailable
        }
        _ if code.starts_with("53") => Kind::Busy, // connections, memory, a configured limit
        _ => Kind::Other,
    }
}

/// A request may be repeated if the database is full, busy or gone, which was logged where it was noticed. Any other
/// error is the gateway's fault, and its reason is logged here.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::storage_full(),
            StoreError::Unfit { field } => {
                Self::invalid(&field, "this cannot be kept as it is; send it in a simpler form")
            }
            StoreError::Corrupt(_) => {
                tracing::error!(%error, "a row of the database cannot be read");
                Self::unreadable()
            }
            StoreError::Busy(_) => Self::overloaded("the gateway's database is busy; try again shortly"),
            StoreError::Unavailable(_) | StoreError::Damaged(_) | StoreError::OutOfOrder(_) => {
                tracing::warn!(%error, "a request was refused, because the database does not work");
                Self::overloaded("the gateway's database does not work right now; try again shortly")
            }
            _ => {
                tracing::error!(%error, "the database failed");
                Self::internal()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_codes_are_classified() {
        for (code, kind) in [
            (5, Kind::Busy),
            (517, Kind::Busy),         // SQLITE_BUSY_SNAPSHOT
            (262, Kind::Busy),         // SQLITE_LOCKED_SHAREDCACHE
            (13, Kind::Full),          // SQLITE_FULL
            (778, Kind::Unavailable),  // SQLITE_IOERR_WRITE
            (1034, Kind::Unavailable), // SQLITE_IOERR_FSYNC
            (266, Kind::Unavailable),  // SQLITE_IOERR_READ
            (522, Kind::Damaged),      // SQLITE_IOERR_SHORT_READ
            (8, Kind::Unavailable),    // SQLITE_READONLY
            (1032, Kind::Unavailable), // SQLITE_READONLY_DBMOVED
            (14, Kind::Unavailable),   // SQLITE_CANTOPEN
            (11, Kind::Damaged),       // SQLITE_CORRUPT
            (267, Kind::Damaged),      // SQLITE_CORRUPT_VTAB
            (26, Kind::Damaged),       // SQLITE_NOTADB
            (1, Kind::Other),          // SQLITE_ERROR
            (2067, Kind::Other),       // SQLITE_CONSTRAINT_UNIQUE
        ] {
            assert_eq!(of_sqlite(code), kind, "{code}");
        }
    }

    #[test]
    fn postgresql_codes_are_classified() {
        for (code, kind) in [
            ("53100", Kind::Full),
            ("53300", Kind::Busy),
            ("53200", Kind::Busy),
            ("55P03", Kind::Busy),
            ("40P01", Kind::Busy),
            ("57P01", Kind::Unavailable),
            ("57P03", Kind::Unavailable),
            ("25006", Kind::Unavailable),
            ("08006", Kind::Unavailable),
            ("58030", Kind::Unavailable),
            ("3D000", Kind::Unavailable),
            ("XX001", Kind::Unavailable),
            ("23505", Kind::Other),
            ("42P01", Kind::Other),
            ("XX000", Kind::Other),
        ] {
            assert_eq!(of_postgres(code), kind, "{code}");
        }
    }

    #[test]
    fn temporary_errors_are_answered_with_retry_after() {
        let io = || Arc::new(sqlx::Error::Io(io::ErrorKind::ConnectionRefused.into()));
        for (error, code) in [
            (StoreError::Full, "storage_full"),
            (StoreError::Busy(Arc::new(sqlx::Error::PoolTimedOut)), "overloaded"),
            (StoreError::Unavailable(io()), "overloaded"),
            (StoreError::Damaged(io()), "overloaded"),
            (StoreError::OutOfOrder("gone".into()), "overloaded"),
        ] {
            let problem = Problem::from(error);
            assert_eq!(problem.code.as_str(), code);
            assert!(problem.retry_after.is_some(), "{code}");
        }
        assert_eq!(Problem::from(StoreError::LeaseLost).status, 500);
    }

    #[test]
    fn change_is_in_doubt_only_if_its_commit_may_have_been_made() {
        assert!(StoreError::no_answer().is_in_doubt());
        assert!(StoreError::OutOfOrder("gone".into()).is_in_doubt());
        assert!(!StoreError::from(sqlx::Error::PoolTimedOut).is_in_doubt());
        assert!(!StoreError::Full.is_in_doubt() && !StoreError::LeaseLost.is_in_doubt());
    }
}
