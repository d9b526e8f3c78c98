//! Certificates of `tests/tls`, for servers on loopback.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(file)
}

/// `sound`, `expired`, or `elsewhere`, which is for another name: all of one key, which signed them. `stranger` is of
/// another key, which is not kept.
pub fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path(&format!("{name}.pem"))).expect("a certificate")
}

/// Trusts that one certificate.
pub fn roots(name: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(name)).expect("a certificate");
    roots
}

pub fn acceptor(name: &str) -> TlsAcceptor {
    let key = PrivateKeyDer::from_pem_file(path("key.pem")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_no_client_auth()
        .with_single_cert(vec![certificate(name)], key)
        .expect("a certificate and its key");
    TlsAcceptor::from(Arc::new(config))
}
