//! Changes to a leased note, each guarded by its fence. This file is compiled once for each database.
//!
//! The row of a connection is changed last: all deliveries share it, so it must not stay locked while anything else is
//! waited for.

use jiff::Timestamp;
use sqlx::Executor;

use super::{
    dialect::{Db, Tx, ahead, elect, keep_audio, lock_leased, lock_names},
    events, media,
    read::doc,
    receipts, received_rows, sources, spoken, task_rows,
};
use crate::{
    model::{
        breaker::Tally,
        event::EventKind,
        note::{Note, NoteId},
    },
    store::{
        Change, Claim, Closed, Health, Horizon, Learned, Step, StoreError, Stored, connection_key,
        document::Document, plain_write, queue_key, used_columns,
    },
};

/// Makes any change.
pub async fn write(tx: &mut Tx<'_>, claim: &Claim, change: &Change) -> Result<Stored, StoreError> {
    let note = &change.note;
    let lease = (claim.delivery, claim.fence);
    let lane = lock_leased(tx, lease, &held_names(note)).await?.ok_or(StoreError::LeaseLost)?;
    match change.step {
        Step::Done => {
            let done = sqlx::query("DELETE FROM deliveries WHERE id = $1 AND fence = $2")
                .bind(claim.delivery)
                .bind(claim.fence)
                .execute(&mut **tx)
                .await?;
            require_lease(done.rows_affected())?;
            elect(tx, &lane).await?;
        }
        Step::Progress | Step::Dispatching | Step::Again => {
            let (from, state) = match change.step {
                Step::Dispatching => ("leased", "sending"),
                Step::Again => ("sending", "leased"),
                _ => ("leased", "leased"),
            };
            let done = sqlx::query(
                "UPDATE deliveries SET state = $3 WHERE id = $1 AND fence = $2 AND state IN ('leased', $4)",
            )
            .bind(claim.delivery)
            .bind(claim.fence)
            .bind(state)
            .bind(from)
            .execute(&mut **tx)
            .await?;
            require_lease(done.rows_affected())?;
        }
        Step::Retry { at: due, .. } | Step::Hold { until: due } => {
            let state = if matches!(change.step, Step::Hold { .. }) { "held" } else { "queued" };
            let due = due.as_millisecond() + ahead(tx, note.updated_at).await?;
            let done = sqlx::query(
                "UPDATE deliveries SET state = $3, due_at = $4, connection = $5, lease_until = NULL
                 WHERE id = $1 AND fence = $2",
            )
            .bind(claim.delivery)
            .bind(claim.fence)
            .bind(state)
            .bind(due)
            .bind(queue_key(note))
            .execute(&mut **tx)
            .await?;
            require_lease(done.rows_affected())?;
            if note.lane() != lane {
                change_lane(tx, claim, note, &lane, due).await?;
            }
        }
    }
    let ended = matches!(change.step, Step::Done | Step::Hold { .. });
    save(tx, note, Saving { ended, notify: change.notify }).await?;
    for (variant, content) in claim.audio.iter() {
        keep_audio(tx, note, variant, content).await?;
    }
    if let Some(key) = &claim.audio.spoken {
        spoken::keep(tx, note, key).await?;
    }
    learn(tx, &change.learned).await?;
    if let Some(media) = &change.media {
        media::change(tx, media, note.updated_at).await?;
    }
    let stored = follow_up(tx, change).await?;
    if let Some((connection, health)) = &change.health {
        record_health(tx, connection, health, (claim.tally, note.updated_at)).await?;
    }
    if let Step::Retry { pause_connection_until: Some(until), .. } = change.step {
        // The pause applies to the connection of the attempt, because a note that moves on never pauses the one it
        // left.
        let connection = connection_key(&note.tenant, &note.current().connection);
        pause(tx, &connection, until, note.updated_at).await?;
    }
    if let Some((connection, until)) = &change.pause {
        pause(tx, connection, *until, note.updated_at).await?;
    }
    if let Some((connection, closed)) = &change.closed {
        close(tx, connection, closed).await?;
    }
    Ok(stored)
}

/// Records that a connection may open no new conversations for now.
async fn close(tx: &mut Tx<'_>, connection: &str, closed: &Closed) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO connections (connection, closed_until, closed_why) VALUES ($1, $2, $3)
         ON CONFLICT (connection) DO UPDATE SET closed_until = excluded.closed_until, closed_why = excluded.closed_why",
    )
    .bind(connection)
    .bind(closed.until.as_millisecond())
    .bind(&closed.why)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Lists the names to lock for a change besides the lane of its delivery: the note, its new lane, and the ids of its
