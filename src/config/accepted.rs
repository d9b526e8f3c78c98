//! The keys that the code accepts in each table of the configuration, for the printed documentation.

use serde_json::Value;

use super::{
    Audio, Delivery, Dialects, Fetch, Server, Storage, Telemetry,
    build::{Common, RawTenant},
    speech::{RawSpeech, RawTranscription},
    words::refusal,
};

pub use super::{DEFAULTS, build::COMMON_KEYS, words::names};

/// A kind of table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    Server,
    Storage,
    Audio,
    Fetch,
    Delivery,
    Dialects,
    Telemetry,
    Tenant,
    /// The keys that a connection has whatever its provider.
    Connection,
    Speech,
    Transcription,
}

impl Table {
    /// Why a table of this kind is refused; empty if it is valid. The text names the keys and words that are accepted.
    pub fn refusal(self, value: Value) -> String {
        match self {
            Self::Server => refusal::<Server>(value),
            Self::Storage => refusal::<Storage>(value),
            Self::Audio => refusal::<Audio>(value),
            Self::Fetch => refusal::<Fetch>(value),
            Self::Delivery => refusal::<Delivery>(value),
            Self::Dialects => refusal::<Dialects>(value),
            Self::Telemetry => refusal::<Telemetry>(value),
            Self::Tenant => refusal::<RawTenant>(value),
            Self::Connection => refusal::<Common>(value),
            Self::Speech => refusal::<RawSpeech>(value),
            Self::Transcription => refusal::<RawTranscription>(value),
        }
    }
}
