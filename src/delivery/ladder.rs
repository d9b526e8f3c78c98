//! The choice of the form in which a note is shown: a voice bubble, or the first form that may replace it. These are
//! pure functions, so that every rule can be tested without a provider.

use jiff::Timestamp;
use voicegate_providers::{Capabilities, Degrade, Form, FormSupport};

use crate::model::{
    code::WarningCode,
    note::{Note, Refusal, TextAs, Warning},
};

/// The wishes of a note that the choice of a form depends on.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The forms that may replace a voice bubble.
    pub degrade: &'a Degrade,
    pub text: Option<&'a str>,
    pub text_as: TextAs,
    /// The length of the source, if it is known.
    pub duration_ms: Option<u64>,
}

/// The chosen form, and why no better form was possible.
#[derive(Clone, Debug, PartialEq)]
pub struct Rung<'a> {
    pub support: &'a FormSupport,
    /// Why a better form is not possible. `None` if the best form was chosen.
    pub instead: Option<String>,
}

/// No allowed form is left. Contains the reason for each form.
#[derive(Clone, Debug, PartialEq)]
pub struct NoForm(pub String);

/// Chooses the first form of the ladder that is allowed, that the connection offers, and that is not known to be
/// refused.
///
/// # Errors
/// [`NoForm`]
pub fn choose<'a>(
    capabilities: &'a Capabilities,
    wanted: &Wanted<'_>,
    refused: &[&Refusal],
    now: Timestamp,
) -> Result<Rung<'a>, NoForm> {
    let mut reasons: Vec<String> = Vec::new();
    for form in Form::LADDER {
        if !wanted.degrade.allows(form) || (form == Form::Text && wanted.text().is_none()) {
            continue;
        }
        match usable(capabilities, wanted, refused, now, form) {
            Ok(support) => return Ok(Rung { support, instead: reasons.into_iter().next() }),
            Err(why) => reasons.push(why),
        }
    }
    reasons.dedup();
    Err(NoForm(reasons.join("; ")))
}

/// The connection's support for a form, or the reason why it cannot show the note in it.
pub fn usable<'a>(
    capabilities: &'a Capabilities,
    wanted: &Wanted<'_>,
    refused: &[&Refusal],
    now: Timestamp,
    form: Form,
) -> Result<&'a FormSupport, String> {
    let name = name(form);
    let support = capabilities.form(form).ok_or_else(|| format!("this connection has no {name}"))?;
    if let Some(refusal) = refused.iter().find(|refusal| refusal.form == form && refusal.until > now) {
        return Err(refusal.why.clone());
    }
    match (support.max_duration_ms, wanted.duration_ms) {
        (Some(most), Some(length)) if length > most => {
            Err(format!("{name} last at most {} s over this connection", most / 1000))
        }
        _ => Ok(support),
    }
}

/// The name of a form in messages to people.
fn name(form: Form) -> &'static str {
    match form {
        Form::Voice => "voice notes",
        Form::Audio => "audio messages",
        Form::File => "files",
        Form::Text => "text messages",
    }
}

impl<'a> Wanted<'a> {
    /// The wishes of a stored note for a connection.
    pub fn of(note: &'a Note, degrade: &'a Degrade) -> Self {
        Self {
            degrade: note.degrade.as_ref().unwrap_or(degrade),
            text: note.text.as_deref(),
            text_as: note.text_as,
            duration_ms: note.probed.as_ref().map(|probed| probed.facts.duration_ms),
        }
    }

    fn text(&self) -> Option<&'a str> {
        self.text.filter(|text| !text.trim().is_empty())
    }
}

/// The text that is sent in a form, and a warning if some of it is left out.
#[derive(Debug, Default, PartialEq)]
pub struct Words {
    /// The text beside the audio, or in place of it.
    pub shown: Option<String>,
    pub warning: Option<Warning>,
}

