//! Events and the jobs that come with them. Compiled once for each database.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{FromRow, QueryBuilder};

use super::{
    PLACE, Pool, Tx,
    lanes::{ahead, elect, settled},
};
use crate::{
    event::{Event, EventKind, TELLING},
    id::EventId,
    note::{Note, NoteId},
    store::{EVENTS, StoreError, WATCH, WantedEvents, connection_key},
};

/// Deadlines and look-ups end by themselves; this only keeps a forgotten one from staying.
const WATCHING: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// Records an event, and with `notify` queues the telling of it behind the earlier ones of the same note.
pub async fn add(
    tx: &mut Tx<'_>,
    note: &Note,
    kind: EventKind,
    at: Timestamp,
    notify: bool,
) -> Result<(), StoreError> {
    let event: i64 = sqlx::query_scalar(
        "INSERT INTO events (id, tenant, note_id, kind, at, doc) VALUES ($1, $2, $3, $4, $5, $6) RETURNING seq",
    )
    .bind(EventId::new().to_string())
    .bind(&note.tenant)
    .bind(note.id.to_string())
    .bind(kind.as_str())
    .bind(at.as_millisecond())
    .bind(serde_json::to_string(note)?)
    .fetch_one(&mut **tx)
    .await?;
    if notify {
        let lane = format!("{}\u{1f}{EVENTS}\u{1f}{}", note.tenant, note.id);
        queue(tx, note, ("tell", EVENTS, lane), Some(event), (at, at), at + TELLING).await?;
    }
    Ok(())
}

/// Queues a deadline or a look-up for a note.
pub async fn watch(
    tx: &mut Tx<'_>,
    note: &Note,
    kind: &str,
    now: Timestamp,
    due: Timestamp,
) -> Result<(), StoreError> {
    let lane = format!("{}\u{1f}{WATCH}\u{1f}{}\u{1f}{kind}", note.tenant, note.id);
    // A provider that does not answer holds up the questions to itself alone.
    let connection = match kind {
        "look_up" => format!("{WATCH}.{}", note.current().connection),
        _ => WATCH.to_owned(),
    };
    queue(tx, note, (kind, &connection, lane), None, (now, due), due + WATCHING).await
}

async fn queue(
    tx: &mut Tx<'_>,
    note: &Note,
    (kind, connection, lane): (&str, &str, String),
    event: Option<i64>,
    (now, due): (Timestamp, Timestamp),
    expires_at: Timestamp,
) -> Result<(), StoreError> {
    let ahead = ahead(tx, now).await?;
    sqlx::query(
        "INSERT INTO deliveries
            (kind, note_id, event, tenant, connection, lane, state, queued_at, due_at, order_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, 'queued', $7, $8, $8, $9)",
    )
    .bind(kind)
    .bind(note.id.to_string())
    .bind(event)
    .bind(&note.tenant)
    .bind(connection_key(&note.tenant, connection))
    .bind(&lane)
    .bind(now.as_millisecond())
    .bind(due.as_millisecond() + ahead)
    .bind(expires_at.as_millisecond() + ahead)
    .execute(&mut **tx)
    .await?;
    elect(tx, &lane).await
}

#[derive(FromRow)]
struct Row {
    place: i64,
    id: String,
    kind: String,
    at: i64,
    doc: String,
}

impl Row {
    fn into_event(self) -> Result<Event, StoreError> {
        let malformed = || StoreError::Open("a stored event is malformed".to_owned());
        Ok(Event {
            id: self.id.parse::<EventId>().map_err(|()| malformed())?,
            position: self.place.to_string(),
            kind: EventKind::parse(&self.kind).ok_or_else(malformed)?,
            at: Timestamp::from_millisecond(self.at).map_err(|_| malformed())?,
            note: serde_json::from_str(&self.doc)?,
        })
    }
}

/// One event.
pub async fn one(tx: &mut Tx<'_>, seq: i64) -> Result<Event, StoreError> {
    let mut query =
        QueryBuilder::new(format!("SELECT {PLACE} AS place, id, kind, at, doc FROM events WHERE seq = "));
    let row: Row = query.push_bind(seq).build_query_as().fetch_one(&mut **tx).await?;
    row.into_event()
}

/// See [`crate::store::Store::events`].
pub async fn list(pool: &Pool, wanted: &WantedEvents<'_>) -> Result<Vec<Event>, StoreError> {
    let after: i64 = match wanted.after {
        Some(position) => position.parse().map_err(|_| StoreError::Position)?,
        None => 0,
    };
    let until = settled(pool, wanted.tenant).await?;
    let mut query =
        QueryBuilder::new(format!("SELECT {PLACE} AS place, id, kind, at, doc FROM events WHERE {PLACE} > "));
    query.push_bind(after).push(format!(" AND {PLACE} <= ")).push_bind(until);
    query.push(" AND tenant = ").push_bind(wanted.tenant);
    if let Some(note) = wanted.note {
        query.push(" AND note_id = ").push_bind(note.to_string());
    }
    query.push(format!(" ORDER BY {PLACE} LIMIT ")).push_bind(i64::from(wanted.limit));
    let rows: Vec<Row> = query.build_query_as().fetch_all(pool).await?;
    rows.into_iter().map(Row::into_event).collect()
}

/// See [`crate::store::Store::last_event`].
pub async fn last(pool: &Pool, tenant: &str) -> Result<String, StoreError> {
    Ok(settled(pool, tenant).await?.to_string())
}

/// Forgets what events say of an erased note; bots that were not told yet are told no more.
pub async fn erase(tx: &mut Tx<'_>, note: NoteId) -> Result<(), StoreError> {
    for sql in ["DELETE FROM deliveries WHERE note_id = $1", "DELETE FROM events WHERE note_id = $1"] {
        sqlx::query(sql).bind(note.to_string()).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Forgets events and callbacks that came before `horizon`, unless a bot still has to be told.
pub async fn forget(tx: &mut Tx<'_>, horizon: Timestamp) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM events WHERE at <= $1
         AND NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.event = events.seq)",
        "DELETE FROM callbacks WHERE at <= $1",
        "DELETE FROM early_receipts WHERE at <= $1",
    ] {
        sqlx::query(sql).bind(horizon.as_millisecond()).execute(&mut **tx).await?;
    }
    Ok(())
}
