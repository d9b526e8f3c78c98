//! `multipart/form-data` (RFC 7578) with a boundary that follows from the note, so that a request is the same each time
//! it is made ready. `reqwest`'s own draws a boundary at random.

use bytes::{BufMut, Bytes, BytesMut};
use reqwest::{
    Method, Request,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue},
};
use serde_json::Value;
use url::Url;

/// A form in the making.
#[derive(Debug)]
pub struct Multipart {
    boundary: String,
    body: BytesMut,
}

impl Multipart {
    /// `id` is the note's: unique and unguessable, so its boundary is in no file that somebody sends.
    pub fn new(id: &str) -> Self {
        let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
        let boundary = format!("voicegate-{}", id.chars().filter(plain).take(50).collect::<String>());
        Self { boundary, body: BytesMut::new() }
    }

    /// Adds a field with a text.
    #[must_use]
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.head(name, None, None);
        self.body.put_slice(value.as_bytes());
        self.end()
    }

    /// Adds a field with JSON, named as such.
    #[must_use]
    pub fn json(mut self, name: &str, value: &Value) -> Self {
        self.head(name, None, Some("application/json"));
        self.body.put_slice(value.to_string().as_bytes());
        self.end()
    }

    /// Adds a file.
    #[must_use]
    pub fn file(mut self, name: &str, filename: &str, mime_type: &str, bytes: &Bytes) -> Self {
        self.body.reserve(bytes.len() + 512);
        self.head(name, Some(filename), Some(mime_type));
        self.body.put_slice(bytes);
        self.end()
    }

    /// The request that carries the form.
    pub fn request(mut self, method: Method, url: Url) -> Request {
        self.body.put_slice(format!("--{}--\r\n", self.boundary).as_bytes());
        let mut request = Request::new(method, url);
        let kind = format!("multipart/form-data; boundary={}", self.boundary);
        if let Ok(kind) = HeaderValue::from_str(&kind) {
            request.headers_mut().insert(CONTENT_TYPE, kind);
        }
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        *request.body_mut() = Some(self.body.freeze().into());
        request
    }

    fn head(&mut self, name: &str, filename: Option<&str>, mime_type: Option<&str>) {
        let mut head =
            format!("--{}\r\nContent-Disposition: form-data; name=\"{}\"", self.boundary, quoted(name));
        if let Some(filename) = filename {
            head += &format!("; filename=\"{}\"", quoted(filename));
        }
        if let Some(mime_type) = mime_type {
            head += &format!("\r\nContent-Type: {}", mime_type.replace(['\r', '\n'], " "));
        }
        self.body.put_slice(head.as_bytes());
        self.body.put_slice(b"\r\n\r\n");
    }

    fn end(mut self) -> Self {
        self.body.put_slice(b"\r\n");
        self
    }
}

/// Escapes names as browsers do: <https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data>
fn quoted(text: &str) -> String {
    text.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_written_as_rfc_7578_has_it() {
        let url = Url::parse("https://api.example.com/send").expect("a URL");
        let request = Multipart::new("vn_01")
            .text("chat_id", "17")
            .json("reply", &serde_json::json!({"id": 1}))
            .file("voice", "a\"b.ogg", "audio/ogg", &Bytes::from_static(b"OggS"))
            .request(Method::POST, url);
        let kind = request.headers()[CONTENT_TYPE].to_str().expect("text");
        assert_eq!(kind, "multipart/form-data; boundary=voicegate-vn01");
        let body = request.body().and_then(|body| body.as_bytes()).expect("a body in memory");
        let expected = "--voicegate-vn01\r\nContent-Disposition: form-data; name=\"chat_id\"\r\n\r\n17\r\n\
            --voicegate-vn01\r\nContent-Disposition: form-data; name=\"reply\"\r\nContent-Type: application/json\r\n\r\n{\"id\":1}\r\n\
            --voicegate-vn01\r\nContent-Disposition: form-data; name=\"voice\"; filename=\"a%22b.ogg\"\r\nContent-Type: audio/ogg\r\n\r\nOggS\r\n\
            --voicegate-vn01--\r\n";
        assert_eq!(std::str::from_utf8(body), Ok(expected));
    }
}
