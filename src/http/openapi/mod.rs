//! The OpenAPI document. Paths, fields and descriptions come from the router and from the types that are read and
//! written. Everything else (problems, examples, headers of files) is added here.

mod examples;
mod problems;
mod requests;
mod webhooks;

use std::sync::LazyLock;

use axum::{
    http::{HeaderValue, header::CONTENT_TYPE},
    response::IntoResponse,
};
use utoipa::openapi::{
    Header, HeaderBuilder, HttpMethod, InfoBuilder, KnownFormat, LicenseBuilder, ObjectBuilder, OpenApi,
    RefOr, Required, Response, ResponseBuilder, Schema, SchemaFormat, Server, Type,
    path::{Operation, Parameter, ParameterBuilder, ParameterIn},
    security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    tag::TagBuilder,
};

pub use requests::{
    Bytes, RenderForm, RenderRequestBody, UploadForm, UploadRequest, VoiceForm, VoiceRequestBody,
};

/// The name of the security scheme of the API.
const SECURITY: &str = "apiKey";

/// The security scheme of `/metrics`, for gateways with a token.
const METRICS_SECURITY: &str = "metricsToken";

const WALK: &str = include_str!("walk.md");

const TAGS: &[(&str, &str)] = &[
    ("Voice notes", "Send, watch, download and erase voice notes."),
    ("Received notes", "List, read, download and erase voice notes that people sent."),
    ("Recovery", "After an outage: send again what did not arrive, and watch it."),
    ("Uploads", "Audio that is sent more than once, or before its recipient is known."),
    ("Events", "Changes of notes and received notes, as they happen."),
    webhooks::TAG,
    (
        "Callbacks",
        "Calls by providers about their messages. They are authenticated by a signature or a token.",
    ),
    ("Connections", "The capabilities of a tenant's accounts at providers."),
    ("Links", "Signed links from which providers download audio."),
    ("Operation", "Endpoints for operators and tools. They need no API key."),
];

static TEXT: LazyLock<String> = LazyLock::new(|| {
    // The document has only text keys and no numbers that JSON cannot represent.
    let mut text = document().to_pretty_json().expect("an OpenAPI document is JSON");
    text.push('\n');
    text
});

/// The document as JSON.
pub fn text() -> &'static str {
    &TEXT
}

/// Read this document
#[utoipa::path(
    get, path = "/openapi.json", tag = "Operation", operation_id = "getOpenApi",
    responses((status = 200, description = "The API in OpenAPI 3.1.", content_type = "application/json", body = Object)),
)]
pub async fn serve() -> impl IntoResponse {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], text())
}

