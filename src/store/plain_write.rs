//! The changes that nearly every try makes, in a form that each database writes with one statement.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    model::{
        event::{EventKind, WEBHOOK_WINDOW},
        id::EventId,
        note::Note,
        received::Received,
    },
    store::{
        Change, Claim, EVENTS, Health, INBOUND, Learned, SmallAudio, Step, StoreError, TRANSCRIPTION, WATCH,
        connection_key, document::Document,
    },
};

/// Deadlines and look-ups end by themselves; this expiry only removes forgotten ones.
pub const WATCHING: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// A connection that works is recorded at most this often, since its row is shared by all its deliveries.
pub const SEEN_EVERY: Duration = Duration::from_secs(1);

/// A change of the note, its delivery, its event and its deadline, and of nothing else.
#[derive(Debug)]
pub struct PlainWrite<'a> {
    pub claim: &'a Claim,
    pub note: &'a Note,
    pub doc: Document,
    /// The state in which the delivery has to be, besides `leased`.
    pub from: &'static str,
    /// The new state of the delivery; `None` if it is done.
    pub to: Option<&'static str>,
    /// The event that is recorded if the status changes.
    pub event: Option<(EventId, EventKind)>,
    /// Whether the event is also sent to the tenant's webhook.
    pub notify: bool,
    /// `TENANT/CONNECTION`, over which the note goes.
    pub connection: String,
    /// Names by which the provider knows the note's message.
    pub names: Vec<&'a str>,
    pub deadline: Option<i64>,
    /// `TENANT/CONNECTION` of a connection that works.
    pub works: Option<&'a str>,
    /// Audio to store.
    pub sent: Option<&'a SmallAudio>,
}

impl<'a> PlainWrite<'a> {
    /// Returns `None` if the change consists of more than this.
    ///
    /// # Errors
    /// [`StoreError::Unfit`] if the note cannot be stored.
    pub fn of(claim: &'a Claim, change: &'a Change) -> Result<Option<Self>, StoreError> {
        let Change { note, notify, deadline, look_up, health, learned, media, closed, pause, step } = change;
        let (from, to) = match step {
            Step::Progress => ("leased", Some("leased")),
            Step::Dispatching => ("leased", Some("sending")),
            Step::Again => ("sending", Some("leased")),
            Step::Done => ("", None),
            Step::Retry { .. } | Step::Hold { .. } => return Ok(None),
        };
        let works = match health {
            None => None,
            Some((connection, Health::Works)) => Some(connection.as_str()),
            Some((_, Health::Fails(_))) => return Ok(None),
        };
        let more = look_up.is_some() || media.is_some() || closed.is_some() || pause.is_some();
        if more || *learned != Learned::Keep || claim.audio.source.is_some() || claim.audio.spoken.is_some() {
            return Ok(None);
        }
        Ok(Some(Self {
            claim,
            note,
            doc: Document::of(note)?,
            from,
            to,
            event: EventKind::of(note.status).map(|kind| (EventId::new(), kind)),
            notify: *notify,
            connection: connection_key(&note.tenant, &note.current().connection),
            names: names(note, *step),
            deadline: deadline.map(|at| at.as_millisecond()),
            works,
            sent: claim.audio.sent.as_ref(),
        }))
    }

    /// Whether the delivery is done.
    pub fn is_done(&self) -> bool {
        self.to.is_none()
    }

    /// The time of the change, in milliseconds.
    pub fn at(&self) -> i64 {
        self.note.updated_at.as_millisecond()
    }

    /// The lane of the note's events.
    pub fn event_lane(&self) -> String {
        event_lane(&self.note.tenant, &self.note.id.to_string())
    }

    /// The lane of the note's deadline.
    pub fn deadline_lane(&self) -> String {
        watch_lane(self.note, "overdue")
    }

    pub fn events_key(&self) -> String {
        connection_key(&self.note.tenant, EVENTS)
    }

    pub fn watch_key(&self) -> String {
        connection_key(&self.note.tenant, WATCH)
    }

    /// The time until which the webhook is tried, in milliseconds.
    pub fn event_expires_at(&self) -> i64 {
        (self.note.updated_at + WEBHOOK_WINDOW).as_millisecond()
    }

    /// The time at which a forgotten deadline is removed, in milliseconds.
    pub fn deadline_expires_at(&self) -> Option<i64> {
        self.deadline.map(|at| at + WATCHING.as_millis() as i64)
    }
}

/// The names under which a change records the note's message, each once.
pub fn names(note: &Note, step: Step) -> Vec<&str> {
    let names: BTreeSet<&str> = match step {
        Step::Progress | Step::Again => BTreeSet::new(),
        Step::Dispatching => note.correlation_ids.iter().map(String::as_str).collect(),
        Step::Done | Step::Retry { .. } | Step::Hold { .. } if note.status.is_accepted() => {
            note.provider_message_id.iter().chain(&note.correlation_ids).map(String::as_str).collect()
        }
        Step::Done | Step::Retry { .. } | Step::Hold { .. } => BTreeSet::new(),
    };
    names.into_iter().collect()
}

/// The lane in which the webhook deliveries of a note, or of a received note, follow each other.
pub fn event_lane(tenant: &str, id: &str) -> String {
    format!("{tenant}\u{1f}{EVENTS}\u{1f}{id}")
}

/// The lane of the job of a received note.
pub fn inbound_lane(received: &Received) -> String {
    format!("{}\u{1f}{INBOUND}\u{1f}{}", received.tenant, received.id)
}

/// The lane of the transcription of a received note.
pub fn transcription_lane(received: &Received) -> String {
    format!("{}\u{1f}{TRANSCRIPTION}\u{1f}{}", received.tenant, received.id)
}

/// The lane of a deadline or look-up.
pub fn watch_lane(note: &Note, kind: &str) -> String {
    format!("{}\u{1f}{WATCH}\u{1f}{}\u{1f}{kind}", note.tenant, note.id)
}
