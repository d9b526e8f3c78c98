//! The OpenAPI document of the dialects. It is one of its own, so that generated clients of the gateway's API have no part
//! of other APIs.

use std::sync::LazyLock;

use axum::{
    http::{HeaderValue, header::CONTENT_TYPE},
    response::IntoResponse,
};
use utoipa::{
    ToSchema,
    openapi::{
        ContentBuilder, InfoBuilder, LicenseBuilder, ObjectBuilder, OpenApi, Ref, RefOr, Required,
        ResponseBuilder, Schema, Server, Type,
        path::{Operation, ParameterBuilder, ParameterIn},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        tag::TagBuilder,
    },
};

use super::{Dialect, converter::ConverterProblem, evolution::EvolutionProblem, linq::LinqProblem};
use super::{waha::WahaProblem, wawp::WawpProblem};
use crate::http::openapi::{add_common_headers, add_parameters, header, operations, serves_file};

const ABOUT: &str = "The paths of other gateways' APIs below `/compat`, for their clients. `/docs/dialects` says how to point \
                     a client here, and what is ignored. The gateway's own API is `/openapi.json`.";

/// The tag of each dialect, and what it says.
const TAGS: [(Dialect, &str, &str); 5] = [
    (Dialect::Evolution, "Evolution", "Evolution API. Base URL: `/compat/evolution`."),
    (Dialect::Waha, "WAHA", "WAHA. Base URL: `/compat/waha`."),
    (Dialect::Wawp, "Wawp", "Wawp. Base URL: `/compat/wawp`."),
    (Dialect::Linq, "Linq", "Linq's Partner API. Base URL: `/compat/linq`."),
    (Dialect::Converter, "Converter", "Evolution's external converter of audio."),
];

/// Operations that need no key: they tell nothing, or have a signed address.
const OPEN: [&str; 4] = ["evolutionAbout", "wahaPing", "linqUploadFile", "linqDownloadFile"];

/// Operations that make a note.
const SENDING: [&str; 5] =
    ["evolutionSendWhatsAppAudio", "wahaSendVoice", "wawpSendVoice", "linqSendVoiceMemo", "linqCreateChat"];

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

/// Read the document of the dialects
#[utoipa::path(
    get, path = "/openapi-compat.json", tag = "Operation", operation_id = "getCompatOpenApi",
    responses((
        status = 200, description = "The paths below /compat in OpenAPI 3.1.", content_type = "application/json",
        body = Object,
    )),
)]
pub async fn serve() -> impl IntoResponse {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], text())
}

impl Dialect {
    /// The name of the schema of this dialect's problems.
    fn problem(self) -> &'static str {
        match self {
            Self::Evolution => "EvolutionProblem",
            Self::Waha => "WahaProblem",
            Self::Wawp => "WawpProblem",
            Self::Linq => "LinqProblem",
            Self::Converter => "ConverterProblem",
        }
    }

    /// The statuses of problems.
    fn statuses(self) -> &'static [u16] {
        match self {
            Self::Evolution | Self::Wawp => &[400, 401, 404, 409, 413, 429, 500, 503],
            Self::Waha | Self::Converter => &[400, 401, 404, 409, 413, 422, 429, 500, 503],
            Self::Linq => &[400, 401, 403, 404, 413, 422, 429, 500, 503],
        }
    }

    fn security(self) -> (&'static str, SecurityScheme) {
        let about = "An API key of the tenant. `voicegate keys new` makes one.";
        let key = |name| SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, about)));
        match self {
            Self::Evolution | Self::Converter => ("apikey", key("apikey")),
            Self::Waha => ("xApiKey", key("X-Api-Key")),
            Self::Wawp => ("accessToken", key("access-token")),
            Self::Linq => {
                let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about));
                ("bearer", SecurityScheme::Http(bearer.build()))
            }
        }
    }
}

