//! The problems that each operation can answer with.

use std::collections::BTreeMap;

use utoipa::openapi::{
    Content, ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder, example::ExampleBuilder, path::Operation,
    security::SecurityRequirement,
};

use super::{METRICS_SECURITY, SECURITY, header, operations};
use crate::model::{
    code::{Code, Stage},
    problem::Problem,
};

/// Codes by operation, except `internal`, which nearly every operation can have.
const CODES_OF: &[(&str, &[Code])] = &[
    (
        "sendVoice",
        &[
            Code::InvalidRequest,
            Code::RecipientInvalid,
            Code::Unauthorized,
            Code::NotFound,
            Code::IdempotencyKeyReused,
            Code::WrongState,
            Code::MediaExpired,
            Code::AudioTooLarge,
            Code::UnsupportedMediaType,
            Code::AudioUnreadable,
            Code::AudioInconsistent,
            Code::AudioUnsupported,
            Code::AudioTooLong,
            Code::AudioFormatRequired,
            Code::SourceUnreachable,
            Code::SourceForbidden,
            Code::RecipientUnsupported,
            Code::UnknownConnection,
            Code::ConvertRefused,
            Code::ReplyUnsupported,
            Code::TextUnsupported,
            Code::SpeechRejected,
            Code::FormUnavailable,
            Code::ConversationClosed,
            Code::SpeechUnavailable,
            Code::ProviderRejected,
            Code::ProviderUnauthorized,
            Code::ProviderUnavailable,
            Code::RateLimited,
            Code::Overloaded,
            Code::StorageFull,
            Code::QuotaExceeded,
        ],
    ),
    (
        "planVoice",
        &[
            Code::InvalidRequest,
            Code::RecipientInvalid,
            Code::Unauthorized,
            Code::NotFound,
            Code::MediaExpired,
            Code::AudioTooLarge,
            Code::UnsupportedMediaType,
            Code::AudioUnreadable,
            Code::AudioUnsupported,
            Code::AudioTooLong,
            Code::AudioFormatRequired,
            Code::SourceUnreachable,
            Code::SourceForbidden,
            Code::UnknownConnection,
            Code::RateLimited,
            Code::Overloaded,
            Code::StorageFull,
        ],
    ),
    (
        "showPresence",
        &[
            Code::InvalidRequest,
            Code::RecipientInvalid,
            Code::Unauthorized,
            Code::UnsupportedMediaType,
            Code::RecipientUnsupported,
            Code::UnknownConnection,
            Code::ConversationClosed,
            Code::ProviderRejected,
            Code::ProviderUnauthorized,
            Code::ProviderUnavailable,
            Code::RateLimited,
            Code::Overloaded,
        ],
    ),
    (
        "renderAudio",
        &[
            Code::InvalidRequest,
            Code::Unauthorized,
            Code::NotFound,
            Code::MediaExpired,
            Code::AudioTooLarge,
            Code::UnsupportedMediaType,
            Code::AudioUnreadable,
            Code::AudioInconsistent,
            Code::AudioUnsupported,
            Code::AudioTooLong,
            Code::AudioFormatRequired,
            Code::SourceUnreachable,
            Code::SourceForbidden,
            Code::UnknownConnection,
            Code::ConvertRefused,
            Code::FormUnavailable,
            Code::SpeechRejected,
            Code::SpeechUnavailable,
            Code::RateLimited,
            Code::Overloaded,
            Code::StorageFull,
        ],
    ),
    (
        "listVoice",
        &[
            Code::InvalidRequest,
            Code::RecipientInvalid,
            Code::Unauthorized,
            Code::RateLimited,
            Code::Overloaded,
        ],
    ),
    (
        "getVoice",
        &[Code::Unauthorized, Code::NotFound, Code::WrongState, Code::RateLimited, Code::Overloaded],
    ),
    (
        "eraseVoice",
        &[
            Code::Unauthorized,
            Code::NotFound,
            Code::WrongState,
            Code::RateLimited,
            Code::StorageFull,
            Code::Overloaded,
        ],
    ),
    (
        "downloadVoiceAudio",
        &[
            Code::InvalidRequest,
            Code::Unauthorized,
            Code::NotFound,
            Code::WrongState,
            Code::MediaExpired,
            Code::RateLimited,
            Code::Overloaded,
        ],
    ),
    (
        "cancelVoice",
        &[
            Code::Unauthorized,
            Code::NotFound,
            Code::WrongState,
            Code::RateLimited,
            Code::StorageFull,
            Code::Overloaded,
        ],
    ),
    (
        "resendVoice",
        &[
            Code::InvalidRequest,
            Code::Unauthorized,
            Code::NotFound,
            Code::IdempotencyKeyReused,
            Code::WrongState,
            Code::MediaExpired,
            Code::RateLimited,
            Code::Overloaded,
            Code::StorageFull,
            Code::QuotaExceeded,
        ],
    ),
    (
        "listReceived",
        &[
            Code::InvalidRequest,
            Code::RecipientInvalid,
            Code::Unauthorized,
            Code::RateLimited,
            Code::Overloaded,
        ],
    ),
    (
        "getReceived",
        &[Code::Unauthorized, Code::NotFound, Code::WrongState, Code::RateLimited, Code::Overloaded],
    ),
    (
        "downloadReceivedAudio",
        &[
            Code::InvalidRequest,
            Code::Unauthorized,
            Code::NotFound,
            Code::WrongState,
            Code::MediaExpired,
            Code::RateLimited,
            Code::Overloaded,
        ],
    ),
    (
        "eraseReceived",
        &[Code::Unauthorized, Code::NotFound, Code::RateLimited, Code::StorageFull, Code::Overloaded],
    ),
    (
        "recoverVoice",
        &[
            Code::InvalidRequest,
            Code::Unauthorized,
            Code::IdempotencyKeyReused,
            Code::UnsupportedMediaType,
            Code::UnknownConnection,
            Code::RateLimited,
            Code::Overloaded,
            Code::StorageFull,
        ],
    ),
    (
        "recoverWebhook",
        &[
            Code::InvalidRequest,
            Code::Unauthorized,
            Code::WrongState,
            Code::UnsupportedMediaType,
            Code::RateLimited,
            Code::Overloaded,
            Code::StorageFull,
        ],
    ),
    (
        "listEventAttempts",
        &[Code::Unauthorized, Code::NotFound, Code::WrongState, Code::RateLimited, Code::Overloaded],
    ),
    (
        "resendEvent",
        &[
            Code::Unauthorized,
            Code::NotFound,
            Code::WrongState,
            Code::RateLimited,
            Code::Overloaded,
            Code::StorageFull,
        ],
    ),
    ("getTask", &[Code::Unauthorized, Code::NotFound, Code::RateLimited, Code::Overloaded]),
    (
        "uploadAudio",
        &[
            Code::InvalidRequest,
            Code::Unauthorized,
            Code::AudioTooLarge,
            Code::UnsupportedMediaType,
            Code::AudioUnreadable,
            Code::AudioUnsupported,
            Code::AudioTooLong,
            Code::AudioFormatRequired,
            Code::SourceUnreachable,
            Code::SourceForbidden,
            Code::RateLimited,
            Code::Overloaded,
            Code::StorageFull,
            Code::QuotaExceeded,
        ],
    ),
    (
        "getUpload",
        &[Code::Unauthorized, Code::NotFound, Code::MediaExpired, Code::RateLimited, Code::Overloaded],
    ),
    (
        "deleteUpload",
        &[Code::Unauthorized, Code::NotFound, Code::RateLimited, Code::StorageFull, Code::Overloaded],
    ),
    ("streamEvents", &[Code::InvalidRequest, Code::Unauthorized, Code::RateLimited, Code::Overloaded]),
    (
        "streamVoiceEvents",
        &[
            Code::InvalidRequest,
            Code::Unauthorized,
            Code::NotFound,
            Code::WrongState,
            Code::RateLimited,
            Code::Overloaded,
        ],
    ),
    ("receiveCallback", &[Code::InvalidRequest, Code::Unauthorized, Code::Overloaded]),
    ("answerCallback", &[Code::InvalidRequest, Code::Unauthorized, Code::Overloaded]),
    ("getUsage", &[Code::InvalidRequest, Code::Unauthorized, Code::RateLimited, Code::Overloaded]),
    ("listConnections", &[Code::Unauthorized, Code::RateLimited, Code::Overloaded]),
    ("downloadByLink", &[Code::NotFound, Code::MediaExpired, Code::Overloaded]),
    ("headByLink", &[Code::NotFound, Code::MediaExpired, Code::Overloaded]),
    ("getMetrics", &[Code::Unauthorized]),
    ("getDocsPage", &[Code::NotFound]),
    ("getConsoleFile", &[Code::NotFound]),
];

