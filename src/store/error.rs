//! Why a store did not do what was asked, and which answer follows from that.

use std::{borrow::Cow, io, sync::Arc};

use sqlx::{postgres::PgDatabaseError, sqlite::SqliteError};

use super::document;
use crate::model::problem::Problem;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else has taken over; nothing was changed.
    #[error("the lease on this delivery was lost")]
    LeaseLost,
    #[error("the database's disk is full")]
    Full,
    /// Somebody else holds the database, or all its connections are in use.
    #[error("the database is busy: {0}")]
    Busy(#[source] Arc<sqlx::Error>),
    /// The database cannot be reached, read or written right now.
    #[error("the database does not work: {0}")]
    Unavailable(#[source] Arc<sqlx::Error>),
    /// The database's own reader finds that its pages make no sense.
    #[error("the database is damaged: {0}")]
    Damaged(#[source] Arc<sqlx::Error>),
    /// The database's files are not those that were opened, or are damaged. Only a restart can change that.
    #[error("{0}")]
    OutOfOrder(Arc<str>),
    #[error("database: {0}")]
    Database(#[source] Arc<sqlx::Error>),
    /// A row that is there and cannot be read.
    #[error("the database holds a row that cannot be read: {0}")]
    Corrupt(String),
    /// A document would not be read back as it is; nothing was changed.
    #[error("the field \"{field}\" would not be read back as it is")]
    Unfit { field: String },
    /// An event position that this store never gave out.
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

    /// Whether the change may have been made all the same: the connection broke before the answer came, the disk failed
    /// while the commit was written and may hold all of it, or it went into files that somebody may still save.
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

    /// Whether the same change may go well in a moment.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Self::Full | Self::Busy(_) | Self::Unavailable(_))
    }

    /// Whether the database or the way to it failed, and not a rule of this store. What a connection holds afterwards is
    /// not known.
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

    /// The same for somebody else whose change was to be made together with this one.
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
        // A value that is no text, or no UTF-8.
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
            // The connection is gone, or in a state that nobody knows.
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

/// By the low byte of SQLite's extended result code. <https://www.sqlite.org/rescode.html>
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

/// By PostgreSQL's code. <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn of_postgres(code: &str) -> Kind {
    match code {
        "53100" => Kind::Full, // disk_full
        // Locks that were not given in time, a statement that was ended, deadlock, serialization failure.
        "55P03" | "57014" | "40P01" | "40001" => Kind::Busy,
        // The server is read-only; the database, the user or its right to enter is gone; a session was ended.
        "25006" | "25P03" | "25P04" | "3D000" | "28000" | "28P01" => Kind::Unavailable,
        // Connection exceptions, an operator or a crash ended the session, an I/O error, damaged pages.
        _ if ["08", "57P", "58", "XX001", "XX002"].iter().any(|class| code.starts_with(class)) => {
            Kind::Unavailable
        }
        _ if code.starts_with("53") => Kind::Busy, // connections, memory, a configured limit
        _ => Kind::Other,
    }
}

/// A database that is full, busy or gone is worth another try, and the log has it from the place where it was noticed.
/// Anything else is the gateway's fault, and the log gets the reason here.
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
    fn codes_of_sqlite_have_a_kind_whatever_their_details() {
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
    fn codes_of_postgresql_have_a_kind() {
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
    fn what_passes_is_answered_with_a_time_to_come_back() {
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
    fn a_change_is_in_doubt_only_where_its_commit_may_have_been_made() {
        assert!(StoreError::no_answer().is_in_doubt());
        assert!(StoreError::OutOfOrder("gone".into()).is_in_doubt());
        assert!(!StoreError::from(sqlx::Error::PoolTimedOut).is_in_doubt());
        assert!(!StoreError::Full.is_in_doubt() && !StoreError::LeaseLost.is_in_doubt());
    }
}
