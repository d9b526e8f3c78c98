//! Parsing of `multipart/form-data`.

use bytes::Bytes;

pub(crate) struct Part {
    pub name: String,
    pub filename: Option<String>,
    pub mime_type: Option<String>,
    pub bytes: Bytes,
}

impl Part {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Parses the parts of a body; `None` if it is not a form.
pub(crate) async fn parts(content_type: &str, body: Bytes) -> Option<Vec<Part>> {
    let boundary = multer::parse_boundary(content_type).ok()?;
    let stream = futures_util::stream::once(async move { Ok::<_, std::io::Error>(body) });
    let mut form = multer::Multipart::new(stream, boundary);
    let mut parts = Vec::new();
    while let Some(field) = form.next_field().await.ok()? {
        // The type is kept as written, because a parsed type loses the spelling of its parameters.
        let mime_type =
            field.headers().get("content-type").and_then(|value| value.to_str().ok()).map(str::to_owned);
        parts.push(Part {
            name: field.name().unwrap_or_default().to_owned(),
            filename: field.file_name().map(str::to_owned),
            mime_type,
            bytes: field.bytes().await.ok()?,
        });
    }
    Some(parts)
}
