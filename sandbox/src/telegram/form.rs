//! The fields of a request, which come in the query, as a form, as JSON, or as a form with files. The server takes numbers
//! as texts and texts as numbers everywhere.

use axum::http::{HeaderMap, header::CONTENT_TYPE};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::Refusal;

/// The server takes larger files only where it is one's own.
const MAX_FILE: usize = 50 * 1024 * 1024;

#[derive(Debug, Default)]
pub struct Fields {
    values: Map<String, Value>,
    files: Vec<File>,
}

#[derive(Clone, Debug)]
pub struct File {
    pub field: String,
    pub filename: Option<String>,
    pub mime_type: Option<String>,
    pub bytes: Bytes,
}

impl Fields {
    pub async fn read(query: Option<&str>, headers: &HeaderMap, body: Bytes) -> Result<Self, Refusal> {
        let mut fields = Self::default();
        fields.add_form(query.unwrap_or_default().as_bytes());
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "application/json" => match serde_json::from_slice(&body) {
                Ok(Value::Object(map)) => fields.values.extend(map),
                _ => return Err(Refusal::bad("can't parse JSON object")),
            },
            "application/x-www-form-urlencoded" => fields.add_form(&body),
            "multipart/form-data" => fields.add_parts(kind, body).await?,
            _ => {}
        }
        Ok(fields)
    }

    fn add_form(&mut self, text: &[u8]) {
        for (name, value) in url::form_urlencoded::parse(text) {
            self.values.insert(name.into_owned(), json!(value));
        }
    }

    async fn add_parts(&mut self, kind: &str, body: Bytes) -> Result<(), Refusal> {
        let broken = || Refusal::bad("can't parse multipart/form-data");
        let boundary = multer::parse_boundary(kind).map_err(|_| broken())?;
        let stream = futures_util::stream::once(async move { Ok::<_, std::io::Error>(body) });
        let mut parts = multer::Multipart::new(stream, boundary);
        while let Some(part) = parts.next_field().await.map_err(|_| broken())? {
            let field = part.name().unwrap_or_default().to_owned();
            let filename = part.file_name().map(str::to_owned);
            let mime_type = part.content_type().map(ToString::to_string);
            let bytes = part.bytes().await.map_err(|_| broken())?;
            if filename.is_none() {
                self.values.insert(field, json!(String::from_utf8_lossy(&bytes)));
                continue;
            }
            if bytes.len() > MAX_FILE {
                return Err(Refusal::new(413, "Request Entity Too Large"));
            }
            self.files.push(File { field, filename, mime_type, bytes });
        }
        Ok(())
    }

    pub fn text(&self, name: &str) -> Option<String> {
        match self.values.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        }
    }

    pub fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    /// A field that holds JSON, or JSON as text.
    pub fn object(&self, name: &str) -> Option<Value> {
        match self.values.get(name)? {
            Value::String(text) => serde_json::from_str(text).ok(),
            other => Some(other.clone()),
        }
    }

    /// A file that came along: under its field's name, or attached under another.
    pub fn file(&self, name: &str) -> Option<&File> {
        let attached = self.text(name);
        let attached = attached.as_deref().and_then(|text| text.strip_prefix("attach://"));
        self.files.iter().find(|file| file.field == attached.unwrap_or(name))
    }

    /// The fields for the ledger.
    pub fn json(&self) -> Value {
        let mut shown = self.values.clone();
        for file in &self.files {
            let size = format!("({} bytes)", file.bytes.len());
            shown.insert(
                file.field.clone(),
                json!({"file": file.filename, "type": file.mime_type, "size": size}),
            );
        }
        Value::Object(shown)
    }
}
