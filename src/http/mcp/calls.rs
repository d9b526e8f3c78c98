//! The tools' calls of the API, and their results.

use rmcp::model::{CallToolResult, ContentBlock, JsonObject};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{
    Answer, Api, Call,
    advice::{self, Advice},
    tools::{LONGEST_WAIT, USUAL_WAIT},
};
use crate::http::body;

/// Notes of a page without a wish.
const USUAL_LIMIT: u64 = 20;

/// The name of the result member with the words for the model.
const ADVICE: &str = "advice";

pub async fn send_voice<A: Api>(api: &A, mut arguments: JsonObject) -> CallToolResult {
    let wait = match arguments.remove("wait_seconds") {
        None | Some(Value::Null) => USUAL_WAIT,
        Some(wait) => match body::whole_number(&wait).filter(|wait| *wait <= LONGEST_WAIT) {
            Some(wait) => wait,
            None => return wrong("wait_seconds", "expected a whole number from 0 to 60"),
        },
    };
    let key = match arguments.remove("idempotency_key") {
        None | Some(Value::Null) => derived_key(&arguments),
        Some(Value::String(key)) => key,
        Some(_) => return wrong("idempotency_key", "expected a text"),
    };
    let is_sound = (1..=255).contains(&key.len()) && key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if !is_sound || key.trim() != key {
        return wrong("idempotency_key", "expected 1 to 255 visible ASCII characters");
    }
    let mut call = Call::post(["voice"], Value::Object(arguments));
    call.headers.push(("idempotency-key", key));
    if wait > 0 {
        call.headers.push(("prefer", format!("wait={wait}")));
    }
    match api.call(call).await {
        // A problem of a note that was made is told like the note's status.
        Ok(answer) if answer.status.is_success() => {
            note(&answer.body, &advice::of_note(&answer.body, answer.replayed))
        }
        Ok(answer) => problem(&answer),
        Err(no_answer) => failure("no_answer", &no_answer.0, &advice::no_answer()),
    }
}

pub async fn plan_voice<A: Api>(api: &A, arguments: JsonObject) -> CallToolResult {
    let call = Call::post(["voice", "plan"], Value::Object(arguments));
    read(api, call, |plan| (advice::of_plan(plan), plan.clone())).await
}

pub async fn voice_status<A: Api>(api: &A, arguments: &JsonObject) -> CallToolResult {
    let Some(id) = arguments.get("id").and_then(Value::as_str).filter(|id| !id.is_empty()) else {
        return wrong("id", "expected the id of a note, which begins with vn_");
    };
    match api.call(Call::get(["voice", id])).await {
        Ok(answer) if answer.status.is_success() => note(&answer.body, &advice::of_note(&answer.body, false)),
        Ok(answer) => problem(&answer),
        Err(no_answer) => failure("no_answer", &no_answer.0, &advice::nothing_read()),
    }
}

pub async fn list_connections<A: Api>(api: &A) -> CallToolResult {
    read(api, Call::get(["connections"]), |list| {
        let connections = list["items"].as_array().into_iter().flatten().map(connection);
        let connections = json!({ "connections": connections.collect::<Vec<_>>() });
        (
            "The names are the values of `via`. Without `via`, the usual route is taken.".to_owned(),
            connections,
        )
    })
    .await
}

pub async fn received_voices<A: Api>(api: &A, arguments: &JsonObject) -> CallToolResult {
    let mut call = Call::get(["received"]);
    for name in ["from", "conversation", "via", "cursor"] {
        match arguments.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(value)) => call.query.push((name, value.clone())),
            Some(_) => return wrong(name, "expected a text"),
        }
    }
    let limit = match arguments.get("limit") {
        None | Some(Value::Null) => USUAL_LIMIT,
        Some(limit) => match body::whole_number(limit) {
            Some(limit) => limit,
            None => return wrong("limit", "expected a whole number"),
        },
    };
    call.query.push(("limit", limit.to_string()));
    read(api, call, |page| {
        let items = page["items"].as_array().into_iter().flatten().map(received);
        let page = json!({
            "untrusted": true,
            "items": items.collect::<Vec<_>>(),
            "next_cursor": page["next_cursor"],
        });
        (advice::UNTRUSTED.to_owned(), page)
    })
    .await
}

/// A call that changes nothing.
async fn read<A: Api>(api: &A, call: Call, show: impl Fn(&Value) -> (String, Value)) -> CallToolResult {
    match api.call(call).await {
        Ok(answer) if answer.status.is_success() => {
            let (words, value) = show(&answer.body);
            result(words, value, false)
        }
        Ok(answer) => problem(&answer),
        Err(no_answer) => failure("no_answer", &no_answer.0, &advice::nothing_read()),
    }
}

/// The idempotency key for arguments without one: the same arguments have the same key.
fn derived_key(arguments: &JsonObject) -> String {
    let mut hash = Sha256::new();
    let given: Map<String, Value> =
        arguments.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect();
    canonical(&Value::Object(given), &mut hash);
    format!("mcp-{}", hex::encode(hash.finalize()))
}

/// Hashes a value so that the order of members does not matter.
fn canonical(value: &Value, hash: &mut Sha256) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            hash.update("{");
            for (name, value) in members {
                hash.update(Value::from(name.as_str()).to_string());
                canonical(value, hash);
            }
            hash.update("}");
        }
        Value::Array(items) => {
            hash.update("[");
            for item in items {
                canonical(item, hash);
                hash.update(",");
            }
            hash.update("]");
        }
        plain => hash.update(plain.to_string()),
    }
}

