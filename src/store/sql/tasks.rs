//! Tasks, and the notes that a recovery is about. This file is compiled once for each database.

use jiff::Timestamp;
use sqlx::QueryBuilder;

use super::dialect::{CLAIMED_ALONE, Db, INDEXED_BY_RECOVERY, Pool, Tx, ahead, lock_names, prepare_ranges};
use crate::{
    model::{
        id::TaskId,
        note::{NoteId, Status},
        task::{Place, Task},
    },
    store::{
        Begun, Found, LeasedTask, MOST_TASKS, NewTask, StoreError, Unarrived,
        document::{self, Document},
    },
};

/// The condition of the index `notes_to_recover`, which a query has to repeat.
const RECOVERABLE: &str = "n.status IN ('failed', 'expired', 'unknown')";

/// See [`crate::store::Tasks::begin_task`].
pub async fn begin(tx: &mut Tx<'_>, new: &NewTask) -> Result<Begun, StoreError> {
    let task = &new.task;
    let (tenant, fingerprint) = (&task.tenant, task.order.fingerprint());
    let doc = Document::of(task)?;
    lock_names(tx, &[format!("{tenant}\u{1f}#tasks")]).await?;
    let key = new.key.as_ref().map(|(key, _)| key);
    if let Some(key) = key {
        let now = task.created_at.as_millisecond();
        sqlx::query("UPDATE tasks SET key = NULL WHERE tenant = $1 AND key = $2 AND key_expires_at <= $3")
            .bind(tenant)
            .bind(key)
            .bind(now)
            .execute(&mut **tx)
            .await?;
        let known: Option<(String, String)> =
            sqlx::query_as("SELECT fingerprint, doc FROM tasks WHERE tenant = $1 AND key = $2")
                .bind(tenant)
                .bind(key)
                .fetch_optional(&mut **tx)
                .await?;
        match known {
            Some((same, doc)) if same == fingerprint => return replayed(&doc),
            Some(_) => return Ok(Begun::KeyTaken),
            None => {}
        }
        let of_a_note: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM idempotency WHERE tenant = $1 AND key = $2 AND expires_at > $3)",
        )
        .bind(tenant)
        .bind(key)
        .bind(now)
        .fetch_one(&mut **tx)
        .await?;
        if of_a_note {
            return Ok(Begun::KeyTaken);
        }
    }
    let running: Option<String> = sqlx::query_scalar(
        "SELECT doc FROM tasks WHERE tenant = $1 AND fingerprint = $2 AND status = 'running'",
    )
    .bind(tenant)
    .bind(&fingerprint)
    .fetch_optional(&mut **tx)
    .await?;
    if let Some(doc) = running {
        return replayed(&doc);
    }
    let count: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM tasks WHERE tenant = $1 AND status = 'running'")
            .bind(tenant)
            .fetch_one(&mut **tx)
            .await?;
    if count >= MOST_TASKS {
        return Ok(Begun::TooMany);
    }
    let due = task.created_at.as_millisecond() + ahead(tx, task.created_at).await?;
    sqlx::query(
        "INSERT INTO tasks (id, tenant, status, fingerprint, key, key_expires_at, due_at, ended_at, doc)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(task.id.to_string())
    .bind(tenant)
    .bind(task.status.as_str())
    .bind(&fingerprint)
    .bind(key)
    .bind(new.key.as_ref().map(|(_, expires_at)| expires_at.as_millisecond()))
    .bind(due)
    .bind(task.ended_at.map(Timestamp::as_millisecond))
    .bind(doc.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(Begun::Created)
}

fn replayed(doc: &str) -> Result<Begun, StoreError> {
    Ok(Begun::Replayed(Box::new(document::read("task", doc)?)))
}

/// See [`crate::store::Tasks::task`].
pub async fn find(pool: &Pool, id: TaskId, tenant: &str) -> Result<Option<Task>, StoreError> {
    let doc: Option<String> = sqlx::query_scalar("SELECT doc FROM tasks WHERE id = $1 AND tenant = $2")
        .bind(id.to_string())
        .bind(tenant)
        .fetch_optional(pool)
        .await?;
    doc.map(|doc| document::read("task", &doc)).transpose()
}

/// See [`crate::store::Tasks::claim_task`].
pub async fn claim(
    tx: &mut Tx<'_>,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<Option<LeasedTask>, StoreError> {
    let ahead = ahead(tx, now).await?;
    let mut query = QueryBuilder::<Db>::new("UPDATE tasks SET lease_until = ");
    query
        .push_bind(lease_until.as_millisecond() + ahead)
        .push(", fence = fence + 1 WHERE id = (SELECT id FROM tasks WHERE status = 'running' AND due_at <= ");
    let now_there = now.as_millisecond() + ahead;
    query.push_bind(now_there).push(" AND lease_until <= ").push_bind(now_there);
    query.push(" ORDER BY fence, due_at LIMIT 1").push(CLAIMED_ALONE).push(") RETURNING id, fence, doc");
    let Some((id, fence, doc)) =
        query.build_query_as::<(String, i64, String)>().fetch_optional(&mut **tx).await?
    else {
        return Ok(None);
    };
    match document::read("task", &doc) {
        Ok(task) => Ok(Some(LeasedTask { task, fence })),
        Err(error) => {
            tracing::error!(task.id = id, %error, "task {id} cannot be read and is set aside");
            sqlx::query("UPDATE tasks SET status = 'unreadable', ended_at = $2 WHERE id = $1")
                .bind(&id)
                .bind(now.as_millisecond())
                .execute(&mut **tx)
                .await?;
            Ok(None)
        }
    }
}

/// See [`crate::store::Tasks::save_task`].
pub async fn save(tx: &mut Tx<'_>, leased: &LeasedTask, due_at: Timestamp) -> Result<(), StoreError> {
    let LeasedTask { task, fence } = leased;
    let ahead = ahead(tx, task.updated_at).await?;
    let saved = sqlx::query(
        "UPDATE tasks SET status = $3, doc = $4, due_at = $5, ended_at = $6, lease_until = 0
         WHERE id = $1 AND fence = $2",
    )
    .bind(task.id.to_string())
    .bind(fence)
    .bind(task.status.as_str())
    .bind(Document::of(task)?.as_str())
    .bind(due_at.as_millisecond() + ahead)
    .bind(task.ended_at.map(Timestamp::as_millisecond))
    .execute(&mut **tx)
    .await?;
    if saved.rows_affected() == 0 { Err(StoreError::LeaseLost) } else { Ok(()) }
}

/// See [`crate::store::Tasks::next_task`]. The time is that of the database.
pub async fn next(pool: &Pool) -> Result<Option<i64>, StoreError> {
    let at = sqlx::query_scalar(
        "SELECT MIN(CASE WHEN lease_until > due_at THEN lease_until ELSE due_at END) FROM tasks
         WHERE status = 'running'",
    )
    .fetch_one(pool)
    .await?;
    Ok(at)
}

/// See [`crate::store::Tasks::running_tasks`].
pub async fn running(pool: &Pool) -> Result<Vec<(String, u64)>, StoreError> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT tenant, COUNT(*) FROM tasks WHERE status = 'running' GROUP BY tenant")
            .fetch_all(pool)
            .await?;
    Ok(rows.into_iter().map(|(tenant, count)| (tenant, count.unsigned_abs())).collect())
}

