//! The facts about a number, and the address of its statuses:
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/override/>.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::{ACCOUNT, APP, GraphError, Memory, authenticate, number, received};
use crate::{Sandbox, hooks};

/// The verified address for callbacks.
#[derive(Clone)]
pub struct Address(pub Url);

#[derive(Deserialize)]
pub struct Fields {
    fields: Option<String>,
    phone_number_id: Option<String>,
}

pub async fn read(
    State(sandbox): State<Sandbox>,
    Path((_, node)): Path<(String, String)>,
    Query(asked): Query<Fields>,
    headers: HeaderMap,
) -> Result<Json<Value>, GraphError> {
    authenticate(&headers)?;
    if let Some(media) = received::media(&sandbox, &node, asked.phone_number_id.as_deref()) {
        return media.map(Json);
    }
    let (number, shown) = number(&node)?;
    let fields = asked.fields.unwrap_or_else(|| "display_phone_number,quality_rating".to_owned());
    let mut body = json!({"id": number});
    for field in fields.split(',') {
        body[field] = match field {
            "display_phone_number" => json!(shown),
            "quality_rating" => json!("GREEN"),
            "status" => json!("CONNECTED"),
            "verified_name" => json!("Sandbox"),
            "health_status" => json!({
                "can_send_message": "AVAILABLE",
                "entities": [
                    {"entity_type": "PHONE_NUMBER", "id": number, "can_send_message": "AVAILABLE"},
                    {"entity_type": "WABA", "id": ACCOUNT, "can_send_message": "AVAILABLE"},
                ],
            }),
            "webhook_configuration" => {
                let mut state = sandbox.inner.lock();
                let addresses = &state.own::<Memory>().addresses;
                let of = |id: &str| addresses.get(id).map(|address| address.0.as_str());
                let mut shown = json!({});
                for (level, id) in [("phone_number", number), ("application", APP)] {
                    if let Some(url) = of(id) {
                        shown[level] = json!(url);
                    }
                }
                shown
            }
            "id" => continue,
            other => {
                return Err(GraphError::new(
                    400,
                    100,
                    format!("(#100) Tried accessing nonexisting field ({other})"),
                ));
            }
        };
    }
    Ok(Json(body))
}

/// Sets the number's own address, or takes it away where it is empty.
pub async fn write(
    State(sandbox): State<Sandbox>,
    Path((_, node)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, GraphError> {
    authenticate(&headers)?;
    let (number, _) = number(&node)?;
    let body: Value =
        serde_json::from_slice(&body).map_err(|_| GraphError::parameter("The body is not a JSON object"))?;
    let wanted = &body["webhook_configuration"];
    let url = wanted["override_callback_uri"].as_str();
    let url = url.ok_or_else(|| GraphError::parameter("The parameter override_callback_uri is required."))?;
    register(&sandbox, number, url, wanted["verify_token"].as_str().unwrap_or_default()).await
}

/// The address of the app, for all its numbers. People set it in the App Dashboard.
pub async fn subscribe_app(
    State(sandbox): State<Sandbox>,
    Path((_, node)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, GraphError> {
    authenticate(&headers)?;
    if node != APP {
        return Err(GraphError::no_such_object(&node));
    }
    let body: Value =
        serde_json::from_slice(&body).map_err(|_| GraphError::parameter("The body is not a JSON object"))?;
    if body["object"] != "whatsapp_business_account" {
        return Err(GraphError::parameter("Param object must be whatsapp_business_account"));
    }
    let url = body["callback_url"].as_str().unwrap_or_default();
    register(&sandbox, APP, url, body["verify_token"].as_str().unwrap_or_default()).await
}

async fn register(sandbox: &Sandbox, owner: &str, url: &str, token: &str) -> Result<Json<Value>, GraphError> {
    if url.is_empty() {
        sandbox.inner.lock().own::<Memory>().addresses.remove(owner);
        return Ok(Json(json!({"success": true})));
    }
    let url = hooks::target(url).ok_or_else(|| {
        GraphError::new(400, 2200, "(#2200) Callback verification failed: the callback URL must use HTTPS")
    })?;
    verify(sandbox, &url, token).await?;
    sandbox.inner.lock().own::<Memory>().addresses.insert(owner.to_owned(), Address(url));
    Ok(Json(json!({"success": true})))
}

/// Calls the address and wants its challenge back:
/// <https://developers.facebook.com/docs/graph-api/webhooks/getting-started/#verification-requests>
async fn verify(sandbox: &Sandbox, url: &Url, token: &str) -> Result<(), GraphError> {
    let challenge = (Uuid::new_v4().as_u128() % 9_000_000_000 + 1_000_000_000).to_string();
    let mut asked = url.clone();
    asked
        .query_pairs_mut()
        .append_pair("hub.mode", "subscribe")
        .append_pair("hub.challenge", &challenge)
        .append_pair("hub.verify_token", token);
    let answer = sandbox.inner.fetcher.get(&asked, 4096, Duration::from_secs(10)).await;
    if answer.is_ok_and(|answer| answer.bytes == challenge.as_bytes()) {
        return Ok(());
    }
    Err(GraphError::new(
        400,
        2200,
        "(#2200) Callback verification failed with the following errors: the address did not answer with the challenge",
    ))
}
