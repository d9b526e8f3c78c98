//! Which problems each operation can answer with.

use std::collections::BTreeMap;

use utoipa::openapi::{
    Content, ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder, example::ExampleBuilder, path::Operation,
    security::SecurityRequirement,
};

use super::{METRICS_SECURITY, SECURITY, header, operations};
use crate::model::problem::{CODES, Problem};

/// Codes by operation, apart from `internal`, which any but the emptiest can have.
const CODES_OF: &[(&str, &[&str])] = &[
    (
        "sendVoice",
        &[
            "invalid_request",
            "recipient_invalid",
            "unauthorized",
            "not_found",
            "idempotency_key_reused",
            "wrong_state",
            "media_expired",
            "audio_too_large",
            "unsupported_media_type",
            "audio_unreadable",
            "audio_inconsistent",
            "audio_unsupported",
            "audio_too_long",
            "audio_format_required",
            "source_unreachable",
            "source_forbidden",
            "recipient_unsupported",
            "unknown_connection",
            "convert_refused",
            "reply_unsupported",
            "text_unsupported",
            "provider_rejected",
            "provider_unauthorized",
            "provider_unavailable",
            "rate_limited",
            "overloaded",
            "storage_full",
            "quota_exceeded",
        ],
    ),
    (
        "planVoice",
        &[
            "invalid_request",
            "recipient_invalid",
            "unauthorized",
            "not_found",
            "media_expired",
            "audio_too_large",
            "unsupported_media_type",
            "audio_unreadable",
            "audio_unsupported",
            "audio_too_long",
            "audio_format_required",
            "source_unreachable",
            "source_forbidden",
            "unknown_connection",
            "rate_limited",
            "overloaded",
            "storage_full",
        ],
    ),
    ("listVoice", &["invalid_request", "recipient_invalid", "unauthorized", "rate_limited", "overloaded"]),
    ("getVoice", &["unauthorized", "not_found", "wrong_state", "rate_limited", "overloaded"]),
    (
        "eraseVoice",
        &["unauthorized", "not_found", "wrong_state", "rate_limited", "storage_full", "overloaded"],
    ),
    (
        "downloadVoiceAudio",
        &[
            "invalid_request",
            "unauthorized",
            "not_found",
            "wrong_state",
            "media_expired",
            "rate_limited",
            "overloaded",
        ],
    ),
    (
        "cancelVoice",
        &["unauthorized", "not_found", "wrong_state", "rate_limited", "storage_full", "overloaded"],
    ),
    (
        "resendVoice",
        &[
            "invalid_request",
            "unauthorized",
            "not_found",
            "idempotency_key_reused",
            "wrong_state",
            "media_expired",
            "rate_limited",
            "overloaded",
            "storage_full",
            "quota_exceeded",
        ],
    ),
    (
        "uploadAudio",
        &[
            "invalid_request",
            "unauthorized",
            "audio_too_large",
            "unsupported_media_type",
            "audio_unreadable",
            "audio_unsupported",
            "audio_too_long",
            "audio_format_required",
            "source_unreachable",
            "source_forbidden",
            "rate_limited",
            "overloaded",
            "storage_full",
            "quota_exceeded",
        ],
    ),
    ("getUpload", &["unauthorized", "not_found", "media_expired", "rate_limited", "overloaded"]),
    ("deleteUpload", &["unauthorized", "not_found", "rate_limited", "storage_full", "overloaded"]),
    ("streamEvents", &["invalid_request", "unauthorized", "rate_limited", "overloaded"]),
    (
        "streamVoiceEvents",
        &["invalid_request", "unauthorized", "not_found", "wrong_state", "rate_limited", "overloaded"],
    ),
    ("receiveCallback", &["invalid_request", "unauthorized", "overloaded"]),
    ("answerCallback", &["invalid_request", "unauthorized", "overloaded"]),
    ("listConnections", &["unauthorized", "rate_limited", "overloaded"]),
    ("downloadByLink", &["not_found", "media_expired", "overloaded"]),
    ("headByLink", &["not_found", "media_expired", "overloaded"]),
    ("getMetrics", &["unauthorized"]),
    ("getDocsPage", &["not_found"]),
];

