//! Checks whether the parts of a recipe fit each other, so that mistakes are found before the first note.

use super::{
    fields::Node,
    recipe::{AudioAs, Auth, BodyKind, Recipe, Verb, Waveform},
    template::{Name, Template},
};
use crate::Form;

type Judged = Result<(), String>;

fn wrong(path: &str, what: impl AsRef<str>) -> Judged {
    Err(format!("{path}: {}", what.as_ref()))
}

/// # Errors
/// Names the key, and what to write there.
pub(super) fn judge(recipe: &Recipe) -> Judged {
    for (form, profile) in &recipe.forms {
        if *form == Form::Text {
            return wrong("forms.text", "text has no profile; say in overrides.text how it is sent");
        }
        if profile.trim().is_empty() {
            return wrong(&format!("forms.{}", name(*form)), "expected the name of an audio profile");
        }
    }
    if recipe.forms.is_empty() {
        return wrong(
            "forms",
            "expected at least one form and its profile, such as { voice = \"whatsapp-3\" }",
        );
    }
    for form in recipe.overrides.keys() {
        if *form != Form::Text && !recipe.forms.contains_key(form) {
            return wrong(&format!("overrides.{}", name(*form)), "forms has no such form");
        }
    }
    if recipe.overrides.get(&Form::Text).is_some_and(|own| own.fields.is_none()) {
        return wrong("overrides.text.fields", "is required, and missing: a text has fields of its own");
    }
    if matches!(recipe.method, Verb::Get) {
        return wrong("method", "expected POST, PUT or PATCH");
    }
    misplaced(recipe)?;
    auth(recipe.auth.as_ref())?;
    for form in Form::LADDER {
        sending(recipe, form)?;
    }
    for (header, template) in &recipe.headers {
        let path = format!("headers.{header}");
        header_name(&path, header)?;
        for used in template.names() {
            let fits = used.is_fixed()
                || matches!(used, Name::NoteId | Name::NoteUuid | Name::To | Name::Mime | Name::Duration);
            if !fits {
                return wrong(&path, format!("{used} cannot stand in a header"));
            }
        }
    }
    if recipe.link_max.is_some() && !links(recipe) {
        return wrong("link_max", "has a meaning only with audio = \"link\"");
    }
    upload(recipe)?;
    if let Some(check) = &recipe.check {
        address("check.url", &check.url)?;
        if let Some(used) = check.url.names().find(|name| !name.is_fixed()) {
            return wrong("check.url", format!("{used} belongs to a note, and a check is about the account"));
        }
    }
    repeatable(recipe)?;
    callback(recipe)
}

/// A key of the recipe that stands below `[fields]` would be sent as a field, and miss where it belongs.
fn misplaced(recipe: &Recipe) -> Judged {
    for (key, node) in recipe.fields.fields() {
        let is_missing = match (key.as_str(), node) {
            ("answers", Node::List(_)) => recipe.answers.is_empty(),
            ("callback", Node::Table(_)) => recipe.callback.is_none(),
            ("check", Node::Table(_)) => recipe.check.is_none(),
            ("upload", Node::Table(_)) => recipe.upload.is_none(),
            ("overrides", Node::Table(_)) => recipe.overrides.is_empty(),
            _ => false,
        };
        if is_missing {
            let what = "this is a key of the recipe, and stands below [fields]; plain keys come before the first table";
            return wrong(&format!("fields.{key}"), what);
        }
    }
    Ok(())
}

fn name(form: Form) -> &'static str {
    match form {
        Form::Voice => "voice",
        Form::Audio => "audio",
        Form::File => "file",
        Form::Text => "text",
    }
}

fn links(recipe: &Recipe) -> bool {
    let sent = Form::LADDER.iter().filter_map(|form| recipe.sending(*form));
    sent.filter_map(|sending| sending.audio).any(|audio| audio == AudioAs::Link)
        || recipe.upload.as_ref().is_some_and(|upload| upload.audio == AudioAs::Link)
}

