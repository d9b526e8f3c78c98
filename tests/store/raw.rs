//! Direct access to the database behind a store, to damage it.

use std::path::Path;

use sqlx::{AssertSqlSafe, PgPool, SqlitePool};

pub enum Raw {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Raw {
    pub async fn sqlite(folder: &Path) -> Self {
        let url = format!("sqlite://{}", folder.join("nested/voicegate.db").display());
        Self::Sqlite(SqlitePool::connect(&url).await.expect("the database"))
    }

    pub async fn postgres(url: &str) -> Self {
        Self::Postgres(PgPool::connect(url).await.expect("the database"))
    }

    /// Changes rows; `$1` and `$2` are these texts.
    pub async fn change(&self, sql: &str, first: &str, second: &str) {
        let sql = || AssertSqlSafe(sql.to_owned());
        let changed = match self {
            Self::Sqlite(pool) => {
                let done = sqlx::query(sql()).bind(first).bind(second).execute(pool).await;
                done.expect("changed").rows_affected()
            }
            Self::Postgres(pool) => {
                let done = sqlx::query(sql()).bind(first).bind(second).execute(pool).await;
                done.expect("changed").rows_affected()
            }
        };
        assert!(changed > 0, "there was no such row");
    }

    /// The number that a query returns.
    pub async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(pool) => sqlx::query_scalar(sql).fetch_one(pool).await.expect("a number"),
            Self::Postgres(pool) => sqlx::query_scalar(sql).fetch_one(pool).await.expect("a number"),
        }
    }

    /// Ends the sessions that just do something, as a crash of their process or of the network would. SQLite has none.
    pub async fn end_busy_sessions(&self) {
        let Self::Postgres(pool) = self else { return };
        let ended = sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'",
        );
        ended.execute(pool).await.expect("ended");
    }

    /// Replaces a note's document.
    pub async fn damage(&self, note: impl std::fmt::Display, doc: &str) {
        self.change("UPDATE notes SET doc = $2 WHERE id = $1", &note.to_string(), doc).await;
    }

    /// Adds `count` copies of a stored note. Copy `n` is for the recipient `+1555` followed by `n` in seven digits.
    pub async fn multiply(&self, note: impl std::fmt::Display, count: u32) {
        let (numbers, id, to) = match self {
            Self::Sqlite(_) => (
                "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < COUNT)",
                "printf('vn_01980000-0000-7000-8000-%012x', n)",
                "printf('+1555%07d', n)",
            ),
            Self::Postgres(_) => (
                "WITH numbers AS (SELECT generate_series(1, COUNT) AS n)",
                "'vn_01980000-0000-7000-8000-' || lpad(to_hex(n), 12, '0')",
                "'+1555' || lpad(n::TEXT, 7, '0')",
            ),
        };
        let numbers = numbers.replace("COUNT", &count.to_string());
        let sql = format!(
            "{numbers} INSERT INTO notes (id, tenant, status, created_at, has_audio, doc, recipient, via)
             SELECT {id}, tenant, status, created_at, has_audio,
                replace(replace(doc, $1, {id}), '\"to\":\"' || recipient, '\"to\":\"' || {to}), {to}, via
             FROM notes CROSS JOIN numbers WHERE id = $2"
        );
        self.change(&sql, &note.to_string(), &note.to_string()).await;
    }
}
