//! The fields of a body: JSON by pointers to its leaves, forms and multipart forms by names.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, header::CONTENT_TYPE};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::Refused;
use super::vendors::{Field, Rule};

/// The body type of an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    Json,
    Form,
    Multipart,
}

/// One field as it came.
pub enum Got {
    /// A leaf of JSON, with its type.
    Json(Value),
    Text(String),
    File {
        filename: String,
        mime_type: Option<String>,
        bytes: Bytes,
    },
}

impl Got {
    /// A text that is one: not a number in JSON.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Json(Value::String(text)) | Self::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

pub struct Fields(BTreeMap<String, Got>);

impl Fields {
    pub async fn read(kind: BodyKind, headers: &HeaderMap, body: Bytes) -> Result<Self, Refused> {
        let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let bare = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let expected = match kind {
            BodyKind::Json => "application/json",
            BodyKind::Form => "application/x-www-form-urlencoded",
            BodyKind::Multipart => "multipart/form-data",
        };
        if bare != expected {
            return Err(Refused(415, format!("the body has to be {expected}")));
        }
        let mut fields = BTreeMap::new();
        match kind {
            BodyKind::Json => {
                let value: Value =
                    serde_json::from_slice(&body).map_err(|_| Refused::bad("the body is no JSON"))?;
                if !value.is_object() {
                    return Err(Refused::bad("the body is no JSON object"));
                }
                leaves(String::new(), value, &mut fields);
            }
            BodyKind::Form => {
                for (name, value) in url::form_urlencoded::parse(&body).into_owned() {
                    if fields.insert(name.clone(), Got::Text(value)).is_some() {
                        return Err(Refused::bad(format!("{name} comes twice")));
                    }
                }
            }
            BodyKind::Multipart => parts(given, body, &mut fields).await?,
        }
        Ok(Self(fields))
    }

    pub fn get(&self, at: &str) -> Option<&Got> {
        self.0.get(at)
    }

    /// The first shape whose fixed fields are there, else the first of all.
    pub fn shape<'a>(&self, shapes: &'a [&'a [Field]]) -> &'a [Field] {
        let fits = |shape: &&&[Field]| {
            shape.iter().all(|field| match field.rule {
                Rule::Exactly(expected) => {
                    self.get(field.at).and_then(Got::text).as_deref() == Some(expected)
                }
                _ => true,
            })
        };
        shapes.iter().find(fits).or(shapes.first()).copied().unwrap_or_default()
    }

    /// Refuses what no table has: a field that is misspelt would be ignored by the real one, silently.
    pub fn none_beside(&self, shape: &[Field]) -> Result<(), Refused> {
        match self.0.keys().find(|name| !shape.iter().any(|field| field.at == name.as_str())) {
            None => Ok(()),
            Some(name) => Err(Refused::bad(format!("there is no field {name}"))),
        }
    }

    /// The fields for the ledger, with long texts and files replaced by their sizes.
    pub fn shown(&self) -> Value {
        let shown = |got: &Got| match got {
            Got::Json(Value::String(text)) | Got::Text(text) if text.len() > 300 => {
                json!(format!("({} characters)", text.len()))
            }
            Got::Json(value) => value.clone(),
            Got::Text(text) => json!(text),
            Got::File { filename, mime_type, bytes } => {
                json!({"file": filename, "type": mime_type, "size": format!("({} bytes)", bytes.len())})
            }
        };
        let fields: Map<String, Value> =
            self.0.iter().map(|(name, got)| (name.clone(), shown(got))).collect();
        Value::Object(fields)
    }
}

/// Every leaf under its JSON pointer.
fn leaves(at: String, value: Value, found: &mut BTreeMap<String, Got>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, value) in map {
                leaves(format!("{at}/{name}"), value, found);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, value) in items.into_iter().enumerate() {
                leaves(format!("{at}/{index}"), value, found);
            }
        }
        leaf => drop(found.insert(at, Got::Json(leaf))),
    }
}

async fn parts(kind: &str, body: Bytes, found: &mut BTreeMap<String, Got>) -> Result<(), Refused> {
    let broken = || Refused::bad("the multipart form is broken");
    let boundary = multer::parse_boundary(kind).map_err(|_| broken())?;
    let stream = futures_util::stream::once(async move { Ok::<_, std::io::Error>(body) });
    let mut parts = multer::Multipart::new(stream, boundary);
    while let Some(part) = parts.next_field().await.map_err(|_| broken())? {
        let name = part.name().unwrap_or_default().to_owned();
        let filename = part.file_name().map(str::to_owned);
        let mime_type = part.content_type().map(ToString::to_string);
        let bytes = part.bytes().await.map_err(|_| broken())?;
        let got = match filename {
            Some(filename) => Got::File { filename, mime_type, bytes },
            None => Got::Text(String::from_utf8(bytes.to_vec()).map_err(|_| broken())?),
        };
        if found.insert(name.clone(), got).is_some() {
            return Err(Refused::bad(format!("{name} comes twice")));
        }
    }
    Ok(())
}

pub fn base64(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).ok()
}
