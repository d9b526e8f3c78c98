//! Uploads: <https://developers.facebook.com/documentation/business-messaging/whatsapp/business-phone-numbers/media/>.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header::CONTENT_TYPE};
use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{GraphError, Memory, authenticate, number};
use crate::{Sandbox, form};

/// Media types of audio.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The types of audio that Meta takes, Ogg with its codec alone.
const TYPES: [&str; 5] = ["audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg; codecs=opus"];

/// A file that was uploaded. It belongs to the number that it was uploaded by.
#[derive(Clone)]
pub struct Media {
    pub number: &'static str,
    pub mime_type: String,
    pub filename: Option<String>,
    pub bytes: Bytes,
}

pub async fn upload(
    State(sandbox): State<Sandbox>,
    Path((_, node)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, GraphError> {
    authenticate(&headers)?;
    let (number, _) = number(&node)?;
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parts = form::parts(kind, body)
        .await
        .ok_or_else(|| GraphError::parameter("The request body is not multipart/form-data"))?;
    let text = |name: &str| parts.iter().find(|part| part.name == name).map(form::Part::text);
    if text("messaging_product").as_deref() != Some("whatsapp") {
        return Err(GraphError::parameter("The parameter messaging_product is required."));
    }
    let named = text("type").ok_or_else(|| GraphError::parameter("The parameter type is required."))?;
    let file = parts.iter().find(|part| part.name == "file");
    let file = file.ok_or_else(|| GraphError::parameter("The parameter file is required."))?;
    let mime_type = file.mime_type.clone().unwrap_or_default();
    // Spaces around the codec do not matter to Meta.
    let plain = |text: &str| text.replace(' ', "").to_ascii_lowercase();
    let known = |given: &str| TYPES.iter().any(|known| plain(known) == plain(given));
    if let Some(given) = [&named, &mime_type].into_iter().find(|given| !known(given)) {
        return Err(GraphError::parameter(format!(
            "Param file must be a file with one of the following types: {}. Received file of type '{given}'.",
            TYPES.join(", ")
        )));
    }
    if file.bytes.is_empty() {
        return Err(GraphError::parameter("Param file must not be empty"));
    }
    if file.bytes.len() > MAX_BYTES {
        return Err(GraphError::usual(413));
    }
    let media = Media { number, mime_type, filename: file.filename.clone(), bytes: file.bytes.clone() };
    let id = (Uuid::new_v4().as_u128() % 9_000_000_000_000_000 + 1_000_000_000_000_000).to_string();
    sandbox.inner.lock().own::<Memory>().media.insert(id.clone(), media);
    Ok(Json(json!({ "id": id })))
}

/// Makes the id unknown, as it is 30 days after the upload.
pub async fn delete(
    State(sandbox): State<Sandbox>,
    Path((_, node)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, GraphError> {
    authenticate(&headers)?;
    match sandbox.inner.lock().own::<Memory>().media.remove(&node) {
        Some(_) => Ok(Json(json!({"success": true}))),
        None => Err(GraphError::no_such_object(&node)),
    }
}
