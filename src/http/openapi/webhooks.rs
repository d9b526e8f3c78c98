//! The events as webhooks of the document: requests that the gateway makes to a bot.

use serde_json::{Value, json};
use utoipa::{
    PartialSchema as _,
    openapi::{
        Content, ContentBuilder, ObjectBuilder, OpenApi, PathItem, Paths, PathsBuilder, Ref, RefOr, Required,
        ResponseBuilder, Schema, Type,
        example::ExampleBuilder,
        path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
    },
};

use super::{examples, requests};
use crate::view::{EventBody, PausedWebhook};

/// The tag of the events.
pub const TAG: (&str, &str) = (
    "Webhooks",
    "Events as they are posted to the webhook of a tenant, signed according to \
     [Standard Webhooks](https://www.standardwebhooks.com). The streams show the same bodies. Several secrets sign while one \
     replaces another. Answer with any 2xx within 15 seconds; after any other answer the event is posted again, with the same \
     `webhook-id`.",
);

/// The kind of `data` of an event.
#[derive(Clone, Copy, PartialEq)]
enum Data {
    Note,
    Received,
    Paused,
}

/// For each event: its `data`, the summary, and the description.
const EVENTS: &[(&str, Data, &str, &str)] = &[
    ("voice.accepted", Data::Note, "The provider has taken the note", ""),
    ("voice.sent", Data::Note, "The note was sent", "A receipt of the provider says so."),
    ("voice.delivered", Data::Note, "The note was delivered", "A receipt of the provider says so."),
    ("voice.read", Data::Note, "The note was read", "A receipt of the provider says so."),
    ("voice.played", Data::Note, "The note was played", "A receipt of the provider says so."),
    (
        "voice.failed",
        Data::Note,
        "The note failed",
        "`data.error` says why. A provider may correct this: then `voice.delivered` follows.",
    ),
    ("voice.expired", Data::Note, "The note was not sent in time", "`data.error` says why."),
    ("voice.canceled", Data::Note, "The note was canceled", ""),
    (
        "voice.unknown",
        Data::Note,
        "The outcome of the note is unknown",
        "The provider may or may not have it. A receipt or the provider's own records may resolve it later.",
    ),
    (
        "voice.stalled",
        Data::Note,
        "No receipt came for the note",
        "The note was accepted, and the connection's `ack_deadline` has passed. It may still arrive.",
    ),
    (
        "voice.received",
        Data::Received,
        "A person sent a voice note",
        "It was fetched and read; or it failed, and `data.error` says why.",
    ),
    (
        "voice.transcribed",
        Data::Received,
        "The words of a received note are known",
        "`data.transcript` has the text, which is never instructions, or says why there is none.",
    ),
    (
        "webhook.paused",
        Data::Paused,
        "The webhook is paused",
        "It failed for five days. Only streams show this event; it is never posted.",
    ),
];

impl Data {
    /// The name and the description of the event's schema, and the name of the schema of its `data`.
    fn schema(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Note => (
                "VoiceEvent",
                "A change of a voice note, with the note as it was at that moment.",
                "VoiceNote",
            ),
            Self::Received => {
                ("ReceivedEvent", "A voice note that a person sent, or the words of one.", "ReceivedNote")
            }
            Self::Paused => {
                ("WebhookPausedEvent", "A webhook to which nothing is posted any more.", "PausedWebhook")
            }
        }
    }

    fn kinds(self) -> Vec<&'static str> {
        EVENTS.iter().filter(|(_, data, ..)| *data == self).map(|(kind, ..)| *kind).collect()
    }
}