/// message.
pub fn held_names(note: &Note) -> Vec<String> {
    let connection = connection_key(&note.tenant, &note.current().connection);
    let messages = note.correlation_ids.iter().chain(&note.provider_message_id);
    let messages = messages.map(|name| receipts::message(&connection, name));
    [note.id.to_string(), note.lane()].into_iter().chain(messages).collect()
}

/// Fails with `LeaseLost` if no row was changed, because another process has taken the delivery over.
pub fn require_lease(changed: u64) -> Result<(), StoreError> {
    if changed == 0 { Err(StoreError::LeaseLost) } else { Ok(()) }
}

/// Queues the jobs that begin with a change, and applies the receipts that came before it was written.
async fn follow_up(tx: &mut Tx<'_>, change: &Change) -> Result<Stored, StoreError> {
    let note = &change.note;
    for (kind, due) in [("overdue", change.deadline), ("look_up", change.look_up)] {
        if let Some(due) = due {
            sqlx::query("DELETE FROM deliveries WHERE note_id = $1 AND kind = $2")
                .bind(note.id.to_string())
                .bind(kind)
                .execute(&mut **tx)
                .await?;
            events::watch(tx, note, kind, note.updated_at, due).await?;
        }
    }
    receipts::name(tx, note, plain_write::names(note, change.step).into_iter()).await?;
    match change.step {
        Step::Progress | Step::Again | Step::Dispatching => Ok(Stored::AsGiven),
        Step::Done | Step::Retry { .. } | Step::Hold { .. } => {
            let connection = connection_key(&note.tenant, &note.current().connection);
            receipts::take_early(tx, note, &connection, note.updated_at, change.notify).await
        }
    }
}

/// Removes a waiting note from the queue.
pub async fn cancel(tx: &mut Tx<'_>, note: &Note, notify: bool) -> Result<bool, StoreError> {
    let lane = note.lane();
    lock_names(tx, &[note.id.to_string(), lane.clone()]).await?;
    // A note that has moved to another lane is no longer in the state that the caller saw.
    let gone = sqlx::query(
        "DELETE FROM deliveries WHERE note_id = $1 AND kind = 'send' AND lane = $2 AND state = 'queued'",
    )
    .bind(note.id.to_string())
    .bind(&lane)
    .execute(&mut **tx)
    .await?;
    if gone.rows_affected() == 0 {
        return Ok(false);
    }
    elect(tx, &lane).await?;
    save(tx, note, Saving { ended: true, notify }).await?;
    Ok(true)
}

/// Moves a delivery into the lane of the note's next connection, where it becomes due anew.
async fn change_lane(
    tx: &mut Tx<'_>,
    claim: &Claim,
    note: &Note,
    old_lane: &str,
    due: i64,
) -> Result<(), StoreError> {
    let lane = note.lane();
    sqlx::query("UPDATE deliveries SET connection = $2, lane = $3, order_at = $4, head = 0 WHERE id = $1")
        .bind(claim.delivery)
        .bind(queue_key(note))
        .bind(&lane)
        .bind(due)
        .execute(&mut **tx)
        .await?;
    elect(tx, old_lane).await?;
    elect(tx, &lane).await
}

/// Options for saving a note.
#[derive(Clone, Copy)]
pub struct Saving {
    /// Whether no attempt will follow.
    pub ended: bool,
    /// Whether the tenant has a webhook for the event.
    pub notify: bool,
}

/// Replaces a note and records an event if its status changes.
pub async fn save(tx: &mut Tx<'_>, note: &Note, saving: Saving) -> Result<(), StoreError> {
    let doc = Document::of(note)?;
    let [ms, bytes_in, bytes_out, attempts] = used_columns(note);
    let before: Option<String> = sqlx::query_scalar(
        "UPDATE notes SET status = $2, status_before = status, doc = $5, via = $6, bytes = $7,
            used_ms = $8, used_in = $9, used_out = $10, used_attempts = $11,
            ended_at = CASE WHEN $3 THEN COALESCE(ended_at, $4) END
         WHERE id = $1 RETURNING status_before",
    )
    .bind(note.id.to_string())
    .bind(note.status.as_str())
    .bind(saving.ended)
    .bind(note.updated_at.as_millisecond())
    .bind(doc.as_str())
    .bind(&note.current().connection)
    .bind(i64::try_from(note.kept_bytes()).unwrap_or(i64::MAX))
    .bind(ms)
    .bind(bytes_in)
    .bind(bytes_out)
    .bind(attempts)
    .fetch_optional(&mut **tx)
    .await?;
    match EventKind::of(note.status) {
        Some(kind) if before.as_deref() != Some(note.status.as_str()) => {
            let subject = (note.tenant.as_str(), note.id.to_string());
            events::add(tx, (subject.0, &subject.1), &doc, kind, note.updated_at, saving.notify).await
        }
        _ => Ok(()),
    }
}

