//! Wawp's webhooks: acknowledgements of messages, messages that people write, and the registration of the webhook.
//!
//! * Events are those of WAHA, on which Wawp is built: <https://waha.devlike.pro/docs/how-to/events/>. Its own pages name
//!   them and leave their payload out: <https://api.wawp.net/en/docs/v2/webhooks-overview>.
//! * <https://api.wawp.net/en/docs/v2/webhook/set> adds one address, or changes it, and touches no other. The older
//!   `POST /v2/session/webhook` replaces the whole list, in which reading it first does not tell everything (secrets of
//!   the others, the address by which Wawp fills its own inbox), so it is only read.
//! * A GET has no body for the credentials. The OpenAPI export has the token in a header; the instance's id is no secret.

use reqwest::{Method, Request};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{
    Wawp,
    errors::{judge_callbacks, reports_failure, status_of, words},
};
use crate::{
    Callback, CallbackError, CallbackRequest, Context, Registration, SendError, SendErrorKind, signature,
    whatsapp_web,
    wire::{self, NoAnswer},
};

/// Acknowledgements, those of single members of groups, and messages that people write.
const EVENTS: [&str; 3] = ["message.ack", "message.ack.group", "message"];

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
    pub(super) fn read_callback(&self, request: &CallbackRequest) -> Result<Callback, CallbackError> {
        self.check_token(request)?;
        let body: Value = serde_json::from_slice(&request.body).map_err(|_| CallbackError::Malformed)?;
        let event = body["event"].as_str().ok_or(CallbackError::Malformed)?;
        let at = whatsapp_web::time(&body["timestamp"]).unwrap_or(request.now);
        let payload = &body["payload"];
        let receipt = match event {
            "message" | "message.any" => {
                return Ok(Callback::of_voice(whatsapp_web::waha_voice(payload, request.now)?));
            }
            "message.ack" | "message.ack.group" => {
                whatsapp_web::ack_receipt(payload, at, &self.secrets(&[]))?
            }
            _ => None,
        };
        let id = body["id"].as_str().filter(|id| (1..=LONGEST_ID).contains(&id.len()));
        Ok(Callback::of_receipt(id.map(str::to_owned), receipt))
    }

    /// Whether the address that was called has one of the tokens.
    pub(super) fn check_token(&self, request: &CallbackRequest) -> Result<(), CallbackError> {
        signature::verify_token(request.query("token"), &self.callback_tokens)
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
        for old in hooks
            .iter()
            .filter(|hook| whatsapp_web::is_same_address(&hook.url, url) && hook.url != ours.as_str())
            .take(MAX_REMOVED)
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
            return wrong(if hooks.iter().any(|hook| whatsapp_web::is_same_address(&hook.url, url)) {
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

    /// The address that is registered at Wawp.
    fn with_token(&self, url: &Url) -> Result<Url, SendError> {
        whatsapp_web::with_token(url, &self.callback_tokens).ok_or_else(|| {
            let detail =
                "callback_token is not set: choose a long random text, which becomes part of the address";
            SendError::new(SendErrorKind::Misconfigured, detail)
        })
    }

    async fn hooks(&self, cx: &Context, ours: &Url) -> Result<Vec<Hook>, SendError> {
        let mut url = self.api.join(&["v2", "session", "webhook"]);
        url.query_pairs_mut().append_pair("instance_id", &self.instance_id);
        let mut request = wire::json_request(Method::GET, url, None);
        request.headers_mut().insert("access-token", self.token_header()?);
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
