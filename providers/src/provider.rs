//! The provider port: the trait that every adapter implements.

use std::{
    fmt::{self, Debug},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use tokio::{io::AsyncWrite, sync::mpsc};
use url::Url;

use crate::{
    Accepted, Callback, CallbackError, CallbackRequest, Capabilities, ConfigError, Fetched, LookUp, MediaRef,
    Memory, OutboundNote, Presence, ProviderEvent, Recipient, RecipientError, Registration, SendError,
    SendErrorKind, Settings, Stage, UnknownSend, dial::Dial, guard::GuardedClient, presence,
};

/// One account of a tenant at a provider.
///
/// An adapter makes one attempt and reports its outcome. It never sleeps, retries, transcodes or stores: the queue does
/// all of that.
#[async_trait]
pub trait Provider: Debug + Send + Sync {
    fn capabilities(&self) -> &Capabilities;

    /// The canonical form of a recipient on this connection: equal for every spelling of the same one. Lanes
    /// and caches are keyed by it.
    ///
    /// # Errors
    /// The provider does not support this kind of recipient.
    fn recipient_key(&self, to: &Recipient) -> Result<String, RecipientError>;

    /// The provider account, as [`crate::ProviderEvent::account`] names it, if one callback address serves several.
    fn account(&self) -> Option<&str> {
        None
    }

    /// Whether the provider tells voice notes from other audio that people send. If it does not, all audio counts as a
    /// voice note, whatever [`crate::InboundVoice::form`] says.
    fn marks_voice_notes(&self) -> bool {
        true
    }

    /// The text that opens a conversation which does not exist yet, before its first note.
    fn opening_text(&self) -> Option<&str> {
        None
    }

    /// Makes the repeatable preparations: look-ups, uploads, building the request. The recipient sees nothing of the
    /// note; any other visible effect (a text that opens the conversation) appears only once, because the provider
    /// recognises a repetition by its key.
    ///
    /// # Errors
    /// [`SendError`]; whatever its kind, the recipient has seen nothing.
    async fn prepare(
        &self,
        cx: &Context,
        note: &OutboundNote,
        memory: &mut Memory,
    ) -> Result<Prepared, SendError>;

    /// Any URL of the server that `dispatch` calls. A connection to it is opened while the note is prepared, so that
    /// the visible request does not have to wait for one. With `None`, `dispatch` opens it.
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

    /// Checks whether a callback's body is worth reading, by its method, headers and query alone. The body of `head` is
    /// empty. Unauthenticated callers must cost nothing; so this refuses if no secret is configured, and if the proof
    /// is missing or wrong whatever the body contains.
    ///
    /// # Errors
    /// The request would be refused with any body.
    fn admits(&self, _head: &CallbackRequest) -> Result<(), CallbackError> {
        Ok(())
    }

    /// Verifies and parses a request to the connection's callback address. It checks the signature or token first, on
    /// the raw body, makes no request and stores nothing.
    ///
    /// # Errors
    /// The request cannot be verified.
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

    /// Looks up a note whose dispatch had no answer in the provider's records. Changes nothing.
    ///
    /// # Errors
    /// [`SendError`] of [`Stage::Check`]. Also where [`Capabilities::look_up`] is `false`.
    async fn look_up(&self, _cx: &Context, _note: &UnknownSend) -> Result<LookUp, SendError> {
        let detail = "this provider has no records to look into";
        Err(SendError::new(SendErrorKind::Rejected, detail).at(Stage::Dispatch))
    }

    /// Shows the recipient that a note is being recorded, or ends that sign. `known` is [`Memory::recipient`], as sending
    /// notes has left it.
    ///
    /// # Errors
    /// [`SendError`] of [`Stage::Check`]. Also where [`Capabilities::presence`] is `None`.
    async fn presence(
        &self,
        _cx: &Context,
        _to: &Recipient,
        _known: Option<&Value>,
        _sign: Presence,
    ) -> Result<(), SendError> {
        Err(presence::unsupported())
    }

    /// Writes the audio of a received note to `out`, unconverted. The size is bounded by `out`, which fails with
    /// [`std::io::ErrorKind::FileTooLarge`] at its limit. Credentials are sent only to `base_url` and to origins that
    /// the adapter names. Each request ends within the context's `timeout`, its answer included.
    ///
    /// # Errors
    /// [`SendError`] of [`Stage::Fetch`], after which what was written is worthless: `Rejected` where the audio is gone or
    /// its address forbidden, `MediaTooLarge`, `Unauthorized` or `Misconfigured`, and `RateLimited`, `NotReady` or
    /// `Unavailable` where a later try may succeed. Also where [`Capabilities::inbound`] is `false`.
    async fn fetch(
        &self,
        _cx: &Context,
        _media: &MediaRef,
        _out: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<Fetched, SendError> {
        Err(no_inbound())
    }

    /// Keeps a connection to the provider and reports incoming messages, until the provider ends it. It is used for
    /// providers without callbacks ([`Capabilities::listens`]); one process at a time listens for a connection.
    ///
    /// # Errors
    /// [`SendError`] of [`Stage::Receipt`]. Also where [`Capabilities::listens`] is `false`.
    async fn listen(&self, _cx: &Context, _events: mpsc::Sender<ProviderEvent>) -> Result<(), SendError> {
        let detail = "this connection has nothing to listen to";
        Err(SendError::new(SendErrorKind::Rejected, detail).at(Stage::Receipt))
    }
}

fn no_inbound() -> SendError {
    let detail = "voice notes cannot be received over this connection";
    SendError::new(SendErrorKind::Rejected, detail).at(Stage::Fetch)
}

fn no_callbacks() -> SendError {
    let detail = "this provider cannot be asked; set the callback up by hand";
    SendError::new(SendErrorKind::Rejected, detail).at(Stage::Dispatch)
}

/// The clients and limits that an adapter gets for one attempt.
#[derive(Clone, Debug)]
pub struct Context {
    /// Client for the operator's `base_url`: pooled, without redirects and retries.
    pub http: reqwest::Client,
    /// Client for the visible request, with a connection of its own.
    pub dial: Dial,
    /// Client for untrusted URLs (an upload URL in an answer).
    pub guarded: GuardedClient,
    pub now: Timestamp,
    /// Time limit of each single request (the connection's `timeout`).
    pub timeout: Duration,
}

/// A prepared note. `request` is the one that makes it visible.
pub struct Prepared {
    pub request: reqwest::Request,
    /// Correlation ids by which the provider's records and receipts refer to the message before it has an id: of the
    /// uploaded file, of the request. Unique per connection.
    pub correlation_ids: Vec<String>,
}

impl fmt::Debug for Prepared {
    /// `Debug` omits the URL, because some providers have their token in its path.
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
    /// The required settings and no others, as a JSON object for tests and documentation. Secret values contain the
    /// word `secret`, so that the suite can look for them where they must not appear.
    pub example: &'static str,
    /// The settings that are secrets.
    pub secrets: &'static [&'static str],
    /// Secrets that the operator chooses, and that can therefore be too easy to guess.
    pub made_up: &'static [&'static str],
    /// The provider's own ids that `to` accepts: `telegram:123`.
    pub native_id: Option<NativeId>,
    /// Whether the provider needs a credential in the path of its URLs. Such URLs appear in no log, error or `Debug`.
    pub secret_in_path: bool,
    /// Callbacks for receipts and received notes. `None` if the provider sends none.
    pub callbacks: Option<Callbacks>,
    /// Builds one connection. `base_url` defaults to the real provider.
    pub build: fn(Settings) -> Result<Arc<dyn Provider>, ConfigError>,
}