/// For each code: the stage, the field to blame, and a detail as the gateway writes it.
const EXAMPLES: &[(Code, Option<Stage>, &str, &str)] = &[
    (Code::InvalidRequest, Some(Stage::Request), "expires_in", "expected a duration above zero"),
    (Code::RecipientInvalid, Some(Stage::Request), "to", "a phone number has + and 7 to 15 digits"),
    (Code::Unauthorized, Some(Stage::Request), "", "send the header `Authorization: Bearer KEY`"),
    (Code::NotFound, None, "", "there is no such voice note"),
    (Code::MethodNotAllowed, None, "", "the Allow header lists the methods of this path"),
    (
        Code::IdempotencyKeyReused,
        Some(Stage::Request),
        "",
        "this Idempotency-Key was used for a request with other fields or other audio; use a new key",
    ),
    (
        Code::WrongState,
        None,
        "",
        "the note is still under way, or held because its outcome is unknown; erase it when it has ended",
    ),
    (Code::MediaExpired, None, "", "the audio was removed after storage.retention"),
    (
        Code::AudioTooLarge,
        Some(Stage::Request),
        "",
        "this is more than the 26214400 bytes that are allowed here",
    ),
    (
        Code::UnsupportedMediaType,
        Some(Stage::Request),
        "Content-Type",
        "send JSON with Content-Type: application/json, a form with multipart/form-data, or the audio itself as audio/*, \
         video/* or application/octet-stream",
    ),
    (Code::AudioUnreadable, Some(Stage::Probe), "", "this is no audio of a known kind, or it is damaged"),
    (
        Code::AudioInconsistent,
        Some(Stage::Probe),
        "",
        "the times in this file do not fit the sound in it; all of the sound is sent, in the order in which it is stored",
    ),
    (Code::AudioUnsupported, Some(Stage::Probe), "", "there is no sound in this file (no audio stream)"),
    (Code::AudioTooLong, Some(Stage::Probe), "", "this audio is longer than the 900 s that are allowed"),
    (
        Code::AudioFormatRequired,
        Some(Stage::Probe),
        "",
        "headerless samples need `format` with encoding, sample_rate and channels",
    ),
    (
        Code::SourceUnreachable,
        Some(Stage::Fetch),
        "audio.url",
        "the server behind the URL answered 404 Not Found; check that the URL works without a login",
    ),
    (
        Code::SourceForbidden,
        Some(Stage::Fetch),
        "audio.url",
        "the host is not on the public internet; use a public https URL, or send the audio itself",
    ),
    (
        Code::RecipientUnsupported,
        Some(Stage::Request),
        "to",
        "imessage: WhatsApp ids cannot be reached over this connection",
    ),
    (Code::UnknownConnection, Some(Stage::Request), "via", "there is no connection or route of this name"),
    (
        Code::ConvertRefused,
        Some(Stage::Encode),
        "",
        "this audio would have to be re-encoded, and `convert` forbids it; the target needs Ogg/Opus, mono",
    ),
    (
        Code::ReplyUnsupported,
        Some(Stage::Request),
        "reply_to",
        "replies are not possible over this connection",
    ),
    (
        Code::TextUnsupported,
        Some(Stage::Request),
        "text",
        "no connection of the route shows a text beside a voice note",
    ),
    (
        Code::SpeechRejected,
        Some(Stage::Speech),
        "",
        "the speech server has nothing there; check base_url, the model and the voice",
    ),
    (
        Code::FormUnavailable,
        Some(Stage::Dispatch),
        "",
        "the recipient does not take voice messages; this connection has no audio messages",
    ),
    (
        Code::ConversationClosed,
        Some(Stage::Dispatch),
        "",
        "the recipient wrote longer ago than the provider allows; wait until they write again",
    ),
    (Code::SpeechUnavailable, Some(Stage::Speech), "", "the speech server has a fault"),
    (Code::ProviderRejected, Some(Stage::Dispatch), "", "the provider refused the note"),
    (
        Code::ProviderUnauthorized,
        Some(Stage::Dispatch),
        "",
        "the provider does not accept this connection's credentials",
    ),
    (Code::ProviderUnavailable, Some(Stage::Dispatch), "", "the note could not be sent before it expired"),
    (
        Code::RateLimited,
        Some(Stage::Request),
        "",
        "this tenant makes more requests than it may; wait for as long as Retry-After says",
    ),
    (Code::Internal, None, "", "this is the gateway's fault, not yours; its log says more. Try again later"),
    (Code::Overloaded, None, "", "the queue of notes is full; try again shortly"),
    (Code::StorageFull, None, "", "the gateway's disk is full; try again when its operator made room"),
    (
        Code::QuotaExceeded,
        None,
        "",
        "this tenant keeps as much audio as its max_storage allows; delete uploads, erase notes that have ended, or wait \
         until some were kept for long enough",
    ),
];

