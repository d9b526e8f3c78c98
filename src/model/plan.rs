//! The plan for a note: a prediction of its delivery, without sending it.

use jiff::Timestamp;
use voicegate_audio::{Foreseen, Probed, Work};
use voicegate_providers::{Form, FormSupport};

use crate::model::{
    code::{Code, WarningCode},
    note::Warning,
    problem::Problem,
};

/// The plan for one note.
#[derive(Debug)]
pub struct Plan {
    /// `None` for speech that was not made yet.
    pub source: Option<Probed>,
    /// The connections of the route, in order.
    pub connections: Vec<Outlook>,
}

/// The plan for the note on one connection.
#[derive(Debug)]
pub struct Outlook {
    pub connection: String,
    pub provider: &'static str,
    /// The profile of the form that would be shown, or of the connection's first form.
    pub profile: &'static str,
    /// `None` if the note would be refused.
    pub sends: Option<Sends>,
    /// Every form that the connection offers, in the order of the ladder.
    pub forms: Vec<Rung>,
    /// The reason of a refusal, or warnings about what would be left out.
    pub reasons: Vec<Warning>,
}

/// The audio or text that would be sent.
#[derive(Debug)]
pub struct Sends {
    pub form: Form,
    /// `None` if only the text would be shown.
    pub audio: Option<(Work, Foreseen)>,
}

/// A form of a connection, and whether the note would be shown in it.
#[derive(Debug)]
pub struct Rung {
    pub support: FormSupport,
    /// The note would be shown in this form.
    pub chosen: bool,
    /// Whether the text would be shown whole in this form; `None` if it would not be shown there.
    pub caption_fits: Option<bool>,
    /// The reason why the note cannot be shown in this form.
    pub reason: Option<String>,
    /// The time at which the recipient's refusal expires.
    pub until: Option<Timestamp>,
}

impl Outlook {
    /// Turns the plan into a refusal, with this reason. No form is shown then.
    pub fn refuse(&mut self, code: &Code, detail: impl Into<String>) {
        let detail = detail.into();
        self.sends = None;
        for rung in self.forms.iter_mut().filter(|rung| rung.chosen) {
            rung.chosen = false;
            rung.reason.get_or_insert_with(|| detail.clone());
        }
        self.reasons.push(Warning::new(code.into(), detail));
    }

    /// Refuses the note where it would be sent with a warning that `strict` does not permit.
    pub fn refuse_instead(&mut self, warnings: &[WarningCode], problem: Problem) {
        self.reasons.retain(|reason| !warnings.contains(&reason.code));
        self.refuse(&problem.code, problem.detail);
    }
}
