//! Events and the jobs that come with them. Compiled once for each database.

use jiff::Timestamp;
use sqlx::{FromRow, QueryBuilder, Row as _};

use super::{
    dialect::{PLACE, Pool, Tx, ahead, elect, settled},
    write::secret,
};
use crate::{
    model::{
        event::{Event, EventKind, Subject, WEBHOOK_WINDOW},
        id::{EventId, SubjectId},
        note::Note,
        received::Received,
    },
    store::{
        EVENTS, EventQuery, StoreError, TRANSCRIPTION, TRANSCRIPTION_PATIENCE, WATCH, connection_key,
        document::{self, Document},
        plain_write::{WATCHING, event_lane, transcription_lane, watch_lane},
        position::Positions,
    },
};

/// Records an event of the note, or received note, with this document. With `notify`, queues the webhook delivery behind
/// earlier ones of the same note.
pub async fn add(
    tx: &mut Tx<'_>,
    (tenant, subject): (&str, &str),
    doc: &Document,
    kind: EventKind,
    at: Timestamp,
    notify: bool,
) -> Result<(), StoreError> {
    let event: i64 = sqlx::query_scalar(
        "INSERT INTO events (id, tenant, note_id, kind, at, doc) VALUES ($1, $2, $3, $4, $5, $6) RETURNING seq",
    )
    .bind(EventId::new().to_string())
    .bind(tenant)
    .bind(subject)
    .bind(kind.as_str())
    .bind(at.as_millisecond())
    .bind(doc.as_str())
    .fetch_one(&mut **tx)
    .await?;
    if notify {
        let job = ("tell", EVENTS, event_lane(tenant, subject));
        queue(tx, (tenant, subject), job, Some(event), (at, at), at + WEBHOOK_WINDOW).await?;
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
    let lane = watch_lane(note, kind);
    // A provider that does not answer delays only its own look-ups.
    let connection = match kind {
        "look_up" => format!("{WATCH}.{}", note.current().connection),
        _ => WATCH.to_owned(),
    };
    let subject = (note.tenant.as_str(), note.id.to_string());
    queue(tx, (subject.0, &subject.1), (kind, &connection, lane), None, (now, due), due + WATCHING).await
}

/// Queues the transcription of a received note, behind those of the same server.
pub async fn transcription(
    tx: &mut Tx<'_>,
    received: &Received,
    with: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let id = received.id.to_string();
    let connection = format!("{TRANSCRIPTION}{with}");
    let job = ("transcribe", connection.as_str(), transcription_lane(received));
    queue(tx, (&received.tenant, &id), job, None, (now, now), now + TRANSCRIPTION_PATIENCE).await
}

async fn queue(
    tx: &mut Tx<'_>,
    (tenant, subject): (&str, &str),
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
    .bind(subject)
    .bind(event)
    .bind(tenant)
    .bind(connection_key(tenant, connection))
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
    note_id: String,
    kind: String,
    at: i64,
    doc: String,
}

impl Row {
    fn into_event(self, tenant: &str, positions: &Positions) -> Result<Event, StoreError> {
        let malformed = || document::corrupt("event", &"its columns are malformed");
        let subject = match self.note_id.parse().map_err(|()| malformed())? {
            SubjectId::Note(_) => Subject::Note(document::read("event", &self.doc)?),
            SubjectId::Received(_) => Subject::Received(document::read("event", &self.doc)?),
        };
        Ok(Event {
            id: self.id.parse::<EventId>().map_err(|()| malformed())?,
            position: positions.seal(tenant, self.place),
            kind: EventKind::parse(&self.kind).ok_or_else(malformed)?,
            at: Timestamp::from_millisecond(self.at).map_err(|_| malformed())?,
            subject,
        })
    }
}

/// Reads the key of positions, which is created if it does not exist.
pub async fn positions(tx: &mut Tx<'_>) -> Result<Positions, StoreError> {
    let key = secret(tx, "positions", rand::random()).await?;
    let until = sqlx::query_scalar("SELECT MAX(until) FROM plain_positions").fetch_one(&mut **tx).await?;
    Ok(Positions::new(key, until))
}

/// Reads one event of a tenant.
pub async fn one(
    tx: &mut Tx<'_>,
    seq: i64,
    tenant: &str,
    positions: &Positions,
) -> Result<Event, StoreError> {
    let mut query = QueryBuilder::new(format!(
        "SELECT {PLACE} AS place, id, note_id, kind, at, doc FROM events WHERE seq = "
    ));
    let row: Row = query.push_bind(seq).build_query_as().fetch_one(&mut **tx).await?;
    row.into_event(tenant, positions)
}

/// See [`crate::store::Store::events`].
pub async fn list(
    pool: &Pool,
    wanted: &EventQuery<'_>,
    positions: &Positions,
) -> Result<Vec<Event>, StoreError> {
    let mut after: i64 = match wanted.after {
        Some(position) => positions.open(wanted.tenant, position)?,
        None => 0,
    };
    let until = settled(pool, wanted.tenant).await?;
    loop {
        let mut query = QueryBuilder::new(format!(
            "SELECT {PLACE} AS place, id, note_id, kind, at, doc FROM events WHERE {PLACE} > "
        ));
        query.push_bind(after).push(format!(" AND {PLACE} <= ")).push_bind(until);
        query.push(" AND tenant = ").push_bind(wanted.tenant);
        if let Some(note) = wanted.note {
            // A paused webhook says nothing about the note.
            query.push(" AND kind <> 'webhook.paused' AND note_id = ").push_bind(note.to_string());
        }
        query.push(format!(" ORDER BY {PLACE} LIMIT ")).push_bind(i64::from(wanted.limit));
        let rows = query.build().fetch_all(pool).await?;
        let Some(last) = rows.last() else { return Ok(Vec::new()) };
        after = last.try_get("place")?;
        let read = rows.iter().map(|row| Row::from_row(row)?.into_event(wanted.tenant, positions));
        let events: Vec<Event> = read.filter_map(readable).collect();
        // A reader continues after the last event of a page, so a page without any readable event is skipped.
        if !events.is_empty() {
            return Ok(events);
        }
    }
}

fn readable(event: Result<Event, StoreError>) -> Option<Event> {
    event.inspect_err(|error| tracing::error!(%error, "an event is passed over")).ok()
}

/// See [`crate::store::Store::last_event`].
pub async fn last(pool: &Pool, tenant: &str, positions: &Positions) -> Result<String, StoreError> {
    Ok(positions.seal(tenant, settled(pool, tenant).await?))
}

/// Removes the events of an erased note or received note, together with their pending webhook deliveries.
pub async fn erase(tx: &mut Tx<'_>, subject: &str) -> Result<(), StoreError> {
    for sql in ["DELETE FROM deliveries WHERE note_id = $1", "DELETE FROM events WHERE note_id = $1"] {
        sqlx::query(sql).bind(subject).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Removes events and callbacks from before `horizon`, except events whose webhook delivery is pending.
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
