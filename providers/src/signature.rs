//! Who a callback is from: signatures of Standard Webhooks, and secrets that came along.
//!
//! The crate `standardwebhooks` asks the system for the time and brings an HMAC, a base64 and a clock library of its
//! own beside those that are here already, so the twenty lines that matter are written out:
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD,
};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::{CallbackError, CallbackRequest, ConfigError, Secrets};

/// How far the signature's time may be from ours, in seconds, in both directions: what the specification proposes, and
/// what Linq's own clients do (linq-go, client.go).
pub(crate) const TOLERANCE: u64 = 5 * 60;

/// Secrets are shown with and without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The keys of one connection: several while one replaces another.
pub(crate) struct SigningKeys(Vec<SecretSlice<u8>>);

impl SigningKeys {
    /// `whsec_` and base64; `setting` is the key in the configuration.
    ///
    /// # Errors
    /// Where a secret is none of this kind.
    pub fn read(setting: &str, secrets: &Secrets) -> Result<Self, ConfigError> {
        let wrong = || {
            let expected = "expected a signing secret as the provider shows it: whsec_ and base64";
            ConfigError::new(setting, expected)
        };
        let key = |secret: &SecretString| {
            let text = secret.expose_secret().trim();
            let key = LENIENT.decode(text.strip_prefix("whsec_").unwrap_or(text)).ok();
            key.filter(|key| !key.is_empty()).map(SecretSlice::from).ok_or_else(wrong)
        };
        secrets.iter().map(key).collect::<Result<_, _>>().map(Self)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The id of a request that one of the keys has signed, not long ago.
    ///
    /// # Errors
    /// [`CallbackError`], and never `Malformed`: nothing was read yet.
    pub fn verify<'a>(&self, request: &'a CallbackRequest) -> Result<&'a str, CallbackError> {
        let Proof { id, time, seconds, signatures } = self.proof(request)?;
        let signed = self.0.iter().any(|key| {
            let mac = mac(key.expose_secret(), id, time, &request.body);
            // `verify_slice` takes the same time wherever the difference is.
            signatures.iter().any(|one| mac.clone().verify_slice(one).is_ok())
        });
        if !signed {
            return Err(CallbackError::Forged);
        }
        is_recent(request.now, seconds).then_some(id).ok_or(CallbackError::Stale)
    }

    /// Whether there is a signature that some body could have, made not long ago.
    ///
    /// # Errors
    /// As for [`Self::verify`].
    pub fn admits(&self, head: &CallbackRequest) -> Result<(), CallbackError> {
        let proof = self.proof(head)?;
        is_recent(head.now, proof.seconds).then_some(()).ok_or(CallbackError::Stale)
    }

    fn proof<'a>(&self, request: &'a CallbackRequest) -> Result<Proof<'a>, CallbackError> {
        if self.is_empty() {
            return Err(CallbackError::NotConfigured);
        }
        let header = |name| request.header(name).ok_or(CallbackError::Forged);
        let (id, time) = (header("webhook-id")?, header("webhook-timestamp")?);
        let seconds = time.parse().map_err(|_| CallbackError::Forged)?;
        // Beside v1 there is v1a, which is of another kind, and whatever comes later.
        let given = header("webhook-signature")?.split(' ').filter_map(|one| one.strip_prefix("v1,"));
        let signatures: Vec<Vec<u8>> = given
            .filter_map(|one| BASE64_STANDARD.decode(one).ok())
            .filter(|one| one.len() == Sha256::output_size())
            .collect();
        if signatures.is_empty() {
            return Err(CallbackError::Forged);
        }
        Ok(Proof { id, time, seconds, signatures })
    }
}

/// The identity, time and signatures that the headers of a signed request state.
struct Proof<'a> {
    id: &'a str,
    time: &'a str,
    /// The timestamp as a number.
    seconds: i64,
    signatures: Vec<Vec<u8>>,
}

fn is_recent(now: Timestamp, seconds: i64) -> bool {
    now.as_second().abs_diff(seconds) <= TOLERANCE
}

