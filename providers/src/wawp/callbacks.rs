//! What Wawp says of a message after it took it, and having it said.
//!
//! * Events are those of WAHA, on which Wawp is built: <https://waha.devlike.pro/docs/how-to/events/>. Its own pages name
//!   them and leave their payload out: <https://api.wawp.net/en/docs/v2/webhooks-overview>.
//! * <https://api.wawp.net/en/docs/v2/webhook/set> adds one address, or changes it, and touches no other. The older
//!   `POST /v2/session/webhook` replaces the whole list, in which reading it first does not tell everything (secrets of
//!   the others, the address by which Wawp fills its own inbox), so it is only read.
//! * A GET has no body for the credentials. The OpenAPI export has the token in a header; the instance's id is no secret.

use jiff::Timestamp;
use reqwest::{Method, Request, header::HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{
    Wawp,
    errors::{judge_callbacks, reports_failure, status_of, words},
};
use crate::{
    Callback, CallbackError, CallbackRequest, Context, Receipt, ReceiptFailure, ReceiptStatus, Registration,
    SendError, SendErrorKind, Upstream, signature,
    whatsapp_web::{self, own_part},
    wire::{self, NoAnswer},
};

/// The second is about single members of groups.
const EVENTS: [&str; 2] = ["message.ack", "message.ack.group"];

/// Older addresses of ours, with another token, that are removed at once.
const MAX_REMOVED: usize = 3;

const LONGEST_ID: usize = 255;

/// An address to which events go.
#[derive(Deserialize)]
struct Hook {
    url: String,
    #[serde(default)]
    events: Vec<String>,
    /// 0, 1, `true`, `false`, or not there at all.
    #[serde(default)]
    is_active: Value,
}

impl Hook {
    fn is_active(&self) -> bool {
        !(self.is_active == 0 || self.is_active == "0" || self.is_active == false)
    }

    fn missing(&self) -> Vec<&'static str> {
        let has = |event: &&str| self.events.iter().any(|known| known == event || known == "*");
        EVENTS.into_iter().filter(|event| !has(event)).collect()
    }
}

impl Wawp {
    /// Judges and reads an event. Whose session it names is not looked at: the token says which connection it is for,
    /// and what Wawp calls its sessions inside is not documented.
    pub(super) fn heard(&self, request: &CallbackRequest) -> Result<Callback, CallbackError> {
        self.knows_token(request)?;
        let body: Value = serde_json::from_slice(&request.body).map_err(|_| CallbackError::Malformed)?;
        let event = body["event"].as_str().ok_or(CallbackError::Malformed)?;
        let receipt = if EVENTS.contains(&event) { self.receipt(&body, request.now)? } else { None };
        let id = body["id"].as_str().filter(|id| (1..=LONGEST_ID).contains(&id.len()));
        Ok(Callback::of_receipt(id.map(str::to_owned), receipt))
    }

    /// Whether the address that was called has one of the tokens.
    pub(super) fn knows_token(&self, request: &CallbackRequest) -> Result<(), CallbackError> {
        signature::verify_token(request.query("token"), &self.callback_tokens)
    }

    fn receipt(&self, body: &Value, now: Timestamp) -> Result<Option<Receipt>, CallbackError> {
        let ack = &body["payload"];
        let message_id = whatsapp_web::message_id(ack)
            .filter(|id| id.len() <= LONGEST_ID && !id.contains(char::is_control))
            .ok_or(CallbackError::Malformed)?;
        let from_me = [&ack["fromMe"], &ack["id"]["fromMe"]].into_iter().find_map(Value::as_bool);
        if !from_me.unwrap_or_else(|| !message_id.starts_with("false_")) {
            return Ok(None);
        }
        let Some(status) = whatsapp_web::ack(ack) else { return Ok(None) };
        let failure = (status == ReceiptStatus::Failed).then(|| ReceiptFailure {
            kind: SendErrorKind::NotReachable,
            detail: "the provider took the note and WhatsApp refused it; check that the recipient can be reached there".to_owned(),
            upstream: Upstream {
                code: ack["ackName"].as_str().and_then(|name| wire::identifier(name, &self.secrets(&[]))),
                ..Upstream::default()
            },
        });
        Ok(Some(Receipt {
            correlation_id: Some(own_part(&message_id).to_owned()),
            message_id,
            status,
            at: whatsapp_web::time(&body["timestamp"]).unwrap_or(now),
            failure,
            trace: None,
        }))
    }

