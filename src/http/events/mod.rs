//! Events as they happen: server-sent events, which a client takes up again where it left.
//!
//! A stream holds no more than the event that is being written. Who follows all notes of a tenant shares a [`feed`] with
//! the others; what is older is read from the database one by one, as fast as the client takes it.

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
    store::{StoreError, WantedEvents},
    view::EventBody,
};

pub use feed::Feeds;

/// How often the stream of one note looks by itself where other processes write as well: a notice may get lost.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Until memory is asked for again where there was none.
const PAUSE: Duration = Duration::from_secs(1);

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
    follow(Reader { gateway, feeds, tenant, note: None, after, news, first: None }).await
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
    Extension(feeds): Extension<Arc<Feeds>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let note = find(&gateway, &tenant, id).await?.id;
    let after = last_event(&headers)?.unwrap_or_default();
    let news = News::Note(gateway.changes.of_note(note));
    let tenant = tenant.name.clone();
    follow(Reader { gateway, feeds, tenant, note: Some(note), after, news, first: None }).await
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

/// Answers with the events that `reader` reads.
async fn follow(mut reader: Reader) -> Result<Response, Problem> {
    // A wrong position is the client's mistake, and said before anything is streamed.
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

/// An event as it is streamed. Its JSON has no line breaks.
fn text(event: &Event) -> String {
    let body = serde_json::to_string(&EventBody::from(event)).unwrap_or_default();
    format!("id: {}\nevent: {}\ndata: {body}\n\n", event.position, event.kind.as_str())
}

/// Where a stream learns that there is more.
enum News {
    /// Of all notes. `place` is where the stream is in the feed, once it has caught up.
    Feed {
        feed: Arc<Feed>,
        wakes: watch::Receiver<()>,
        place: Option<u64>,
    },
    Note(Watch<NoteId>),
}

/// Reads one event at a time, when it is about to be written.
struct Reader {
    gateway: Arc<Gateway>,
    feeds: Arc<Feeds>,
    tenant: String,
    note: Option<NoteId>,
    /// The position of the last event that was given out.
    after: String,
    news: News,
    /// Read before the answer began.
    first: Option<Event>,
}

impl Reader {
    /// The event behind the last one, from the database.
    async fn stored(&self) -> Result<Option<Event>, StoreError> {
        let wanted = WantedEvents {
            tenant: &self.tenant,
            note: self.note,
            after: Some(self.after.as_str()).filter(|after| !after.is_empty()),
            limit: 1,
        };
        Ok(self.gateway.store.events(&wanted).await?.pop())
    }

    /// The next event, or a comment where there was none for long; `None` when the gateway stops or its database fails:
    /// the client comes back.
    async fn next(&mut self) -> Option<Bytes> {
        let stop = self.gateway.stop.clone();
        match stop.run_until_cancelled(tokio::time::timeout(KEEP_ALIVE, self.event())).await? {
            Ok(event) => event,
            Err(_) => Some(Bytes::from_static(b":\n\n")),
        }
    }

    /// Nothing is lost where this is dropped before it ends: a position moves in the same step in which its event is given
    /// out.
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

    /// What the feed has. A stream that is behind it, or has none, looks into the database.
    fn shared(&mut self) -> At {
        let News::Feed { feed, wakes, place } = &mut self.news else { return At::Past };
        // What comes from here on wakes again.
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

    /// An event in its charged text; waits where there is no memory for it.
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
            News::Note(changes) => changes.next().await,
        }
    }

    fn stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(self, |mut reader| async move { Some((Ok(reader.next().await?), reader)) })
    }
}
