//! A recipe as data. `docs/recipes.md` explains every key of it.

use std::{collections::HashMap, fmt, io::Read as _, time::Duration};

use regex::{Regex, RegexBuilder};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::Value;

use super::{
    bundled,
    template::{Node, Template},
    words::{self, nearest},
};
use crate::{
    Form, ReceiptStatus, Scope, SendErrorKind,
    signature::{Algorithm, Encoding as MacEncoding},
};

/// Longest recipe, in bytes.
const MAX_FILE: u64 = 256 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipe {
    /// Where the connection names no `base_url`.
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
    /// For `check` alone.
    #[serde(rename = "GET")]
    Get,
}

/// How the provider knows the account. Exactly one of these.
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

/// How recipients are spelt on the wire.
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

/// What is different where another form than a voice bubble is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Override {
    pub url: Option<Template>,
    pub body: Option<BodyKind>,
    pub audio: Option<AudioAs>,
    pub fields: Option<Node>,
    pub id: Option<Pointers>,
}

/// A first step, whose id is `{{media}}`.
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
    /// For how long the provider keeps it. Without it every note uploads anew.
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
    /// What the answer says where all is well; without it any success does.
    pub pointer: Option<Pointer>,
    pub pattern: Option<Pattern>,
}

fn get() -> Verb {
    Verb::Get
}

/// What an answer means, where everything that the row names is so.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub status: Option<StatusRule>,
    pub pointer: Option<Pointer>,
    /// For the value at `pointer`; without one, for the whole body.
    pub pattern: Option<Pattern>,
    pub kind: Outcome,
    pub scope: Option<Scope>,
}

/// `429`, or `"4xx"`.
#[derive(Clone, Copy)]
pub(super) enum StatusRule {
    One(u16),
    Hundred(u16),
}

impl StatusRule {
    pub fn fits(self, status: u16) -> bool {
        match self {
            Self::One(one) => status == one,
            Self::Hundred(hundred) => status / 100 == hundred,
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Outcome {
    Accepted,
    Refused(SendErrorKind),
}

/// A JSON pointer (RFC 6901).
pub(super) struct Pointer(pub String);

/// One pointer, or several in the order in which they are tried.
pub(super) struct Pointers(pub Vec<Pointer>);

pub(super) struct Pattern(pub Regex);

/// `"29d"`.
#[derive(Clone, Copy)]
pub(super) struct Span(pub Duration);

/// How the provider tells what became of a message.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallbackRecipe {
    pub hmac: Option<HmacRecipe>,
    /// `true`: `?token=` in the address; a text: the name of the header that has it.
    pub token: Option<TokenPlace>,
    /// Leads to a list of events, where one request has several. Then the other pointers are of an event.
    pub each: Option<Pointer>,
    pub id: Pointers,
    pub status: Pointers,
    pub statuses: HashMap<String, ReceiptStatus>,
    /// When it happened: seconds, milliseconds or RFC 3339.
    pub time: Option<Pointer>,
    /// Where `{{note_id}}` comes back.
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

#[derive(Clone)]
pub(super) enum TokenPlace {
    Query,
    Header(String),
}

/// The parts of a recipe that one form is sent by.
pub(super) struct Sending<'a> {
    pub url: &'a Template,
    pub body: BodyKind,
    pub audio: Option<AudioAs>,
    pub fields: &'a Node,
    pub id: &'a Pointers,
    /// Of `url` and `fields`, for messages.
    pub paths: (String, String),
}

impl Recipe {
    /// Reads `recipe = ...` of a connection: the table itself, the name of a recipe that comes with voicegate, or a file.
    ///
    /// # Errors
    /// Names the key in the recipe.
    pub fn read(value: Value) -> Result<Self, String> {
        let Value::String(name) = value else {
            if value.is_object() {
                return read_table(value);
            }
            return Err(format!("expected a file's name, a table, or one of {}", names().join(", ")));
        };
        if let Some(text) = bundled::find(&name) {
            return Self::parse(text);
        }
        if name.trim().is_empty() {
            return Err(format!("expected a file's name, a table, or one of {}", names().join(", ")));
        }
        if !name.contains(['/', '\\', '.']) {
            let meant = nearest(&name, &names()).map_or_else(
                || format!("there are {}, and files end in .toml", names().join(", ")),
                |meant| format!("did you mean `{meant}`?"),
            );
            return Err(format!("no recipe of this name comes with voicegate; {meant}"));
        }
        let text = read_file(&name).map_err(|why| format!("the file {name} cannot be read: {why}"))?;
        Self::parse(&text).map_err(|why| format!("{name}: {why}"))
    }

    /// # Errors
    /// Names the key, or the line where the text is no TOML.
    pub fn parse(text: &str) -> Result<Self, String> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line =
                error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            format!("line {line}: this is no TOML: {}", error.message())
        })?;
        read_table(serde_json::to_value(table).map_err(|_| "this is no TOML table".to_owned())?)
    }

    /// How notes of a form are sent; `None` where there is no such form.
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