/// Records the health of a connection and pauses it after repeated failures. `at_start` is its tally when the attempt
/// began.
pub async fn record_health(
    tx: &mut Tx<'_>,
    connection: &str,
    health: &Health,
    (at_start, at): (Tally, Timestamp),
) -> Result<(), StoreError> {
    let failure = match health {
        Health::Works => None,
        Health::Fails(why) => Some(why),
    };
    // This statement locks the row, so that concurrent failures are counted one after the other.
    let (failures, ever): (i64, i64) = sqlx::query_as(
        "INSERT INTO connections (connection, seen_at, failure) VALUES ($1, $2, $3)
         ON CONFLICT (connection) DO UPDATE SET seen_at = excluded.seen_at, failure = excluded.failure,
            failures = CASE WHEN excluded.failure IS NULL THEN 0 ELSE connections.failures END,
            broken_until = CASE WHEN excluded.failure IS NULL THEN 0 ELSE connections.broken_until END
         RETURNING failures, failures_ever",
    )
    .bind(connection)
    .bind(at.as_millisecond())
    .bind(failure)
    .fetch_one(&mut **tx)
    .await?;
    if failure.is_none() {
        return Ok(());
    }
    let known = Tally {
        in_a_row: failures.try_into().unwrap_or(u32::MAX),
        ever: ever.try_into().unwrap_or_default(),
    };
    let Some(tally) = known.and_a_failure(at_start) else { return Ok(()) };
    let until = match tally.pause() {
        Some(pause) => (at + pause).as_millisecond() + ahead(tx, at).await?,
        None => 0,
    };
    sqlx::query(
        "UPDATE connections SET failures = $2, failures_ever = $3, broken_until = $4 WHERE connection = $1",
    )
    .bind(connection)
    .bind(i64::from(tally.in_a_row))
    .bind(i64::try_from(tally.ever).unwrap_or(i64::MAX))
    .bind(until)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Pauses a connection until this time, unless it is already paused for longer.
pub async fn pause(
    tx: &mut Tx<'_>,
    connection: &str,
    until: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    let until = until.as_millisecond() + ahead(tx, now).await?;
    sqlx::query(
        "INSERT INTO connections (connection, paused_until) VALUES ($1, $2)
         ON CONFLICT (connection) DO UPDATE SET paused_until = excluded.paused_until
         WHERE connections.paused_until < excluded.paused_until",
    )
    .bind(connection)
    .bind(until)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Replaces an ended note by its erased form `left`.
pub async fn erase(tx: &mut Tx<'_>, left: &Note, lanes: &[String]) -> Result<bool, StoreError> {
    lock_names(tx, &[left.id.to_string()]).await?;
    let erased = sqlx::query(
        "UPDATE notes SET doc = $2, recipient = NULL WHERE id = $1 AND ended_at IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM deliveries
                         WHERE note_id = $1 AND kind = 'send' AND state <> 'unreadable')",
    )
    .bind(left.id.to_string())
    .bind(Document::of(left)?.as_str())
    .execute(&mut **tx)
    .await?;
    if erased.rows_affected() == 0 {
        return Ok(false);
    }
    events::erase(tx, &left.id.to_string()).await?;
    receipts::disguise(tx, left.id).await?;
    sources::remove(tx, left.id).await?;
    for lane in lanes {
        learn(tx, &Learned::Forget { lane: lane.clone() }).await?;
    }
    Ok(true)
}

/// Replaces an unreadable note by its erased form `left`. A waiting note leaves the queue.
pub async fn erase_unreadable(tx: &mut Tx<'_>, left: &Note) -> Result<bool, StoreError> {
    let id = left.id.to_string();
    let lane: Option<String> =
        sqlx::query_scalar("SELECT lane FROM deliveries WHERE note_id = $1 AND kind = 'send'")
            .bind(&id)
            .fetch_optional(&mut **tx)
            .await?;
    lock_names(tx, &[Some(id.clone()), lane.clone()].into_iter().flatten().collect::<Vec<_>>()).await?;
    sqlx::query(
        "DELETE FROM deliveries WHERE note_id = $1 AND kind = 'send' AND state IN ('queued', 'unreadable')",
    )
    .bind(&id)
    .execute(&mut **tx)
    .await?;
    // A note in flight is left alone: its worker will write a readable document.
    let erased = sqlx::query(
        "UPDATE notes SET doc = $2, status = $3, recipient = NULL, ended_at = COALESCE(ended_at, $4)
         WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM deliveries WHERE note_id = $1 AND kind = 'send')",
    )
    .bind(&id)
    .bind(Document::of(left)?.as_str())
    .bind(left.status.as_str())
    .bind(left.updated_at.as_millisecond())
    .execute(&mut **tx)
    .await?;
    if erased.rows_affected() == 0 {
        return Ok(false);
    }
    if let Some(lane) = lane {
        elect(tx, &lane).await?;
        learn(tx, &Learned::Forget { lane }).await?;
    }
    events::erase(tx, &id).await?;
    receipts::disguise(tx, left.id).await?;
    sources::remove(tx, left.id).await?;
    Ok(true)
}

