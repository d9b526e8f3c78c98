//! Attachments: uploads whose id is given out before their bytes come. Until then nothing is stored: the address for the
//! upload says what was agreed, signed.

use axum::{
    Json,
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::{SignedDuration, Timestamp};
use mime::Mime;
use serde::{Deserialize, Serialize};
use tower::ServiceExt as _;
use tower_http::services::ServeFile;
use url::Url;
use utoipa::ToSchema;
use uuid::Uuid;
use voicegate_audio::Hints;

use super::{Caller, FIELDS};
use crate::{
    delivery::upload,
    gateway::Gateway,
    http::{
        App,
        body::{self, foreign},
        compat::{Fields, parameter},
        media::tame_range,
        room,
    },
    media::{AudioBytes, AudioInput, SpooledAudio},
    model::{
        clock::rfc3339_millis,
        code::{Code, Stage},
        id::UploadId,
        problem::Problem,
        upload::Upload,
    },
};

/// Linq's limit on attachments, in bytes.
const MAX_BYTES: u64 = 104_857_600;

/// The time for an upload.
const UPLOAD_TIME: SignedDuration = SignedDuration::from_mins(15);

/// Types of attachments at Linq that can contain a voice.
const TYPES: [&str; 17] = [
    "audio/mpeg",
    "audio/mp3",
    "audio/x-m4a",
    "audio/mp4",
    "audio/x-caf",
    "audio/x-wav",
    "audio/x-aiff",
    "audio/aiff",
    "audio/aac",
    "audio/amr",
    "video/mp4",
    "video/quicktime",
    "video/mpeg",
    "video/mpeg2",
    "video/x-m4v",
    "video/x-msvideo",
    "video/3gpp",
];

/// The agreement about an upload, and with the same id about its download.
#[derive(Serialize, Deserialize)]
struct Ticket {
    tenant: String,
    id: Uuid,
    filename: String,
    content_type: String,
    size_bytes: u64,
    /// Seconds since 1970.
    until: i64,
}

const UPLOAD: &str = "linq upload";
const DOWNLOAD: &str = "linq download";

impl Ticket {
    fn url(&self, gateway: &Gateway, purpose: &str) -> Url {
        let claims = serde_json::to_vec(self).unwrap_or_default();
        let mut url = gateway.live().config.server.public_url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["compat", "linq", "files", &gateway.links.seal(purpose, &claims)]);
        }
        url
    }

    /// The ticket of a token that is still valid.
    fn open(gateway: &Gateway, purpose: &str, token: &str) -> Result<Self, Problem> {
        let refused =
            |detail: &str| Problem::new(Code::NotFound, detail).stage(Stage::Request).field("token");
        let claims =
            gateway.links.unseal(purpose, token).ok_or_else(|| refused("there is no such address"))?;
        let ticket: Self =
            serde_json::from_slice(&claims).map_err(|_| refused("there is no such address"))?;
        if ticket.until <= gateway.clock.now().as_second() {
            return Err(refused("this address has expired; request another one"));
        }
        Ok(ticket)
    }
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `request` reads in the document")]
struct LinqUploadRequest {
    #[schema(min_length = 1, max_length = 255, examples("greeting.m4a"))]
    filename: String,
    /// A type of audio or video that Linq takes.
    #[schema(examples("audio/x-m4a"))]
    content_type: String,
    /// The size of the file that will be uploaded.
    #[schema(minimum = 1, maximum = 104_857_600, examples(15_800))]
    size_bytes: u64,
}

#[derive(Serialize, ToSchema)]
pub struct LinqUpload {
    #[schema(value_type = String, format = "uuid")]
    attachment_id: Uuid,
    /// Takes the bytes with PUT. It needs no key, and is valid for 15 minutes.
    #[schema(format = "uri")]
    upload_url: String,
    #[schema(format = "uri")]
    download_url: String,
    http_method: &'static str,
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    required_headers: LinqUploadHeaders,
}

#[derive(Serialize, ToSchema)]
struct LinqUploadHeaders {
    #[serde(rename = "Content-Type")]
    #[schema(rename = "Content-Type")]
    content_type: String,
    #[serde(rename = "Content-Length")]
    #[schema(rename = "Content-Length")]
    content_length: String,
}