fn auth(auth: Option<&Auth>) -> Judged {
    let Some(auth) = auth else { return Ok(()) };
    let given = [auth.bearer.is_some(), auth.header.is_some(), auth.basic.is_some(), auth.query.is_some()];
    if given.into_iter().filter(|given| *given).count() != 1 {
        return wrong("auth", "expected exactly one of bearer, header, basic and query");
    }
    if let Some((header, _)) = &auth.header {
        header_name("auth.header[0]", header)?;
    }
    let basic = auth.basic.iter().flat_map(|(user, password)| [user, password]);
    let values = [&auth.header, &auth.query].into_iter().flatten().map(|(_, value)| value);
    for used in auth.bearer.iter().chain(basic).chain(values).flat_map(Template::names) {
        if !used.is_fixed() || *used == Name::BaseUrl {
            return wrong(
                "auth",
                format!("{used} is no credential; here stand {{{{token}}}} and {{{{settings.NAME}}}}"),
            );
        }
    }
    Ok(())
}

fn header_name(path: &str, name: &str) -> Judged {
    match name.parse::<http::HeaderName>() {
        Ok(_) => Ok(()),
        Err(_) => wrong(path, "expected the name of a header"),
    }
}

/// Checks that the server of a URL does not depend on the note.
fn address(path: &str, url: &Template) -> Judged {
    let beginning = url.beginning();
    let absolute = ["https://", "http://"]
        .iter()
        .find_map(|scheme| beginning.strip_prefix(scheme))
        .is_some_and(|rest| rest.find('/').is_some_and(|host| host > 0) || url.names().next().is_none());
    if !absolute && !url.begins_with_base_url() {
        return wrong(path, "expected {{base_url}}/path, or an http or https URL whose host is written out");
    }
    if let Some(used) =
        url.names().find(|name| matches!(name, Name::Audio | Name::Waveform | Name::Caption | Name::Text))
    {
        return wrong(path, format!("{used} is too long for a URL"));
    }
    Ok(())
}

fn sending(recipe: &Recipe, form: Form) -> Judged {
    let Some(sending) = recipe.sending(form) else { return Ok(()) };
    let (url_path, fields_path) = &sending.paths;
    address(url_path, sending.url)?;
    if !sending.url.uses(&Name::To) && !sending.fields.uses(&Name::To) {
        return wrong(
            fields_path,
            "nothing here and nothing in the URL is {{to}}, so the note would go nowhere",
        );
    }
    if form == Form::Text {
        if !sending.fields.uses(&Name::Text) {
            return wrong(fields_path, "nothing here is {{text}}");
        }
    } else if !sending.fields.uses(&Name::Audio)
        && !sending.fields.uses(&Name::Media)
        && !sending.url.uses(&Name::Media)
    {
        return wrong(fields_path, "nothing here is {{audio}} (or {{media}}, with upload)");
    }
    body(fields_path, sending.body, sending.audio, sending.fields)?;
    let mut judged = Ok(());
    let mut uses = |path: &str, template: &Template| {
        for used in template.names() {
            if judged.is_ok() {
                judged = one(recipe, path, used, form == Form::Text, sending.audio);
            }
        }
    };
    uses(url_path, sending.url);
    sending.fields.each(fields_path, &mut uses);
    judged
}

/// Whether a placeholder has a value there.
fn one(recipe: &Recipe, path: &str, used: &Name, is_text: bool, audio: Option<AudioAs>) -> Judged {
    match used {
        Name::Audio
        | Name::Media
        | Name::Duration
        | Name::Waveform
        | Name::Filename
        | Name::Mime
        | Name::Caption
            if is_text =>
        {
            wrong(path, format!("{used} is not there where a text takes the note's place"))
        }
        Name::Audio if audio.is_none() => {
            wrong("audio", "is required, because the fields have {{audio}}: link, base64, data_uri or part")
        }
        Name::Media if recipe.upload.is_none() => wrong(path, "{{media}} needs `upload`"),
        Name::Duration if recipe.duration.is_none() => {
            wrong("duration", "is required, because {{duration}} is used: ms, s or s_float")
        }
        Name::Waveform if recipe.waveform == Waveform::None => wrong(
            "waveform",
            "is required, because {{waveform}} is used: list_100, base64_100, base64_127, base64_255, list_1024 or flag",
        ),
        Name::Text if !is_text => wrong(
            path,
            "{{text}} is there only where a text takes the note's place (overrides.text); beside a note it is {{caption}}",
        ),
        _ => Ok(()),
    }
}