pub fn document() -> OpenApi {
    let (_, mut document) = super::routes().split_for_parts();
    document.info = InfoBuilder::new()
        .title("voicegate")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(WALK))
        .license(Some(
            LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0")).build(),
        ))
        .build();
    document.servers = Some(vec![Server::new("/")]);
    let tag = |(name, about): &(&str, &str)| TagBuilder::new().name(*name).description(Some(*about)).build();
    document.tags = Some(TAGS.iter().map(tag).collect());
    if let Some(components) = &mut document.components {
        let about = "An API key of the tenant. `voicegate keys new` makes one.";
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about)).build();
        components.add_security_scheme(SECURITY, SecurityScheme::Http(scheme));
        let about = "The token in `server.metrics_token`.";
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about)).build();
        components.add_security_scheme(METRICS_SECURITY, SecurityScheme::Http(scheme));
    }
    if let Some(head) = document.paths.paths.values_mut().find_map(|path| path.head.as_mut()) {
        head.operation_id = Some("headByLink".to_owned());
        head.summary = Some("Read the headers of audio behind a signed link".to_owned());
    }
    for (_, method, operation) in operations(&mut document) {
        let id = operation.operation_id.clone().unwrap_or_default();
        for parameter in operation.parameters.iter_mut().flatten() {
            if let RefOr::T(Parameter { schema: Some(schema), .. }) = parameter {
                requests::without_null(schema);
            }
        }
        match id.as_str() {
            "sendVoice" => {
                add_parameters(operation, requests::query::<VoiceForm>());
                for status in ["200", "202"] {
                    if let Some(RefOr::T(response)) = operation.responses.responses.get_mut(status) {
                        add_note_headers(response);
                    }
                }
            }
            "resendVoice" => {
                if let Some(RefOr::T(response)) = operation.responses.responses.get_mut("202") {
                    add_note_headers(response);
                    response.headers.remove("Preference-Applied");
                }
            }
            "recoverVoice" | "recoverWebhook" => {
                if let Some(RefOr::T(response)) = operation.responses.responses.get_mut("202") {
                    add_task_headers(response);
                }
            }
            "getDocs" | "getDocsPage" => {
                if let Some(RefOr::T(response)) = operation.responses.responses.get_mut("200") {
                    let policy = header(
                        "The page loads nothing from other hosts, and runs no script but its own file.",
                        "default-src 'none'; style-src 'self'; script-src 'self'",
                    );
                    let caching = header(
                        "The page may be cached for a short time, since an upgrade changes it.",
                        "public, max-age=300",
                    );
                    response.headers.insert("Content-Security-Policy".to_owned(), policy.into());
                    response.headers.insert("Cache-Control".to_owned(), caching.into());
                }
            }
            "getConsole" | "getConsoleFile" => {
                if let Some(RefOr::T(response)) = operation.responses.responses.get_mut("200") {
                    for (name, about, example) in [
                        (
                            "Content-Security-Policy",
                            "The page loads nothing from other hosts, and runs no script but its own file.",
                            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'",
                        ),
                        ("Permissions-Policy", "Only the page itself may record.", "microphone=(self)"),
                        ("Referrer-Policy", "No other host learns the address.", "no-referrer"),
                        ("Cache-Control", "An upgrade changes the file.", "no-cache"),
                    ] {
                        response.headers.insert(name.to_owned(), header(about, example).into());
                    }
                }
            }
            "planVoice" => add_parameters(operation, requests::query::<VoiceForm>()),
            "renderAudio" => {
                add_parameters(operation, requests::query::<RenderForm>());
                for status in ["200", "304"] {
                    if let Some(RefOr::T(response)) = operation.responses.responses.get_mut(status) {
                        add_render_headers(response, status == "200");
                    }
                }
            }
            "uploadAudio" => add_parameters(operation, requests::query::<UploadForm>()),
            "downloadVoiceAudio" | "downloadReceivedAudio" | "downloadByLink" | "headByLink" => {
                serves_file(operation, method == HttpMethod::Get)
            }
            _ => {}
        }
    }
    problems::add(&mut document);
    examples::add(&mut document);
    webhooks::add(&mut document);
    add_common_headers(&mut document);
    document
}

/// Adds the headers that every answer has.
pub(super) fn add_common_headers(document: &mut OpenApi) {
    for (_, _, operation) in operations(document) {
        for response in operation.responses.responses.values_mut() {
            if let RefOr::T(response) = response {
                let caching = header("The answer must not be cached.", "no-store");
                response.headers.entry("Cache-Control".to_owned()).or_insert(caching.into());
                let sniffing =
                    header("The content type is exact; browsers must not guess another.", "nosniff");
                response.headers.insert("X-Content-Type-Options".to_owned(), sniffing.into());
                let about = "The request's own `X-Request-Id`, if that is 1 to 128 visible ASCII characters; otherwise one made by the gateway.";
                let id = header(about, "0199fd9c2f6c7d128d0a4c0f3c1d2e3f");
                response.headers.insert("X-Request-Id".to_owned(), id.into());
            }
        }
    }
}

/// All operations with path and method.
pub(super) fn operations(document: &mut OpenApi) -> impl Iterator<Item = (&str, HttpMethod, &mut Operation)> {
    document.paths.paths.iter_mut().flat_map(|(path, item)| {
        let methods = [
            (HttpMethod::Get, &mut item.get),
            (HttpMethod::Head, &mut item.head),
            (HttpMethod::Post, &mut item.post),
            (HttpMethod::Put, &mut item.put),
            (HttpMethod::Delete, &mut item.delete),
        ];
        methods
            .into_iter()
            .filter_map(|(method, operation)| Some((path.as_str(), method, operation.as_mut()?)))
    })
}

pub(super) fn add_parameters(operation: &mut Operation, parameters: Vec<Parameter>) {
    operation.parameters.get_or_insert_default().extend(parameters.into_iter().map(RefOr::T));
}

/// Describes a response header with text.
pub(super) fn header(description: &str, example: &str) -> Header {
    let text = ObjectBuilder::new().schema_type(Type::String).examples([example]);
    HeaderBuilder::new().schema(Some(text)).description(Some(description)).build()
}

/// Adds the headers of an answer about a stored note.
fn add_note_headers(response: &mut Response) {
    for (name, description, example) in [
        (
            "Location",
            "The address of the note: `/voice/{id}`.",
            "/voice/vn_01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41",
        ),
        (
            "Preference-Applied",
            "Present if the request had `Prefer: wait`: the longest time that the gateway waits.",
            "wait=10",
        ),
        (
            "Idempotency-Replayed",
            "`true` if an earlier request with this `Idempotency-Key` made the note.",
            "true",
        ),
    ] {
        response.headers.insert(name.to_owned(), header(description, example).into());
    }
}

