//! Server-sent events: a stream that a client can resume where it stopped.
//!
//! A stream holds no more than the event that is being written. All streams of a tenant's notes share a [`feed`]; older
//! events are read from the database one by one, as fast as the client takes them.

mod feed;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::watch;

use self::feed::{At, Feed, charged};
use super::{auth::Caller, notes::find};
use crate::{
    gateway::{Gateway, changes::Watch},
    model::{event::Event, id::NoteId, problem::Problem},
    store::{EventQuery, StoreError},
    view::EventBody,
};

pub use feed::Feeds;

/// How often the stream of one note reads the database if other processes write too, since a notification may get lost.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// The pause before memory is requested again after there was none.
const PAUSE: Duration = Duration::from_secs(1);

/// The interval of comments, which make proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Follow all notes
///
/// All events of the tenant from now on, or after `Last-Event-ID`, as server-sent events. `data` is the same as in a
/// webhook, `event` its type. The stream does not end on its own. Events can be read again for 48 hours.
#[utoipa::path(
    get, path = "/events", tag = "Events", operation_id = "streamEvents",
    params(("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that you received.")),
    responses((status = 200, description = "The events, one after the other.", content_type = "text/event-stream", body = String)),
)]
pub async fn all(
    State(gateway): State<Arc<Gateway>>,
    Extension(feeds): Extension<Arc<Feeds>>,
    Caller(tenant): Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let feed = feeds.of(&gateway, &tenant.name).await?;
    let news = News::Feed { wakes: feed.wakes(), feed, place: None };
    let after = match last_event(&headers)? {
        Some(position) => position,
        None => gateway.store.last_event(&tenant.name).await?,
    };
    let tenant = tenant.name.clone();
    // A client that loses its connection before the first event goes on from here.
    let begin = Some(Bytes::from(format!("id: {after}\n\n"))).filter(|_| !after.is_empty());
    follow(Reader { gateway, feeds, tenant, note: None, after, news, begin, first: None }).await
}

/// Follow one note
///
/// The events of the note from the first, or after `Last-Event-ID`, as server-sent events.
#[utoipa::path(
    get, path = "/voice/{id}/events", tag = "Events", operation_id = "streamVoiceEvents",
    params(
        ("id" = NoteId, Path, description = "The note."),
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that you received."),
    ),
    responses((status = 200, description = "The events, one after the other.", content_type = "text/event-stream", body = String)),
)]
pub async fn of_note(
    State(gateway): State<Arc<Gateway>>,
    Extension(feeds): Extension<Arc<Feeds>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let note = find(&gateway, &tenant, id).await?.id;
    let after = last_event(&headers)?.unwrap_or_default();
    let news = News::Note(gateway.changes.of_note(note));
    let tenant = tenant.name.clone();
    follow(Reader { gateway, feeds, tenant, note: Some(note), after, news, begin: None, first: None }).await
}

fn last_event(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let text = value.to_str().map_err(|_| no_such_position())?.trim();
    // A client that has not received an event yet may send an empty id.
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn no_such_position() -> Problem {
    Problem::invalid("Last-Event-ID", "expected the id of an event of this stream, or no such header")
}

/// Answers with the events from `reader`.
async fn follow(mut reader: Reader) -> Result<Response, Problem> {
    // A wrong position is a mistake of the client, and is reported before anything is streamed.
    let first = reader.stored().await.map_err(|error| match error {
        StoreError::Position => no_such_position(),
        other => other.into(),
    })?;
    reader.first = first;
    let mut response = Response::new(Body::from_stream(reader.stream()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// Formats an event for the stream. Its JSON contains no line breaks.
fn text(event: &Event) -> String {
    let body = serde_json::to_string(&EventBody::from(event)).unwrap_or_default();
    format!("id: {}\nevent: {}\ndata: {body}\n\n", event.position, event.kind.as_str())
}

/// How a stream learns that there are more events.
enum News {
    /// For all notes. `place` is its place in the feed, once it has caught up.
    Feed {
        feed: Arc<Feed>,
        wakes: watch::Receiver<()>,
        place: Option<u64>,
    },
    Note(Watch<NoteId>),
}

/// Reads one event at a time, just before it is written.
struct Reader {
    gateway: Arc<Gateway>,
    feeds: Arc<Feeds>,
    tenant: String,
    note: Option<NoteId>,
    /// The position of the last event that was returned.
    after: String,
    news: News,
    /// The position at which the stream begins, as an event without data, which clients only remember.
    begin: Option<Bytes>,
    /// An event that was read before the answer began.
    first: Option<Event>,
}

impl Reader {
    /// Reads the next event from the database.
    async fn stored(&self) -> Result<Option<Event>, StoreError> {
        let wanted = EventQuery {
            tenant: &self.tenant,
            note: self.note,
            after: Some(self.after.as_str()).filter(|after| !after.is_empty()),
            limit: 1,
        };
        Ok(self.gateway.store.events(&wanted).await?.pop())
    }

    /// Returns the next event, or a comment if there was none for a while. Returns `None` when the gateway stops or its
    /// database fails; the client then reconnects.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(begin) = self.begin.take() {
            return Some(begin);
        }
        let stop = self.gateway.stop.clone();
        match stop.run_until_cancelled(tokio::time::timeout(KEEP_ALIVE, self.event())).await? {
            Ok(event) => event,
            Err(_) => Some(Bytes::from_static(b":\n\n")),
        }
    }

    /// Nothing is lost if this future is dropped: a position advances in the same step in which its event is returned.
    async fn event(&mut self) -> Option<Bytes> {
        if let Some(event) = self.first.take() {
            return self.written(event).await;
        }
        loop {
            match self.shared() {
                At::Event(position, text) => {
                    self.after = position;
                    return Some(text);
                }
                At::Head => {}
                At::Past => match self.stored().await {
                    Ok(Some(event)) => return self.written(event).await,
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(%error, "events cannot be read");
                        return None;
                    }
                },
            }
            self.woken().await;
        }
    }

    /// Reads from the feed. A stream that is behind it, or has none, reads from the database.
    fn shared(&mut self) -> At {
        let News::Feed { feed, wakes, place } = &mut self.news else { return At::Past };
        // Events from here on wake the stream again.
        wakes.mark_unchanged();
        let Some(here) = place.or_else(|| feed.place_behind(&self.after)) else { return At::Past };
        let at = feed.at(here);
        *place = match &at {
            At::Event(..) => Some(here + 1),
            At::Head => Some(here),
            At::Past => None,
        };
        at
    }

    /// Copies an event into reserved memory; waits if there is none.
    async fn written(&mut self, event: Event) -> Option<Bytes> {
        let mut held = self.feeds.holding(&self.tenant);
        let text = text(&event);
        while held.reach(text.len()).is_err() {
            tokio::time::sleep(PAUSE).await;
        }
        self.after = event.position;
        Some(charged(text, held))
    }

    async fn woken(&mut self) {
        match &mut self.news {
            News::Feed { wakes, .. } => {
                if wakes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            News::Note(changes) if self.gateway.store.notices().is_some() => {
                let _ = tokio::time::timeout(LOOK_AGAIN, changes.next()).await;
            }
            News::Note(changes) => {
                changes.next().await;
            }
        }
    }

    fn stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(self, |mut reader| async move { Some((Ok(reader.next().await?), reader)) })
    }
}
