//! Storing a new note: its row, its delivery, and its claim on the idempotency key.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::Executor;

use super::{Db, Tx, dialect::elect};
use crate::{
    model::note::NoteId,
    store::{Acceptance, KeyHolder, NewNote, StoreError, document::Document, queue_key},
};

/// The view and trigger by which [`INSERT`] writes all rows of a note, created on the writing connection.
///
/// Separate statements would be six trips to SQLite's thread and back, each of which takes longer than the statement.
/// The new delivery becomes the head of its lane if there is none yet, or if the head is due later.
pub const SETUP: &str = "
    CREATE TEMP VIEW accepted AS SELECT
        0 AS id, 0 AS tenant, 0 AS status, 0 AS created_at, 0 AS doc, 0 AS recipient, 0 AS via, 0 AS source_name,
        0 AS source, 0 AS connection, 0 AS lane, 0 AS due_at, 0 AS expires_at, 0 AS key, 0 AS fingerprint, 0 AS key_expires_at,
        0 AS bytes, 0 AS far;
    CREATE TEMP TRIGGER accepting INSTEAD OF INSERT ON accepted BEGIN
        INSERT OR REPLACE INTO idempotency (tenant, key, fingerprint, note_id, expires_at)
        SELECT NEW.tenant, NEW.key, NEW.fingerprint, NEW.id, NEW.key_expires_at WHERE NEW.key IS NOT NULL;
        INSERT INTO notes (id, tenant, status, created_at, doc, recipient, via, bytes)
        VALUES (NEW.id, NEW.tenant, NEW.status, NEW.created_at, NEW.doc, NEW.recipient, NEW.via, NEW.bytes);
        INSERT INTO contents (tenant, name, bytes) SELECT NEW.tenant, NEW.source_name, NEW.source
        WHERE NEW.source IS NOT NULL ON CONFLICT (tenant, name) DO NOTHING;
        INSERT INTO note_audio (note_id, variant, content) SELECT NEW.id, 0, c.id FROM contents c
        WHERE c.tenant = NEW.tenant AND c.name = NEW.source_name;
        UPDATE deliveries SET head = 0
        WHERE lane = NEW.lane AND head = 1 AND state = 'queued' AND order_at > NEW.due_at;
        INSERT INTO deliveries
            (note_id, tenant, connection, lane, state, queued_at, due_at, order_at, expires_at, far, head)
        VALUES (NEW.id, NEW.tenant, NEW.connection, NEW.lane, 'queued', NEW.created_at, NEW.due_at, NEW.due_at,
            NEW.expires_at, NEW.far, NOT EXISTS (SELECT 1 FROM deliveries WHERE lane = NEW.lane AND head = 1));
    END";

const INSERT: &str =
    "INSERT INTO accepted VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
    $18)";

/// Numbers of waiting notes. Within a batch they are only incremented, so they can only be too high.
#[derive(Default)]
pub struct Depths {
    total: Option<i64>,
    of_tenants: HashMap<String, Depth>,
}

/// Number of waiting notes of a tenant, and number of those due in more than a day.
#[derive(Clone, Copy)]
struct Depth {
    near: i64,
    far: i64,
}

impl Depths {
    async fn have_room(&mut self, tx: &mut Tx<'_>, new: &NewNote) -> Result<bool, StoreError> {
        let tenant = &new.note.tenant;
        if let (Some(total), Some(depth)) = (self.total, self.of_tenants.get(tenant))
            && fits(new, total, *depth)
        {
            return Ok(true);
        }
        let (total, near, far): (i64, i64, i64) = sqlx::query_as(
            "SELECT COALESCE(SUM(depth), 0), COALESCE(SUM(depth) FILTER (WHERE tenant = $1), 0),
                COALESCE(SUM(far) FILTER (WHERE tenant = $1), 0) FROM queue_depths",
        )
        .bind(tenant)
        .fetch_one(&mut **tx)
        .await?;
        let depth = Depth { near, far };
        self.total = Some(total);
        self.of_tenants.insert(tenant.clone(), depth);
        Ok(fits(new, total, depth))
    }

