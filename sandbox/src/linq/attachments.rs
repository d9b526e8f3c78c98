//! Pre-uploads: ask for a signed link, PUT the bytes to it as S3 wants them.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;
use uuid::Uuid;

use super::{LinqError, object};
use crate::Sandbox;
use crate::state::{clock, stamp};

const LINK_LIFE: SignedDuration = SignedDuration::from_mins(15);
const MAX_SIZE: u64 = 104_857_600;

/// The schema's `SupportedContentType`, to the letter: no parameters, `audio/x-wav` but not `audio/wav`.
/// FLAC, OGG, WebP and SVG are listed by the vendor as rejected, the latter two in spite of the enum.
const CONTENT_TYPES: &[&str] = &[
    "image/jpeg",
    "image/png",
    "image/gif",
    "image/heic",
    "image/heif",
    "image/tiff",
    "image/bmp",
    "image/x-icon",
    "video/mp4",
    "video/quicktime",
    "video/mpeg",
    "video/mpeg2",
    "video/x-m4v",
    "video/x-msvideo",
    "video/3gpp",
    "audio/mpeg",
    "audio/mp3",
    "audio/x-m4a",
    "audio/mp4",
    "audio/x-caf",
    "audio/x-wav",
    "audio/x-aiff",
    "audio/aiff",
    "audio/aac",
    "audio/midi",
    "audio/amr",
    "application/pdf",
    "text/plain",
    "text/markdown",
    "text/vcard",
    "text/rtf",
    "text/csv",
    "text/html",
    "text/calendar",
    "text/xml",
    "application/json",
    "application/zip",
    "application/x-gzip",
    "application/epub+zip",
    "application/msword",
    "application/vnd.ms-excel",
    "application/vnd.ms-powerpoint",
    "application/vnd.apple.pkpass",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "application/x-iwork-pages-sffpages",
    "application/x-iwork-numbers-sffnumbers",
    "application/x-iwork-keynote-sffkey",
];

#[derive(Clone)]
pub(crate) struct Attachment {
    pub id: Uuid,
    pub filename: String,
    pub content_type: String,
    size: u64,
    expires: Timestamp,
    created_at: String,
    pub download_url: String,
    /// `None` until the PUT came.
    pub bytes: Option<Bytes>,
}

pub(super) async fn request_upload(
    State(sandbox): State<Sandbox>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, LinqError> {
    let request = object(&headers, &body, &["filename", "content_type", "size_bytes"])?;
    let text = |name: &str| match request.get(name) {
        None | Some(Value::Null) => Err(LinqError::missing(name)),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(LinqError::malformed(format!("{name} must be a string"))),
    };
    let filename = text("filename")?;
    if !(1..=255).contains(&filename.chars().count()) {
        return Err(LinqError::malformed("filename must have 1 to 255 characters"));
    }
    let content_type = text("content_type")?;
    if !CONTENT_TYPES.contains(&content_type.as_str()) {
        return Err(LinqError::new(400, 5004, format!("File type not supported: {content_type}")));
    }
    let size = match request.get("size_bytes") {
        None | Some(Value::Null) => return Err(LinqError::missing("size_bytes")),
        Some(value) => {
            value.as_u64().ok_or_else(|| LinqError::malformed("size_bytes must be a positive integer"))?
        }
    };
    if size == 0 {
        return Err(LinqError::malformed("size_bytes must be at least 1"));
    }
    if size > MAX_SIZE {
        return Err(LinqError::new(400, 5005, "File too large - maximum size is 100MB"));
    }

    let id = Uuid::new_v4();
    let base = base_url(&headers)?;
    let download_url = file_url(&base, id, &filename)?;
    let now = clock();
    let expires = now + LINK_LIFE;
    let mut upload_url = base;
    upload_url.set_path(&format!("/linq/uploads/{id}"));
    upload_url
        .query_pairs_mut()
        .append_pair("X-Sandbox-Expires", &expires.as_second().to_string())
        .append_pair("X-Sandbox-SignedHeaders", "content-length;content-type;host")
        .append_pair("X-Sandbox-Signature", &sign(&sandbox, id, expires.as_second()));
    let attachment = Attachment {
        id,
        filename,
        content_type: content_type.clone(),
        size,
        expires,
        created_at: stamp(now),
        download_url: download_url.clone(),
        bytes: None,
    };
    sandbox.inner.lock().attachments.insert(id, attachment);
    Ok(Json(json!({
        "attachment_id": id,
        "upload_url": upload_url.as_str(),
        "http_method": "PUT",
        "expires_at": stamp(expires),
        "required_headers": { "Content-Type": content_type, "Content-Length": size.to_string() },
        "download_url": download_url,
    })))
}

/// The sandbox has no address of its own: it is where the caller found it.
fn base_url(headers: &HeaderMap) -> Result<Url, LinqError> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1");
    Url::parse(&format!("http://{host}/")).map_err(|_| LinqError::malformed("Host header is not a host"))
}