/// Adds the headers of rendered audio.
fn add_render_headers(response: &mut Response, has_audio: bool) {
    let of_both = [
        ("ETag", "The tag of these bytes, made of their SHA-256.", "\"2c26b46b68ffc68f\""),
        ("Vary", "The answer depends on `Accept`.", "accept"),
    ];
    let of_audio = [
        ("Content-Disposition", "A file name that matches the format.", "inline; filename=\"voice.ogg\""),
        ("Voicegate-Duration-Ms", "The length of the audio in milliseconds.", "9870"),
        (
            "Voicegate-Waveform",
            "The loudness in 64 steps: 64 bytes of 0 to 100, as base64.",
            "AAUKDxQZHiMoLTI=",
        ),
        ("Voicegate-Work", "What was done to the source: `none`, `remuxed` or `transcoded`.", "transcoded"),
        (
            "Voicegate-Checks",
            "The checks that the audio passed, with commas; empty for the source itself.",
            "ogg_pages, opus_headers",
        ),
    ];
    for (name, about, example) in of_both.into_iter().chain(of_audio.into_iter().filter(|_| has_audio)) {
        response.headers.insert(name.to_owned(), header(about, example).into());
    }
}

/// Adds the headers of an answer about a task.
fn add_task_headers(response: &mut Response) {
    let location =
        header("The address of the task: `/tasks/{id}`.", "/tasks/task_01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41");
    let replayed = header("`true` if the same order was given before and made the task.", "true");
    response.headers.insert("Location".to_owned(), location.into());
    response.headers.insert("Idempotency-Replayed".to_owned(), replayed.into());
}

/// Describes partial and conditional requests for a file (RFC 9110, sections 13 and 14).
pub(super) fn serves_file(operation: &mut Operation, with_body: bool) {
    let conditions = [
        (
            "Range",
            "One range of bytes, to get a part of the file. Any other value gets the whole file.",
            "bytes=0-1023",
        ),
        (
            "If-Range",
            "A condition for a range. The answer to a request with this header is always the whole file.",
            "\"1c5f-18e9\"",
        ),
        ("If-None-Match", "304 if the file still has this `ETag`.", "\"1c5f-18e9\""),
        ("If-Modified-Since", "304 if the file was not changed since.", "Sat, 21 Nov 2026 10:00:00 GMT"),
        ("If-Match", "412 if the file has another `ETag`.", "\"1c5f-18e9\""),
        ("If-Unmodified-Since", "412 if the file was changed since.", "Sat, 21 Nov 2026 10:00:00 GMT"),
    ];
    let parameters = conditions.into_iter().map(|(name, about, example)| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(about))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String).examples([example])))
            .build()
    });
    add_parameters(operation, parameters.collect());

    let answer = |description: &str, headers: &[(&str, &str, &str)], file: bool| {
        let mut response = ResponseBuilder::new().description(description);
        for (name, about, example) in headers {
            response = response.header(*name, header(about, example));
        }
        if file && with_body {
            let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
            let bytes = ObjectBuilder::new().schema_type(Type::String).format(Some(format));
            let content =
                utoipa::openapi::ContentBuilder::new().schema(Some(Schema::from(bytes.build()))).build();
            response = response.content("audio/*", content);
        }
        RefOr::T(response.build())
    };
    let etag = ("ETag", "The tag of these bytes.", "\"1c5f-18e9\"");
    let modified = ("Last-Modified", "The time at which the file was made.", "Sat, 21 Nov 2026 10:00:00 GMT");
    let ranges = ("Accept-Ranges", "Ranges of bytes are supported.", "bytes");
    let name =
        ("Content-Disposition", "A file name that matches the format.", "inline; filename=\"voice.m4a\"");
    let length = ("Content-Length", "The number of bytes in this answer.", "80213");
    let part = ("Content-Range", "The range of this answer, and the size of the file.", "bytes 0-1023/80213");
    let all = ("Content-Range", "The size of the file.", "bytes */80213");
    for (status, response) in [
        ("200", answer("The audio, with its exact type.", &[length, ranges, etag, modified, name], true)),
        ("206", answer("The requested part.", &[part, length, ranges, etag, modified, name], true)),
        ("304", answer("The caller already has the current file.", &[etag, modified, name], false)),
        ("412", answer("The file does not meet the condition.", &[name], false)),
        (
            "416",
            answer(
                "The range begins after the end of the file.",
                &[all, ranges, etag, modified, name],
                false,
            ),
        ),
    ] {
        operation.responses.responses.insert(status.to_owned(), response);
    }
}

#[cfg(test)]
mod tests;