/// Removes tasks that ended by `horizon`, with the keys of their orders.
pub async fn forget(tx: &mut Tx<'_>, horizon: Timestamp) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM tasks WHERE ended_at <= $1")
        .bind(horizon.as_millisecond())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// See [`crate::store::Tasks::unarrived`].
pub async fn unarrived(pool: &Pool, wanted: &Unarrived<'_>) -> Result<Vec<Found>, StoreError> {
    let columns =
        "n.id, n.created_at, n.via, EXISTS (SELECT 1 FROM resends r WHERE r.original = n.id) AS resent";
    let mut query = QueryBuilder::<Db>::new("SELECT id, created_at, via, resent FROM (");
    for (number, status) in wanted.statuses.iter().enumerate() {
        query.push(if number > 0 { " UNION ALL " } else { "" });
        query.push("SELECT * FROM (");
        push_range(&mut query, columns, wanted, *status);
        query
            .push(" ORDER BY n.created_at, n.id LIMIT ")
            .push_bind(i64::from(wanted.limit))
            .push(") AS part");
    }
    query.push(") AS found ORDER BY created_at, id LIMIT ").push_bind(i64::from(wanted.limit));
    let mut tx = pool.begin().await?;
    prepare_ranges(&mut tx).await?;
    let rows: Vec<(String, i64, Option<String>, bool)> = query.build_query_as().fetch_all(&mut *tx).await?;
    tx.commit().await?;
    let found = rows.into_iter().map(|(id, created_at, via, resent)| {
        let malformed = || document::corrupt("note", &"its columns are malformed");
        let place = Place {
            id: id.parse::<NoteId>().map_err(|()| malformed())?,
            created_at: Timestamp::from_millisecond(created_at).map_err(|_| malformed())?,
        };
        let fits = wanted.via.is_none_or(|wanted| via.as_deref() == Some(wanted));
        Ok(Found { place, fits, resent })
    });
    found.collect()
}

/// See [`crate::store::Tasks::count_unarrived`].
pub async fn count(pool: &Pool, wanted: &Unarrived<'_>, most: u64) -> Result<u64, StoreError> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut query = QueryBuilder::<Db>::new("SELECT COUNT(*) FROM (SELECT 1 FROM (");
    for (number, status) in wanted.statuses.iter().enumerate() {
        query.push(if number > 0 { " UNION ALL " } else { "" });
        query.push("SELECT * FROM (");
        push_range(&mut query, "n.id", wanted, *status);
        query.push(" AND NOT EXISTS (SELECT 1 FROM resends r WHERE r.original = n.id)");
        if let Some(via) = wanted.via {
            query.push(" AND n.via = ").push_bind(via);
        }
        query.push(" LIMIT ").push_bind(most).push(") AS part");
    }
    query.push(") AS parts LIMIT ").push_bind(most).push(") AS found");
    let count: i64 = query.build_query_scalar().fetch_one(pool).await?;
    Ok(count.unsigned_abs())
}

/// Adds the query of `columns` for a range of the index `notes_to_recover`.
fn push_range(query: &mut QueryBuilder<Db>, columns: &str, wanted: &Unarrived<'_>, status: Status) {
    query.push("SELECT ").push(columns).push(" FROM notes n").push(INDEXED_BY_RECOVERY);
    query.push(" WHERE n.tenant = ").push_bind(wanted.tenant.to_owned());
    query.push(" AND n.status = ").push_bind(status.as_str()).push(" AND ").push(RECOVERABLE);
    let since = wanted.since.map_or(i64::MIN, Timestamp::as_millisecond);
    let (from, id) = match wanted.after {
        Some(place) if place.created_at.as_millisecond() >= since => {
            (place.created_at.as_millisecond(), place.id.to_string())
        }
        _ => (since, String::new()),
    };
    query.push(" AND (n.created_at, n.id) > (").push_bind(from).push(", ").push_bind(id).push(")");
    query.push(" AND n.created_at <= ").push_bind(wanted.until.as_millisecond());
    query.push(" AND (n.created_at < ").push_bind(wanted.resends_before.as_millisecond());
    query.push(" OR NOT EXISTS (SELECT 1 FROM resends own WHERE own.note_id = n.id))");
}
