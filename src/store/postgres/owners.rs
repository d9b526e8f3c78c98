//! Ending of the leases of dead processes, long before they expire by themselves.
//!
//! Every process holds an advisory lock on its session for notices. The server drops the lock when that session ends,
//! which it notices at once if a process is killed. A missing lock alone proves little, because a restart of the
//! database or of the network also ends sessions of living processes. An owner therefore counts as dead only if its
//! lock was missing in every check for some seconds and it renewed none of its leases meanwhile.
//! <https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS>

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{PgExecutor, postgres::PgListener};
use tokio::{sync::broadcast, time::Instant};

use super::{LEASE, Pool, notices::Notice};

/// First of the two numbers that identify the lock; the second is the owner's.
const LOCK: i32 = 0x766f_6963;

/// Pause between two checks.
const LOOK: Duration = Duration::from_secs(1);

/// Time without a lock and without a renewal after which a process counts as dead. A living one renews its leases every
/// four seconds, and has its lock again a second after the database can be reached.
const GONE: Duration = Duration::from_secs(7);

/// The number of no process.
pub const NOBODY: i32 = 0;

/// Creates a number that identifies this process on its database.
pub fn new_id() -> i32 {
    rand::random_range(1..i32::MAX)
}

/// Holds this process's lock for as long as the listener's session lasts.
///
/// # Errors
/// The session broke.
pub async fn acquire_lock(listener: &mut PgListener, own: i32) -> Result<(), sqlx::Error> {
    // The lock is shared, so that it does not wait for the former session if the server still considers that one alive.
    sqlx::query("SELECT pg_advisory_lock_shared($1, $2)").bind(LOCK).bind(own).execute(listener).await?;
    Ok(())
}

/// Looks for dead owners until it is dropped, and notifies this process when leases have ended. Also finds out whether
/// there are other processes, which need notices.
pub async fn watch(pool: Pool, own: i32, news: broadcast::Sender<Notice>, are_others: Arc<AtomicBool>) {
    let mut missing = Missing::default();
    loop {
        tokio::time::sleep(LOOK).await;
        // Notices are sent in any case while nothing is known.
        let alone = count(&pool, own).await.is_ok_and(|others| others == 0);
        are_others.store(!alone, Ordering::Relaxed);
        // A failed check proves nothing, because the database may be unavailable to all processes.
        let owners = without_lock(&pool, own).await.unwrap_or_default();
        for owner in missing.since(&owners, Instant::now()) {
            match end_leases(&pool, owner).await {
                Ok(0) => {}
                Ok(count) => {
                    tracing::warn!(count, "another process has died; what it was working on is taken over");
                    // An error means that nobody listens in this process.
                    let _ = news.send(Notice { due: true, ..Notice::default() });
                }
                Err(error) => tracing::debug!(%error, "leases of a dead process could not be ended yet"),
            }
        }
    }
}

/// Owners whose lock is missing, with the time since which it was missing in every check.
#[derive(Debug, Default)]
struct Missing(HashMap<i32, Instant>);

impl Missing {
    /// Returns the owners that were missing for [`GONE`] by `now`.
    fn since(&mut self, owners: &[i32], now: Instant) -> Vec<i32> {
        self.0.retain(|owner, _| owners.contains(owner));
        for owner in owners {
            self.0.entry(*owner).or_insert(now);
        }
        self.0
            .iter()
            .filter(|(_, since)| now.duration_since(**since) >= GONE)
            .map(|(owner, _)| *owner)
            .collect()
    }
}

/// Counts the processes that hold their lock on this database, apart from the one with the number `own`.
///
/// # Errors
/// The database failed.
pub async fn count(database: impl PgExecutor<'_>, own: i32) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT COUNT(DISTINCT objid) FROM pg_locks
         WHERE locktype = 'advisory' AND classid = $1::OID AND objid <> $2::OID AND granted
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .bind(LOCK)
    .bind(own)
    .fetch_one(database)
    .await
}

/// Finds owners of leases that hold no lock.
async fn without_lock(pool: &Pool, own: i32) -> Result<Vec<i32>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT DISTINCT owner FROM deliveries
         WHERE lease_until >= 0 AND state IN ('leased', 'sending') AND owner IS NOT NULL AND owner <> $2
           AND NOT EXISTS (
             SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = $1::OID AND objid = owner::OID AND granted
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
    )
    .bind(LOCK)
    .bind(own)
    .fetch_all(pool)
    .await
}

/// Ends the leases of a dead process and returns their number.
async fn end_leases(pool: &Pool, owner: i32) -> Result<u64, sqlx::Error> {
    let ended = sqlx::query(
        "UPDATE deliveries SET lease_until = 0
         WHERE owner = $1 AND state IN ('leased', 'sending') AND lease_until BETWEEN 1 AND clock_ms() + $2",
    )
    .bind(owner)
    .bind(i64::try_from((LEASE - GONE).as_millis()).unwrap_or(i64::MAX))
    .execute(pool)
    .await?;
    Ok(ended.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_is_dead_after_its_lock_was_missing_for_seven_seconds() {
        let mut missing = Missing::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(missing.since(&[7, 8], at(0)).is_empty());
        assert!(missing.since(&[7], at(4)).is_empty(), "8 is back");
        assert!(missing.since(&[7, 8], at(6)).is_empty());
        assert_eq!(missing.since(&[7, 8], at(7)), [7]);
        assert!(missing.since(&[], at(12)).is_empty(), "a look that failed");
        assert!(missing.since(&[7], at(30)).is_empty());
        assert_eq!(missing.since(&[7], at(40)), [7]);
    }
}
