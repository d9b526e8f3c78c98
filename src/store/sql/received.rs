//! Received notes. This file is compiled once for each database.

use bytes::Bytes;
use jiff::Timestamp;
use sqlx::{QueryBuilder, Row as _};

use super::{
    dialect::{Db, Pool, Tx, ahead, elect, lock_leased, lock_names, prepare_ranges},
    events,
    read::doc,
    write::{pause, require_lease},
};
use crate::{
    model::{
        event::EventKind,
        id::ReceivedId,
        note::NoteId,
        received::{Received, Transcript},
    },
    store::{
        Horizon, INBOUND, MESSAGES_KEPT, OldAudio, Postponed, ReceivedChange, ReceivedClaim, ReceivedPage,
        ReceivedQuery, ReceivedStep, StoreError, connection_key,
        document::Document,
        plain_write::{event_lane, inbound_lane, transcription_lane},
        received::{canonical, fetch_until, message_name},
    },
};

/// Sorts after every id.
const END: &str = "in_~";

/// Stores a new note and queues its job. Returns `false` if its message was stored before.
pub async fn add(
    tx: &mut Tx<'_>,
    connection: &str,
    received: &Received,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let mut received = received.clone();
    if let Some(quoted) = &received.reply_to
        && let Some(ours) = quoted_note(tx, connection, quoted).await?
    {
        received.reply_to = Some(ours.to_string());
    }
    let added = sqlx::query(
        "INSERT INTO received (id, tenant, connection, message, status, via, sender, conversation, received_at, doc)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (connection, message) DO NOTHING",
    )
    .bind(received.id.to_string())
    .bind(&received.tenant)
    .bind(connection)
    .bind(message_name(&received.message_id))
    .bind(received.status.as_str())
    .bind(&received.connection)
    .bind(canonical(&received.from))
    .bind(canonical(&received.conversation))
    .bind(received.received_at.as_millisecond())
    .bind(Document::of(&received)?.as_str())
    .execute(&mut **tx)
    .await?;
    if added.rows_affected() == 0 {
        return Ok(false);
    }
    let lane = inbound_lane(&received);
    let ahead = ahead(tx, now).await?;
    sqlx::query(
        "INSERT INTO deliveries
            (kind, note_id, tenant, connection, lane, state, queued_at, due_at, order_at, expires_at)
         VALUES ('receive', $1, $2, $3, $4, 'queued', $5, $6, $6, $7)",
    )
    .bind(received.id.to_string())
    .bind(&received.tenant)
    .bind(connection_key(&received.tenant, &format!("{INBOUND}.{}", received.connection)))
    .bind(&lane)
    .bind(now.as_millisecond())
    .bind(now.as_millisecond() + ahead)
    .bind(fetch_until(&received, now).as_millisecond() + ahead)
    .execute(&mut **tx)
    .await?;
    elect(tx, &lane).await?;
    Ok(true)
}

/// Finds our note with this message.
async fn quoted_note(tx: &mut Tx<'_>, connection: &str, message: &str) -> Result<Option<NoteId>, StoreError> {
    let id: Option<String> =
        sqlx::query_scalar("SELECT note_id FROM messages WHERE connection = $1 AND name = $2")
            .bind(connection)
            .bind(message)
            .fetch_optional(&mut **tx)
            .await?;
    Ok(id.and_then(|id| id.parse().ok()))
}

/// See [`crate::store::ReceivedNotes::received`].
pub async fn find(pool: &Pool, id: ReceivedId, tenant: &str) -> Result<Option<Received>, StoreError> {
    let row = sqlx::query("SELECT doc FROM received WHERE id = $1 AND tenant = $2 AND doc IS NOT NULL")
        .bind(id.to_string())
        .bind(tenant)
        .fetch_optional(pool)
        .await?;
    row.map(|row| doc(&row, "received")).transpose()
}

/// See [`crate::store::ReceivedNotes::has_received`].
pub async fn exists(pool: &Pool, id: ReceivedId, tenant: Option<&str>) -> Result<bool, StoreError> {
    let found = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM received WHERE id = $1 AND tenant = COALESCE($2, tenant))",
    )
    .bind(id.to_string())
    .bind(tenant)
    .fetch_one(pool)
    .await?;
    Ok(found)
}

