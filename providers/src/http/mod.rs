//! Any API by configuration: one request, described by a recipe.
//!
//! Enough for the many gateways that differ in words alone. `docs/recipes.md` explains the keys of a recipe; those in
//! `providers/recipes/` come with voicegate, each with the vendor's pages that it was written from.
//!
//! Quirks:
//! * Credentials stand where the recipe puts them, in the path and the query too, so no URL of this adapter may be shown.
//! * What no row of the recipe explains is an unknown outcome: a recipe that names too little makes notes wait, never
//!   arrive twice.

mod answers;
mod bundled;
mod callbacks;
mod capabilities;
mod connection;
mod credentials;
mod draft;
mod fields;
#[cfg(debug_assertions)]
pub(crate) mod fuzzing;
mod preview;
mod recipe;
mod request;
mod send;
mod sound;
mod template;
mod values;
mod words;

use std::fmt;

use async_trait::async_trait;
use secrecy::SecretString;
use url::Url;

use self::{
    draft::Header,
    recipe::{Kind, Recipe},
    template::Values,
};
use crate::{
    Accepted, Callback, CallbackError, CallbackRequest, Callbacks, Capabilities, Context, Descriptor, Memory,
    NativeId, OutboundNote, Prepared, Proof, Provider, Recipient, RecipientError, Secrets, SendError, Stage,
    USUAL_CALLBACK,
    wire::{self, NoAnswer},
};

#[cfg(debug_assertions)]
pub(crate) use connection::connection;
pub use preview::preview;

/// The adapter's name, which begins its own ids, too.
const NAME: &str = "http";

pub(crate) static DESCRIPTOR: Descriptor = Descriptor {
    name: NAME,
    sample: SAMPLE,
    example: r#"{"recipe": "whapi", "token": "secret-http-token"}"#,
    secrets: &["token", "webhook_secret", "callback_token"],
    made_up: &["callback_token"],
    native_id: Some(NativeId {
        prefix: NAME,
        bare: false,
        pattern: "[@._:+=~-]{0,8}[A-Za-z0-9][A-Za-z0-9@._:+=~-]{0,119}",
        meaning: "an id of the provider's own: at most 128 letters, digits and @ . _ : + = ~ -",
        canonical: |id| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "@._:+=~-".contains(c);
            let sound = (1..=128).contains(&id.len())
                && id.chars().all(plain)
                && id.contains(|c: char| c.is_ascii_alphanumeric());
            sound.then(|| id.to_owned())
        },
        valid: &["U4af4980629", "120363000000000000@g.us", "5511999999999-group"],
        invalid: &["", "a b", "..", "//example.com", "a/b", "ü"],
    }),
    secret_in_path: true,
    callbacks: Some(Callbacks {
        proof: Proof::Signature { window: None },
        max_bytes: USUAL_CALLBACK,
        registers: false,
    }),
    build: connection::build,
};

const SAMPLE: &str = r#"recipe = "whapi"                         # the recipe: a file such as "recipes/mine.toml", a table, or the name of one that
                                         # comes with voicegate; docs/recipes.md
token = { env = "WHAPI_TOKEN" }          # the value of {{token}} in the recipe
# base_url = "https://gate.whapi.cloud"  # no default: the value of {{base_url}}; most recipes have one of their own
# settings = { instance = "3C01", client_token = { env = "CLIENT_TOKEN" } }   # no default: the values of {{settings.NAME}}
# webhook_secret = { env = "HTTP_WEBHOOK_SECRET" }   # no default: the key of signed callbacks, where the recipe has callback.hmac
# callback_token = { env = "HTTP_CALLBACK_TOKEN" }   # no default: the token of callbacks, where the recipe has callback.token;
                                         # at least 16 characters of your choice
"#;

pub(crate) struct Http {
    recipe: Recipe,
    /// Values that do not change with the note: base_url, token, settings.
    fixed: Values,
    /// Credentials that every request has as headers.
    headers: Vec<Header>,
    /// A credential that every request has in its query: name and value, escaped.
    query: Option<(String, String)>,
    /// Texts that are taken out of everything that the provider says.
    secrets: Vec<SecretString>,
    webhook_secrets: Secrets,
    callback_tokens: Secrets,
    /// The kinds of recipient that the connection reaches.
    kinds: Vec<Kind>,
    capabilities: Capabilities,
    /// A URL of the server to which notes are sent.
    server: Option<Url>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.server.as_ref().map(|url| url.origin().ascii_serialization());
        f.debug_struct("Http").field("server", &origin).finish_non_exhaustive()
    }
}

impl Http {
    fn accepts(&self, to: &Recipient) -> Result<(), RecipientError> {
        if Kind::of(to).is_some_and(|kind| self.kinds.contains(&kind)) {
            return Ok(());
        }
        let forms: Vec<&str> = self.kinds.iter().map(|kind| kind.example()).collect();
        Err(RecipientError::Unsupported(format!("this connection reaches {}", forms.join(", "))))
    }

    fn secrets<'a>(&'a self, link: &'a [SecretString]) -> Vec<&'a SecretString> {
        link.iter().chain(&self.secrets).chain(&self.webhook_secrets).chain(&self.callback_tokens).collect()
    }
}

#[async_trait]
impl Provider for Http {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn recipient_key(&self, to: &Recipient) -> Result<String, RecipientError> {
        self.accepts(to)?;
        // An id of the provider's own is spelt as it is, and must not be taken for another kind of recipient.
        Ok(match to {
            Recipient::Native { .. } => to.to_string(),
            other => self.recipe.recipient.on_the_wire(other),
        })
    }

    async fn prepare(
        &self,
        cx: &Context,
        note: &OutboundNote,
        memory: &mut Memory,
    ) -> Result<Prepared, SendError> {
        self.request(cx, note, memory).await
    }

    fn dispatches_to(&self) -> Option<&Url> {
        self.server.as_ref()
    }

    async fn dispatch(
        &self,
        cx: &Context,
        note: &OutboundNote,
        prepared: Prepared,
        memory: &mut Memory,
    ) -> Result<Accepted, SendError> {
        let answer = wire::dispatch(cx, prepared.request).await.map_err(NoAnswer::in_dispatch)?;
        self.dispatched(cx.now, note, memory, &answer)
    }

    async fn check(&self, cx: &Context) -> Result<String, SendError> {
        self.ask(cx).await.map_err(|error| error.at(Stage::Check))
    }

    fn admits(&self, head: &CallbackRequest) -> Result<(), CallbackError> {
        self.may_call(head)
    }

    fn callback(&self, request: &CallbackRequest) -> Result<Callback, CallbackError> {
        self.read_callback(request)
    }
}

#[cfg(test)]
mod tests;
