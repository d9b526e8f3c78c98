//! A recipe as data. `docs/recipes.md` explains every key of it.

mod notation;
mod read;

use std::collections::HashMap;

use serde::Deserialize;

pub(super) use self::notation::{Outcome, Pattern, Pointer, Pointers, Span, StatusRule, TokenPlace, id};
use super::{
    fields::Node,
    template::{Name, Template},
};
use crate::{
    Form, ReceiptStatus, Scope,
    signature::{Algorithm, Encoding as MacEncoding},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipe {
    /// Default for connections that name no `base_url`.
    pub base_url: Option<String>,
    #[serde(default)]
    pub method: Verb,
    pub url: Template,
    pub auth: Option<Auth>,
    #[serde(default)]
    pub headers: HashMap<String, Template>,
    #[serde(default)]
    pub body: BodyKind,
    pub audio: Option<AudioAs>,
    pub link_max: Option<usize>,
    pub recipient: Format,
    pub recipients: Option<Vec<Kind>>,
    pub duration: Option<Unit>,
    #[serde(default)]
    pub waveform: Waveform,
    #[serde(default)]
    pub fields: Node,
    pub id: Pointers,
    #[serde(default)]
    pub answers: Vec<Row>,
    pub upload: Option<Upload>,
    pub check: Option<Check>,
    pub forms: HashMap<Form, String>,
    #[serde(default)]
    pub max_bytes: HashMap<Form, u64>,
    #[serde(default = "usual_caption")]
    pub max_caption: usize,
    #[serde(default = "usual_text")]
    pub max_text: usize,
    pub repeatable: Option<Span>,
    #[serde(default)]
    pub overrides: HashMap<Form, Override>,
    pub callback: Option<CallbackRecipe>,
}

fn usual_caption() -> usize {
    1024
}

fn usual_text() -> usize {
    4096
}

#[derive(Clone, Copy, Default, Deserialize)]
pub(super) enum Verb {
    #[default]
    #[serde(rename = "POST")]
    Post,
    #[serde(rename = "PUT")]
    Put,
    #[serde(rename = "PATCH")]
    Patch,
    /// Only for `check`.
    #[serde(rename = "GET")]
    Get,
}

/// The credential of the account. Exactly one of these is set.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Auth {
    pub bearer: Option<Template>,
    /// Name and value.
    pub header: Option<(String, Template)>,
    /// User and password.
    pub basic: Option<(Template, Template)>,
    /// Name and value.
    pub query: Option<(String, Template)>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum BodyKind {
    #[default]
    Json,
    Form,
    Multipart,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AudioAs {
    Link,
    Base64,
    DataUri,
    Part,
}

/// The spelling of recipients on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Format {
    #[serde(rename = "e164")]
    E164,
    #[serde(rename = "digits")]
    Digits,
    #[serde(rename = "c.us")]
    User,
    #[serde(rename = "s.whatsapp.net")]
    LinkedUser,
    #[serde(rename = "raw")]
    Raw,
}

/// A kind of recipient that the provider reaches.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Kind {
    #[serde(rename = "phone")]
    Phone,
    #[serde(rename = "email")]
    Email,
    #[serde(rename = "c.us")]
    User,
    #[serde(rename = "g.us")]
    Group,
    #[serde(rename = "newsletter")]
    Newsletter,
    #[serde(rename = "lid")]
    Hidden,
    #[serde(rename = "http")]
    Native,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    Ms,
    S,
    SFloat,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(super) enum Waveform {
    #[default]
    #[serde(rename = "none")]
    None,
    #[serde(rename = "list_100")]
    List100,
    #[serde(rename = "base64_100")]
    Base64By100,
    #[serde(rename = "base64_127")]
    Base64By127,
    #[serde(rename = "base64_255")]
    Base64By255,
    #[serde(rename = "list_1024")]
    List1024,
    #[serde(rename = "flag")]
    Flag,
}

/// Differences of a form from the other forms.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Override {
    pub url: Option<Template>,
    pub body: Option<BodyKind>,
    pub audio: Option<AudioAs>,
    pub fields: Option<Node>,
    pub id: Option<Pointers>,
}

