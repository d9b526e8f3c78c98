//! The port: what every adapter implements.

use std::{
    fmt::{self, Debug},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::{io::AsyncWrite, sync::mpsc};
use url::Url;

use crate::{
    Accepted, Callback, CallbackError, CallbackRequest, Capabilities, ConfigError, Fetched, LookUp, MediaRef,
    Memory, OutboundNote, ProviderEvent, Recipient, RecipientError, Registration, SendError, SendErrorKind,
    Settings, UnknownSend, dial::Dial, guard::GuardedClient,
};

/// One account of a tenant at a provider.
///
/// An adapter makes one attempt and names what happened. It never sleeps, retries, transcodes or stores: the
/// queue does all of that.
#[async_trait]
pub trait Provider: Debug + Send + Sync {
    fn capabilities(&self) -> &Capabilities;

    /// The canonical form of a recipient on this connection: equal for every spelling of the same one. Lanes
    /// and caches are keyed by it.
    ///
    /// # Errors
    /// Where this provider has no such kind of recipient.
    fn recipient_key(&self, to: &Recipient) -> Result<String, RecipientError>;

    /// The account at the provider, as [`crate::ProviderEvent::account`] names it, where one callback address serves
    /// several.
    fn account(&self) -> Option<&str> {
        None
    }

    /// Everything that may be repeated freely: look-ups, uploads, building the request. Nothing of the note that
    /// the recipient could see; what else they see (a text that opens the conversation) they see once, because
    /// the provider knows a repetition by its key.
    ///
    /// # Errors
    /// [`SendError`]; whatever its kind, the recipient has seen nothing.
    async fn prepare(
        &self,
        cx: &Context,
        note: &OutboundNote,
        memory: &mut Memory,
    ) -> Result<Prepared, SendError>;

    /// Any URL of the server that `dispatch` asks. A connection to it is opened while the note is made ready, so that the
    /// visible request does not have to wait for one. `None`: it is opened by `dispatch`.
    fn dispatches_to(&self) -> Option<&Url> {
        None
    }

    /// Makes the one request that shows the note to its recipient, once, by [`crate::wire::dispatch`].
    ///
    /// # Errors
    /// [`SendError`]. After the request may have left, only an answer that proves the provider did not take
    /// the note may be anything else than [`crate::SendErrorKind::OutcomeUnknown`].
    async fn dispatch(
        &self,
        cx: &Context,
        note: &OutboundNote,
        prepared: Prepared,
        memory: &mut Memory,
    ) -> Result<Accepted, SendError>;

    /// Asks the provider whether address and credentials are right and the account can send: one or two requests
    /// that change nothing, cheap enough to be made every few minutes. Says what it found in a line for people,
    /// numbers masked (`2 lines: +1205•••5597 HEALTHY, ...`).
    ///
    /// # Errors
    /// [`SendError`], whose detail says what to change. Its kind is `Unauthorized`, `Misconfigured`,
    /// `RateLimited`, `NotReady` or `Unavailable`.
    async fn check(&self, cx: &Context) -> Result<String, SendError>;

    /// Judges a callback by its method, headers and query alone: whether its body is worth reading. The body of `head` is
    /// empty. Anybody can call, and what is certainly not from the provider shall cost nothing; so this refuses where no
    /// secret is configured, and where the proof is not there or is wrong whatever the body says.
    ///
    /// # Errors
    /// The request would be refused with any body.
    fn admits(&self, _head: &CallbackRequest) -> Result<(), CallbackError> {
        Ok(())
    }

    /// Judges and understands a request to the connection's callback address. Signature or token first, on the raw
    /// body; makes no request and keeps nothing.
    ///
    /// # Errors
    /// Where the request is not to be believed.
    fn callback(&self, _request: &CallbackRequest) -> Result<Callback, CallbackError> {
        Err(CallbackError::NotConfigured)
    }

    /// Asks the provider to send receipts to `url`. Repeating it does no harm.
    ///
    /// # Errors
    /// [`SendError`] of stage `check`, whose detail says what to do by hand.
    async fn register_callbacks(&self, _cx: &Context, _url: &Url) -> Result<Registration, SendError> {
        Err(no_callbacks())
    }

    /// Says in a line for people whether the provider is set up to send receipts to `url`.
    ///
    /// # Errors
    /// As for [`Provider::register_callbacks`].
    async fn callback_status(&self, _cx: &Context, _url: &Url) -> Result<String, SendError> {
        Err(no_callbacks())
    }

    /// Looks for a note whose dispatch had no answer in the provider's records. Changes nothing.
    ///
    /// # Errors
    /// [`SendError`] of stage `check`. Also where [`Capabilities::look_up`] is `false`.
    async fn look_up(&self, _cx: &Context, _note: &UnknownSend) -> Result<LookUp, SendError> {
        let detail = "this provider has no records to look into";
        Err(SendError::new(SendErrorKind::Rejected, detail).at("dispatch"))
    }

    /// Writes the audio of a received note to `out`, as the provider has it. Bounded by `out`, which fails where it is
    /// too much. Credentials go to `base_url` and to origins that the adapter names, to nobody else.
    ///
    /// # Errors
    /// [`SendError`] of stage `fetch`. Also where [`Capabilities::inbound`] is `false`.
    async fn fetch(
        &self,
        _cx: &Context,
        _media: &MediaRef,
        _out: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<Fetched, SendError> {
        Err(no_inbound())
    }

    /// Keeps a connection to the provider and reports what people send, until the provider ends it. For providers that
    /// never call ([`Capabilities::listens`]); one process at a time listens for a connection.
    ///
    /// # Errors
    /// [`SendError`] of stage `listen`. Also where [`Capabilities::listens`] is `false`.
    async fn listen(&self, _cx: &Context, _events: mpsc::Sender<ProviderEvent>) -> Result<(), SendError> {
        let detail = "this connection has nothing to listen to";
        Err(SendError::new(SendErrorKind::Rejected, detail).at("receipt"))
    }
}

fn no_inbound() -> SendError {
    let detail = "voice notes cannot be received over this connection";
    SendError::new(SendErrorKind::Rejected, detail).at("fetch")
}

fn no_callbacks() -> SendError {
    let detail = "this provider cannot be asked; set the callback up by hand";
    SendError::new(SendErrorKind::Rejected, detail).at("dispatch")
}

/// What an adapter is given for one attempt instead of making it itself.
#[derive(Clone, Debug)]
pub struct Context {
    /// For the operator's `base_url`: pooled, follows no redirect, retries nothing.
    pub http: reqwest::Client,
    /// For the visible request: a connection of its own.
    pub dial: Dial,
    /// For every URL that somebody else chose (an upload URL in an answer).
    pub guarded: GuardedClient,
    pub now: Timestamp,
    /// Time limit of each single request (the connection's `timeout`).
    pub timeout: Duration,
}

/// A note made ready. `request` is the one that makes it visible.
pub struct Prepared {
    pub request: reqwest::Request,
    /// Names by which the provider's records and receipts know the message, before it has an id: of the uploaded file,
    /// of the request. Unique per connection.
    pub correlation_ids: Vec<String>,
}

impl fmt::Debug for Prepared {
    /// Without the URL: some providers have their token in its path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("method", self.request.method()).finish_non_exhaustive()
    }
}

/// Everything the gateway knows about an adapter before building one.
#[derive(Debug)]
pub struct Descriptor {
    /// The value of `provider` in the configuration.
    pub name: &'static str,
    /// A connection as TOML, below `[tenants.T.connections.C]`: every setting with its default or an example, and a
    /// comment that says what it is. What is required stands as it is, the rest is commented out. Printed into the
    /// configuration reference.
    pub sample: &'static str,
    /// The required settings and no other, as a JSON object: used by tests and documentation. Values that are
    /// secret contain the word `secret`, so that the suite can look for them where they must not appear.
    pub example: &'static str,
    /// The settings that are secrets.
    pub secrets: &'static [&'static str],
    /// Those of them that the operator makes up, and that can therefore be too easy to guess.
    pub made_up: &'static [&'static str],
    /// Ids of the provider's own that `to` takes: `telegram:123`.
    pub native_id: Option<NativeId>,
    /// The provider wants a credential in the path of its URLs. Such URLs are in no log, error and `Debug`.
    pub secret_in_path: bool,
    /// How the provider tells what became of messages, and what people send. `None`: it never calls.
    pub callbacks: Option<Callbacks>,
    /// Builds one connection. `base_url` has the real provider as its default.
    pub build: fn(Settings) -> Result<Arc<dyn Provider>, ConfigError>,
}

