//! Fuzz targets for recipes and their templates.

use serde_json::Value;

use super::{
    connection::{connection, names_used, read_recipe, settings_in},
    recipe::AudioAs,
    template::{Name, Template, Values},
};
use crate::{Form, fuzzing::settings_for, parse_recipient, preview_recipe};

/// Values that would lead elsewhere if they were not escaped.
const HOSTILE: &str = "../@evil.example:1/?#%2e%2e\r\n";

/// A recipe file. A recipe that is accepted sends every form to its own server, whatever the note contains.
pub(crate) fn recipe(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(table) = text.parse::<toml::Table>() else { return };
    let Ok(value) = serde_json::to_value(table) else { return };
    let recipe = match read_recipe(value.clone()) {
        Ok(recipe) => recipe,
        Err(error) => {
            assert!(!error.message.is_empty() && error.key == "recipe", "{error}");
            return;
        }
    };
    let used = names_used(&recipe);
    let settings = || settings_for(settings_in(&used), value.clone());
    let shown = parse_recipient("+15550001111").map(|to| preview_recipe(settings(), &to)).expect("a number");
    assert!(shown.is_ok_and(|text| !text.contains("secret-token")) || recipe.recipients.is_some());
    let Ok(http) = connection(settings()) else { return };
    let server = http.server.as_ref().map(|url| url.origin());
    for sending in Form::LADDER.iter().filter_map(|form| http.recipe.sending(*form)) {
        let mut values = hostile(&http.fixed);
        values.insert(Name::Audio, if sending.audio == Some(AudioAs::Part) { "voice.ogg" } else { HOSTILE });
        let Some(draft) = http.draft(&sending, &values) else { continue };
        let Ok(request) = draft.into_request("vn_1", None) else { continue };
        if sending.paths.0 == "url" {
            assert_eq!(Some(request.url().origin()), server, "a value led elsewhere");
        }
    }
}

fn hostile(fixed: &Values) -> Values {
    let mut values = fixed.clone();
    for name in [Name::To, Name::Media, Name::Filename, Name::Mime, Name::Caption, Name::Text, Name::ReplyTo]
    {
        values.insert(name, HOSTILE);
    }
    values.insert(Name::NoteId, "vn_1");
    values.insert(Name::NoteUuid, "1");
    values.insert(Name::Duration, 2000);
    values.insert(Name::Waveform, true);
    values
}

/// A template. What is no placeholder stays as it is, and values in a URL are escaped.
pub(crate) fn template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(template) = Template::parse(text) else { return };
    let values = hostile(&Values::default());
    if template.names().next().is_none() {
        assert_eq!(
            template.value(&values),
            (!text.is_empty()).then(|| Value::from(text)).or(Some("".into()))
        );
    }
    let prefixed = Template::parse(&format!("https://api.example.com/{text}"));
    if let Some(url) = prefixed.ok().and_then(|template| template.url(&values))
        && let Ok(url) = url::Url::parse(&url)
    {
        assert_eq!(url.host_str(), Some("api.example.com"), "{url}");
    }
}
