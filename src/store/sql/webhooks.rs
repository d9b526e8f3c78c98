//! Webhook deliveries and the pauses of webhooks. This file is compiled once for each database.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{FromRow, QueryBuilder};

use super::{
    dialect::{Db, PLACE, Pool, Tx, ahead, elect, lock_names, settled},
    events,
};
use crate::{
    model::{
        event::{EventKind, Subject, WEBHOOK_WINDOW},
        id::EventId,
    },
    store::{
        EVENTS, EventHead, JobLease, Retelling, Retold, StoreError, WEBHOOK_PATIENCE, WEBHOOK_QUIET,
        WebhookAttempt, WebhookEnd, WebhookState, connection_key,
        document::{self, Document},
    },
};

/// End of a pause that ends only by hand: the year 9000.
const FAR: i64 = 221_845_392_000_000;

/// Records a try to tell a bot of an event. The delivery is still there.
pub async fn record(tx: &mut Tx<'_>, lease: &JobLease, attempt: &WebhookAttempt) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO event_attempts (event, at, status, took_ms, error)
         SELECT event, $3, $4, $5, $6 FROM deliveries WHERE id = $1 AND fence = $2 AND event IS NOT NULL",
    )
    .bind(lease.delivery)
    .bind(lease.fence)
    .bind(attempt.at.as_millisecond())
    .bind(attempt.status.map(i64::from))
    .bind(i64::try_from(attempt.took_ms).unwrap_or(i64::MAX))
    .bind(&attempt.error)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Records what a try says about the webhook, after the health of its connection was recorded. A webhook that failed for
