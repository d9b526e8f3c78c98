//! The store for several processes on one PostgreSQL.
//!
//! Locks are taken in this order to avoid deadlocks: idempotency key, names (notes and lanes, see `hold` in the first
//! migration), deliveries, notes, learned facts, connections, counts. Claims are the exception: they run one at a time
//! and skip deliveries that are locked.

mod accept;
mod claim;
mod dialect;
#[path = "../sql/events.rs"]
mod events;
#[path = "../sql/lists.rs"]
mod lists;
#[path = "../sql/media.rs"]
mod media;
mod notices;
pub(crate) mod open;
pub mod owners;
mod plain;
#[path = "../sql/read.rs"]
mod read;
#[path = "../sql/receipts.rs"]
mod receipts;
mod received;
#[path = "../sql/received.rs"]
mod received_rows;
mod retry;
#[path = "../sql/sources.rs"]
mod sources;
#[path = "../sql/spoken.rs"]
mod spoken;
#[path = "../sql/tasks.rs"]
mod task_rows;
mod tasks;
#[path = "../sql/uploads.rs"]
mod uploads;
#[path = "../sql/usage.rs"]
mod usage;
#[path = "../sql/webhooks.rs"]
mod webhook_rows;
mod webhooks;
#[path = "../sql/write.rs"]
mod write;

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use tokio::{sync::broadcast, task::JoinSet};
use voicegate_providers::MediaHandle;

use self::{
    dialect::{Pool, Tx},
    notices::Notices,
    retry::{again, answered, change},
};
use super::{
    Acceptance, Change, Claim, ClaimRequest, Claims, Columns, ConnectionState, EventQuery, Horizon, JobEnd,
    JobLease, KeyHolder, MediaKey, NEAR, NewNote, NoteQuery, Page, QueueGroup, ReceiptBatch, ReceiptOutcome,
    Stall, Store, StoreError, Stored, UsageQuery,
    document::Document,
    fair_pool::FairPool,
    plain_write::PlainWrite,
    position::Positions,
    types::{NEAR_AT_ONCE, SENT, SOURCE},
};
use crate::{
    config::postgres_options,
    model::{
        event::Event,
        id::UploadId,
        note::{Note, NoteId},
        upload::Upload,
        usage::UsageGroup,
    },
    telemetry::metrics,
};

pub use notices::Notice;

/// The clock that decides when jobs are due and leases end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Clock of the database, so that the clocks of the machines may differ.
    Database,
    /// Time given by the caller, so that tests can move it by hand.
    Caller,
}

#[derive(Debug)]
pub struct PostgresStore {
    pool: Pool,
    notices: Notices,
    lists: FairPool,
    positions: Positions,
    /// Milliseconds by which the database's clock was ahead of the caller's at the last claim, if there was one.
    ahead: Mutex<Option<i64>>,
    time: Time,
    /// Number of this process, by which other processes see that it is alive.
    owner: i32,
    _watching: JoinSet<()>,
}

/// Length of a lease. If a process dies and the database does not notice, its work is taken over after this time.
const LEASE: Duration = Duration::from_secs(60);

/// The pause before a claim is repeated that left out deliveries which were just being changed.
const SOON: Duration = Duration::from_millis(50);

/// Maximum number of lists read at the same time, in total and for one tenant. The total is half of the connections.
const LISTS: usize = 8;
const LISTS_OF_ONE: usize = 2;

impl PostgresStore {
    /// Connects to the database at `url` and brings its tables up to date.
    ///
    /// # Errors
    /// [`StoreError::Open`] says what to do.
    pub async fn open(url: &str, time: Time) -> Result<Self, StoreError> {
        let options =
            postgres_options(url).map_err(|error| StoreError::Open(format!("storage.database: {error}")))?;
        let pool = open::pool(options.clone(), time).await?;
        let mut tx = pool.begin().await?;
        let positions = events::positions(&mut tx).await?;
        tx.commit().await?;
        let lists = FairPool::new(LISTS, LISTS_OF_ONE);
        let owner = owners::new_id();
        let notices = Notices::start(pool.clone(), open::listening(options), owner);
        let mut watching = JoinSet::new();
        // If tests move the time, leases end only by their hand.
        if time == Time::Database {
            watching.spawn(owners::watch(pool.clone(), owner, notices.sender(), notices.are_others()));
        }
        let ahead = Mutex::default();
        Ok(Self { pool, notices, lists, positions, ahead, time, owner, _watching: watching })
    }

