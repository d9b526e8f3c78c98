//! What would become of a note, judged without sending it.

use jiff::Timestamp;
use voicegate_audio::{Foreseen, Probed, Work};
use voicegate_providers::{Form, FormSupport};

use crate::model::{
    code::{Code, WarningCode},
    note::Warning,
};

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
    /// The profile of the form that would be shown, or of the connection's first form.
    pub profile: &'static str,
    /// `None` where it would be refused.
    pub sends: Option<Sends>,
    /// Every form that the connection has, in the ladder's order.
    pub forms: Vec<Rung>,
    /// Why it would be refused, or what would be left out.
    pub reasons: Vec<Warning>,
}

/// What would be sent.
#[derive(Debug)]
pub struct Sends {
    pub form: Form,
    /// `None` where only the text would be shown.
    pub audio: Option<(Work, Foreseen)>,
}

/// A form of a connection, and whether the note would be shown in it.
#[derive(Debug)]
pub struct Rung {
    pub support: FormSupport,
    /// The note would be shown in this form.
    pub chosen: bool,
    /// Whether the text would be shown whole in this form; `None` where it would not be shown there.
    pub caption_fits: Option<bool>,
    /// Why the note cannot be shown in this form.
    pub reason: Option<String>,
    /// When a refusal of the recipient is forgotten.
    pub until: Option<Timestamp>,
}

impl Outlook {
    /// It would be refused, for this reason.
    pub fn refuse(&mut self, code: &Code, detail: impl Into<String>) {
        self.sends = None;
        self.reasons.push(Warning::new(code.into(), detail));
    }

    /// Refuses what would be shown in another form, or cut.
    pub fn be_strict(&mut self) {
        for reason in &mut self.reasons {
            reason.code = match reason.code {
                WarningCode::FormDegraded => (&Code::RecipientUnsupported).into(),
                WarningCode::TextShortened => (&Code::TextUnsupported).into(),
                _ => continue,
            };
            self.sends = None;
        }
    }
}