/// The first request of two, whose id becomes `{{media}}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upload {
    #[serde(default)]
    pub method: Verb,
    pub url: Template,
    #[serde(default = "multipart")]
    pub body: BodyKind,
    #[serde(default = "part")]
    pub audio: AudioAs,
    #[serde(default)]
    pub fields: Node,
    pub id: Pointers,
    /// The time for which the provider keeps the upload. Without it, each note uploads again.
    pub valid_for: Option<Span>,
}

fn multipart() -> BodyKind {
    BodyKind::Multipart
}

fn part() -> AudioAs {
    AudioAs::Part
}

/// A question about the account that changes nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    #[serde(default = "get")]
    pub method: Verb,
    pub url: Template,
    /// The value that a good answer has there. Without it, any success is good.
    pub pointer: Option<Pointer>,
    pub pattern: Option<Pattern>,
}

fn get() -> Verb {
    Verb::Get
}

/// The meaning of an answer to which all conditions of the row apply.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub status: Option<StatusRule>,
    pub pointer: Option<Pointer>,
    /// The pattern of the value at `pointer`, or of the whole body if there is no pointer.
    pub pattern: Option<Pattern>,
    pub kind: Outcome,
    pub scope: Option<Scope>,
}

/// The reports of a provider about messages that it took.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallbackRecipe {
    pub hmac: Option<HmacRecipe>,
    /// `true`: `?token=` in the address; a text: the name of the header that has it.
    pub token: Option<TokenPlace>,
    /// The list of events, if one request has several. The other pointers then start at an event.
    pub each: Option<Pointer>,
    pub id: Pointers,
    pub status: Pointers,
    pub statuses: HashMap<String, ReceiptStatus>,
    /// The time of the event: seconds, milliseconds or RFC 3339.
    pub time: Option<Pointer>,
    /// The place where `{{note_id}}` comes back.
    pub note_id: Option<Pointer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HmacRecipe {
    pub header: String,
    #[serde(default = "sha256")]
    pub algorithm: Algorithm,
    #[serde(default = "hexadecimal")]
    pub encoding: MacEncoding,
    #[serde(default)]
    pub prefix: String,
}

fn sha256() -> Algorithm {
    Algorithm::Sha256
}

fn hexadecimal() -> MacEncoding {
    MacEncoding::Hex
}

/// The parts of a recipe that one form is sent by.
pub(super) struct Sending<'a> {
    pub url: &'a Template,
    pub body: BodyKind,
    pub audio: Option<AudioAs>,
    pub fields: &'a Node,
    pub id: &'a Pointers,
    /// Paths of `url` and `fields` in the recipe, for error messages.
    pub paths: (String, String),
}

impl Sending<'_> {
    /// Whether the fields or the URL have the placeholder.
    pub fn uses(&self, name: &Name) -> bool {
        self.fields.uses(name) || self.url.uses(name)
    }
}

impl Recipe {
    /// Returns the parts that notes of a form are sent by; `None` if there is no such form.
    pub fn sending(&self, form: Form) -> Option<Sending<'_>> {
        let own = self.overrides.get(&form);
        if form == Form::Text {
            own?;
        } else {
            self.forms.get(&form)?;
        }
        let path = |has: bool, key: &str| {
            let name = serde_json::to_value(form).ok().and_then(|name| name.as_str().map(str::to_owned));
            if has { format!("overrides.{}.{key}", name.unwrap_or_default()) } else { key.to_owned() }
        };
        let url = own.and_then(|own| own.url.as_ref());
        let fields = own.and_then(|own| own.fields.as_ref());
        Some(Sending {
            paths: (path(url.is_some(), "url"), path(fields.is_some(), "fields")),
            url: url.unwrap_or(&self.url),
            body: own.and_then(|own| own.body).unwrap_or(self.body),
            audio: own.and_then(|own| own.audio).or(self.audio),
            fields: fields.unwrap_or(&self.fields),
            id: own.and_then(|own| own.id.as_ref()).unwrap_or(&self.id),
        })
    }
}