/// Reads the table, and knows the mistake that TOML invites: a plain key below `[fields]` is a field.
fn read_table(value: Value) -> Result<Recipe, String> {
    let tables = value.clone();
    words::read(value).map_err(|why| {
        let missing = why.strip_suffix(": is required, and missing");
        let table = missing.and_then(|key| {
            let has = |table: &Value| table.get(key).is_some();
            tables.as_object()?.iter().find(|(_, table)| has(table)).map(|(name, _)| name.clone())
        });
        match table {
            Some(table) => {
                format!("{why}; one stands below [{table}], and plain keys come before the first table")
            }
            None => why,
        }
    })
}

fn names() -> Vec<&'static str> {
    bundled::RECIPES.iter().map(|(name, _)| *name).collect()
}

fn read_file(name: &str) -> Result<String, String> {
    let file = std::fs::File::open(name).map_err(|error| error.kind().to_string())?;
    let mut text = String::new();
    let read = file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|error| error.kind().to_string())?;
    if read as u64 > MAX_FILE {
        return Err("it is larger than a recipe can be".to_owned());
    }
    Ok(text)
}

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        pointer(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

fn pointer(text: &str) -> Result<Pointer, &'static str> {
    let sound = text.starts_with('/') && !text.replace("~0", "").replace("~1", "").contains('~');
    sound.then(|| Pointer(text.to_owned())).ok_or("expected a JSON pointer such as /message/id")
}

impl<'de> Deserialize<'de> for Pointers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Pointers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON pointer such as /message/id, or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Pointers, E> {
                pointer(text).map(|one| Pointers(vec![one])).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Pointers, A::Error> {
                let mut list = Vec::new();
                while let Some(one) = items.next_element()? {
                    list.push(one);
                }
                if list.is_empty() {
                    Err(A::Error::custom("expected at least one JSON pointer"))
                } else {
                    Ok(Pointers(list))
                }
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl Pointers {
    /// The first value that is there.
    pub fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.0.iter().find_map(|pointer| value.pointer(&pointer.0).filter(|found| !found.is_null()))
    }

    /// The first that is an id: a text that is not empty, or a number.
    pub fn id(&self, value: &Value) -> Option<String> {
        self.0.iter().find_map(|pointer| id(value.pointer(&pointer.0)?))
    }
}

/// Longest id that is believed, in bytes.
const MAX_ID: usize = 512;

/// An id: a text or a whole number.
pub(super) fn id(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if !number.is_f64() => number.to_string(),
        _ => return None,
    };
    let sound = (1..=MAX_ID).contains(&text.len())
        && !text.contains(char::is_control)
        && text.contains(|c: char| c.is_alphanumeric());
    sound.then_some(text)
}

impl<'de> Deserialize<'de> for StatusRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || D::Error::custom("expected a status such as 429, or \"4xx\"");
        match Value::deserialize(deserializer)? {
            Value::Number(number) => {
                let status = number.as_u64().and_then(|status| u16::try_from(status).ok());
                status.filter(|status| (100..600).contains(status)).map(Self::One).ok_or_else(wrong)
            }
            Value::String(text) => {
                let hundred = text.strip_suffix("xx").and_then(|digit| digit.parse().ok());
                hundred.filter(|hundred| (1..6).contains(hundred)).map(Self::Hundred).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

/// The kinds that a row may name, beside `accepted`.
const KINDS: [&str; 17] = [
    "accepted",
    "invalid_recipient",
    "not_reachable",
    "form_unavailable",
    "conversation_closed",
    "opted_out",
    "media_rejected",
    "media_too_large",
    "rejected",
    "unauthorized",
    "misconfigured",
    "rate_limited",
    "outdated",
    "not_ready",
    "unavailable",
    "outcome_unknown",
    "unexpected",
];

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "accepted" {
            return Ok(Self::Accepted);
        }
        serde_json::from_value(Value::String(text.clone())).map(Self::Refused).map_err(|_| {
            let meant =
                nearest(&text, &KINDS).map_or(String::new(), |meant| format!("; did you mean `{meant}`?"));
            D::Error::custom(format!("expected one of {}{meant}", KINDS.join(", ")))
        })
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        RegexBuilder::new(&text).size_limit(1 << 20).build().map(Self).map_err(|error| {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            D::Error::custom(format!("expected a regular expression: {why}"))
        })
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let split = text.len().saturating_sub(1);
        let seconds =
            text.is_char_boundary(split).then(|| text.split_at(split)).and_then(|(number, unit)| {
                let unit = match unit {
                    "s" => 1,
                    "m" => 60,
                    "h" => 3600,
                    "d" => 86_400,
                    _ => return None,
                };
                number
                    .parse::<u64>()
                    .ok()
                    .filter(|number| (1..=10_000).contains(number))
                    .map(|number| number * unit)
            });
        let wrong = || D::Error::custom("expected a duration such as \"30m\", \"24h\" or \"29d\"");
        seconds.map(|seconds| Self(Duration::from_secs(seconds))).ok_or_else(wrong)
    }
}

impl<'de> Deserialize<'de> for TokenPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(true) => Ok(Self::Query),
            Value::String(name) if !name.is_empty() => Ok(Self::Header(name)),
            _ => Err(D::Error::custom("expected true (?token= in the address) or the name of a header")),
        }
    }
}
