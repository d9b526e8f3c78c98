//! Writes a plain change of a note with one statement. Separate statements would be a dozen trips to SQLite's thread and
//! back, each of which takes longer than the statement.

use super::{Tx, receipts};
use crate::store::{
    Change, StoreError, Stored,
    plain_write::{PlainWrite, SEEN_EVERY},
    used_columns,
};

/// The view and trigger by which [`INSERT`] changes all rows of a note, created on the writing connection.
///
/// The trigger aborts before any change if another process has the lease by now. The next delivery of the lane becomes its
/// head through the trigger `deliveries_elect`.
pub const SETUP: &str = "
    CREATE TEMP VIEW written AS SELECT
        0 AS delivery, 0 AS fence, 0 AS from_state, 0 AS to_state, 0 AS id, 0 AS tenant, 0 AS status, 0 AS at, 0 AS doc,
        0 AS via, 0 AS bytes, 0 AS event_id, 0 AS event_kind, 0 AS notify, 0 AS event_lane, 0 AS events_key,
        0 AS event_expires_at, 0 AS connection, 0 AS names, 0 AS deadline, 0 AS deadline_lane, 0 AS watch_key,
        0 AS deadline_expires_at, 0 AS works, 0 AS works_since, 0 AS sent_name, 0 AS sent_bytes,
        0 AS used_ms, 0 AS used_in, 0 AS used_out, 0 AS used_attempts;
    CREATE TEMP TRIGGER writing INSTEAD OF INSERT ON written BEGIN
        SELECT RAISE(ABORT, 'lease lost') WHERE NOT EXISTS (
            SELECT 1 FROM deliveries WHERE id = NEW.delivery AND fence = NEW.fence
            AND (NEW.to_state IS NULL OR state IN ('leased', NEW.from_state)));
        UPDATE deliveries SET state = NEW.to_state WHERE id = NEW.delivery AND state <> NEW.to_state;
        DELETE FROM deliveries WHERE id = NEW.delivery AND NEW.to_state IS NULL;
        INSERT INTO contents (tenant, name, bytes) SELECT NEW.tenant, NEW.sent_name, NEW.sent_bytes
        WHERE NEW.sent_name IS NOT NULL ON CONFLICT (tenant, name) DO NOTHING;
        INSERT INTO note_audio (note_id, variant, content) SELECT NEW.id, 1, c.id FROM contents c
        WHERE c.tenant = NEW.tenant AND c.name = NEW.sent_name
        ON CONFLICT (note_id, variant) DO UPDATE SET content = excluded.content
        WHERE note_audio.content <> excluded.content;
        INSERT INTO events (id, tenant, note_id, kind, at, doc)
        SELECT NEW.event_id, NEW.tenant, NEW.id, NEW.event_kind, NEW.at, NEW.doc WHERE NEW.event_kind IS NOT NULL
        AND (SELECT status FROM notes WHERE id = NEW.id) IS NOT NEW.status;
        INSERT INTO deliveries
            (kind, note_id, event, tenant, connection, lane, state, queued_at, due_at, order_at, expires_at, head)
        SELECT 'tell', NEW.id, e.seq, NEW.tenant, NEW.events_key, NEW.event_lane, 'queued', NEW.at, NEW.at, NEW.at,
            NEW.event_expires_at, NOT EXISTS (SELECT 1 FROM deliveries WHERE lane = NEW.event_lane AND head = 1)
        FROM events e WHERE NEW.notify AND e.note_id = NEW.id AND e.id = NEW.event_id;
        UPDATE notes SET status = NEW.status, status_before = status, doc = NEW.doc, via = NEW.via, bytes = NEW.bytes,
            used_ms = NEW.used_ms, used_in = NEW.used_in, used_out = NEW.used_out, used_attempts = NEW.used_attempts,
            ended_at = CASE WHEN NEW.to_state IS NULL THEN COALESCE(ended_at, NEW.at) END
        WHERE id = NEW.id;
        INSERT INTO messages (connection, name, note_id)
        SELECT NEW.connection, value, NEW.id FROM json_each(NEW.names) WHERE TRUE
        ON CONFLICT (connection, name) DO UPDATE SET note_id = excluded.note_id
        WHERE messages.note_id <> excluded.note_id;
        DELETE FROM deliveries WHERE note_id = NEW.id AND kind = 'overdue' AND NEW.deadline IS NOT NULL;
        INSERT INTO deliveries
            (kind, note_id, tenant, connection, lane, state, queued_at, due_at, order_at, expires_at, head)
        SELECT 'overdue', NEW.id, NEW.tenant, NEW.watch_key, NEW.deadline_lane, 'queued', NEW.at, NEW.deadline,
            NEW.deadline, NEW.deadline_expires_at, 1
        WHERE NEW.deadline IS NOT NULL;
        INSERT INTO connections (connection, seen_at) SELECT NEW.works, NEW.at
        WHERE NEW.works IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM connections WHERE connection = NEW.works AND failure IS NULL AND failures = 0
            AND broken_until = 0 AND seen_at BETWEEN NEW.works_since AND NEW.at)
        ON CONFLICT (connection) DO UPDATE SET
            seen_at = excluded.seen_at, failure = NULL, failures = 0, broken_until = 0;
    END";