fn mac(key: &[u8], id: &str, time: &str, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in [id.as_bytes(), b".", time.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac
}

/// The header that goes with a body, for tests of what lies behind it.
#[cfg(debug_assertions)]
pub(crate) fn sign(key: &[u8], id: &str, time: &str, body: &[u8]) -> String {
    format!("v1,{}", BASE64_STANDARD.encode(mac(key, id, time, body).finalize().into_bytes()))
}

/// Whether `given` is one of the secrets. How long that takes tells nothing but lengths.
pub(crate) fn is_one_of(given: &str, secrets: &Secrets) -> bool {
    let same = |secret: &SecretString| secret.expose_secret().as_bytes().ct_eq(given.as_bytes());
    secrets.iter().fold(Choice::from(0), |found, secret| found | same(secret)).into()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method};
    use jiff::{SignedDuration, Timestamp};

    use super::*;

    fn request(id: &str, time: i64, signature: &str, body: &'static str) -> CallbackRequest {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("webhook-id", id), ("webhook-timestamp", &time.to_string()), ("webhook-signature", signature)]
        {
            headers.insert(name, HeaderValue::from_str(value).expect("a header value"));
        }
        CallbackRequest {
            method: Method::POST,
            headers,
            query: Vec::new(),
            body: Bytes::from_static(body.as_bytes()),
            now: Timestamp::from_second(time).expect("a time"),
        }
    }

    fn keys(secrets: &[&str]) -> SigningKeys {
        let secrets = serde_json::from_value(secrets.into()).expect("secrets");
        SigningKeys::read("webhook_secret", &secrets).expect("signing secrets")
    }

    const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    fn genuine() -> CallbackRequest {
        request(
            "evt_test_0001",
            1_767_225_600,
            "v1,ch81UIZONj/+wvI29ZD1CN23OZ9cRPwf3RNZpy6YXPE=",
            r#"{"event_type":"message.sent","data":{"id":"m1"}}"#,
        )
    }

    #[test]
    fn signatures_of_others_verify() {
        assert_eq!(keys(&[SECRET]).verify(&genuine()), Ok("evt_test_0001"));
        // Of the reference implementation: standard-webhooks/libraries/rust/src/lib.rs, test_sign.
        let reference = request(
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            r#"{"email":"test@example.com","username":"test_user"}"#,
        );
        let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        assert_eq!(keys(&[secret]).verify(&reference), Ok("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk"));
        assert_eq!(keys(&[SECRET]).verify(&reference), Err(CallbackError::Forged));
    }

    #[test]
    fn headers_without_a_signature_are_refused_whatever_the_body_is() {
        let admits = |request: &CallbackRequest| keys(&[SECRET]).admits(request);
        let mut head = genuine();
        head.body = Bytes::new();
        assert_eq!(admits(&head), Ok(()));
        for (name, value) in [
            ("webhook-signature", "v1,"),
            ("webhook-signature", "v1,AAAA"),
            ("webhook-signature", "v1a,ch81UIZONj/+wvI29ZD1CN23OZ9cRPwf3RNZpy6YXPE="),
            ("webhook-timestamp", "yesterday"),
        ] {
            let mut wrong = head.clone();
            wrong.headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(admits(&wrong), Err(CallbackError::Forged), "{name}: {value}");
        }
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            let mut wrong = head.clone();
            wrong.headers.remove(name);
            assert_eq!(admits(&wrong), Err(CallbackError::Forged), "{name}");
        }
        let mut late = head.clone();
        late.now += SignedDuration::from_secs(301);
        assert_eq!(admits(&late), Err(CallbackError::Stale));
        let none = SigningKeys::read("webhook_secret", &Secrets::default()).expect("no secrets");
        assert_eq!(none.admits(&head), Err(CallbackError::NotConfigured));
    }

    #[test]
    fn while_secrets_are_exchanged_either_side_may_have_both() {
        let other = "whsec_b3RoZXIgb3RoZXIgb3RoZXI=";
        assert!(keys(&[other, SECRET]).verify(&genuine()).is_ok());
        let mut two = genuine();
        let given = two.header("webhook-signature").expect("a signature");
        let both = format!("v1a,AAAA v1,AAAA {given}");
        two.headers.insert("webhook-signature", both.parse().expect("a header value"));
        assert!(keys(&[SECRET]).verify(&two).is_ok());
        assert_eq!(keys(&[other]).verify(&two), Err(CallbackError::Forged));
        let none = SigningKeys::read("webhook_secret", &Secrets::default()).expect("no secrets");
        assert_eq!(none.verify(&two), Err(CallbackError::NotConfigured));
    }

    #[test]
    fn five_minutes_are_fine_in_both_directions() {
        for (seconds, expected) in
            [(300, Ok("evt_test_0001")), (301, Err(CallbackError::Stale)), (-301, Err(CallbackError::Stale))]
        {
            let mut late = genuine();
            late.now += SignedDuration::from_secs(seconds);
            assert_eq!(keys(&[SECRET]).verify(&late), expected, "{seconds}");
        }
    }

    #[test]
    fn a_secret_of_another_kind_is_refused_without_being_shown() {
        for secret in ["whsec_", "whsec_not base64", "!"] {
            let secrets = serde_json::from_value(secret.into()).expect("secrets");
            let error = SigningKeys::read("webhook_secret", &secrets).err().expect("refused");
            assert!(error.key == "webhook_secret" && !error.message.contains("not base64"), "{error}");
        }
        assert!(!keys(&["MDEyMzQ1Njc4OWFiY2RlZg"]).is_empty(), "neither prefix nor padding");
    }

    #[test]
    fn a_token_is_one_of_those_configured() {
        let secrets = serde_json::from_value(serde_json::json!(["old-token", "new-token"])).expect("secrets");
        for (given, expected) in [("old-token", true), ("new-token", true), ("new-toke", false), ("", false)]
        {
            assert_eq!(is_one_of(given, &secrets), expected, "{given:?}");
        }
    }
}