async fn learn(tx: &mut Tx<'_>, learned: &Learned) -> Result<(), StoreError> {
    match learned {
        Learned::Keep => {}
        Learned::Forget { lane } => {
            sqlx::query("DELETE FROM learned WHERE lane = $1").bind(lane).execute(&mut **tx).await?;
        }
        Learned::Set { lane, value, expires_at } => {
            let Ok(value) = Document::of(value) else {
                tracing::error!("what was learned about a recipient would not be read back and is not kept");
                return Ok(());
            };
            sqlx::query(
                "INSERT INTO learned (lane, value, expires_at) VALUES ($1, $2, $3)
                 ON CONFLICT (lane) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at",
            )
            .bind(lane)
            .bind(value.as_str())
            .bind(expires_at.as_millisecond())
            .execute(&mut **tx)
            .await?;
        }
    }
    Ok(())
}

/// Records that a note's audio was removed.
pub async fn audio_removed(tx: &mut Tx<'_>, id: NoteId) -> Result<(), StoreError> {
    lock_names(tx, &[id.to_string()]).await?;
    let row = sqlx::query("SELECT doc FROM notes WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(&mut **tx)
        .await?;
    let Some(row) = row else { return Ok(()) };
    // The audio is removed even if the document cannot be read.
    let doc = match doc::<Note>(&row, "note") {
        Ok(note) => Some(Document::of(&Note { audio_expired: true, ..note })?),
        Err(_) => None,
    };
    sqlx::query("UPDATE notes SET has_audio = 0, bytes = 0, doc = COALESCE($2, doc) WHERE id = $1")
        .bind(id.to_string())
        .bind(doc.as_ref().map(Document::as_str))
        .execute(&mut **tx)
        .await?;
    sources::remove(tx, id).await
}

/// Reads the secret of this name, which is created from `fresh` if it does not exist.
pub async fn secret(tx: &mut Tx<'_>, name: &str, fresh: [u8; 32]) -> Result<[u8; 32], StoreError> {
    sqlx::query("INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
        .bind(name)
        .bind(fresh.as_slice())
        .execute(&mut **tx)
        .await?;
    let kept: Vec<u8> = sqlx::query_scalar("SELECT value FROM secrets WHERE name = $1")
        .bind(name)
        .fetch_one(&mut **tx)
        .await?;
    kept.try_into()
        .map_err(|_| StoreError::Open(format!("the stored secret \"{name}\" has the wrong length")))
}

/// Removes data that is too old and returns the number of removed notes.
pub async fn forget(tx: &mut Tx<'_>, horizon: &Horizon) -> Result<u64, StoreError> {
    events::forget(tx, horizon.events).await?;
    let notes_before = horizon.notes.as_millisecond();
    // Idempotency keys go first: a repeated request would find no note.
    sqlx::query(
        "DELETE FROM idempotency
         WHERE note_id IN (SELECT id FROM notes WHERE ended_at <= $1 AND has_audio = 0)",
    )
    .bind(notes_before)
    .execute(&mut **tx)
    .await?;
    // A note is kept while it has audio, so that no file is ever left without its note.
    let notes = sqlx::query("DELETE FROM notes WHERE ended_at <= $1 AND has_audio = 0")
        .bind(notes_before)
        .execute(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM uploads WHERE expires_at <= $1 AND has_audio = 0")
        .bind(notes_before)
        .execute(&mut **tx)
        .await?;
    media::forget(tx, horizon.notes).await?;
    task_rows::forget(tx, horizon.notes).await?;
    received_rows::forget(tx, horizon).await?;
    for sql in [
        "DELETE FROM idempotency WHERE expires_at <= $1",
        "DELETE FROM learned WHERE expires_at <= $1",
        "DELETE FROM provider_media WHERE valid_until <= $1",
    ] {
        sqlx::query(sql).bind(horizon.now.as_millisecond()).execute(&mut **tx).await?;
    }
    Ok(notes.rows_affected())
}

/// Writes a row without any meaning, to check that writes work.
pub async fn probe(db: impl Executor<'_, Database = Db>) -> Result<(), StoreError> {
    let sql = "INSERT INTO probes (id, writes) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET writes = probes.writes + 1";
    sqlx::query(sql).execute(db).await?;
    Ok(())
}