const INSERT: &str = "INSERT INTO written VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
    $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31)";

/// Makes a plain change, and applies the receipts that came before it.
///
/// # Errors
/// [`StoreError::LeaseLost`] if another process has the lease; then nothing was changed.
pub async fn write_all(
    tx: &mut Tx<'_>,
    plain: &PlainWrite<'_>,
    change: &Change,
) -> Result<Stored, StoreError> {
    write(tx, plain).await?;
    if !plain.is_done() {
        return Ok(Stored::AsGiven);
    }
    receipts::take_early(tx, plain.note, &plain.connection, plain.note.updated_at, change.notify).await
}

async fn write(tx: &mut Tx<'_>, plain: &PlainWrite<'_>) -> Result<(), StoreError> {
    let (claim, note) = (plain.claim, plain.note);
    let [ms, bytes_in, bytes_out, attempts] = used_columns(note);
    let names = (!plain.names.is_empty()).then(|| serde_json::Value::from(plain.names.clone()).to_string());
    let done = sqlx::query(INSERT)
        .bind(claim.delivery)
        .bind(claim.fence)
        .bind(plain.from)
        .bind(plain.to)
        .bind(note.id.to_string())
        .bind(&note.tenant)
        .bind(note.status.as_str())
        .bind(plain.at())
        .bind(plain.doc.as_str())
        .bind(&note.current().connection)
        .bind(i64::try_from(note.kept_bytes()).unwrap_or(i64::MAX))
        .bind(plain.event.as_ref().map(|(id, _)| id.to_string()))
        .bind(plain.event.as_ref().map(|(_, kind)| kind.as_str()))
        .bind(plain.notify)
        .bind(plain.event_lane())
        .bind(plain.events_key())
        .bind(plain.event_expires_at())
        .bind(&plain.connection)
        .bind(names)
        .bind(plain.deadline)
        .bind(plain.deadline_lane())
        .bind(plain.watch_key())
        .bind(plain.deadline_expires_at())
        .bind(plain.works)
        .bind(plain.at() - SEEN_EVERY.as_millis() as i64 + 1)
        .bind(plain.sent.map(|content| &content.sha256))
        .bind(plain.sent.map(|content| &content.bytes[..]))
        .bind(ms)
        .bind(bytes_in)
        .bind(bytes_out)
        .bind(attempts)
        .execute(&mut **tx)
        .await;
    match done {
        Err(sqlx::Error::Database(error)) if error.message() == "lease lost" => Err(StoreError::LeaseLost),
        done => {
            done?;
            Ok(())
        }
    }
}
