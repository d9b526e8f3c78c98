//! The judgement of servers by their certificates, which all HTTP clients share.

use std::{fmt, sync::Arc};

use reqwest::ClientBuilder;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier, crypto::aws_lc_rs};
use rustls_platform_verifier::BuilderVerifierExt as _;

/// TLS settings for the clients that are set up together. The certificates of the system are read once for all of them,
/// because that takes longer than everything else about a client, and each copy takes memory.
#[derive(Clone)]
pub struct Trust {
    tls: ClientConfig,
}

impl Trust {
    /// Trusts what the system trusts.
    ///
    /// # Errors
    /// The TLS configuration of this machine is unusable.
    pub fn system() -> Result<Self, rustls::Error> {
        Ok(Self { tls: builder()?.with_platform_verifier()?.with_no_client_auth() })
    }

    /// Trusts these authorities alone.
    ///
    /// # Errors
    /// The TLS configuration is unusable.
    pub fn only(roots: RootCertStore) -> Result<Self, rustls::Error> {
        Ok(Self { tls: builder()?.with_root_certificates(roots).with_no_client_auth() })
    }

    /// Trusts no server. For tests, whose servers speak plain HTTP.
    ///
    /// # Errors
    /// The TLS configuration is unusable.
    pub fn nobody() -> Result<Self, rustls::Error> {
        Self::only(RootCertStore::empty())
    }

    /// The beginning of an HTTP client that judges servers in this way.
    pub fn client(&self) -> ClientBuilder {
        reqwest::Client::builder().tls_backend_preconfigured(self.speaking(&[b"h2", b"http/1.1"]))
    }

    /// TLS settings for a connection that speaks one of these protocols.
    pub(crate) fn speaking(&self, protocols: &[&[u8]]) -> ClientConfig {
        let mut tls = self.tls.clone();
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        tls
    }
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}
