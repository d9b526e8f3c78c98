//! Helpers of the store's tests: new notes, and a clock that is moved by hand.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use voicegate::{
    model::note::{AudioSource, Metadata, Note, NoteId, RouteEntry},
    store::{
        Acceptance, Bounds, Change, Claim, ClaimRequest, Horizon, NewNote, SlotsByClass, Step, Store,
        StoreError, Stored,
    },
};

pub type Any = Arc<dyn Store>;

pub const LEASE: Duration = Duration::from_secs(60);

pub fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

pub fn after(seconds: u64) -> Timestamp {
    start() + Duration::from_secs(seconds)
}

pub fn stop(connection: &str, recipient: &str) -> RouteEntry {
    RouteEntry {
        connection: connection.to_owned(),
        provider: "linq".to_owned(),
        to: recipient.to_owned(),
        recipient_key: recipient.to_owned(),
    }
}

pub fn new_note(tenant: &str, connection: &str, recipient: &str, now: Timestamp) -> NewNote {
    let route = vec![stop(connection, recipient), stop("next", recipient)];
    let expires_at = now + Duration::from_secs(86_400);
    let note = Note {
        text: Some("hello".to_owned()),
        metadata: Metadata::parse(r#"{"a":1}"#).expect("an object"),
        ..Note::new(tenant.to_owned(), recipient.to_owned(), route, AudioSource::Stored, now, expires_at)
    };
    NewNote {
        note,
        source: None,
        idempotency: None,
        releases: None,
        max_queue: 1000,
        max_queue_per_tenant: 1000,
        share: 0,
    }
}

pub async fn accept(store: &Any, connection: &str, recipient: &str) -> NoteId {
    let new = new_note("t", connection, recipient, start());
    assert_eq!(store.accept(&new).await.expect("accepted"), Acceptance::Created);
    new.note.id
}

pub async fn claim_up_to(store: &Any, now: Timestamp, limit: usize, room: usize) -> Vec<Claim> {
    claim_within(store, now, limit, Bounds::of(room, None)).await
}

pub async fn claim_within(store: &Any, now: Timestamp, limit: usize, bounds: Bounds) -> Vec<Claim> {
    let request = ClaimRequest {
        now,
        lease_until: now + LEASE,
        slots: SlotsByClass::each(limit, 0),
        held: &[],
        bounds: &|_| bounds,
    };
    store.claim(&request).await.expect("claimed").notes
}

pub async fn claim(store: &Any, now: Timestamp) -> Vec<Claim> {
    claim_up_to(store, now, 100, 100).await
}

pub fn ids(claims: &[Claim]) -> Vec<NoteId> {
    claims.iter().map(|claim| claim.note.id).collect()
}

pub async fn write(store: &Any, claim: &Claim, step: Step) -> Result<Stored, StoreError> {
    store.write(claim, &Change::new(claim.note.clone(), step)).await
}

/// Returns a horizon that covers everything older than `at`.
pub fn horizon(at: Timestamp) -> Horizon {
    Horizon { notes: at, events: at, now: at }
}

pub fn retry(at: Timestamp) -> Step {
    Step::Retry { at, pause_connection_until: None }
}
