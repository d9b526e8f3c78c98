//! Events as they happen: server-sent events, which a client takes up again where it left.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::HeaderMap,
    response::{
        IntoResponse, Response, Sse,
        sse::{self, KeepAlive},
    },
};
use futures_util::{Stream, stream};
use tokio::sync::broadcast;

use super::{auth::Caller, notes::find};
use crate::{
    event::Event,
    gateway::Gateway,
    id::NoteId,
    problem::Problem,
    store::{StoreError, WantedEvents},
    view::EventBody,
};

/// Events read at once.
const PAGE: u32 = 100;

/// Another process may have written; and many changes at once are read together.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const GATHER: Duration = Duration::from_millis(50);

/// So that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Follow all notes
///
/// Every event of the tenant from now on, or from behind `Last-Event-ID`, as server-sent events. `data` is what a webhook
/// gets, `event` its type. The stream does not end by itself. Events can be read again for 48 hours.
#[utoipa::path(
    get, path = "/events", tag = "Events", operation_id = "streamEvents",
    params(("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that arrived.")),
    responses((status = 200, description = "The events, one after the other.", content_type = "text/event-stream", body = String)),
)]
pub async fn all(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = match last_event(&headers)? {
        Some(position) => position,
        None => gateway.store.last_event(&tenant.name).await?,
    };
    follow(gateway, tenant.name.clone(), None, after).await
}

/// Follow one note
///
/// Its events from the first, or from behind `Last-Event-ID`, as server-sent events.
#[utoipa::path(
    get, path = "/voice/{id}/events", tag = "Events", operation_id = "streamVoiceEvents",
    params(
        ("id" = NoteId, Path, description = "The note."),
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that arrived."),
    ),
    responses((status = 200, description = "The events, one after the other.", content_type = "text/event-stream", body = String)),
)]
pub async fn of_note(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let note = find(&gateway, &tenant, id).await?;
    let after = last_event(&headers)?.unwrap_or_default();
    follow(gateway, tenant.name.clone(), Some(note.id), after).await
}

fn last_event(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let text = value.to_str().map_err(|_| no_such_position())?.trim();
    // A client that has had no event yet may send an empty one.
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn no_such_position() -> Problem {
    Problem::invalid("Last-Event-ID", "expected the id of an event of this stream, or no such header")
}

async fn follow(
    gateway: Arc<Gateway>,
    tenant: String,
    note: Option<NoteId>,
    after: String,
) -> Result<Response, Problem> {
    let mut reader =
        Reader { changes: gateway.changes(), gateway, tenant, note, after, read: VecDeque::new() };
    // A wrong position is the client's mistake, and said before anything is streamed.
    reader.fill().await.map_err(|error| match error {
        StoreError::Position => no_such_position(),
        other => other.into(),
    })?;
    let events = Sse::new(reader.stream()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(events.into_response())
}

/// Reads events from the store, and waits where there are none.
struct Reader {
    gateway: Arc<Gateway>,
    changes: broadcast::Receiver<NoteId>,
    tenant: String,
    note: Option<NoteId>,
    after: String,
    read: VecDeque<Event>,
}

impl Reader {
    async fn fill(&mut self) -> Result<(), StoreError> {
        let wanted = WantedEvents {
            tenant: &self.tenant,
            note: self.note,
            after: Some(self.after.as_str()).filter(|after| !after.is_empty()),
            limit: PAGE,
        };
        self.read.extend(self.gateway.store.events(&wanted).await?);
        Ok(())
    }

    /// The next event; `None` when the gateway stops or its database fails: the client comes back.
    async fn next(&mut self) -> Option<Event> {
        let stop = self.gateway.stop.clone();
        loop {
            if let Some(event) = self.read.pop_front() {
                self.after.clone_from(&event.position);
                return Some(event);
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = self.news() => {}
            }
            if let Err(error) = self.fill().await {
                tracing::error!(%error, "events cannot be read");
                return None;
            }
        }
    }

    /// Waits until there may be more.
    async fn news(&mut self) {
        let wanted = self.note;
        let changes = &mut self.changes;
        let changed = async {
            loop {
                match changes.recv().await {
                    Ok(note) if wanted.is_some_and(|wanted| wanted != note) => {}
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        if tokio::time::timeout(LOOK_AGAIN, changed).await.is_ok() {
            tokio::time::sleep(GATHER).await;
            while self.changes.try_recv().is_ok() {}
        }
    }

    fn stream(self) -> impl Stream<Item = Result<sse::Event, Infallible>> {
        stream::unfold(self, |mut reader| async move {
            let event = reader.next().await?;
            let body = serde_json::to_string(&EventBody::from(&event)).unwrap_or_default();
            let sent = sse::Event::default().id(&event.position).event(event.kind.as_str()).data(body);
            Some((Ok(sent), reader))
        })
    }
}
