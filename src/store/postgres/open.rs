//! Connecting to PostgreSQL: the settings of every connection, and the errors for the operator.

use std::time::Duration;

use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{Pool, Time};
use crate::store::StoreError;

/// Number of connections of one process, besides the one for notices. Concurrent commits share a flush.
const CONNECTIONS: u32 = 16;

/// Time that a request waits for a connection, and thus for a database that restarts.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection that was idle for longer is tested before use, because a restart of the database breaks all of them.
const IDLE: Duration = Duration::from_secs(1);

/// Formats the address as `HOST:PORT/DATABASE` for people.
pub fn address(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_default();
    match options.get_socket() {
        Some(folder) => format!("{}:{}/{database}", folder.display(), options.get_port()),
        None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
    }
}

/// Explains why the database cannot be used, and what to do.
pub fn explain(options: &PgConnectOptions, error: &sqlx::Error) -> String {
    let address = address(options);
    let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
    let user = options.get_username();
    let database = options.get_database().unwrap_or_default();
    // https://www.postgresql.org/docs/current/errcodes-appendix.html
    let way_out = match code.as_ref() {
        "28P01" | "28000" => format!("check user and password, and that pg_hba.conf lets {user} in"),
        "3D000" => format!("make it: createdb --owner={user} {database}"),
        "42501" => format!("let {user} own it: ALTER DATABASE {database} OWNER TO {user}"),
        "53300" => "let the server take more connections (max_connections)".to_owned(),
        _ => match error {
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => {
                "see that the server runs there and can be reached from here".to_owned()
            }
            sqlx::Error::Tls(_) => "check sslmode and sslrootcert".to_owned(),
            _ => "see the server's log".to_owned(),
        },
    };
    let what =
        error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
    format!("{address} cannot be used: {what}; {way_out}")
}

/// Opens the pool for everything except notices.
pub async fn pool(options: PgConnectOptions, time: Time) -> Result<Pool, StoreError> {
    let failed =
        |error: &sqlx::Error| StoreError::Open(format!("storage.database: {}", explain(&options, error)));
    // The first connection is made without retries: its error says more than a timeout.
    let mut first = options.clone().disable_statement_logging().connect().await.map_err(|e| failed(&e))?;
    // If two processes start together, one waits here for the other. The connection is not from the pool, whose waits
    // are limited: migrating a large database may take long.
    sqlx::migrate!("src/store/migrations/postgres").run_direct(None, &mut first, false).await.map_err(
        |error| {
            StoreError::Open(match &error {
                sqlx::migrate::MigrateError::Execute(inner) => {
                    format!("storage.database: {}", explain(&options, inner))
                }
                _ => format!("storage.database: {} cannot be brought up to date: {error}", address(&options)),
            })
        },
    )?;
    sqlx::Connection::close(first).await?;
    let clock = match time {
        Time::Database => "database",
        Time::Caller => "caller",
    };
    let settings = [
        // Accepted notes survive a power cut, whatever the server's default is.
        ("synchronous_commit", "on"),
        // A process that vanishes during a transaction must not keep its locks.
        ("idle_in_transaction_session_timeout", "15s"),
        ("lock_timeout", "10s"),
        // Every query has an index. A plan made while a table was empty would scan all of it once it is full, until
        // there are statistics. https://www.postgresql.org/docs/current/runtime-config-query.html
        ("enable_seqscan", "off"),
        // Queries that scan or sort nevertheless look so expensive that they would first be compiled, for 100 ms, or
        // divided among several processes.
        ("jit", "off"),
        ("max_parallel_workers_per_gather", "0"),
        ("voicegate.clock", clock),
    ];
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(PATIENCE)
        .test_before_acquire(false)
        .before_acquire(|connection, state| {
            Box::pin(async move {
                if state.idle_for > IDLE {
                    sqlx::Connection::ping(connection).await?;
                }
                Ok(true)
            })
        })
        .connect_with(options.clone().options(settings))
        .await;
    pool.map_err(|error| failed(&error))
}

/// Opens a pool of one connection that is kept for ever.
///
/// Its session holds the lock by which other processes see that this one is alive. A machine that vanishes closes no
/// connection, so the server looks for it: <https://www.postgresql.org/docs/current/runtime-config-connection.html>.
pub fn listening(options: PgConnectOptions) -> Pool {
    let settings =
        [("tcp_keepalives_idle", "3"), ("tcp_keepalives_interval", "1"), ("tcp_keepalives_count", "3")];
    PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(PATIENCE)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(options.options(settings))
}
