//! What would become of a note, judged without sending it.

use voicegate_audio::{Foreseen, Probed, Work};
use voicegate_providers::Form;

use crate::model::{code::Code, note::Warning};

/// What would become of one piece of audio.
#[derive(Debug)]
pub struct Plan {
    pub source: Probed,
    /// The connections of the route, in order.
    pub connections: Vec<Outlook>,
}

/// What would become of it over one connection.
#[derive(Debug)]
pub struct Outlook {
    pub connection: String,
    pub provider: &'static str,
    pub profile: &'static str,
    /// `None` where it would be refused.
    pub sends: Option<Sends>,
    /// Why it would be refused, or what would be left out.
    pub reasons: Vec<Warning>,
}

/// What would be sent.
#[derive(Debug)]
pub struct Sends {
    pub work: Work,
    pub audio: Foreseen,
    pub form: Form,
}

impl Outlook {
    /// It would be refused, for this reason.
    pub fn refuse(&mut self, code: &Code, detail: impl Into<String>) {
        self.sends = None;
        self.reasons.push(Warning { code: code.into(), detail: detail.into() });
    }
}