/// Chooses the text for a form: the whole text, a part that is cut at a word, or none.
pub fn words(support: &FormSupport, wanted: &Wanted<'_>) -> Words {
    let Some(text) = wanted.text() else { return Words::default() };
    if support.form != Form::Text && wanted.text_as == TextAs::Fallback {
        return Words::default();
    }
    let Some(most) = support.caption else {
        let why = "this connection shows no text beside a note of this form";
        return Words { shown: None, warning: Some(text_dropped(why)) };
    };
    let shown = cut(text, most);
    let warning = (shown.len() < text.len()).then(|| text_shortened(most));
    Words { shown: Some(shown.to_owned()), warning }
}

/// Shortens a text to whole words with at most `most` characters in total. A single longer word is cut.
fn cut(text: &str, most: usize) -> &str {
    let Some((end, _)) = text.char_indices().nth(most) else { return text };
    let head = &text[..end];
    let after_word = text[end..].starts_with(char::is_whitespace);
    let end = if after_word { None } else { head.rfind(char::is_whitespace) };
    let whole = head[..end.unwrap_or(head.len())].trim_end();
    if whole.is_empty() { head } else { whole }
}

/// The form of a note in messages to people.
pub fn shown_as(form: Form) -> &'static str {
    match form {
        Form::Voice => "a voice note",
        Form::Audio => "audio",
        Form::File => "a file",
        Form::Text => "its text alone",
    }
}

pub fn form_degraded(form: Form, why: &str) -> Warning {
    let shown = shown_as(form);
    Warning::new(WarningCode::FormDegraded, format!("{why}, so the note is sent as {shown}"))
}

/// A warning that the note is sent without its text.
pub fn text_dropped(why: &str) -> Warning {
    Warning::new(WarningCode::TextDropped, format!("{why}, so the note is sent without it"))
}

pub fn text_shortened(most: usize) -> Warning {
    let detail = format!("this connection shows at most {most} characters, so the text is cut");
    Warning::new(WarningCode::TextShortened, detail)
}

/// Warnings that depend on the form, and are decided again for each form.
pub const BY_FORM: [WarningCode; 4] = [
    WarningCode::FormDegraded,
    WarningCode::TextShortened,
    WarningCode::PlayIconLost,
    WarningCode::WaveformLost,
];