/// For each code: where it arises, the field to blame, and a detail as the gateway writes it.
const EXAMPLES: &[(&str, &str, &str, &str)] = &[
    ("invalid_request", "request", "expires_in", "expected a duration above zero"),
    ("recipient_invalid", "request", "to", "a phone number has + and 7 to 15 digits"),
    ("unauthorized", "request", "", "send the header `Authorization: Bearer KEY`"),
    ("not_found", "", "", "there is no such voice note"),
    ("method_not_allowed", "", "", "the Allow header lists the methods of this path"),
    (
        "idempotency_key_reused",
        "request",
        "",
        "this Idempotency-Key was used for a request with other fields or other audio; use a new key",
    ),
    (
        "wrong_state",
        "",
        "",
        "the note is still under way, or held because its outcome is unknown; erase it when it has ended",
    ),
    ("media_expired", "", "", "the audio was removed after storage.retention"),
    ("audio_too_large", "request", "", "this is more than the 26214400 bytes that are allowed here"),
    (
        "unsupported_media_type",
        "request",
        "Content-Type",
        "send JSON with Content-Type: application/json, a form with multipart/form-data, or the audio itself as audio/*, \
         video/* or application/octet-stream",
    ),
    ("audio_unreadable", "probe", "", "this is no audio of a known kind, or it is damaged"),
    (
        "audio_inconsistent",
        "probe",
        "",
        "the times in this file do not fit the sound in it; all of the sound is sent, in the order in which it is stored",
    ),
    ("audio_unsupported", "probe", "", "there is no sound in this file (no audio stream)"),
    ("audio_too_long", "probe", "", "this audio is longer than the 900 s that are allowed"),
    (
        "audio_format_required",
        "probe",
        "",
        "headerless samples need `format` with encoding, sample_rate and channels",
    ),
    (
        "source_unreachable",
        "fetch",
        "audio.url",
        "the server behind the URL answered 404 Not Found; check that the URL works without a login",
    ),
    (
        "source_forbidden",
        "fetch",
        "audio.url",
        "the host is not on the public internet; use a public https URL, or send the audio itself",
    ),
    (
        "recipient_unsupported",
        "request",
        "to",
        "imessage: WhatsApp ids cannot be reached over this connection",
    ),
    ("unknown_connection", "request", "via", "there is no connection or route of this name"),
    (
        "convert_refused",
        "encode",
        "",
        "this audio would have to be re-encoded, and `convert` forbids it; the target needs Ogg/Opus, mono",
    ),
    ("reply_unsupported", "request", "reply_to", "replies are not possible over this connection"),
    ("text_unsupported", "request", "text", "no connection of the route shows a text beside a voice note"),
    ("provider_rejected", "dispatch", "", "the provider refused the note"),
    ("provider_unauthorized", "dispatch", "", "the provider does not accept this connection's credentials"),
    ("provider_unavailable", "dispatch", "", "the note could not be sent before it expired"),
    (
        "rate_limited",
        "request",
        "",
        "this tenant makes more requests than it may; wait for as long as Retry-After says",
    ),
    ("internal", "", "", "this is the gateway's fault, not yours; its log says more. Try again later"),
    ("overloaded", "", "", "the queue of notes is full; try again shortly"),
    ("storage_full", "", "", "the gateway's disk is full; try again when its operator made room"),
    (
        "quota_exceeded",
        "",
        "",
        "this tenant keeps as much audio as its max_storage allows; delete uploads, erase notes that have ended, or wait \
         until some were kept for long enough",
    ),
];

/// A problem as a client may meet it.
pub fn example(code: &str) -> Problem {
    let known = EXAMPLES.iter().find(|(known, ..)| *known == code);
    let &(_, stage, field, detail) = known.unwrap_or(&(code, "", "", ""));
    let mut problem = Problem::new(code, detail);
    if !stage.is_empty() {
        problem = problem.stage(stage);
    }
    if !field.is_empty() {
        problem = problem.field(field);
    }
    if matches!(problem.status, 429 | 503 | 507) {
        problem.retry_after = Some(5);
    }
    if code.starts_with("provider_") {
        problem = problem.of_note(super::examples::NOTE);
    }
    problem
}

/// Adds every problem to its operations, and what each of them is to the document.
pub fn add(document: &mut OpenApi) {
    if let Some(components) = &mut document.components {
        for (code, _, title) in CODES {
            let problem = serde_json::to_value(example(code)).ok();
            let example = ExampleBuilder::new().summary(*title).value(problem).build();
            components.examples.insert((*code).to_owned(), example.into());
        }
    }
    for (_, _, operation) in operations(document) {
        let id = operation.operation_id.clone().unwrap_or_default();
        let codes = CODES_OF.iter().find(|(of, _)| *of == id).map_or(&[][..], |(_, codes)| codes);
        // A callback proves itself by the connection's own secret.
        let by_key = codes.contains(&"unauthorized") && !id.ends_with("Callback");
        let key = by_key.then(|| SecurityRequirement::new(SECURITY, [""; 0]));
        operation.security = Some(if id == "getMetrics" {
            // Open, or not: as the operator wants it.
            vec![SecurityRequirement::default(), SecurityRequirement::new(METRICS_SECURITY, [""; 0])]
        } else {
            key.into_iter().collect()
        });
        let internal = if codes.is_empty() { None } else { Some(&"internal") };
        let mut by_status: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
        for code in codes.iter().chain(internal) {
            by_status.entry(example(code).status).or_default().push(code);
        }
        for (status, codes) in by_status {
            add_status(operation, status, &codes, &id);
        }
    }
}

fn add_status(operation: &mut Operation, status: u16, codes: &[&str], id: &str) {
    let titles: Vec<String> =
        codes.iter().map(|code| format!("`{code}`: {}", lower(&example(code).title))).collect();
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
        response.description.push_str(
            " With `Prefer: wait` also where a note that was accepted has failed; then `id` names it.",
        );
    }
    operation.responses.responses.insert(status.to_string(), response.into());
}

fn content(codes: &[&str]) -> Content {
    let mut content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    for code in codes {
        let example = Ref::new(format!("#/components/examples/{code}"));
        content.examples.insert((*code).to_owned(), RefOr::Ref(example));
    }
    content
}

/// A title inside a sentence.
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
        let told: Vec<&str> = EXAMPLES.iter().map(|(code, ..)| *code).collect();
        let known: Vec<&str> = CODES.iter().map(|(code, ..)| *code).collect();
        assert_eq!(told, known);
        // These two belong to no operation, or to all.
        for code in known.into_iter().filter(|code| !matches!(*code, "method_not_allowed" | "internal")) {
            assert!(CODES_OF.iter().any(|(_, codes)| codes.contains(&code)), "{code}");
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
