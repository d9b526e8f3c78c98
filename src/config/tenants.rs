//! Tenants and their connections, ready to use.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use http::HeaderName;
use secrecy::{SecretSlice, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use url::Url;
use voicegate_providers::{Degrade, Form, FormSupport, Provider};

use super::{
    speech::{SpeechServer, TranscriptionServer},
    values::{Rate, RateOrOff},
};
use crate::model::note::ConvertChoice;
use voicegate_audio::{self as audio, Profile};

/// The handling of a send whose outcome is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnknown {
    /// Report it and do not repeat it.
    #[default]
    Hold,
    /// Repeat it; the recipient may receive the note twice.
    Resend,
}

/// The presence that is shown while speech is made for a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    Recording,
}

/// One account of a tenant at a provider.
#[derive(Debug)]
pub struct Connection {
    pub name: String,
    pub provider_name: &'static str,
    pub provider: Arc<dyn Provider>,
    pub profile: &'static Profile,
    pub convert: Option<ConvertChoice>,
    pub concurrency: usize,
    /// The most attempts that may begin within any such period.
    pub rate: Option<Rate>,
    /// The time limit for one request to the provider.
    pub timeout: Duration,
    pub on_unknown: OnUnknown,
    /// A note without a receipt by then is stalled.
    pub ack_deadline: Duration,
    pub degrade: Degrade,
    /// Whether voice notes that people send over it are received.
    pub inbound: bool,
    /// Shows that a note is being recorded while its speech is made.
    pub presence: bool,
}

impl Connection {
    /// The choice for a note's audio: that of the request, otherwise that of the connection.
    pub fn choice(&self, requested: Option<ConvertChoice>) -> ConvertChoice {
        requested.or(self.convert).unwrap_or_default()
    }

    /// Whether the provider gets the audio to convert it itself.
    pub fn hands_over(&self, choice: ConvertChoice) -> bool {
        choice == ConvertChoice::Provider && self.provider.capabilities().provider_converts.is_some()
    }

    /// The profile by which audio is made for a form.
    pub fn profile_for(&self, form: Form, choice: ConvertChoice) -> &'static Profile {
        let capabilities = self.provider.capabilities();
        let handed_over = capabilities.provider_converts.filter(|_| self.hands_over(choice));
        handed_over.and_then(audio::profile).unwrap_or_else(|| self.profile_of(form))
    }

    /// The profile that the provider asks for. The connection's own takes the place of those of its family.
    fn profile_of(&self, form: Form) -> &'static Profile {
        let capabilities = self.provider.capabilities();
        let own = capabilities.form(form).and_then(|support| support.profile.as_deref());
        own.filter(|name| !name.starts_with(capabilities.profile_family))
            .and_then(audio::profile)
            .unwrap_or(self.profile)
    }

    /// The limits of each form of the connection, in the ladder's order.
    pub fn forms(&self) -> Vec<FormSupport> {
        let support = |support: &FormSupport| {
            let profile = support.profile.as_ref().map(|_| self.profile_of(support.form).name.to_owned());
            FormSupport { profile, ..support.clone() }
        };
        self.provider.capabilities().forms.iter().map(support).collect()
    }
}

/// The product whose events a webhook receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookDialect {
    #[default]
    Voicegate,
    Evolution,
    Waha,
    Linq,
}

impl WebhookDialect {
    /// Whether events are signed as Standard Webhooks, whose secrets have a form of their own.
    pub fn is_standard(self) -> bool {
        matches!(self, Self::Voicegate | Self::Linq)
    }
}

/// The webhook that receives the events of a tenant.
pub struct Webhook {
    /// It may contain a token in its path or query, so only its origin is ever shown.
    pub url: Url,
    /// The keys in the secrets of Standard Webhooks; there are several while one replaces another. Empty in a dialect that
    /// signs in another way.
    pub keys: Vec<SecretSlice<u8>>,
    pub dialect: WebhookDialect,
    /// The first secret as text, which is the key in other dialects.
    pub secret: SecretString,
    /// Headers that every event has besides.
    pub headers: Vec<(HeaderName, SecretString)>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("origin", &self.url.origin().ascii_serialization())
            .finish_non_exhaustive()
    }
}

/// The handling of voice notes that people send to a tenant.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// The profiles in which the audio is made, beside the native one.
    pub renders: Vec<&'static Profile>,
    /// Whether audio that is no voice note is received as well.
    pub accept_audio: bool,
    /// How long the audio is kept.
    pub retention: Duration,
    /// The name of the transcription that writes down the words.
    pub transcribe: Option<String>,
}

#[derive(Debug)]
pub struct Tenant {
    pub name: String,
    /// The hashes of the API keys.
    pub(super) keys: Vec<[u8; 32]>,
    /// Overrides `server.request_rate`.
    pub request_rate: Option<RateOrOff>,
    /// The most bytes of audio that it may keep.
    pub max_storage: Option<u64>,
    /// The default route.
    pub route: Vec<String>,
    pub routes: BTreeMap<String, Vec<String>>,
    /// Recipients by alias and connection.
    pub aliases: BTreeMap<String, BTreeMap<String, String>>,
    pub connections: BTreeMap<String, Connection>,
    pub webhook: Option<Webhook>,
    pub inbound: Inbound,
    /// The servers that speak texts, by name.
    pub speech: BTreeMap<String, SpeechServer>,
    /// The servers that write down what was spoken, by name.
    pub transcription: BTreeMap<String, TranscriptionServer>,
}

/// All tenants.
#[derive(Debug, Default)]
pub struct Tenants {
    pub(super) by_name: BTreeMap<String, Arc<Tenant>>,
    /// Warnings for the operator, each with its location and key.
    pub warnings: Vec<String>,
}

/// API keys are 256 random bits, so a plain hash is enough and costs nothing per request.
pub fn hash_key(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

impl Tenants {
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.by_name.values()
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Tenant>> {
        self.by_name.get(name)
    }

    /// Returns the tenant of a key. Compares it with every key of every tenant, so that the time reveals nothing.
    pub fn by_key(&self, key: &str) -> Option<&Arc<Tenant>> {
        let hash = hash_key(key);
        let mut found = None;
        for tenant in self.iter() {
            for known in &tenant.keys {
                if bool::from(known.ct_eq(&hash)) {
                    found = Some(tenant);
                }
            }
        }
        found
    }
}