/// See [`crate::store::ReceivedNotes::received_notes`]. The page is read from the end of one index: that of the chat,
/// else of the sender, else of the connection. Other filters skip rows of that.
pub async fn list(pool: &Pool, wanted: &ReceivedQuery<'_>) -> Result<ReceivedPage, StoreError> {
    let filters = [("conversation", wanted.conversation), ("sender", wanted.from), ("via", wanted.via)];
    let mut filters = filters.into_iter().filter_map(|(column, value)| Some((column, value?)));
    let first = filters.next();
    let columns =
        first.map_or_else(|| "tenant, id".to_owned(), |(column, _)| format!("tenant, {column}, id"));
    let before = wanted.before.map_or_else(|| END.to_owned(), |id| id.to_string());
    let mut query = QueryBuilder::<Db>::new("SELECT id, doc FROM received WHERE listed = 1 AND tenant = ");
    query.push_bind(wanted.tenant);
    for (column, value) in first.into_iter().chain(filters) {
        query.push(format_args!(" AND {column} = ")).push_bind(value);
    }
    query.push(" AND id < ").push_bind(before);
    // The order names every column of the index, so that no other one has it.
    query.push(format_args!(" ORDER BY {} DESC LIMIT ", columns.replace(", ", " DESC, ")));
    query.push_bind(i64::from(wanted.limit) + 1);
    let mut tx = pool.begin().await?;
    prepare_ranges(&mut tx).await?;
    let mut rows = query.build().fetch_all(&mut *tx).await?;
    tx.commit().await?;
    let most = wanted.limit as usize;
    let has_more = rows.len() > most;
    rows.truncate(most);
    let mut page = ReceivedPage::default();
    let mut last = None;
    for row in &rows {
        let id: String = row.try_get("id")?;
        last = id.parse().ok();
        match doc(row, "received") {
            Ok(received) => page.items.push(received),
            Err(error) => {
                tracing::error!(received.id = id, %error, "received note {id} cannot be read and is left out of a list");
            }
        }
    }
    page.next = last.filter(|_| has_more);
    Ok(page)
}

/// See [`crate::store::ReceivedNotes::received_audio`].
pub async fn audio(pool: &Pool, id: ReceivedId, part: &str) -> Result<Option<Bytes>, StoreError> {
    let bytes: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT bytes FROM received_audio WHERE received_id = $1 AND part = $2")
            .bind(id.to_string())
            .bind(part)
            .fetch_optional(pool)
            .await?;
    Ok(bytes.map(Bytes::from))
}

/// See [`crate::store::ReceivedNotes::write_received`].
pub async fn write(
    tx: &mut Tx<'_>,
    claim: &ReceivedClaim,
    change: &ReceivedChange,
) -> Result<(), StoreError> {
    let received = &change.received;
    let id = received.id.to_string();
    let lease = (claim.delivery, claim.fence);
    let names = [id.clone(), event_lane(&received.tenant, &id), transcription_lane(received)];
    let lane = lock_leased(tx, lease, &names).await?.ok_or(StoreError::LeaseLost)?;
    let ahead = ahead(tx, change.now).await?;
    let changed = match change.step {
        ReceivedStep::Progress { until } => {
            sqlx::query(
                "UPDATE deliveries SET expires_at = $3 WHERE id = $1 AND fence = $2 AND state = 'leased'",
            )
            .bind(claim.delivery)
            .bind(claim.fence)
            .bind(until.as_millisecond() + ahead)
            .execute(&mut **tx)
            .await?
        }
        ReceivedStep::Retry { at } => {
            sqlx::query(
                "UPDATE deliveries SET state = 'queued', due_at = $3, lease_until = NULL
                 WHERE id = $1 AND fence = $2",
            )
            .bind(claim.delivery)
            .bind(claim.fence)
            .bind(at.as_millisecond() + ahead)
            .execute(&mut **tx)
            .await?
        }
        ReceivedStep::Done { .. } => {
            sqlx::query("DELETE FROM deliveries WHERE id = $1 AND fence = $2")
                .bind(claim.delivery)
                .bind(claim.fence)
                .execute(&mut **tx)
                .await?
        }
    };
    require_lease(changed.rows_affected())?;
    save(tx, change).await?;
    if let ReceivedStep::Done { event, notify } = change.step {
        elect(tx, &lane).await?;
        let document = Document::of(received)?;
        events::add(tx, (&received.tenant, &id), &document, event, change.now, notify).await?;
        if let Some(with) = &change.transcribe {
            events::transcription(tx, received, with, change.now).await?;
        }
    }
    Ok(())
}

