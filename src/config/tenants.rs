//! Tenants and their connections, ready to use.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use secrecy::SecretSlice;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use url::Url;
use voicegate_providers::{Degrade, Provider};

use super::values::{Rate, RateOrOff};
use crate::model::note::ConvertChoice;
use voicegate_audio::{self as audio, Profile};

/// What happens to a send whose outcome is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnknown {
    /// Report it and never repeat it.
    #[default]
    Hold,
    /// Repeat it; the recipient may get the note twice.
    Resend,
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
    /// Attempts begun within any span of that length.
    pub rate: Option<Rate>,
    /// Of one request to the provider.
    pub timeout: Duration,
    pub on_unknown: OnUnknown,
    /// A note without any receipt by then is stalled.
    pub ack_deadline: Duration,
    pub degrade: Degrade,
}

impl Connection {
    /// What is done with a note's audio: the request decides, else the connection.
    pub fn choice(&self, requested: Option<ConvertChoice>) -> ConvertChoice {
        requested.or(self.convert).unwrap_or_default()
    }

    /// Whether the audio is handed over for the provider to convert.
    pub fn hands_over(&self, choice: ConvertChoice) -> bool {
        choice == ConvertChoice::Provider && self.provider.capabilities().provider_converts.is_some()
    }

    /// The profile by which audio is made.
    pub fn profile_for(&self, choice: ConvertChoice) -> &'static Profile {
        let capabilities = self.provider.capabilities();
        let handed_over = capabilities.provider_converts.filter(|_| self.hands_over(choice));
        handed_over.and_then(audio::profile).unwrap_or(self.profile)
    }
}

/// Where a tenant wants to be told what became of its notes.
pub struct Webhook {
    /// May hold a token in its path or query: only its origin is ever shown.
    pub url: Url,
    /// For signatures; several while they are being exchanged.
    pub keys: Vec<SecretSlice<u8>>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("origin", &self.url.origin().ascii_serialization())
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub struct Tenant {
    pub name: String,
    /// Hashes.
    pub(super) keys: Vec<[u8; 32]>,
    /// Instead of `server.request_rate`.
    pub request_rate: Option<RateOrOff>,
    /// How many bytes of audio it may keep.
    pub max_storage: Option<u64>,
    /// The default route.
    pub route: Vec<String>,
    pub routes: BTreeMap<String, Vec<String>>,
    /// Alias, then connection, then recipient.
    pub aliases: BTreeMap<String, BTreeMap<String, String>>,
    pub connections: BTreeMap<String, Connection>,
    pub webhook: Option<Webhook>,
}

/// All tenants.
#[derive(Debug, Default)]
pub struct Tenants {
    pub(super) by_name: BTreeMap<String, Arc<Tenant>>,
    /// What an operator should know about the configuration, each with its place and key.
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

    /// Whose key this is. Compares with every key of every tenant, so that time tells nothing.
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