/// A provider's way of calling the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Callbacks {
    pub proof: Proof,
    /// Largest callback, in bytes: [`USUAL_CALLBACK`] where no audio comes in it, else at most 32 MiB.
    pub max_bytes: usize,
    /// Whether callbacks can be registered at the provider: [`Provider::register_callbacks`] and
    /// [`Provider::callback_status`].
    pub registers: bool,
}

/// The proof that a callback comes from the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A signature over the raw body. With a window, its time is signed as well, and requests from outside the window
    /// are refused.
    Signature { window: Option<Duration> },
    /// A secret in the address or in a header. It does not authenticate the body.
    Token,
}

/// The largest callback of providers that send no audio in it.
pub const USUAL_CALLBACK: usize = 1024 * 1024;

/// The spelling of a provider's own ids in `to`, after `PREFIX:`.
#[derive(Debug)]
pub struct NativeId {
    pub prefix: &'static str,
    /// Whether an id is recognised by its form alone, so that the prefix may be omitted.
    pub bare: bool,
    /// A regular expression for the part behind the colon, for the API's document: anchored at both ends by whoever
    /// prints it, without groups that capture.
    pub pattern: &'static str,
    /// Description of the part behind the colon for people: `a chat's number, or @ and a channel's name`.
    pub meaning: &'static str,
    /// Returns the canonical spelling of an id; `None` if it is invalid.
    pub canonical: fn(&str) -> Option<String>,
    pub valid: &'static [&'static str],
    pub invalid: &'static [&'static str],
}