/// An example of a problem, as a client may receive it.
pub fn example(code: &Code) -> Problem {
    let known = EXAMPLES.iter().find(|(known, ..)| known == code);
    let (stage, field, detail) =
        known.map_or((&None, "", ""), |(_, stage, field, detail)| (stage, *field, *detail));
    let mut problem = Problem { stage: stage.clone(), ..Problem::new(code.clone(), detail) };
    if !field.is_empty() {
        problem = problem.field(field);
    }
    if matches!(problem.status, 429 | 503 | 507) {
        problem.retry_after = Some(5);
    }
    if code.as_str().starts_with("provider_") {
        problem = problem.of_note(super::examples::NOTE);
    }
    problem
}

/// Adds the problems to their operations, and their descriptions to the document.
pub fn add(document: &mut OpenApi) {
    if let Some(components) = &mut document.components {
        for code in Code::ALL {
            let problem = serde_json::to_value(example(code)).ok();
            let example = ExampleBuilder::new().summary(code.title()).value(problem).build();
            components.examples.insert(code.to_string(), example.into());
        }
    }
    for (_, _, operation) in operations(document) {
        let id = operation.operation_id.clone().unwrap_or_default();
        let codes = CODES_OF.iter().find(|(of, _)| *of == id).map_or(&[][..], |(_, codes)| codes);
        // A callback is authenticated by the secret of its connection.
        let by_key = codes.contains(&Code::Unauthorized) && !id.ends_with("Callback");
        let key = by_key.then(|| SecurityRequirement::new(SECURITY, [""; 0]));
        operation.security = Some(if id == "getMetrics" {
            // The operator decides whether this path needs a token.
            vec![SecurityRequirement::default(), SecurityRequirement::new(METRICS_SECURITY, [""; 0])]
        } else {
            key.into_iter().collect()
        });
        let internal = if codes.is_empty() { None } else { Some(&Code::Internal) };
        let mut by_status: BTreeMap<u16, Vec<&Code>> = BTreeMap::new();
        for code in codes.iter().chain(internal) {
            by_status.entry(code.status()).or_default().push(code);
        }
        for (status, codes) in by_status {
            add_status(operation, status, &codes, &id);
        }
    }
}