/// See [`crate::store::ReceivedNotes::write_transcript`].
pub async fn write_transcript(
    tx: &mut Tx<'_>,
    claim: &ReceivedClaim,
    transcript: &Transcript,
    (notify, now): (bool, Timestamp),
) -> Result<(), StoreError> {
    let id = claim.received.id.to_string();
    let lease = (claim.delivery, claim.fence);
    let names = [id.clone(), event_lane(&claim.received.tenant, &id)];
    let lane = lock_leased(tx, lease, &names).await?.ok_or(StoreError::LeaseLost)?;
    // The audio may have been removed since the lease.
    let row = sqlx::query("SELECT doc FROM received WHERE id = $1 AND doc IS NOT NULL")
        .bind(&id)
        .fetch_optional(&mut **tx)
        .await?;
    let stored: Received = row.map(|row| doc(&row, "received")).transpose()?.ok_or(StoreError::LeaseLost)?;
    let received = Received { transcript: Some(transcript.clone()), ..stored };
    let document = Document::of(&received)?;
    let done = sqlx::query("DELETE FROM deliveries WHERE id = $1 AND fence = $2")
        .bind(claim.delivery)
        .bind(claim.fence)
        .execute(&mut **tx)
        .await?;
    require_lease(done.rows_affected())?;
    sqlx::query("UPDATE received SET doc = $2 WHERE id = $1")
        .bind(&id)
        .bind(document.as_str())
        .execute(&mut **tx)
        .await?;
    elect(tx, &lane).await?;
    events::add(tx, (&received.tenant, &id), &document, EventKind::Transcribed, now, notify).await
}

/// See [`crate::store::ReceivedNotes::postpone_transcription`].
pub async fn postpone(
    tx: &mut Tx<'_>,
    claim: &ReceivedClaim,
    Postponed { at, counts, paused, now }: Postponed,
) -> Result<(), StoreError> {
    lock_names(tx, &[claim.received.id.to_string()]).await?;
    let ahead = ahead(tx, now).await?;
    let kept = sqlx::query(
        "UPDATE deliveries SET state = 'queued', due_at = $3, lease_until = NULL, tries = tries - $4
         WHERE id = $1 AND fence = $2",
    )
    .bind(claim.delivery)
    .bind(claim.fence)
    .bind(at.as_millisecond() + ahead)
    .bind(i32::from(!counts))
    .execute(&mut **tx)
    .await?;
    require_lease(kept.rows_affected())?;
    match paused {
        Some(until) => pause(tx, &claim.connection, until, now).await,
        None => Ok(()),
    }
}