    fn add(&mut self, new: &NewNote) {
        let depth = self.of_tenants.get_mut(&new.note.tenant);
        if new.is_far() {
            if let Some(depth) = depth {
                depth.far += 1;
            }
            return;
        }
        if let Some(total) = &mut self.total {
            *total += 1;
        }
        if let Some(depth) = depth {
            depth.near += 1;
        }
    }
}

/// Whether the queue has room for a note. A tenant below its share of the queue is let in regardless of the others.
/// Notes due later have the tenant's limit once more, and no other.
fn fits(new: &NewNote, total: i64, Depth { near, far }: Depth) -> bool {
    let (total, near, far) = (total.unsigned_abs(), near.unsigned_abs(), far.unsigned_abs());
    if new.is_far() {
        return far < new.max_queue_per_tenant;
    }
    near < new.max_queue_per_tenant && (near < new.share || total < new.max_queue)
}

/// See [`crate::store::Store::accept`]. Only the database can fail here, so an error applies to the whole transaction.
pub async fn accept(
    tx: &mut Tx<'_>,
    new: &NewNote,
    doc: &Document,
    depths: &mut Depths,
) -> Result<Acceptance, StoreError> {
    let note = &new.note;
    if let Some(claim) = &new.idempotency
        && let Some(holder) = key_holder(&mut **tx, &note.tenant, &claim.key, note.created_at).await?
    {
        return Ok(Acceptance::KeyTaken(holder));
    }
    if !depths.have_room(tx, new).await? {
        return Ok(Acceptance::QueueFull);
    }
    let key = new.idempotency.as_ref();
    sqlx::query(INSERT)
        .bind(note.id.to_string())
        .bind(&note.tenant)
        .bind(note.status.as_str())
        .bind(note.created_at.as_millisecond())
        .bind(doc.as_str())
        .bind(&note.to)
        .bind(&note.current().connection)
        .bind(new.source.as_ref().map(|content| &content.sha256))
        .bind(new.source.as_ref().map(|content| &content.bytes[..]))
        .bind(queue_key(note))
        .bind(note.lane())
        .bind(note.due_at().as_millisecond())
        .bind(note.expires_at.as_millisecond())
        .bind(key.map(|claim| &claim.key))
        .bind(key.map(|claim| &claim.fingerprint))
        .bind(key.map(|claim| claim.expires_at.as_millisecond()))
        .bind(i64::try_from(note.kept_bytes()).unwrap_or(i64::MAX))
        .bind(new.is_far())
        .execute(&mut **tx)
        .await?;
    depths.add(new);
    if let Some(held) = new.releases {
        release(tx, held).await?;
    }
    Ok(Acceptance::Created)
}

/// Releases the lane of a note whose outcome is unknown, before its time.
async fn release(tx: &mut Tx<'_>, note: NoteId) -> Result<(), StoreError> {
    let lane: Option<String> = sqlx::query_scalar(
        "DELETE FROM deliveries WHERE note_id = $1 AND kind = 'send' AND state = 'held' RETURNING lane",
    )
    .bind(note.to_string())
    .fetch_optional(&mut **tx)
    .await?;
    match lane {
        Some(lane) => elect(tx, &lane).await,
        None => Ok(()),
    }
}

pub async fn key_holder(
    db: impl Executor<'_, Database = Db>,
    tenant: &str,
    key: &str,
    now: Timestamp,
) -> Result<Option<KeyHolder>, StoreError> {
    let found: Option<(String, String)> = sqlx::query_as(
        "SELECT fingerprint, note_id FROM idempotency WHERE tenant = $1 AND key = $2 AND expires_at > $3",
    )
    .bind(tenant)
    .bind(key)
    .bind(now.as_millisecond())
    .fetch_optional(db)
    .await?;
    found.map(|(fingerprint, note)| KeyHolder::of_row(fingerprint, &note)).transpose()
}