fn document() -> OpenApi {
    let (_, mut document) = super::routes().split_for_parts();
    document.info = InfoBuilder::new()
        .title("voicegate: the APIs of other gateways")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(
            LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0")).build(),
        ))
        .build();
    document.servers = Some(vec![Server::new("/")]);
    let tag =
        |(_, name, about): &(_, &str, &str)| TagBuilder::new().name(*name).description(Some(*about)).build();
    document.tags = Some(TAGS.iter().map(tag).collect());
    if let Some(components) = &mut document.components {
        let mut schemas: Vec<(String, RefOr<Schema>)> = Vec::new();
        add_schema::<EvolutionProblem>(&mut schemas);
        add_schema::<WahaProblem>(&mut schemas);
        add_schema::<WawpProblem>(&mut schemas);
        add_schema::<LinqProblem>(&mut schemas);
        add_schema::<ConverterProblem>(&mut schemas);
        components.schemas.extend(schemas);
        for dialect in Dialect::ALL {
            let (name, scheme) = dialect.security();
            components.add_security_scheme(name, scheme);
        }
    }
    for (path, _, operation) in operations(&mut document) {
        let Some(dialect) = Dialect::of(path) else { continue };
        complete(dialect, operation);
    }
    add_common_headers(&mut document);
    document
}

fn add_schema<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
}

/// Adds to an operation what its dialect has everywhere.
fn complete(dialect: Dialect, operation: &mut Operation) {
    let id = operation.operation_id.clone().unwrap_or_default();
    let is_open = OPEN.contains(&id.as_str());
    let key = (!is_open).then(|| SecurityRequirement::new(dialect.security().0, [""; 0]));
    operation.security = Some(key.into_iter().collect());
    if SENDING.contains(&id.as_str()) {
        let key = ParameterBuilder::new()
            .name("Idempotency-Key")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(
                "A text that is unique to this note, remembered for 24 hours: a repetition with it makes no second note. \
                 Without it, a repetition is another note.",
            ))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255))))
            .build();
        add_parameters(operation, vec![key]);
    }
    // Both APIs read their parameters from the query as well, although it is written to logs.
    let in_query: &[&str] = match (dialect, id.as_str()) {
        (Dialect::Waha, _) if !is_open => &["x-api-key"],
        (_, "wawpSendVoice") => &[
            "access_token",
            "instance_id",
            "chatId",
            "reply_to",
            "convert",
            "file[url]",
            "file[filename]",
            "file[mimetype]",
        ],
        (_, "wawpSessionInfo") => &["access_token", "instance_id"],
        _ => &[],
    };
    let parameter = |name: &&str| {
        ParameterBuilder::new()
            .name(*name)
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some("The same as the header or the field of the body, which takes precedence."))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
            .build()
    };
    if !in_query.is_empty() {
        add_parameters(operation, in_query.iter().map(parameter).collect());
    }
    if id == "linqDownloadFile" {
        serves_file(operation, true);
    }
    let tells_nothing = is_open && dialect != Dialect::Linq;
    // A signed address has no key that could be wrong.
    let statuses = dialect.statuses().iter().filter(|status| !(tells_nothing || is_open && **status == 401));
    for status in statuses {
        let schema = Ref::from_schema_name(dialect.problem());
        let mut response = ResponseBuilder::new()
            .description(describe(*status))
            .content("application/json", ContentBuilder::new().schema(Some(schema)).build());
        if matches!(status, 429 | 503) {
            response = response.header("Retry-After", header("Seconds to wait before trying again.", "5"));
        }
        operation.responses.responses.insert(status.to_string(), response.build().into());
    }
    if dialect != Dialect::Linq {
        return;
    }
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        let trace = header("The request, as in `X-Request-Id`.", "0199fd9c2f6c7d128d0a4c0f3c1d2e3f");
        response.headers.insert("X-Trace-ID".to_owned(), trace.into());
        if status.starts_with('4') && status != "429" {
            let retry = header("Repeating the request would change nothing.", "false");
            response.headers.insert("X-Should-Retry".to_owned(), retry.into());
        }
    }
}