/// The facts about a note that a model can use.
fn note(note: &Value, advice: &Advice) -> CallToolResult {
    let mut shown = pick(
        note,
        &[
            "id",
            "status",
            "to",
            "via",
            "provider",
            "form",
            "reply_to",
            "resend_of",
            "stalled",
            "next_attempt_at",
            "created_at",
            "accepted_at",
            "sent_at",
            "delivered_at",
            "read_at",
            "played_at",
            "warnings",
        ],
    );
    shown.insert("duration_ms".to_owned(), note["audio"]["source"]["duration_ms"].clone());
    if let Some(error) = note["error"].as_object() {
        shown.insert(
            "error".to_owned(),
            pick(&Value::Object(error.clone()), &["code", "detail", "stage"]).into(),
        );
    }
    shown.insert("do_not_send_again".to_owned(), advice.do_not_send_again.into());
    result(advice.words.clone(), shown.into(), advice.is_error)
}

fn connection(connection: &Value) -> Value {
    let mut shown =
        pick(connection, &["name", "provider", "health", "health_detail", "conversations_closed_until"]);
    let capabilities = &connection["capabilities"];
    for name in ["recipients", "reply", "caption"] {
        shown.insert(name.to_owned(), capabilities[name].clone());
    }
    let forms = capabilities["forms"].as_array().into_iter().flatten();
    let forms = forms.map(|form| pick(form, &["form", "max_bytes", "max_duration_ms", "caption"]).into());
    shown.insert("forms".to_owned(), Value::Array(forms.collect()));
    shown.into()
}

/// A received note, without what only a program needs.
fn received(note: &Value) -> Value {
    let mut shown = pick(
        note,
        &[
            "id",
            "status",
            "from",
            "conversation",
            "group",
            "sender_name",
            "via",
            "provider",
            "reply_to",
            "sent_at",
            "received_at",
            "form",
            "transcript",
        ],
    );
    shown.insert("duration_ms".to_owned(), note["audio"]["native"]["duration_ms"].clone());
    shown.insert("audio_url".to_owned(), note["audio"]["native"]["url"].clone());
    if let Some(error) = note["error"].as_object() {
        shown.insert("error".to_owned(), pick(&Value::Object(error.clone()), &["code", "detail"]).into());
    }
    shown.into()
}

fn pick(value: &Value, names: &[&str]) -> Map<String, Value> {
    let picked = names.iter().filter_map(|name| Some(((*name).to_owned(), value.get(name)?.clone())));
    picked.filter(|(_, value)| !value.is_null()).collect()
}

/// A problem of the API as an error of the tool.
fn problem(answer: &Answer) -> CallToolResult {
    let advice = advice::of_problem(answer.status, &answer.body);
    let mut shown = pick(&answer.body, &["code", "detail", "id", "stage", "field", "retry_after"]);
    if shown.is_empty() {
        shown.insert("detail".to_owned(), format!("the gateway answered {}", answer.status.as_u16()).into());
    }
    shown.insert("do_not_send_again".to_owned(), advice.do_not_send_again.into());
    result(advice.words, shown.into(), true)
}

fn wrong(field: &str, detail: &str) -> CallToolResult {
    let words = format!("Nothing was done. {field}: {detail}. Correct this argument.");
    result(words, json!({ "code": "invalid_request", "field": field, "detail": detail }), true)
}

fn failure(code: &str, detail: &str, advice: &Advice) -> CallToolResult {
    result(advice.words.clone(), json!({ "code": code, "detail": detail }), true)
}

/// A result in words, and as JSON for clients that show a model only one of the two.
fn result(words: String, value: Value, is_error: bool) -> CallToolResult {
    let text = format!("{words}\n\n{value}");
    let content = vec![ContentBlock::text(text)];
    let mut result = if is_error { CallToolResult::error(content) } else { CallToolResult::success(content) };
    let mut value = value;
    if let Some(members) = value.as_object_mut() {
        members.insert(ADVICE.to_owned(), words.into());
    }
    result.structured_content = Some(value);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(arguments: Value) -> String {
        derived_key(arguments.as_object().expect("an object"))
    }

    #[test]
    fn key_depends_on_what_is_sent_and_not_on_how_it_is_written() {
        let first = key(json!({ "to": "+1555", "audio": { "url": "https://a.example/1", "filename": "a" } }));
        let same = key(
            json!({ "audio": { "filename": "a", "url": "https://a.example/1" }, "to": "+1555", "via": null }),
        );
        assert_eq!(first, same);
        assert!(first.len() <= 255, "{first}");
        for other in [
            json!({ "to": "+1556", "audio": { "url": "https://a.example/1", "filename": "a" } }),
            json!({ "to": "+1555", "audio": { "url": "https://a.example/2", "filename": "a" } }),
            json!({ "to": "+1555", "audio": { "url": "https://a.example/1", "filename": "a" }, "text": "x" }),
            json!({ "to": "+1555", "audio": { "url": "https://a.example/1" }, "filename": "a" }),
        ] {
            assert_ne!(key(other.clone()), first, "{other}");
        }
    }
}