/// too long is paused, and that is an event.
pub async fn judge(
    tx: &mut Tx<'_>,
    lease: &JobLease,
    end: &WebhookEnd,
    now: Timestamp,
) -> Result<(), StoreError> {
    let tenant = lease.subject.tenant();
    let Some(error) = &end.attempt.error else {
        sqlx::query(
            "UPDATE webhooks SET failing_since = NULL, paused_at = NULL
             WHERE tenant = $1 AND failing_since IS NOT NULL",
        )
        .bind(tenant)
        .execute(&mut **tx)
        .await?;
        return Ok(());
    };
    // The time at which the try began: the answer may have taken long.
    let tried_at = end.attempt.at.as_millisecond();
    let (since, mut paused_at): (i64, Option<i64>) = sqlx::query_as(
        "INSERT INTO webhooks (tenant, failing_since, failed_at, error, settings) VALUES ($1, $2, $2, $3, $4)
         ON CONFLICT (tenant) DO UPDATE SET error = excluded.error, settings = excluded.settings,
            failed_at = excluded.failed_at,
            failing_since = CASE WHEN webhooks.settings = excluded.settings
                    AND (webhooks.paused_at IS NOT NULL OR webhooks.failed_at > $5)
                THEN COALESCE(webhooks.failing_since, excluded.failing_since) ELSE excluded.failing_since END,
            paused_at = CASE WHEN webhooks.settings = excluded.settings THEN webhooks.paused_at END
         RETURNING failing_since, paused_at",
    )
    .bind(tenant)
    .bind(tried_at)
    .bind(error)
    .bind(&end.settings)
    .bind(tried_at - ms(WEBHOOK_QUIET))
    .fetch_one(&mut **tx)
    .await?;
    if paused_at.is_none() && tried_at - since >= ms(WEBHOOK_PATIENCE) {
        paused_at = Some(now.as_millisecond());
        tracing::error!(tenant, error, "the webhook of {tenant} failed for five days and is paused");
        sqlx::query("UPDATE webhooks SET paused_at = $2 WHERE tenant = $1")
            .bind(tenant)
            .bind(paused_at)
            .execute(&mut **tx)
            .await?;
        let doc = match &lease.subject {
            Subject::Note(note) => Document::of(&**note)?,
            Subject::Received(received) => Document::of(&**received)?,
        };
        let subject = lease.subject.id().to_string();
        events::add(tx, (tenant, &subject), &doc, EventKind::WebhookPaused, now, false).await?;
    }
    if paused_at.is_some() {
        // Deliveries that were under way fail after the pause began, and must not shorten it.
        sqlx::query("UPDATE connections SET broken_until = $2 WHERE connection = $1")
            .bind(connection_key(tenant, EVENTS))
            .bind(FAR)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

fn ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// See [`crate::store::Webhooks::resume_webhook`].
pub async fn resume(tx: &mut Tx<'_>, tenant: &str) -> Result<bool, StoreError> {
    sqlx::query("UPDATE connections SET broken_until = 0, failures = 0 WHERE connection = $1")
        .bind(connection_key(tenant, EVENTS))
        .execute(&mut **tx)
        .await?;
    let was_paused: Option<String> =
        sqlx::query_scalar("SELECT tenant FROM webhooks WHERE tenant = $1 AND paused_at IS NOT NULL")
            .bind(tenant)
            .fetch_optional(&mut **tx)
            .await?;
    sqlx::query("UPDATE webhooks SET failing_since = NULL, paused_at = NULL WHERE tenant = $1")
        .bind(tenant)
        .execute(&mut **tx)
        .await?;
    Ok(was_paused.is_some())
}

#[derive(FromRow)]
struct StateRow {
    tenant: String,
    failing_since: Option<i64>,
    paused_at: Option<i64>,
    error: Option<String>,
    settings: String,
}

impl From<StateRow> for WebhookState {
    fn from(row: StateRow) -> Self {
        let time = |at: i64| Timestamp::from_millisecond(at).ok();
        Self {
            tenant: row.tenant,
            failing_since: row.failing_since.and_then(time),
            paused_at: row.paused_at.and_then(time),
            error: row.error,
            settings: row.settings,
        }
    }
}

/// See [`crate::store::Webhooks::webhook`].
pub async fn state(pool: &Pool, tenant: &str) -> Result<Option<WebhookState>, StoreError> {
    let row: Option<StateRow> = sqlx::query_as(
        "SELECT tenant, failing_since, paused_at, error, settings FROM webhooks WHERE tenant = $1",
    )
    .bind(tenant)
    .fetch_optional(pool)
    .await?;
    Ok(row.map(Into::into))
}

/// See [`crate::store::Webhooks::paused_webhooks`].
pub async fn paused(pool: &Pool) -> Result<Vec<WebhookState>, StoreError> {
    let rows: Vec<StateRow> = sqlx::query_as(
        "SELECT tenant, failing_since, paused_at, error, settings FROM webhooks WHERE paused_at IS NOT NULL",
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// See [`crate::store::Webhooks::event`].
pub async fn event(pool: &Pool, id: EventId, tenant: &str) -> Result<Option<EventHead>, StoreError> {
    let row: Option<(String, i64, String)> =
        sqlx::query_as("SELECT kind, at, note_id FROM events WHERE id = $1 AND tenant = $2")
            .bind(id.to_string())
            .bind(tenant)
            .fetch_optional(pool)
            .await?;
    let malformed = || document::corrupt("event", &"its columns are malformed");
    row.map(|(kind, at, note)| {
        Ok(EventHead {
            id,
            kind: EventKind::parse(&kind).ok_or_else(malformed)?,
            at: Timestamp::from_millisecond(at).map_err(|_| malformed())?,
            subject: note.parse().map_err(|()| malformed())?,
        })
    })
    .transpose()
}

/// See [`crate::store::Webhooks::webhook_attempts`].
pub async fn attempts(pool: &Pool, id: EventId) -> Result<Vec<WebhookAttempt>, StoreError> {
    let rows: Vec<(i64, Option<i64>, i64, Option<String>)> = sqlx::query_as(
        "SELECT a.at, a.status, a.took_ms, a.error FROM events e JOIN event_attempts a ON a.event = e.seq
         WHERE e.id = $1 ORDER BY a.event, a.id",
    )
    .bind(id.to_string())
    .fetch_all(pool)
    .await?;
    let attempts = rows.into_iter().map(|(at, status, took_ms, error)| WebhookAttempt {
        at: Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH),
        status: status.and_then(|status| u16::try_from(status).ok()),
        took_ms: took_ms.unsigned_abs(),
        error,
    });
    Ok(attempts.collect())
}

/// See [`crate::store::Webhooks::retell`].
pub async fn retell(tx: &mut Tx<'_>, id: EventId, tenant: &str, now: Timestamp) -> Result<bool, StoreError> {
    let found: Option<(i64, String, i64)> =
        sqlx::query_as("SELECT seq, note_id, at FROM events WHERE id = $1 AND tenant = $2 AND kind <> $3")
            .bind(id.to_string())
            .bind(tenant)
            .bind(EventKind::WebhookPaused.as_str())
            .fetch_optional(&mut **tx)
            .await?;
    let Some((seq, note, at)) = found else { return Ok(false) };
    lock_names(tx, std::slice::from_ref(&note)).await?;
    queue(tx, tenant, &note, (seq, at), now).await?;
    Ok(true)
}

/// Makes the delivery of an event due now. A delivery that is under way is left alone.
async fn queue(
    tx: &mut Tx<'_>,
    tenant: &str,
    note: &str,
    (seq, at): (i64, i64),
    now: Timestamp,
) -> Result<(), StoreError> {
    let ahead = ahead(tx, now).await?;
    let due = now.as_millisecond() + ahead;
    let sooner = sqlx::query("UPDATE deliveries SET due_at = $2 WHERE event = $1 AND state = 'queued'")
        .bind(seq)
        .bind(due)
        .execute(&mut **tx)
        .await?;
    let waits = sooner.rows_affected() > 0;
    let is_there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM deliveries WHERE event = $1)")
        .bind(seq)
        .fetch_one(&mut **tx)
        .await?;
    if waits || is_there {
        return Ok(());
    }
    let lane = format!("{tenant}\u{1f}{EVENTS}\u{1f}{note}");
    // Within its note the event has the place of its time, so that a bot is told in order.
    sqlx::query(
        "INSERT INTO deliveries
            (kind, note_id, event, tenant, connection, lane, state, queued_at, due_at, order_at, expires_at)
         VALUES ('tell', $1, $2, $3, $4, $5, 'queued', $6, $7, $8, $9)",
    )
    .bind(note)
    .bind(seq)
    .bind(tenant)
    .bind(connection_key(tenant, EVENTS))
    .bind(&lane)
    .bind(now.as_millisecond())
    .bind(due)
    .bind(at + ahead)
    .bind((now + WEBHOOK_WINDOW).as_millisecond() + ahead)
    .execute(&mut **tx)
    .await?;
    elect(tx, &lane).await
}

/// An event that a webhook may have to be told of.
#[derive(FromRow)]
struct Candidate {
    place: i64,
    seq: i64,
    note_id: String,
    at: i64,
    untold: bool,
}

/// The condition for events that the webhook has not taken.
const UNTOLD: &str = "e.kind <> 'webhook.paused'
    AND NOT EXISTS (SELECT 1 FROM event_attempts a WHERE a.event = e.seq AND a.error IS NULL)";

/// See [`crate::store::Webhooks::retell_all`].
pub async fn retell_all(
    tx: &mut Tx<'_>,
    wanted: &Retelling<'_>,
    until_place: i64,
) -> Result<Retold, StoreError> {
    let mut query = QueryBuilder::<Db>::new(format!(
        "SELECT e.{PLACE} AS place, e.seq, e.note_id, e.at, {UNTOLD} AS untold FROM events e WHERE e.tenant = "
    ));
    query.push_bind(wanted.tenant).push(format!(" AND e.{PLACE} > ")).push_bind(wanted.after);
    query.push(format!(" AND e.{PLACE} <= ")).push_bind(until_place);
    query.push(format!(" ORDER BY e.{PLACE} LIMIT ")).push_bind(i64::from(wanted.limit));
    let rows: Vec<Candidate> = query.build_query_as().fetch_all(&mut **tx).await?;
    let more = rows.len() >= wanted.limit as usize;
    let since = wanted.since.map_or(i64::MIN, Timestamp::as_millisecond);
    let fits = |row: &&Candidate| row.untold && (since..=wanted.until.as_millisecond()).contains(&row.at);
    let names: Vec<String> = rows.iter().filter(fits).map(|row| row.note_id.clone()).collect();
    lock_names(tx, &names).await?;
    let mut retold = Retold { more, ..Retold::default() };
    for row in &rows {
        if fits(&row) {
            if retold.queued >= wanted.most {
                retold.more = false;
                break;
            }
            queue(tx, wanted.tenant, &row.note_id, (row.seq, row.at), wanted.now).await?;
            retold.queued += 1;
        }
        retold.last = Some(row.place);
    }
    Ok(retold)
}

/// Place up to which events are read.
pub async fn end(pool: &Pool, tenant: &str) -> Result<i64, StoreError> {
    settled(pool, tenant).await
}

/// See [`crate::store::Webhooks::count_untold`].
pub async fn count(pool: &Pool, wanted: &Retelling<'_>) -> Result<u64, StoreError> {
    let mut query = QueryBuilder::<Db>::new("SELECT COUNT(*) FROM (SELECT 1 FROM events e WHERE e.tenant = ");
    query.push_bind(wanted.tenant).push(" AND e.at >= ");
    query.push_bind(wanted.since.map_or(i64::MIN, Timestamp::as_millisecond));
    query.push(" AND e.at <= ").push_bind(wanted.until.as_millisecond());
    query.push(" AND ").push(UNTOLD);
    query.push(" LIMIT ").push_bind(i64::try_from(wanted.most).unwrap_or(i64::MAX)).push(") AS found");
    let count: i64 = query.build_query_scalar().fetch_one(pool).await?;
    Ok(count.unsigned_abs())
}