fn add_status(operation: &mut Operation, status: u16, codes: &[&Code], id: &str) {
    let titles: Vec<String> = codes.iter().map(|code| format!("`{code}`: {}", lower(code.title()))).collect();
    let mut response = ResponseBuilder::new().description(format!("{}.", titles.join("; ")));
    if id != "headByLink" {
        response = response.content("application/problem+json", content(codes));
    }
    if status == 401 {
        response = response.header("WWW-Authenticate", header("`Bearer`.", "Bearer"));
    }
    if matches!(status, 429 | 503 | 507) {
        response = response.header("Retry-After", header("Seconds to wait before trying again.", "5"));
    }
    let mut response = response.build();
    if id == "sendVoice" && matches!(status, 413 | 422 | 424) {
        super::add_note_headers(&mut response);
        response
            .description
            .push_str(" With `Prefer: wait` also for an accepted note that has failed; then `id` names it.");
    }
    operation.responses.responses.insert(status.to_string(), response.into());
}

fn content(codes: &[&Code]) -> Content {
    let mut content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    for code in codes {
        let example = Ref::new(format!("#/components/examples/{code}"));
        content.examples.insert(code.to_string(), RefOr::Ref(example));
    }
    content
}

/// A title, to be used inside a sentence.
fn lower(title: &str) -> String {
    let mut letters = title.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().collect::<String>() + letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_an_example_and_an_operation() {
        let told: Vec<&Code> = EXAMPLES.iter().map(|(code, ..)| code).collect();
        assert_eq!(told, Code::ALL.iter().collect::<Vec<_>>());
        // These two codes belong to no operation, or to all.
        for code in Code::ALL.iter().filter(|code| ![Code::MethodNotAllowed, Code::Internal].contains(code)) {
            assert!(CODES_OF.iter().any(|(_, codes)| codes.contains(code)), "{code}");
        }
    }

    #[test]
    fn every_operation_of_the_table_exists() {
        let mut document = super::super::document();
        let ids: Vec<_> =
            operations(&mut document).filter_map(|(.., operation)| operation.operation_id.clone()).collect();
        for (id, _) in CODES_OF {
            assert!(ids.iter().any(|known| known == id), "{id}");
        }
    }
}