/// Request an upload
///
/// Answers with an address that takes the bytes. Until they have come, the attachment does not exist.
#[utoipa::path(
    post, path = "/compat/linq/v3/attachments", tag = "Linq", operation_id = "linqRequestUpload",
    request_body(content((LinqUploadRequest = "application/json"))),
    responses((status = 200, description = "The address.", body = LinqUpload)),
)]
pub async fn request(
    State(app): State<App>,
    Caller(tenant): Caller,
    request: Request,
) -> Result<Json<LinqUpload>, Problem> {
    let gateway = &*app.gateway;
    gateway.open_for_work()?;
    let fields = Fields(foreign::read(&app, &tenant.name, request, FIELDS).await?.fields);
    let filename = fields.text(&["filename"]).filter(|name| name.chars().count() <= 255);
    let filename = filename.ok_or_else(|| Problem::invalid("filename", "expected 1 to 255 characters"))?;
    let content_type = fields.text(&["content_type"]).unwrap_or_default().to_ascii_lowercase();
    if !TYPES.contains(&content_type.as_str()) {
        let detail = format!("expected one of {}", TYPES.join(", "));
        return Err(Problem::new(Code::UnsupportedMediaType, detail)
            .stage(Stage::Request)
            .field("content_type"));
    }
    let most = MAX_BYTES.min(gateway.live().config.audio.max_bytes.0);
    let size = fields.text(&["size_bytes"]).and_then(|size| size.parse::<u64>().ok());
    let size_bytes = size.filter(|size| *size > 0);
    let size_bytes =
        size_bytes.ok_or_else(|| Problem::invalid("size_bytes", "expected a number of bytes"))?;
    if size_bytes > most {
        let detail = format!("expected at most {most} bytes");
        return Err(Problem::new(Code::AudioTooLarge, detail).stage(Stage::Request).field("size_bytes"));
    }
    let now = gateway.clock.now();
    let expires_at = now + UPLOAD_TIME;
    let id = UploadId::new().0;
    let ticket = Ticket {
        tenant: tenant.name.clone(),
        id,
        filename,
        content_type,
        size_bytes,
        until: expires_at.as_second(),
    };
    let upload_url = ticket.url(gateway, UPLOAD).into();
    let required_headers = LinqUploadHeaders {
        content_type: ticket.content_type.clone(),
        content_length: size_bytes.to_string(),
    };
    let download_url = download_url(gateway, ticket).into();
    Ok(Json(LinqUpload {
        attachment_id: id,
        upload_url,
        download_url,
        http_method: "PUT",
        expires_at,
        required_headers,
    }))
}

/// The address of the bytes, for as long as any link.
fn download_url(gateway: &Gateway, ticket: Ticket) -> Url {
    let ttl = gateway.live().config.server.link_ttl.0;
    let until = gateway.clock.now() + ttl;
    Ticket { until: until.as_second(), ..ticket }.url(gateway, DOWNLOAD)
}

/// Upload the bytes of an attachment
///
/// The address is that of `upload_url`, and needs no key. The type and the size have to be those that were agreed.
#[utoipa::path(
    put, path = "/compat/linq/files/{token}", tag = "Linq", operation_id = "linqUploadFile",
    params(("token" = String, Path, description = "The signed permission of the address.")),
    request_body(content((Vec<u8> = "audio/*"), (Vec<u8> = "video/*"))),
    responses((status = 200, description = "The attachment can be sent now.")),
)]
pub async fn put(
    State(app): State<App>,
    token: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let gateway = &*app.gateway;
    gateway.open_for_work()?;
    let ticket = Ticket::open(gateway, UPLOAD, &parameter(token))?;
    let live = gateway.live();
    let absent = || Problem::new(Code::NotFound, "there is no such address").stage(Stage::Request);
    let tenant = live.tenants.get(&ticket.tenant).ok_or_else(absent)?.clone();
    live.take_request(&tenant.name)?;
    fits(&ticket, request.headers())?;
    let expected = room::expect(gateway, &tenant, request.headers(), None).await?;
    let received = body::audio(&app, request, ticket.size_bytes).await?;
    drop(expected); // the size is known now
    if size_of(&received)? != ticket.size_bytes {
        let detail = format!("expected {} bytes, as agreed", ticket.size_bytes);
        return Err(Problem::invalid("Content-Length", detail));
    }
    let id = UploadId(ticket.id);
    // A client that got no answer uploads the same bytes again.
    match upload::find(gateway, &tenant, id).await {
        Ok(known) if known.probed.facts.sha256 == received.sha256 => return Ok(StatusCode::OK),
        Ok(_) => {
            return Err(Problem::invalid("token", "other bytes were uploaded to this address already"));
        }
        Err(problem) if problem.code == Code::NotFound => {}
        Err(problem) => return Err(problem),
    }
    let hints = Hints { filename: Some(ticket.filename), mime_type: Some(ticket.content_type), format: None };
    upload::add_as(gateway, &tenant, id, AudioInput::Bytes(received), &hints).await?;
    Ok(StatusCode::OK)
}