fn body(path: &str, kind: BodyKind, audio: Option<AudioAs>, fields: &Node) -> Judged {
    let Node::Table(list) = fields else { return wrong(path, "expected a table of fields") };
    for (name, node) in list {
        let path = format!("{path}.{name}");
        let is_part = matches!(node, Node::Text(template) if template.is_alone(&Name::Audio));
        if kind == BodyKind::Form && !matches!(node, Node::Text(_) | Node::Fixed(_)) {
            return wrong(
                &path,
                "a form has no tables and lists; write the field's own name, as the provider has it",
            );
        }
        if audio == Some(AudioAs::Part)
            && node.uses(&Name::Audio)
            && !(is_part && kind == BodyKind::Multipart)
        {
            return wrong(
                &path,
                "with audio = \"part\" the body is \"multipart\", and the field is {{audio}} and nothing else",
            );
        }
    }
    Ok(())
}

fn upload(recipe: &Recipe) -> Judged {
    let Some(upload) = &recipe.upload else { return Ok(()) };
    address("upload.url", &upload.url)?;
    if matches!(upload.method, Verb::Get) {
        return wrong("upload.method", "expected POST, PUT or PATCH");
    }
    body("upload.fields", upload.body, Some(upload.audio), &upload.fields)?;
    if !upload.fields.uses(&Name::Audio) {
        return wrong("upload.fields", "nothing here is {{audio}}");
    }
    let mut judged = Ok(());
    upload.fields.each("upload.fields", &mut |path, template| {
        for used in template.names().filter(|name| !matches!(name, Name::Audio)) {
            if judged.is_ok() && matches!(used, Name::Media | Name::ReplyTo | Name::Caption | Name::Text) {
                judged = wrong(path, format!("{used} is not there while the audio is uploaded"));
            } else if judged.is_ok() {
                judged = one(recipe, path, used, false, Some(upload.audio));
            }
        }
    });
    judged?;
    let used = Form::LADDER.iter().filter_map(|form| recipe.sending(*form));
    let mut used = used.map(|sending| sending.fields.uses(&Name::Media) || sending.url.uses(&Name::Media));
    if !used.any(|used| used) {
        return wrong("upload", "its id is used nowhere; write {{media}} where the provider wants it");
    }
    Ok(())
}

fn repeatable(recipe: &Recipe) -> Judged {
    if recipe.repeatable.is_none() {
        return Ok(());
    }
    let is_key = |name: &Name| matches!(name, Name::NoteId | Name::NoteUuid);
    let in_header = recipe.headers.values().any(|template| template.names().any(is_key));
    let in_all = Form::LADDER.iter().filter_map(|form| recipe.sending(*form)).all(|sending| {
        sending.fields.uses(&Name::NoteId)
            || sending.fields.uses(&Name::NoteUuid)
            || sending.url.names().any(is_key)
    });
    if in_header || in_all {
        return Ok(());
    }
    wrong(
        "repeatable",
        "the provider can know a repetition only by {{note_id}} or {{note_uuid}}, and the request has neither",
    )
}

fn callback(recipe: &Recipe) -> Judged {
    let Some(callback) = &recipe.callback else { return Ok(()) };
    if callback.hmac.is_some() == callback.token.is_some() {
        return wrong(
            "callback",
            "expected exactly one of hmac and token: without a proof anybody could call",
        );
    }
    if let Some(hmac) = &callback.hmac {
        header_name("callback.hmac.header", &hmac.header)?;
    }
    if callback.statuses.is_empty() {
        return wrong(
            "callback.statuses",
            "expected the provider's words, such as { delivered = \"delivered\" }",
        );
    }
    Ok(())
}
