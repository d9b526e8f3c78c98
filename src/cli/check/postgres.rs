//! Checks a PostgreSQL database without changing it.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{
    ConnectOptions, Connection, PgConnection,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgSslMode},
};

use super::{
    database::{APPLIED, Tables, compare, has_steps},
    line::Line,
};
use crate::{
    config::postgres_options,
    store::postgres::{
        open::{address, explain},
        owners,
    },
};

/// The migrations that a start would apply.
static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/postgres");

/// Time limit for all queries together.
const PATIENCE: Duration = Duration::from_secs(15);

/// The oldest version that is still maintained. <https://www.postgresql.org/support/versioning/>
const OLDEST: i32 = 14;

/// A larger difference between the clocks gets a note, because the clock decides when links and uploads expire.
const CLOCK: Duration = Duration::from_secs(2);

/// Checks whether a start could use the database.
pub async fn check(url: &str) -> Vec<Line> {
    let Ok(options) = postgres_options(url) else { return Vec::new() }; // reported when the configuration was read
    let say = |what: &str| format!("storage.database: {} {what}", address(&options));
    match ask(&options, look).await {
        Ok((version, tables, others)) => {
            let major = version / 10_000;
            let mut lines = vec![if major < OLDEST {
                Line::note(say(&format!(
                    "answers, but PostgreSQL {major} is out of support; use {OLDEST} or newer"
                )))
            } else {
                Line::ok(say(&format!("answers: PostgreSQL {major}.{}", version % 10_000)))
            }];
            if others > 0 {
                let what = if others == 1 { "another process" } else { "other processes" };
                lines.push(Line::note(say(&format!("is in use by {what} of voicegate; that is fine"))));
            }
            lines.extend(unguarded(&options).map(|what| Line::note(say(what))));
            lines.push(tables.line(&say));
            lines
        }
        Err(error) => vec![Line::fail(format!("storage.database: {}", explain(&options, &error)))],
    }
}

/// Measures the round trip to the database and the difference of its clock.
pub async fn measure(url: &str, now: impl Fn() -> Timestamp) -> Vec<Line> {
    let Ok(options) = postgres_options(url) else { return Vec::new() };
    let say = |what: &str| format!("storage.database: {} {what}", address(&options));
    let measured = ask(&options, async |database| {
        let before = now();
        // One simple query, so that one round trip is measured: preparing a statement would add another.
        let row = sqlx::raw_sql("SELECT floor(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::TEXT")
            .fetch_one(database)
            .await?;
        let theirs: String = sqlx::Row::try_get(&row, 0)?;
        let after = now();
        let (before, after) = (before.as_millisecond(), after.as_millisecond());
        let ahead = theirs.parse::<i64>().unwrap_or_default() - (before + after) / 2;
        Ok((after - before, ahead))
    })
    .await;
    let Ok((took, ahead)) = measured else { return Vec::new() }; // reported by `check`
    let mut lines = vec![Line::ok(say(&format!("answers within {} ms", took.max(1))))];
    if ahead.unsigned_abs() > CLOCK.as_millis() as u64 {
        let seconds = ahead.unsigned_abs() / 1000;
        let way = if ahead > 0 { "ahead of" } else { "behind" };
        let what = format!("has a clock that is {seconds} s {way} this machine's; set both by NTP");
        lines.push(Line::note(say(&what)));
    }
    lines
}

async fn ask<T>(
    options: &PgConnectOptions,
    what: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    let asked = async {
        let mut database = options.clone().disable_statement_logging().connect().await?;
        let found = what(&mut database).await;
        database.close().await?;
        found
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Reads the version, the tables, and how many processes of voicegate are connected.
async fn look(database: &mut PgConnection) -> Result<(i32, Tables, i64), sqlx::Error> {
    let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::INTEGER")
        .fetch_one(&mut *database)
        .await?;
    let others = owners::count(&mut *database, owners::NOBODY).await?;
    let names: Vec<String> =
        sqlx::query_scalar("SELECT tablename::TEXT FROM pg_tables WHERE schemaname = current_schema()")
            .fetch_all(&mut *database)
            .await?;
    let mut applied = Vec::new();
    if has_steps(&names) {
        applied = sqlx::query_as(APPLIED).fetch_all(database).await?;
    }
    Ok((version, compare(&names, &applied, &MIGRATIONS), others))
}

/// A warning if the connection goes over a network without verifying the server's certificate.
fn unguarded(options: &PgConnectOptions) -> Option<&'static str> {
    let host = options.get_host();
    let is_near = options.get_socket().is_some() || matches!(host, "localhost" | "127.0.0.1" | "::1");
    let is_checked = matches!(options.get_ssl_mode(), PgSslMode::VerifyFull | PgSslMode::VerifyCa);
    (!is_near && !is_checked)
        .then_some("is reached without a check of its certificate; add ?sslmode=verify-full to the URL")
}