/// How a provider calls the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Callbacks {
    pub proof: Proof,
    /// Largest callback, in bytes: [`USUAL_CALLBACK`] where no audio comes in it, else at most 32 MiB.
    pub max_bytes: usize,
    /// Whether the provider can be asked to call: [`Provider::register_callbacks`] and [`Provider::callback_status`].
    pub registers: bool,
}

/// What proves that a callback is the provider's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A signature over the raw body. With a window its time is signed, too, and requests from outside the window are
    /// refused.
    Signature { window: Option<Duration> },
    /// A secret that comes along, in the address or in a header. The body proves nothing.
    Token,
}

/// The largest callback of providers that send no audio in it.
pub const USUAL_CALLBACK: usize = 1024 * 1024;

/// How a provider's own ids are written in `to`, behind `PREFIX:`.
#[derive(Debug)]
pub struct NativeId {
    pub prefix: &'static str,
    /// An id is known by its form alone, so it may be written without the prefix.
    pub bare: bool,
    /// A regular expression for the part behind the colon, for the API's document: anchored at both ends by whoever
    /// prints it, without groups that capture.
    pub pattern: &'static str,
    /// What the part behind the colon is, for people: `a chat's number, or @ and a channel's name`.
    pub meaning: &'static str,
    /// The canonical spelling of an id; `None` where it is none.
    pub canonical: fn(&str) -> Option<String>,
    pub valid: &'static [&'static str],
    pub invalid: &'static [&'static str],
}