#[cfg(test)]
mod tests {
    use voicegate_providers::{Intake, ReplySupport};

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).expect("a time")
    }

    fn support(form: Form) -> FormSupport {
        FormSupport {
            form,
            profile: None,
            intake: Intake::Upload,
            max_bytes: 1000,
            max_duration_ms: None,
            caption: (form != Form::File).then_some(10),
        }
    }

    fn connection(forms: &[Form]) -> Capabilities {
        Capabilities {
            forms: forms.iter().copied().map(support).collect(),
            profile_family: "x-",
            provider_converts: None,
            reply: ReplySupport::None,
            idempotency: None,
            look_up: false,
            receipts: Vec::new(),
            inbound: false,
            listens: false,
            presence: None,
            media_reuse: false,
            recipients: &[],
        }
    }

    fn chosen(forms: &[Form], degrade: &[Form], text: Option<&str>, refused: &[Form]) -> Option<Form> {
        let capabilities = connection(forms);
        let degrade = Degrade(degrade.to_vec());
        let wanted = Wanted { degrade: &degrade, text, text_as: TextAs::Fallback, duration_ms: Some(5000) };
        let until = now() + std::time::Duration::from_secs(60);
        let refused: Vec<Refusal> =
            refused.iter().map(|&form| Refusal { form, why: "no".to_owned(), until }).collect();
        let refused: Vec<&Refusal> = refused.iter().collect();
        choose(&capabilities, &wanted, &refused, now()).ok().map(|rung| rung.support.form)
    }

    #[test]
    fn first_allowed_form_that_is_offered_and_not_refused_is_chosen() {
        use Form::{Audio, File, Text, Voice};
        let all = [Voice, Audio, File, Text];
        for (forms, degrade, text, refused, expected) in [
            (&all[..], &[Audio][..], None, &[][..], Some(Voice)),
            (&all, &[Audio], None, &[Voice], Some(Audio)),
            (&all, &[File], None, &[Voice], Some(File)),
            // The order of `degrade` means nothing.
            (&all, &[Text, Audio], Some("x"), &[Voice], Some(Audio)),
            (&all, &[Text, Audio], Some("x"), &[Voice, Audio], Some(Text)),
            (&all, &[Text], None, &[Voice], None),
            (&all, &[Text], Some(" "), &[Voice], None),
            (&all, &[], Some("x"), &[Voice], None),
            (&[Audio], &[Audio], None, &[], Some(Audio)),
            (&[Audio], &[], None, &[], None),
            (&[Voice], &[Audio, File, Text], Some("x"), &[Voice], None),
        ] {
            let case = format!("{forms:?} {degrade:?} {text:?} {refused:?}");
            assert_eq!(chosen(forms, degrade, text, refused), expected, "{case}");
        }
    }

    #[test]
    fn refused_form_is_chosen_again_after_the_refusal_ends() {
        let capabilities = connection(&[Form::Voice, Form::Audio]);
        let degrade = Degrade::default();
        let wanted = Wanted { degrade: &degrade, text: None, text_as: TextAs::Fallback, duration_ms: None };
        let refusal = Refusal { form: Form::Voice, why: "no voice".to_owned(), until: now() };
        let at = |now| choose(&capabilities, &wanted, &[&refusal], now).expect("a form");
        assert_eq!(at(now()).support.form, Form::Voice);
        let before = at(now() - std::time::Duration::from_secs(1));
        assert_eq!((before.support.form, before.instead.as_deref()), (Form::Audio, Some("no voice")));
    }

    #[test]
    fn audio_too_long_for_a_form_uses_the_next_form() {
        let mut capabilities = connection(&[Form::Voice, Form::Audio]);
        capabilities.forms[0].max_duration_ms = Some(4000);
        let degrade = Degrade::default();
        let wanted =
            Wanted { degrade: &degrade, text: None, text_as: TextAs::Fallback, duration_ms: Some(4001) };
        let rung = choose(&capabilities, &wanted, &[], now()).expect("a form");
        assert_eq!(rung.support.form, Form::Audio);
        assert!(rung.instead.is_some_and(|why| why.contains("4 s")));
    }

    #[test]
    fn text_is_cut_at_a_word() {
        for (text, most, expected) in [
            ("one two", 7, "one two"),
            ("one two three", 7, "one two"),
            ("one two three", 8, "one two"),
            ("one two three", 9, "one two"),
            ("one two three", 6, "one"),
            ("onetwothree", 6, "onetwo"),
            ("ümläut wörd", 6, "ümläut"),
            ("ümläut wörd", 9, "ümläut"),
            ("  x", 2, "  "),
        ] {
            assert_eq!(cut(text, most), expected, "{text:?} {most}");
        }
    }

    #[test]
    fn dropped_or_shortened_text_causes_a_warning() {
        let degrade = Degrade::default();
        let words = |form, text_as, text| {
            let wanted = Wanted { degrade: &degrade, text: Some(text), text_as, duration_ms: None };
            let Words { shown, warning } = words(&support(form), &wanted);
            (shown, warning.map(|warning| warning.code.to_string()))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(words(Form::Voice, TextAs::Fallback, "hello"), (None, None));
        assert_eq!(words(Form::Voice, TextAs::Caption, "hello"), (some("hello"), None));
        assert_eq!(words(Form::File, TextAs::Caption, "hello"), (None, some("text_dropped")));
        assert_eq!(words(Form::Text, TextAs::Fallback, "hello"), (some("hello"), None));
        let cut = (some("hello"), some("text_shortened"));
        assert_eq!(words(Form::Voice, TextAs::Caption, "hello everybody"), cut);
        assert_eq!(words(Form::Text, TextAs::Fallback, "hello everybody"), cut);
    }
}