fn file_url(base: &Url, id: Uuid, filename: &str) -> Result<String, LinqError> {
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| LinqError::malformed("Host header is not a host"))?
        .clear()
        .extend(["linq", "files", &id.to_string(), filename]);
    Ok(url.into())
}

fn sign(sandbox: &Sandbox, id: Uuid, expires: i64) -> String {
    hex::encode(Sha256::digest(format!("{}\n{id}\n{expires}", sandbox.inner.upload_key)))
}

#[derive(Deserialize)]
pub(super) struct Signed {
    #[serde(rename = "X-Sandbox-Expires")]
    expires: Option<String>,
    #[serde(rename = "X-Sandbox-Signature")]
    signature: Option<String>,
}

/// Answers as S3 does to a presigned PUT,
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>.
pub(super) async fn upload(
    State(sandbox): State<Sandbox>,
    method: Method,
    Path(id): Path<String>,
    Query(signed): Query<Signed>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    // The signature is in the query; S3 refuses to choose between two ways to authenticate.
    if headers.contains_key(AUTHORIZATION) {
        let message = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query \
                       string parameter or the Authorization header should be specified";
        return s3_error(StatusCode::BAD_REQUEST, "InvalidArgument", message);
    }
    let mismatch = |why: &str| {
        let message = format!(
            "The request signature we calculated does not match the signature you provided ({why}). Check your key \
             and signing method."
        );
        s3_error(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", &message)
    };
    if method != Method::PUT {
        return mismatch("the link is signed for PUT");
    }
    let mut state = sandbox.inner.lock();
    let attachment = Uuid::parse_str(&id).ok().and_then(|id| state.attachments.get_mut(&id));
    let Some(attachment) = attachment else {
        return mismatch("no such upload");
    };
    let expires = attachment.expires.as_second();
    let expected = sign(&sandbox, attachment.id, expires);
    if signed.signature != Some(expected) || signed.expires != Some(expires.to_string()) {
        return mismatch("signature or expiry was changed");
    }
    if clock() >= attachment.expires {
        return s3_error(StatusCode::FORBIDDEN, "AccessDenied", "Request has expired");
    }
    let header = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        let first = values.next().and_then(|value| value.to_str().ok());
        first.filter(|_| values.next().is_none())
    };
    if header(&CONTENT_TYPE) != Some(attachment.content_type.as_str()) {
        return mismatch("Content-Type is signed and differs");
    }
    if header(&CONTENT_LENGTH) != Some(attachment.size.to_string().as_str())
        || body.len() as u64 != attachment.size
    {
        return mismatch("Content-Length is signed and differs");
    }
    attachment.bytes = Some(body);
    StatusCode::OK.into_response()
}

fn s3_error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
         <RequestId>{}</RequestId></Error>",
        Uuid::new_v4().simple()
    );
    (status, [(CONTENT_TYPE, "application/xml")], body).into_response()
}

pub(super) async fn get_one(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
) -> Result<Json<Value>, LinqError> {
    let id = super::uuid(&id)?;
    if let Some(received) = super::received::attachment(&sandbox, id) {
        return Ok(Json(received));
    }
    let state = sandbox.inner.lock();
    let attachment = state.attachments.get(&id).ok_or_else(not_found)?;
    Ok(Json(json!({
        "id": id,
        "filename": attachment.filename,
        "content_type": attachment.content_type,
        "size_bytes": attachment.size,
        "status": if attachment.bytes.is_some() { "complete" } else { "pending" },
        "download_url": attachment.download_url,
        "created_at": attachment.created_at,
    })))
}

pub(super) fn not_found() -> LinqError {
    LinqError::new(404, 2003, "Attachment not found, or its upload was never completed")
}

/// The CDN.
pub(super) async fn download(
    State(sandbox): State<Sandbox>,
    Path((id, _filename)): Path<(Uuid, String)>,
) -> Response {
    let state = sandbox.inner.lock();
    match state.attachments.get(&id).and_then(|found| Some((found, found.bytes.clone()?))) {
        Some((found, bytes)) => ([(CONTENT_TYPE, found.content_type.clone())], bytes).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
