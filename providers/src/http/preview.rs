//! The requests of a recipe, shown and not made.

use serde_json::Value;

use super::{
    Http,
    connection::{names_used, read_recipe, settings_in},
    recipe::AudioAs,
    template::{Name, Values},
};
use crate::{BaseUrl, ConfigError, Form, Recipient, Settings};

/// Renders what `provider = "http"` would send for a note to `to`, in every form that the recipe has, for
/// `voicegate check --recipe FILE --to X --dry-run`. Nothing is asked of anybody.
///
/// `settings` are those of a connection, of which only `recipe` is needed. No secret is in the text: the token and every
/// value of `settings` are shown by their names (`[token]`, `[settings.instance]`), and the audio as `[base64 of
/// voice.ogg]`.
///
/// # Errors
/// Everything that would keep the connection from being built because of its recipe, and a recipient that it does not
/// reach (key `to`).
pub fn preview(settings: Settings, to: &Recipient) -> Result<String, ConfigError> {
    let mut map = settings.into_map();
    let recipe =
        map.remove("recipe").ok_or_else(|| ConfigError::new("recipe", "is required, and missing"))?;
    let recipe = read_recipe(recipe)?;
    let base_url = match map.remove("base_url").or_else(|| recipe.base_url.clone().map(Value::String)) {
        Some(Value::String(text)) => {
            BaseUrl::try_from(text.clone()).map_err(|why| ConfigError::new("base_url", why))?;
            text
        }
        Some(_) => return Err(ConfigError::new("base_url", "expected a URL like https://api.example.com")),
        None => "https://[base_url]".to_owned(),
    };
    let mut fixed = Values::masked();
    fixed.insert(Name::BaseUrl, base_url);
    fixed.insert(Name::Token, "[token]");
    for name in settings_in(&names_used(&recipe)) {
        fixed.insert(Name::Setting(name.to_owned()), format!("[settings.{name}]"));
    }
    let http = Http::assemble(recipe, fixed, Vec::new());
    http.accepts(to).map_err(|error| ConfigError::new("to", error.to_string()))?;
    let mut shown = Vec::new();
    for support in &http.capabilities.forms {
        shown.push(http.shown(support.form, support.profile.as_deref(), to));
    }
    Ok(shown.join("\n"))
}

impl Http {
    fn shown(&self, form: Form, profile: Option<&str>, to: &Recipient) -> String {
        let filename = format!("voice.{}", extension(profile.unwrap_or_default()));
        let mut values = self.values_for(to, "vn_00000000-0000-7000-8000-000000000000");
        let mut text = format!(
            "# {}{}\n",
            serde_json::to_value(form).ok().as_ref().and_then(Value::as_str).unwrap_or_default(),
            profile.map_or(String::new(), |profile| format!(", made by the profile {profile}"))
        );
        values.insert(Name::ReplyTo, "[reply_to, where there is one]");
        if form == Form::Text {
            values.insert(Name::Text, "[the note's text]");
        } else {
            values.insert(Name::Filename, filename.clone());
            values.insert(Name::Mime, "[media type]");
            values.insert(Name::Caption, "[caption, where there is one]");
            values.insert_some(Name::Duration, self.recipe.duration.map(|unit| unit.of(12_345)));
            values.insert_some(Name::Waveform, self.recipe.waveform.of(&[0; 64]).map(short));
        }
        let audio = |values: &mut Values, audio: Option<AudioAs>| {
            let shown = match audio {
                Some(AudioAs::Link) => format!("https://[public_url]/m/[token of the file]/{filename}"),
                Some(AudioAs::Base64) => format!("[base64 of {filename}]"),
                Some(AudioAs::DataUri) => format!("data:[media type];base64,[base64 of {filename}]"),
                Some(AudioAs::Part) | None => format!("[{filename}]"),
            };
            values.insert(Name::Audio, shown);
        };
        if form != Form::Text
            && let Some(upload) = &self.recipe.upload
        {
            audio(&mut values, Some(upload.audio));
            if let Some(draft) = self.draft_upload(upload, &values) {
                text += &draft.show();
                text.push('\n');
            }
            values.insert(Name::Media, "[id from the upload's answer]");
        }
        if let Some(sending) = self.recipe.sending(form) {
            audio(&mut values, sending.audio);
            if let Some(draft) = self.draft(&sending, &values) {
                text += &draft.show();
            }
        }
        text
    }
}

/// Replaces a waveform of zeros by a description of its shape.
fn short(value: Value) -> Value {
    match value {
        Value::Array(list) => format!("[list of {} numbers]", list.len()).into(),
        Value::String(_) => "[base64 of 64 bytes]".into(),
        other => other,
    }
}

/// The extension of the files that a profile makes, by its family.
fn extension(profile: &str) -> &'static str {
    match profile.split('-').next().unwrap_or_default() {
        "whatsapp" | "meta" | "telegram" | "discord" => "ogg",
        "mp3" => "mp3",
        "wav16k" => "wav",
        "imessage" => "caf",
        _ => "m4a",
    }
}
