//! The signatures of webhooks.

use base64::{Engine as _, prelude::*};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Sha256, Sha512};

/// Lifetime of a token, in seconds.
const TOKEN_LIFE: i64 = 600;

/// The signature of a Standard Webhook. `timestamp` is in seconds since 1970.
pub fn sign(key: &[u8], id: &str, timestamp: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

/// HMAC with SHA-512 over a body, in hexadecimal.
pub fn hmac_sha512(key: &[u8], body: &str) -> String {
    let mut mac = Hmac::<Sha512>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(body.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

/// A JSON Web Token as Evolution makes it: HS256, good for ten minutes, and not bound to the body.
/// <https://github.com/EvolutionAPI/evolution-api/blob/3454bec/src/api/integrations/event/webhook/webhook.controller.ts>
pub fn evolution_token(key: &[u8], now: Timestamp) -> String {
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let issued = now.as_second();
    let claims =
        json!({ "iat": issued, "exp": issued + TOKEN_LIFE, "app": "evolution", "action": "webhook" });
    let signed = format!("{}.{}", part(json!({ "alg": "HS256", "typ": "JWT" })), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(signed.as_bytes());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in WAHA's documentation.
    #[test]
    fn hmac_is_that_of_the_documentation() {
        let signed =
            hmac_sha512(b"my-secret-key", r#"{"event":"message","session":"default","engine":"WEBJS"}"#);
        assert!(signed.starts_with("208f8a55dde9e055") && signed.ends_with("076153fa89"), "{signed}");
    }
}