/// Whether the headers are those that were agreed.
fn fits(ticket: &Ticket, headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::trim);
    if !text(header::CONTENT_TYPE).is_some_and(|kind| kind.eq_ignore_ascii_case(&ticket.content_type)) {
        let detail = format!("expected {}, as agreed", ticket.content_type);
        return Err(Problem::invalid("Content-Type", detail));
    }
    let stated = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if stated.is_some_and(|length| length != ticket.size_bytes) {
        let detail = format!("expected {} bytes, as agreed", ticket.size_bytes);
        return Err(Problem::invalid("Content-Length", detail));
    }
    Ok(())
}

fn size_of(received: &SpooledAudio) -> Result<u64, Problem> {
    Ok(match &received.bytes {
        AudioBytes::Memory(bytes, _) => bytes.len() as u64,
        AudioBytes::File(file) => file.as_file().metadata()?.len(),
    })
}

/// Download the bytes of an attachment
///
/// The address is that of `download_url`, and needs no key.
#[utoipa::path(
    get, path = "/compat/linq/files/{token}", tag = "Linq", operation_id = "linqDownloadFile",
    params(("token" = String, Path, description = "The signed permission of the address.")),
    responses((status = 200, description = "The bytes.")),
)]
pub async fn download(
    State(app): State<App>,
    token: Result<Path<String>, PathRejection>,
    mut request: Request,
) -> Result<Response, Problem> {
    let gateway = &*app.gateway;
    let ticket = Ticket::open(gateway, DOWNLOAD, &parameter(token))?;
    let absent = || Problem::new(Code::NotFound, "the attachment does not exist").field("attachment_id");
    let tenant = gateway.live().tenants.get(&ticket.tenant).ok_or_else(absent)?.clone();
    let known = upload::find(gateway, &tenant, UploadId(ticket.id)).await?;
    let file = gateway.media.upload(known.id).await?.ok_or_else(absent)?;
    let kind: Mime = known.probed.facts.mime_type.parse().unwrap_or(mime::APPLICATION_OCTET_STREAM);
    tame_range(request.headers_mut());
    let served: Result<_, std::convert::Infallible> =
        ServeFile::new_with_mime(file.path(), &kind).oneshot(request).await;
    drop(file); // it is open now, and its name is no longer needed
    let mut response = served.into_response().map(Body::new);
    let disposition = format!("inline; filename=\"voice.{}\"", known.probed.facts.extension());
    if let Ok(disposition) = HeaderValue::from_str(&disposition) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

#[derive(Serialize, ToSchema)]
pub struct LinqAttachment {
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    filename: String,
    content_type: String,
    size_bytes: u64,
    status: &'static str,
    #[schema(format = "uri")]
    download_url: String,
    #[serde(with = "rfc3339_millis")]
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl LinqAttachment {
    fn of(gateway: &Gateway, upload: Upload) -> Self {
        let Upload { id, tenant, probed, hints, created_at, .. } = upload;
        let facts = probed.facts;
        let filename = hints.filename.unwrap_or_else(|| format!("voice.{}", facts.extension()));
        let content_type = hints.mime_type.unwrap_or(facts.mime_type);
        let ticket = Ticket {
            tenant,
            id: id.0,
            filename: filename.clone(),
            content_type: content_type.clone(),
            size_bytes: facts.size_bytes,
            until: 0,
        };
        Self {
            id: id.0,
            filename,
            content_type,
            size_bytes: facts.size_bytes,
            status: "complete",
            download_url: download_url(gateway, ticket).into(),
            created_at,
        }
    }
}

/// Read an attachment
#[utoipa::path(
    get, path = "/compat/linq/v3/attachments/{attachmentId}", tag = "Linq", operation_id = "linqGetAttachment",
    params(("attachmentId" = String, Path, description = "The attachment.")),
    responses((status = 200, description = "The attachment.", body = LinqAttachment)),
)]
pub async fn show(
    State(app): State<App>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<LinqAttachment>, Problem> {
    let id = Uuid::try_parse(&parameter(id)).map_err(|_| AudioInput::no_such_upload())?;
    let upload = upload::find(&app.gateway, &tenant, UploadId(id)).await?;
    Ok(Json(LinqAttachment::of(&app.gateway, upload)))
}