async fn save(tx: &mut Tx<'_>, change: &ReceivedChange) -> Result<(), StoreError> {
    let received = &change.received;
    let id = received.id.to_string();
    sqlx::query(
        "UPDATE received SET status = $2, doc = $3, bytes = $4, ended_at = $5, audio_until = $6, listed = $7
         WHERE id = $1 AND doc IS NOT NULL",
    )
    .bind(&id)
    .bind(received.status.as_str())
    .bind(Document::of(received)?.as_str())
    .bind(i64::try_from(received.kept_bytes).unwrap_or(i64::MAX))
    .bind(received.ended_at.map(Timestamp::as_millisecond))
    .bind(change.audio_until.map(Timestamp::as_millisecond))
    .bind(i32::from(received.status.is_ended()))
    .execute(&mut **tx)
    .await?;
    if received.kept_bytes == 0 {
        remove_small(tx, &id).await?;
    }
    for small in &change.audio {
        sqlx::query(
            "INSERT INTO received_audio (received_id, part, bytes) VALUES ($1, $2, $3)
             ON CONFLICT (received_id, part) DO UPDATE SET bytes = excluded.bytes",
        )
        .bind(&id)
        .bind(&small.part)
        .bind(&small.bytes[..])
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

async fn remove_small(tx: &mut Tx<'_>, id: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM received_audio WHERE received_id = $1").bind(id).execute(&mut **tx).await?;
    Ok(())
}

/// See [`crate::store::ReceivedNotes::erase_received`].
pub async fn erase(tx: &mut Tx<'_>, id: ReceivedId, now: Timestamp) -> Result<bool, StoreError> {
    let id = id.to_string();
    lock_names(tx, std::slice::from_ref(&id)).await?;
    // Files are removed after this. Until then the row says that they are due.
    let erased = sqlx::query(
        "UPDATE received SET doc = NULL, sender = '', conversation = '', listed = 0,
            audio_until = CASE WHEN audio_until IS NULL THEN NULL ELSE $2 END
         WHERE id = $1 AND ended_at IS NOT NULL",
    )
    .bind(&id)
    .bind(now.as_millisecond())
    .execute(&mut **tx)
    .await?;
    if erased.rows_affected() == 0 {
        return Ok(false);
    }
    remove_small(tx, &id).await?;
    // Nobody writes down what was erased.
    sqlx::query("DELETE FROM deliveries WHERE note_id = $1 AND kind = 'transcribe'")
        .bind(&id)
        .execute(&mut **tx)
        .await?;
    events::erase(tx, &id).await?;
    Ok(true)
}

/// See [`crate::store::ReceivedNotes::received_with_old_audio`].
pub async fn with_old_audio(
    pool: &Pool,
    now: Timestamp,
    after: Option<OldAudio>,
    limit: u32,
) -> Result<Vec<OldAudio>, StoreError> {
    let since = after.map_or(i64::MIN, |last| last.since.as_millisecond());
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT id, audio_until FROM received WHERE audio_until <= $1 AND (audio_until, id) > ($2, $3)
         ORDER BY audio_until, id LIMIT $4",
    )
    .bind(now.as_millisecond())
    .bind(since)
    .bind(after.map(|last| last.id.to_string()).unwrap_or_default())
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    let old = |(id, since): &(String, i64)| {
        Some(OldAudio { id: id.parse().ok()?, since: Timestamp::from_millisecond(*since).ok()? })
    };
    Ok(rows.iter().filter_map(old).collect())
}

/// See [`crate::store::ReceivedNotes::received_audio_removed`].
pub async fn audio_removed(tx: &mut Tx<'_>, id: ReceivedId) -> Result<Option<Received>, StoreError> {
    let id = id.to_string();
    lock_names(tx, std::slice::from_ref(&id)).await?;
    let row = sqlx::query("SELECT doc FROM received WHERE id = $1 AND doc IS NOT NULL")
        .bind(&id)
        .fetch_optional(&mut **tx)
        .await?;
    // The audio is removed even if the document cannot be read.
    let stored = row.and_then(|row| doc::<Received>(&row, "received").ok());
    let changed = stored.map(|stored| Received { audio_expired: true, kept_bytes: 0, ..stored });
    let document = changed.as_ref().map(Document::of).transpose()?;
    sqlx::query("UPDATE received SET audio_until = NULL, bytes = 0, doc = COALESCE($2, doc) WHERE id = $1")
        .bind(&id)
        .bind(document.as_ref().map(Document::as_str))
        .execute(&mut **tx)
        .await?;
    remove_small(tx, &id).await?;
    Ok(changed)
}

/// Erases notes whose time is over, and removes rows whose message id no provider repeats any more.
pub async fn forget(tx: &mut Tx<'_>, horizon: &Horizon) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM deliveries WHERE note_id IN (
            SELECT id FROM received WHERE ended_at <= $1 AND audio_until IS NULL AND doc IS NOT NULL)",
        "DELETE FROM events WHERE note_id IN (
            SELECT id FROM received WHERE ended_at <= $1 AND audio_until IS NULL AND doc IS NOT NULL)",
        "UPDATE received SET doc = NULL, sender = '', conversation = '', listed = 0
         WHERE ended_at <= $1 AND audio_until IS NULL AND doc IS NOT NULL",
    ] {
        sqlx::query(sql).bind(horizon.notes.as_millisecond()).execute(&mut **tx).await?;
    }
    let messages = horizon.now.checked_sub(MESSAGES_KEPT).unwrap_or(Timestamp::UNIX_EPOCH);
    sqlx::query("DELETE FROM received WHERE ended_at <= $1 AND audio_until IS NULL AND doc IS NULL")
        .bind(horizon.notes.min(messages).as_millisecond())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