    pub(super) async fn subscribe(&self, cx: &Context, url: &Url) -> Result<Registration, SendError> {
        let ours = self.with_token(url)?;
        let hooks = self.hooks(cx, &ours).await?;
        let mut body = self.credentials();
        body["url"] = json!(ours.as_str());
        body["events"] = json!(EVENTS);
        body["is_active"] = json!(1);
        self.ask(cx, self.post(&["v2", "webhook", "set"], &body), &ours).await?;
        let mut summary = format!("receipts are on: {}", EVENTS.join(", "));
        for old in
            hooks.iter().filter(|hook| is_same(&hook.url, url) && hook.url != ours.as_str()).take(MAX_REMOVED)
        {
            let mut body = self.credentials();
            body["url"] = json!(old.url);
            let mut request = self.post(&["v2", "webhook", "delete"], &body);
            *request.method_mut() = Method::DELETE;
            summary += match self.ask(cx, request, &ours).await {
                Ok(_) => "; an address with another token was removed",
                Err(_) => {
                    "; an address with another token is still there, remove it at the provider's dashboard"
                }
            };
        }
        Ok(Registration { summary, secret: None })
    }

    pub(super) async fn subscribed(&self, cx: &Context, url: &Url) -> Result<String, SendError> {
        let ours = self.with_token(url)?;
        let hooks = self.hooks(cx, &ours).await?;
        let wrong = |detail: String| Err(SendError::new(SendErrorKind::Misconfigured, detail));
        let again = "register the callbacks again";
        let Some(hook) = hooks.iter().find(|hook| hook.url == ours.as_str()) else {
            return wrong(if hooks.iter().any(|hook| is_same(&hook.url, url)) {
                format!("the provider sends receipts with another token than callback_token; {again}")
            } else {
                "the provider sends no receipts to this address; register the callbacks".to_owned()
            });
        };
        if !hook.is_active() {
            return wrong(format!("the provider has switched the receipts off; {again}"));
        }
        match hook.missing().as_slice() {
            [] => Ok("receipts on".to_owned()),
            missing => wrong(format!("the provider does not send {}; {again}", missing.join(", "))),
        }
    }

    /// The address that Wawp is told. It lets everybody send receipts who knows it, so it is never shown.
    fn with_token(&self, url: &Url) -> Result<Url, SendError> {
        let token = self.callback_tokens.first().ok_or_else(|| {
            let detail =
                "callback_token is not set: choose a long random text, which becomes part of the address";
            SendError::new(SendErrorKind::Misconfigured, detail)
        })?;
        let mut url = url.clone();
        url.query_pairs_mut().append_pair("token", token.expose_secret());
        Ok(url)
    }

    async fn hooks(&self, cx: &Context, ours: &Url) -> Result<Vec<Hook>, SendError> {
        let mut url = self.api.join(&["v2", "session", "webhook"]);
        url.query_pairs_mut().append_pair("instance_id", &self.instance_id);
        let mut request = wire::json_request(Method::GET, url, None);
        let mut token = HeaderValue::from_str(self.access_token.expose_secret()).map_err(|_| {
            SendError::new(SendErrorKind::Misconfigured, "access_token has characters that no header takes")
        })?;
        token.set_sensitive(true);
        request.headers_mut().insert("access-token", token);
        let body = self.ask(cx, request, ours).await?;
        // Empty lists are printed as `{}`.
        let listed = match &body["webhooks"] {
            Value::Object(map) if map.is_empty() => Some(Vec::new()),
            list => serde_json::from_value(list.clone()).ok(),
        };
        listed.ok_or_else(|| {
            let detail = "the answer is not this provider's; check base_url";
            SendError::new(SendErrorKind::Misconfigured, detail)
        })
    }

    fn post(&self, path: &[&str], body: &Value) -> Request {
        wire::json_request(Method::POST, self.api.join(path), Some(body))
    }

    /// `ours` is a secret, in whatever part and spelling it may be repeated.
    async fn ask(&self, cx: &Context, request: Request, ours: &Url) -> Result<Value, SendError> {
        let answer = wire::call(cx, request).await.map_err(NoAnswer::in_check)?;
        let body = answer.json();
        let says_something = body.as_object().is_some_and(|body| !body.is_empty());
        if answer.status.is_success() && says_something && !reports_failure(&body) {
            return Ok(body);
        }
        let token = ours.query().and_then(|query| query.rsplit_once("token=")).map_or("", |(_, token)| token);
        let secrets = [SecretString::from(token)];
        let (kind, detail) = judge_callbacks(status_of(&answer, &body), &words(&answer, &body));
        Err(self.error(cx.now, kind, detail, &answer, &body, &secrets))
    }
}

/// Whether two addresses differ in their query alone.
fn is_same(known: &str, url: &Url) -> bool {
    let bare = |mut url: Url| {
        url.set_query(None);
        url
    };
    Url::parse(known).is_ok_and(|known| bare(known) == bare(url.clone()))
}