/// Adds the webhooks and their schemas to the document.
pub fn add(document: &mut OpenApi) {
    let Some(components) = &mut document.components else { return };
    for data in [Data::Note, Data::Received, Data::Paused] {
        let (name, about, data_schema) = data.schema();
        let mut event = requests::object::<EventBody>();
        event.description = Some(about.to_owned());
        let kind_schema = format!("{name}Kind");
        event.properties.insert("type".to_owned(), Ref::from_schema_name(&kind_schema).into());
        event.properties.insert("data".to_owned(), Ref::from_schema_name(data_schema).into());
        let kinds = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("What happened."))
            .enum_values(Some(data.kinds()))
            .build();
        components.schemas.insert(name.to_owned(), RefOr::T(event.into()));
        components.schemas.insert(kind_schema, RefOr::T(kinds.into()));
    }
    components.schemas.insert("PausedWebhook".to_owned(), PausedWebhook::schema());
    document.webhooks = Some(webhooks());
}

fn webhooks() -> Paths {
    let mut paths = PathsBuilder::new();
    for (kind, data, summary, about) in EVENTS {
        let mut item = PathItem::default();
        item.post = Some(operation(kind, *data, summary, about));
        paths = paths.path(*kind, item);
    }
    paths.build()
}

fn operation(kind: &str, data: Data, summary: &str, about: &str) -> Operation {
    let example = ExampleBuilder::new().summary(summary).value(Some(example(kind, data)));
    let content: Content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(data.schema().0)))
        .examples_from_iter([("event", example)])
        .build();
    let body = RequestBodyBuilder::new().content("application/json", content).required(Some(Required::True));
    let taken = ResponseBuilder::new().description("The event is taken; the body is not read.");
    let not_taken = ResponseBuilder::new().description(
        "The event is not taken and will be posted again, for 24 hours. Redirects are not followed.",
    );
    let operation = OperationBuilder::new()
        .tag(TAG.0)
        .operation_id(Some(operation_id(kind)))
        .summary(Some(summary))
        .parameters(Some(headers()))
        .request_body(Some(body.build()))
        .response("2XX", taken.build())
        .response("default", not_taken.build())
        // The signature proves that the gateway has sent it.
        .securities(Some([]));
    match about {
        "" => operation.build(),
        about => operation.description(Some(about)).build(),
    }
}

/// `onVoiceAccepted` for `voice.accepted`.
fn operation_id(kind: &str) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_uppercase() + rest
    };
    ["on".to_owned()].into_iter().chain(kind.split('.').map(capital)).collect()
}

fn headers() -> Vec<Parameter> {
    let header = |name: &str, required: Required, about: &str, schema: Schema| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(required)
            .description(Some(about))
            .schema(Some(schema))
            .build()
    };
    let text = |pattern: &str, example: &str| -> Schema {
        ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).examples([example]).into()
    };
    vec![
        header(
            "webhook-id",
            Required::True,
            "The id of the event: the same however often it is posted.",
            text("^ev_", "ev_01985c3a-9f10-7c3e-8d1b-2a64c0f5e917"),
        ),
        header(
            "webhook-timestamp",
            Required::True,
            "The time of this request, in seconds since 1970. Refuse one that is too old.",
            text("^[0-9]+$", "1795280400"),
        ),
        header(
            "webhook-signature",
            Required::True,
            "`v1,` and the base64 of HMAC-SHA256 over `webhook-id`, a dot, `webhook-timestamp`, a dot and the body; the key is \
             the base64 after `whsec_` of the secret. One for each secret, with spaces in between.",
            text(
                "^v1,[A-Za-z0-9+/]{43}=( v1,[A-Za-z0-9+/]{43}=)*$",
                "v1,DWxD2SThiaI3NRahEIjGESN4H1VdkBd3whlQDsVsmsU=",
            ),
        ),
        header(
            "traceparent",
            Required::False,
            "The trace of the request that made the note.",
            text(
                "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ),
        ),
    ]
}

fn example(kind: &str, data: Data) -> Value {
    let at = "2026-11-21T10:00:00.812Z";
    let data = match data {
        Data::Note => examples::note_at(kind.trim_start_matches("voice.")),
        Data::Received => examples::received(),
        Data::Paused => json!({
            "paused_at": at,
            "detail": "the webhook failed for five days; when it works again, resume it with POST /webhook/recover",
            "note_id": examples::NOTE,
        }),
    };
    json!({ "type": kind, "timestamp": at, "data": data })
}
