//! Servers that speak a text ([`Speech`]) and servers that write down what was spoken ([`Transcription`]).
//!
//! Each kind of server is one file and one line in [`SPEECH`] or [`TRANSCRIPTION`]. An adapter builds requests and names
//! its formats. Everything else is shared: reading answers (`answer`), the meaning of a status, masked words, and the
//! proof that audio is complete ([`whole`]).

mod answer;
mod ask;
mod elevenlabs;
mod openai;
mod server;
mod transcription;
pub mod whole;

use std::{fmt::Debug, sync::Arc};

use reqwest::Request;
use serde_json::Value;

use crate::ConfigError;

pub use answer::{SpeechError, SpeechErrorKind};
pub use ask::{Limits, Spoken, check, speak, transcribe};
pub use server::{Server, ServerSettings};
pub use transcription::Transcript;

/// A text to be spoken, and the wishes of its note.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utterance<'a> {
    pub text: &'a str,
    /// Overrides the voice of the configuration.
    pub voice: Option<&'a str>,
    /// How the text is to be spoken, in words.
    pub instructions: Option<&'a str>,
    /// 1 is the usual speed of the voice.
    pub speed: Option<f64>,
}

impl Utterance<'_> {
    /// The speed, unless it is the usual one.
    pub(crate) fn unusual_speed(&self) -> Option<f64> {
        self.speed.filter(|speed| *speed != 1.0)
    }
}

/// A wish that a server cannot fulfil. It is known before anything is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The field of the utterance.
    pub field: &'static str,
    pub why: &'static str,
}

/// The format of samples without a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw {
    pub encoding: RawEncoding,
    pub sample_rate: u32,
    pub channels: u16,
}

impl Raw {
    /// One channel of 16-bit samples, least significant byte first.
    pub(crate) const fn s16le(sample_rate: u32) -> Self {
        Self { encoding: RawEncoding::S16le, sample_rate, channels: 1 }
    }

    /// The size of one sample of every channel, in bytes.
    pub fn frame(self) -> u64 {
        let sample = if self.encoding == RawEncoding::S16le { 2 } else { 1 };
        sample * u64::from(self.channels.max(1))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawEncoding {
    S16le,
    Mulaw,
    Alaw,
}

/// A server that speaks a text.
pub trait Speech: Debug + Send + Sync {
    fn server(&self) -> &Server;

    /// Checks what can be known without asking the server.
    ///
    /// # Errors
    /// Names the field that the server cannot take.
    fn judge(&self, utterance: &Utterance<'_>) -> Result<(), Unfit>;

    /// The request whose answer is the audio.
    fn request(&self, utterance: &Utterance<'_>) -> Request;

    /// The format of the audio, if it has no header that says so.
    fn raw(&self) -> Option<Raw>;

    /// A request that only asks whether address and key are right.
    fn question(&self) -> Request;
}

/// A server that writes down what was spoken.
pub trait Transcription: Debug + Send + Sync {
    fn server(&self) -> &Server;

    /// The request whose answer is the text. `file` is a complete audio file with a name that tells its format.
    fn request(&self, file: &Recording) -> Request;

    /// Reads the answer. `None` if it holds no text.
    fn read(&self, answer: &Value) -> Option<Transcript>;

    /// A request that only asks whether address and key are right.
    fn question(&self) -> Request;
}

/// Audio to be transcribed.
#[derive(Clone, Debug)]
pub struct Recording {
    /// A unique id, from which the boundary of the form is made.
    pub id: String,
    pub filename: String,
    pub mime_type: String,
    pub bytes: bytes::Bytes,
}

/// A kind of server, as `kind` in the configuration names it.
pub struct Kind<T: ?Sized> {
    pub name: &'static str,
    pub build: fn(ServerSettings) -> Result<Arc<T>, ConfigError>,
}

/// Every kind of server that speaks.
pub static SPEECH: &[Kind<dyn Speech>] = &[
    Kind { name: openai::NAME, build: openai::speech },
    Kind { name: elevenlabs::NAME, build: elevenlabs::speech },
];

/// Every kind of server that transcribes.
pub static TRANSCRIPTION: &[Kind<dyn Transcription>] =
    &[Kind { name: openai::NAME, build: openai::transcription }];