fn describe(status: u16) -> &'static str {
    match status {
        400 => "The request is not valid, or the note failed.",
        401 => "The key is missing or wrong.",
        403 => "The provider does not let this account write to the recipient.",
        404 => "There is no such account, chat or attachment.",
        409 => "The idempotency key belongs to another request.",
        413 => "The audio is too large.",
        422 => "The audio or the recipient cannot be handled, or the note failed.",
        429 => "The tenant makes more requests than it may.",
        503 => "The gateway is at its limit.",
        _ => "Something went wrong inside the gateway.",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;

    fn parsed() -> Value {
        serde_json::from_str(text()).expect("JSON")
    }

    fn each<'a>(value: &'a Value, visit: &mut impl FnMut(&'a Value)) {
        visit(value);
        match value {
            Value::Object(map) => map.values().for_each(|inner| each(inner, visit)),
            Value::Array(items) => items.iter().for_each(|inner| each(inner, visit)),
            _ => {}
        }
    }

    #[test]
    fn every_path_of_every_dialect_is_listed() {
        let document = parsed();
        let listed: BTreeSet<String> = document["paths"]
            .as_object()
            .expect("paths")
            .iter()
            .flat_map(|(path, item)| {
                let methods = item.as_object().expect("operations").keys();
                methods.map(move |method| format!("{method} {path}").to_uppercase())
            })
            .collect();
        let expected = [
            "GET /compat/evolution/",
            "POST /compat/evolution/message/sendWhatsAppAudio/{instance}",
            "GET /compat/evolution/instance/fetchInstances",
            "GET /compat/evolution/instance/connectionState/{instance}",
            "POST /compat/evolution/chat/whatsappNumbers/{instance}",
            "POST /compat/waha/api/sendVoice",
            "GET /compat/waha/api/sessions",
            "GET /compat/waha/api/sessions/{session}",
            "POST /compat/waha/api/{session}/media/convert/voice",
            "GET /compat/waha/ping",
            "GET /compat/waha/api/server/version",
            "POST /compat/wawp/v2/send/voice",
            "POST /compat/wawp/v2/session/info",
            "GET /compat/wawp/v2/session/info",
            "POST /compat/linq/v3/chats/{chatId}/voicememo",
            "POST /compat/linq/v3/attachments",
            "GET /compat/linq/v3/attachments/{attachmentId}",
            "PUT /compat/linq/files/{token}",
            "GET /compat/linq/files/{token}",
            "GET /compat/linq/v3/chats",
            "POST /compat/linq/v3/chats",
            "GET /compat/linq/v3/chats/{chatId}",
            "POST /compat/converter/process-audio",
        ];
        assert_eq!(listed, expected.iter().map(|path| path.to_uppercase()).collect());
    }

    #[test]
    fn every_schema_is_sound_used_and_found() {
        let document = parsed();
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        for (name, schema) in schemas {
            assert!(jsonschema::meta::is_valid(schema), "{name}");
        }
        let mut used = BTreeSet::new();
        each(&document, &mut |value| {
            let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return };
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
            used.insert(reference.to_owned());
        });
        for name in schemas.keys() {
            assert!(used.contains(&format!("#/components/schemas/{name}")), "nothing uses {name}");
        }
    }

    #[test]
    fn every_example_fits_its_schema_and_every_operation_has_a_name() {
        let document = parsed();
        each(&document, &mut |schema| {
            let Some(examples) = schema.get("examples").and_then(Value::as_array) else { return };
            let root = json!({ "allOf": [schema], "components": document["components"] });
            let validator =
                jsonschema::options().should_validate_formats(true).build(&root).expect("a schema");
            for example in examples {
                assert!(validator.is_valid(example), "{example} in {schema}");
            }
        });
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                let id = operation["operationId"].as_str().expect("an id");
                assert!(ids.insert(id) && operation["summary"].is_string(), "{method} {path}");
            }
        }
        for id in OPEN.iter().chain(&SENDING) {
            assert!(ids.contains(id), "{id}");
        }
    }
}
