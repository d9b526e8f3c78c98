//! A session's state and configuration: <https://waha.devlike.pro/docs/how-to/sessions/>.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::hooks::EVENTS;
use super::{App, Refusal, Registered, authenticate, only, read, session, working};
use crate::whatsapp::{ME, NOBODY, is_jid};
use crate::{hooks, state};

pub(super) async fn show(
    State(sandbox): App,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    authenticate(&headers)?;
    let (engine, status) = session(&name).ok_or_else(|| Refusal::nest(404, "Session not found"))?;
    let config = sandbox.inner.lock().kept::<Registered>().configs.get(&name).cloned();
    let me =
        (status == "WORKING").then(|| json!({ "id": ME, "pushName": "Sandbox", "reachoutTimelock": null }));
    Ok(Json(json!({
        "name": name,
        "status": status,
        "config": config.unwrap_or_else(|| json!({ "metadata": { "owner": "sandbox" } })),
        "me": me,
        "engine": { "engine": engine },
        "presence": "offline",
        "timestamps": { "activity": state::clock().as_millisecond() },
        "assignedWorker": "sandbox",
    })))
}

#[derive(Deserialize)]
pub(super) struct Number {
    phone: String,
    session: String,
}

/// Whether a number is on WhatsApp, and its chat. Brazilian mobile numbers are known without their ninth digit.
pub(super) async fn number(
    Query(Number { phone, session }): Query<Number>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    authenticate(&headers)?;
    working(&session)?;
    let without_ninth = |rest: &str| {
        let (area, number) = rest.split_at_checked(2)?;
        number.strip_prefix('9').filter(|number| number.len() == 8).map(|number| format!("55{area}{number}"))
    };
    let known = phone.strip_prefix("55").and_then(without_ninth).unwrap_or(phone);
    let chat = format!("{known}@c.us");
    if chat == NOBODY || !is_jid(&chat) {
        return Ok(Json(json!({ "numberExists": false })));
    }
    Ok(Json(json!({ "numberExists": true, "chatId": chat })))
}

/// Replaces the whole configuration.
pub(super) async fn update(
    State(sandbox): App,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let request = read(&headers, &body, &["config", "apps"])?;
    session(&name).ok_or_else(|| Refusal::nest(404, "Session not found"))?;
    let config = match request.get("config") {
        Some(Value::Object(config)) => config.clone(),
        _ => return Err(Refusal::rule("config must be an object")),
    };
    if let Some(Value::Array(webhooks)) = config.get("webhooks") {
        webhooks.iter().try_for_each(judge)?;
    }
    sandbox.inner.lock().kept::<Registered>().configs.insert(name.clone(), json!(config));
    Ok(Json(json!({ "name": name, "status": "STARTING", "config": config })))
}

fn judge(webhook: &Value) -> Result<(), Refusal> {
    let object = |value: &Value| value.as_object().cloned().unwrap_or_default();
    only(&object(webhook), &["url", "events", "hmac", "retries", "customHeaders"], "webhooks.0.")?;
    only(&object(&webhook["hmac"]), &["key"], "webhooks.0.hmac.")?;
    only(&object(&webhook["retries"]), &["policy", "delaySeconds", "attempts"], "webhooks.0.retries.")?;
    if webhook["url"].as_str().and_then(hooks::target).is_none() {
        return Err(Refusal::rule("webhooks.0.url must be a URL address"));
    }
    let known = |event: &Value| event.as_str().is_some_and(|event| event == "*" || EVENTS.contains(&event));
    if !webhook["events"].as_array().is_some_and(|events| events.iter().all(known)) {
        return Err(Refusal::rule("webhooks.0.events must be a list of known events"));
    }
    if !matches!(webhook["retries"]["policy"].as_str(), None | Some("linear" | "exponential" | "constant")) {
        return Err(Refusal::rule("webhooks.0.retries.policy must be linear, exponential or constant"));
    }
    Ok(())
}

/// The time until which the sender may open no new conversations: a day from now.
pub(super) async fn time_lock(
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Map<String, Value>>, Refusal> {
    authenticate(&headers)?;
    session(&name).ok_or_else(|| Refusal::nest(404, "Session not found"))?;
    let lock = json!({
        "isActive": true,
        "enforcementType": "RESTRICT_ALL_COMPANIONS",
        "timeEnforcementEnds": state::clock().as_second() + 86_400,
    });
    Ok(Json(lock.as_object().cloned().unwrap_or_default()))
}
