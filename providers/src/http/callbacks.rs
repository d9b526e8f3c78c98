//! Receipts in callbacks, read by the recipe's pointers.

use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    Http,
    recipe::{CallbackRecipe, TokenPlace, id},
    template::plain,
};
use crate::{
    Callback, CallbackError, CallbackRequest, ProviderEvent, Receipt, ReceiptFailure, ReceiptStatus,
    SendErrorKind, Upstream, What,
    signature::{self, BodyHmac},
    whatsapp_web, wire,
};

/// Most events that are read of one request.
const MAX_EVENTS: usize = 1000;

impl Http {
    /// Whether the headers and the query can be the provider's.
    pub(super) fn may_call(&self, head: &CallbackRequest) -> Result<(), CallbackError> {
        let recipe = self.recipe.callback.as_ref().ok_or(CallbackError::NotConfigured)?;
        match mac(recipe) {
            Some(mac) => mac.admits(head, &self.webhook_secrets),
            None => self.check_token(recipe, head),
        }
    }

    /// Proof first, on the raw body.
    pub(super) fn read_callback(&self, request: &CallbackRequest) -> Result<Callback, CallbackError> {
        let recipe = self.recipe.callback.as_ref().ok_or(CallbackError::NotConfigured)?;
        match mac(recipe) {
            Some(mac) => mac.verify(request, &self.webhook_secrets)?,
            None => self.check_token(recipe, request)?,
        }
        let body = read(request).ok_or(CallbackError::Malformed)?;
        let one = [body.clone()];
        let events: &[Value] = match &recipe.each {
            None => &one,
            // A request without the list is about something else.
            Some(each) => body.pointer(&each.0).and_then(Value::as_array).map_or(&[], Vec::as_slice),
        };
        let mut callback = Callback::nothing();
        for event in events.iter().take(MAX_EVENTS) {
            for receipt in self.receipts(recipe, event, request.now)? {
                callback.events.push(ProviderEvent { id: None, account: None, what: What::Receipt(receipt) });
            }
        }
        Ok(callback)
    }

    fn check_token(&self, recipe: &CallbackRecipe, head: &CallbackRequest) -> Result<(), CallbackError> {
        let given = match &recipe.token {
            Some(TokenPlace::Header(name)) => head.header(name),
            _ => head.query("token"),
        };
        signature::verify_token(given, &self.callback_tokens)
    }

    fn receipts(
        &self,
        recipe: &CallbackRecipe,
        event: &Value,
        now: Timestamp,
    ) -> Result<Vec<Receipt>, CallbackError> {
        let Some(word) = recipe.status.find(event).map(plain) else { return Ok(Vec::new()) };
        let Some(status) = recipe.statuses.get(&word).copied() else { return Ok(Vec::new()) };
        // One event may be about several messages.
        let ids: Vec<String> = match recipe.id.find(event) {
            Some(Value::Array(list)) => list.iter().take(MAX_EVENTS).filter_map(id).collect(),
            Some(one) => id(one).into_iter().collect(),
            None => Vec::new(),
        };
        if ids.is_empty() {
            return Err(CallbackError::Malformed);
        }
        let at = recipe.time.as_ref().and_then(|pointer| time(event.pointer(&pointer.0)?)).unwrap_or(now);
        let correlation_id = recipe.note_id.as_ref().and_then(|pointer| id(event.pointer(&pointer.0)?));
        let receipt = |message_id| {
            Receipt {
            message_id,
            correlation_id: correlation_id.clone(),
            guess: None,
            status,
            at,
            failure: (status == ReceiptStatus::Failed).then(|| ReceiptFailure {
                kind: SendErrorKind::NotReachable,
                detail: "the provider took the note and could not deliver it; check that the recipient can be reached there"
                    .to_owned(),
                upstream: Upstream { code: wire::identifier(&word, &self.secrets(&[])), ..Upstream::default() },
            }),
            trace: None,
        }
        };
        Ok(ids.into_iter().map(receipt).collect())
    }
}

fn mac(recipe: &CallbackRecipe) -> Option<BodyHmac<'_>> {
    let hmac = recipe.hmac.as_ref()?;
    Some(BodyHmac {
        header: &hmac.header,
        algorithm: hmac.algorithm,
        encoding: hmac.encoding,
        prefix: &hmac.prefix,
    })
}

/// The body: JSON, or a form as a table of texts.
fn read(request: &CallbackRequest) -> Option<Value> {
    let kind = request.header(CONTENT_TYPE.as_str()).unwrap_or_default().to_ascii_lowercase();
    if kind.starts_with("application/x-www-form-urlencoded") {
        let pairs = url::form_urlencoded::parse(&request.body).into_owned();
        let fields: Map<String, Value> = pairs.map(|(name, value)| (name, Value::String(value))).collect();
        return (!fields.is_empty()).then_some(Value::Object(fields));
    }
    serde_json::from_slice::<Value>(&request.body).ok().filter(|body| body.is_object() || body.is_array())
}

/// Seconds or milliseconds, as numbers or texts, or RFC 3339.
fn time(value: &Value) -> Option<Timestamp> {
    let text = plain(value);
    match text.parse::<i64>() {
        Ok(number) => whatsapp_web::time(&number.into()),
        Err(_) => text.parse().ok(),
    }
}
