//! The draft of a request: it becomes a request, or is shown without being made.

use bytes::Bytes;
use reqwest::{
    Method, Request,
    header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde_json::Value;
use url::Url;

use super::{
    fields::Node,
    recipe::{AudioAs, BodyKind, Verb},
    template::{Name, Template, Values, plain},
};
use crate::{
    SendError, SendErrorKind,
    wire::{self, Multipart},
};

/// A header that every request has.
#[derive(Clone)]
pub(super) struct Header {
    pub name: String,
    pub value: String,
    pub is_secret: bool,
}

pub(super) enum Body {
    None,
    Json(Value),
    Form(Vec<(String, String)>),
    Multipart(Vec<(String, Item)>),
}

pub(super) enum Item {
    Text(String),
    /// The audio.
    File,
}

pub(super) struct Draft {
    pub method: Method,
    pub url: String,
    pub headers: Vec<Header>,
    pub body: Body,
}

/// The audio as a part of a form.
pub(super) struct File<'a> {
    pub filename: &'a str,
    pub mime_type: &'a str,
    pub bytes: &'a Bytes,
}

impl Draft {
    /// `None` where a value of the URL is not there.
    pub fn new(
        method: Verb,
        url: &Template,
        values: &Values,
        headers: Vec<Header>,
        body: Body,
    ) -> Option<Self> {
        let method = match method {
            Verb::Post => Method::POST,
            Verb::Put => Method::PUT,
            Verb::Patch => Method::PATCH,
            Verb::Get => Method::GET,
        };
        Some(Self { method, url: url.url(values)?, headers, body })
    }

    /// Adds a parameter to the query.
    pub fn with_query(mut self, name: &str, value: &str) -> Self {
        self.url.push(if self.url.contains('?') { '&' } else { '?' });
        self.url.push_str(&format!("{name}={value}"));
        self
    }

    /// The request itself; `note_id` makes the boundary of a multipart form.
    ///
    /// # Errors
    /// [`SendErrorKind::Misconfigured`]: a setting has characters that no header or URL takes.
    pub fn into_request(self, note_id: &str, file: Option<&File<'_>>) -> Result<Request, SendError> {
        let url = Url::parse(&self.url).map_err(|_| {
            let detail =
                "the recipe and the connection's settings make no URL together; check url and base_url";
            SendError::new(SendErrorKind::Misconfigured, detail)
        })?;
        let mut request = match self.body {
            Body::None => wire::json_request(self.method, url, None),
            Body::Json(value) => wire::json_request(self.method, url, Some(&value)),
            Body::Form(fields) => {
                let mut request = wire::json_request(self.method, url, None);
                let text =
                    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
                let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
                request.headers_mut().insert(CONTENT_TYPE, kind);
                *request.body_mut() = Some(text.into());
                request
            }
            Body::Multipart(items) => {
                let add = |form: Multipart, (name, item): &(String, Item)| match (item, file) {
                    (Item::Text(text), _) => form.text(name, text),
                    (Item::File, Some(file)) => form.file(name, file.filename, file.mime_type, file.bytes),
                    (Item::File, None) => form,
                };
                items.iter().fold(Multipart::new(note_id), add).request(self.method, url)
            }
        };
        for header in self.headers {
            let (Ok(name), Ok(mut value)) =
                (header.name.parse::<HeaderName>(), HeaderValue::from_str(&header.value))
            else {
                let detail = format!("a setting has characters that the header {} cannot have", header.name);
                return Err(SendError::new(SendErrorKind::Misconfigured, detail));
            };
            value.set_sensitive(header.is_secret);
            request.headers_mut().insert(name, value);
        }
        Ok(request)
    }

    /// The request as people read it.
    pub fn show(&self) -> String {
        let mut text = format!("{} {}\n", self.method, self.url);
        let kind = match &self.body {
            Body::None => None,
            Body::Json(_) => Some("application/json"),
            Body::Form(_) => Some("application/x-www-form-urlencoded"),
            Body::Multipart(_) => Some("multipart/form-data"),
        };
        let given = |name: &str| self.headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
        let accept = (!given(ACCEPT.as_str())).then_some(("accept", "application/json"));
        let content_type = kind.filter(|_| !given(CONTENT_TYPE.as_str())).map(|kind| ("content-type", kind));
        for (name, value) in accept.into_iter().chain(content_type) {
            text += &format!("{name}: {value}\n");
        }
        for header in &self.headers {
            text += &format!("{}: {}\n", header.name.to_ascii_lowercase(), header.value);
        }
        match &self.body {
            Body::None => {}
            Body::Json(value) => text += &format!("\n{value:#}\n"),
            Body::Form(fields) => {
                text.push('\n');
                for (name, value) in fields {
                    text += &format!("{name}={value}\n");
                }
            }
            Body::Multipart(items) => {
                text.push('\n');
                for (name, item) in items {
                    let value = match item {
                        Item::Text(text) => text,
                        Item::File => "[the audio as a file]",
                    };
                    text += &format!("{name}: {value}\n");
                }
            }
        }
        text
    }
}

impl Body {
    /// The fields with their values. In a multipart form the audio comes last, so that a server that reads the form as it
    /// arrives knows the other fields by then.
    pub fn of(kind: BodyKind, audio: Option<AudioAs>, fields: &Node, values: &Values) -> Self {
        let text = |node: &Node| node.value(values).as_ref().map(plain);
        match kind {
            BodyKind::Json => {
                Self::Json(fields.value(values).unwrap_or_else(|| Value::Object(serde_json::Map::new())))
            }
            BodyKind::Form => {
                let fields = fields.fields().iter();
                Self::Form(fields.filter_map(|(name, node)| Some((name.clone(), text(node)?))).collect())
            }
            BodyKind::Multipart => {
                let is_file = |node: &Node| {
                    audio == Some(AudioAs::Part)
                        && matches!(node, Node::Text(template) if template.is_alone(&Name::Audio))
                };
                let (files, texts): (Vec<_>, Vec<_>) =
                    fields.fields().iter().partition(|(_, node)| is_file(node));
                let texts = texts
                    .into_iter()
                    .filter_map(|(name, node)| Some((name.clone(), Item::Text(text(node)?))));
                Self::Multipart(
                    texts.chain(files.into_iter().map(|(name, _)| (name.clone(), Item::File))).collect(),
                )
            }
        }
    }
}