    fn ahead(&self) -> Option<i64> {
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The database's query plan for [`Store::notes`], for tests.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub async fn explain(&self, wanted: &NoteQuery<'_>) -> Result<Vec<String>, StoreError> {
        lists::explain(&self.pool, wanted).await
    }

    /// Whether the stored document equals this one.
    async fn has(&self, note: &Note) -> Result<bool, StoreError> {
        let doc = Document::of(note)?;
        again!(async {
            let same = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM notes WHERE id = $1 AND doc = $2)")
                .bind(note.id.to_string())
                .bind(doc.as_str())
                .fetch_one(&self.pool)
                .await?;
            Ok(same)
        })
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn accept(&self, new: &NewNote) -> Result<Acceptance, StoreError> {
        let begun = Instant::now();
        let accepted = again!(accept::accept(&self.pool, new))?;
        metrics::flushed(1, begun.elapsed());
        if accepted == Acceptance::Created {
            self.notices.publish(true, &new.note.tenant, new.releases);
        }
        Ok(accepted)
    }

    async fn idempotency(
        &self,
        tenant: &str,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<KeyHolder>, StoreError> {
        again!(accept::key_holder(&self.pool, tenant, key, now))
    }

    async fn note(&self, id: NoteId, tenant: Option<&str>) -> Result<Option<Note>, StoreError> {
        again!(read::note(&self.pool, id, tenant))
    }

    async fn source(&self, id: NoteId) -> Result<Option<Bytes>, StoreError> {
        again!(sources::find(&self.pool, id, SOURCE))
    }

    async fn sent(&self, id: NoteId) -> Result<Option<Bytes>, StoreError> {
        again!(sources::find(&self.pool, id, SENT))
    }

    async fn has_note(&self, id: NoteId) -> Result<bool, StoreError> {
        again!(read::has_note(&self.pool, id))
    }

    async fn columns(&self, id: NoteId, tenant: &str) -> Result<Option<Columns>, StoreError> {
        again!(read::columns(&self.pool, id, tenant))
    }

    async fn notes(&self, wanted: &NoteQuery<'_>) -> Result<Page, StoreError> {
        let _permit = self.lists.acquire(wanted.tenant).await;
        again!(lists::notes(&self.pool, wanted))
    }

    async fn erase(&self, left: &Note, lanes: &[String]) -> Result<bool, StoreError> {
        change!(self, left, true, tx => write::erase(tx, left, lanes))
    }

    async fn erase_unreadable(&self, left: &Note) -> Result<bool, StoreError> {
        let erased = change!(self, left, true, tx => write::erase_unreadable(tx, left))?;
        self.notices.publish(erased, &left.tenant, erased.then_some(left.id));
        Ok(erased)
    }

    async fn cancel(&self, note: &Note, notify: bool) -> Result<bool, StoreError> {
        let canceled = change!(self, note, true, tx => write::cancel(tx, note, notify))?;
        self.notices.publish(canceled, &note.tenant, canceled.then_some(note.id));
        Ok(canceled)
    }

    async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claims, StoreError> {
        let claimed =
            answered(claim::claim(&self.pool, request, &self.positions, (self.ahead(), self.owner))).await?;
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(claimed.ahead);
        if claimed.is_incomplete {
            // They are left to another claim. An error means that nobody listens in this process.
            let sender = self.notices.sender();
            tokio::spawn(async move {
                tokio::time::sleep(SOON).await;
                let _ = sender.send(Notice { due: true, ..Notice::default() });
            });
        }
        if claimed.jumped != 0 {
            metrics::clock_jumped(claimed.jumped > 0);
            let seconds = Duration::from_millis(claimed.jumped.unsigned_abs()).as_secs_f64();
            let way = if claimed.jumped > 0 { "forward" } else { "back" };
            tracing::warn!(
                seconds,
                "the database's clock was set {way} by {seconds:.1} s; the queue goes on evenly"
            );
        }
        Ok(claimed.claims)
    }

    fn renewed_lease(&self) -> Option<Duration> {
        // If tests move the time, it may jump past any lease at once.
        (self.time == Time::Database).then_some(LEASE)
    }

    async fn renew(&self, leases: &[(i64, i64)], now: Timestamp, until: Timestamp) -> Result<(), StoreError> {
        let (ids, fences): (Vec<i64>, Vec<i64>) = leases.iter().copied().unzip();
        sqlx::query(
            "UPDATE deliveries d SET lease_until = $3 + ahead_of($4) FROM unnest($1, $2) AS c (id, fence)
             WHERE d.id = c.id AND d.fence = c.fence AND d.state IN ('leased', 'sending')",
        )
        .bind(ids)
        .bind(fences)
        .bind(until.as_millisecond())
        .bind(now.as_millisecond())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    async fn write(&self, claim: &Claim, change: &Change) -> Result<Stored, StoreError> {
        let begun = Instant::now();
        let plain = PlainWrite::of(claim, change)?;
        let is_written = match &plain {
            Some(plain) => change!(self, &change.note, true, plain::write_alone(&self.pool, plain))?,
            None => false,
        };
        let stored = if is_written {
            Stored::AsGiven
        } else {
            change!(self, &change.note, Stored::WithReceipts, tx => write::write(tx, claim, change))?
        };
        metrics::flushed(1, begun.elapsed());
        self.notices.publish(change.step.may_free_others(), &change.note.tenant, [change.note.id]);
        Ok(stored)
    }

    async fn finish(&self, lease: &JobLease, end: &JobEnd) -> Result<(), StoreError> {
        again!(async {
            let mut tx = self.pool.begin().await?;
            receipts::finish(&mut tx, lease, end).await?;
            Ok::<_, StoreError>(tx.commit().await?)
        })?;
        self.notices.publish(true, lease.subject.tenant(), None);
        Ok(())
    }

    async fn stall(&self, claim: &Claim, stall: &Stall) -> Result<bool, StoreError> {
        let stalled = again!(async {
            let mut tx = self.pool.begin().await?;
            let stalled = receipts::stall(&mut tx, claim, stall).await?;
            tx.commit().await?;
            Ok::<_, StoreError>(stalled)
        })?;
        self.notices.publish(stalled && stall.notify, &claim.note.tenant, stalled.then_some(claim.note.id));
        Ok(stalled)
    }

    async fn receive(&self, received: &ReceiptBatch) -> Result<ReceiptOutcome, StoreError> {
        // The transaction is repeated after a conflict. A callback whose answer got lost is delivered again and
        // recognised as a duplicate.
        let reception = again!(async {
            let mut tx = self.pool.begin().await?;
            let reception = receipts::receive(&mut tx, received).await?;
            tx.commit().await?;
            Ok::<_, StoreError>(reception)
        })?;
        let changed = reception.changed.iter().copied();
        let is_news = !(reception.changed.is_empty() && reception.received.is_empty());
        self.notices.publish(is_news, &received.tenant, changed);
        Ok(reception)
    }

    async fn events(&self, wanted: &EventQuery<'_>) -> Result<Vec<Event>, StoreError> {
        let _permit = self.lists.acquire(wanted.tenant).await;
        again!(events::list(&self.pool, wanted, &self.positions))
    }

    async fn last_event(&self, tenant: &str) -> Result<String, StoreError> {
        again!(events::last(&self.pool, tenant, &self.positions))
    }

    async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        // The clock offset of the claim at `now` is used, so that nothing that became due since is missed.
        let ahead = self.ahead().unwrap_or_default();
        let at = answered(read::next_due(&self.pool, now.as_millisecond() + ahead)).await?;
        Ok(at.and_then(|at| Timestamp::from_millisecond(at - ahead).ok()))
    }

    async fn end_all_leases(&self, now: Timestamp) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "UPDATE deliveries SET lease_until = $1 + ahead_of($1) WHERE lease_until > $1 + ahead_of($1)",
        )
        .bind(now.as_millisecond())
        .execute(&self.pool)
        .await?;
        sqlx::query("UPDATE tasks SET lease_until = 0 WHERE lease_until > 0").execute(&self.pool).await?;
        Ok(done.rows_affected())
    }

    async fn secret(&self, name: &str, fresh: [u8; 32]) -> Result<[u8; 32], StoreError> {
        let mut tx = self.pool.begin().await?;
        let kept = write::secret(&mut tx, name, fresh).await?;
        tx.commit().await?;
        Ok(kept)
    }

    async fn notes_with_old_audio(&self, before: Timestamp, limit: u32) -> Result<Vec<NoteId>, StoreError> {
        read::notes_with_old_audio(&self.pool, before, limit).await
    }

    async fn audio_removed(&self, id: NoteId) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        write::audio_removed(&mut tx, id).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn forget(&self, horizon: &Horizon) -> Result<u64, StoreError> {
        let mut tx = self.pool.begin().await?;
        // One process cleans up at a time; the others would find nothing left to do.
        let free: bool =
            sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(1, 2)").fetch_one(&mut *tx).await?;
        if !free {
            return Ok(0);
        }
        let forgotten = write::forget(&mut tx, horizon).await?;
        tx.commit().await?;
        Ok(forgotten)
    }

    async fn connections(&self, tenant: &str) -> Result<Vec<ConnectionState>, StoreError> {
        again!(read::connections(&self.pool, tenant))
    }

    async fn learned(&self, lane: &str, now: Timestamp) -> Result<Option<Value>, StoreError> {
        again!(read::learned(&self.pool, lane, now))
    }

    async fn media(&self, key: &MediaKey, now: Timestamp) -> Result<Option<MediaHandle>, StoreError> {
        again!(media::find(&self.pool, key, now))
    }

    async fn spoken(&self, tenant: &str, key: &str) -> Result<Option<NoteId>, StoreError> {
        again!(spoken::find(&self.pool, tenant, key))
    }

    async fn add_upload(&self, upload: &Upload) -> Result<(), StoreError> {
        again!(uploads::add(&self.pool, upload))
    }

    async fn upload(&self, id: UploadId, tenant: &str) -> Result<Option<Upload>, StoreError> {
        again!(uploads::find(&self.pool, id, tenant))
    }

    async fn has_upload(&self, id: UploadId, tenant: Option<&str>) -> Result<bool, StoreError> {
        uploads::exists(&self.pool, id, tenant).await
    }

    async fn remove_upload(&self, id: UploadId) -> Result<(), StoreError> {
        again!(uploads::remove(&self.pool, id))
    }

    async fn expired_uploads(&self, now: Timestamp, limit: u32) -> Result<Vec<UploadId>, StoreError> {
        uploads::expired(&self.pool, now, limit).await
    }

    async fn upload_audio_removed(&self, id: UploadId) -> Result<(), StoreError> {
        uploads::audio_removed(&self.pool, id).await
    }

    async fn count_near(&self, now: Timestamp) -> Result<u64, StoreError> {
        let (mut counted, before) = (0, (now + NEAR).as_millisecond());
        loop {
            let more = again!(claim::count_near(&self.pool, now.as_millisecond(), before, NEAR_AT_ONCE))?;
            counted += more;
            if more == 0 {
                return Ok(counted);
            }
        }
    }

    async fn kept_audio(&self) -> Result<Vec<(String, u64)>, StoreError> {
        again!(read::kept_audio(&self.pool))
    }

    async fn usage(&self, wanted: &UsageQuery<'_>) -> Result<Vec<UsageGroup>, StoreError> {
        let _permit = self.lists.acquire(wanted.tenant).await;
        again!(usage::usage(&self.pool, wanted))
    }

    async fn queue_state(&self, now: Timestamp) -> Result<Vec<QueueGroup>, StoreError> {
        read::queue_state(&self.pool, now).await
    }

    async fn queue_depth(&self) -> Result<u64, StoreError> {
        let depth: i64 =
            sqlx::query_scalar("SELECT COALESCE(SUM(depth), 0)::BIGINT FROM queue_depths WHERE tenant = ''")
                .fetch_one(&self.pool)
                .await?;
        Ok(depth.unsigned_abs())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        write::probe(&self.pool).await
    }

    async fn close(&self) {
        self.pool.close().await;
    }

    fn notices(&self) -> Option<broadcast::Receiver<Notice>> {
        Some(self.notices.subscribe())
    }
}
