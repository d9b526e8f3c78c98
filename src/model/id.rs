//! Ids: a prefix for the kind of object, and a UUIDv7, which sorts by its creation time.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};
use uuid::Uuid;

macro_rules! id {
    ($(#[doc = $text:literal])+ $name:ident, $prefix:literal) => {
        $(#[doc = $text])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Uuid);

        impl $name {
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The creation time, by the clock of the machine that created it.
            pub fn made_at(self) -> Option<Timestamp> {
                made_at(self.0)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                let uuid = text.strip_prefix($prefix).ok_or(())?;
                let id = Self(Uuid::try_parse(uuid).map_err(|_| ())?);
                // Only one spelling is accepted, so that ids can be compared as text.
                if id.to_string() == text { Ok(id) } else { Err(()) }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let doc = [$($text),+].map(str::trim).join(" ");
                id_schema($prefix, &doc)
            }
        }

        impl ToSchema for $name {}

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse()
                    .map_err(|()| serde::de::Error::custom(concat!("expected an id that begins with ", $prefix)))
            }
        }
    };
}

id! {
    /// A voice note. Also the idempotency key wherever a provider takes one.
    NoteId, "vn_"
}

id! {
    /// A voice note that a person sent.
    ReceivedId, "in_"
}

id! {
    /// Audio that was uploaded ahead of its notes.
    UploadId, "med_"
}

id! {
    /// One event; the same however often it is delivered.
    EventId, "ev_"
}

id! {
    /// Work that a tenant ordered and that takes longer than a request.
    TaskId, "task_"
}

/// The id of the subject of an event or a job: a note or a received note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SubjectId {
    Note(NoteId),
    Received(ReceivedId),
}

impl SubjectId {
    pub fn note(self) -> Option<NoteId> {
        match self {
            Self::Note(id) => Some(id),
            Self::Received(_) => None,
        }
    }

    pub fn received(self) -> Option<ReceivedId> {
        match self {
            Self::Note(_) => None,
            Self::Received(id) => Some(id),
        }
    }
}

impl fmt::Display for SubjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Note(id) => id.fmt(f),
            Self::Received(id) => id.fmt(f),
        }
    }
}

impl FromStr for SubjectId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.parse().map(Self::Note).or_else(|()| text.parse().map(Self::Received))
    }
}

fn id_schema(prefix: &str, doc: &str) -> RefOr<Schema> {
    let example = format!("{prefix}01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41");
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(format!("^{prefix}[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$")))
        .description(Some(doc))
        .examples([example])
        .into()
}

fn made_at(id: Uuid) -> Option<Timestamp> {
    let (seconds, nanoseconds) = id.get_timestamp()?.to_unix();
    Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanoseconds).ok()?).ok()
}
