//! Verification of callbacks: signatures of Standard Webhooks, HMACs over the body, tokens signed as JWT, and shared
//! secrets.
//!
//! The crate `standardwebhooks` asks the system for the time and brings an HMAC, a base64 and a clock library of its
//! own beside those that are here already, so the twenty lines that matter are written out:
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde::Deserialize;
use sha2::{Digest as _, Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};

use crate::{CallbackError, CallbackRequest, ConfigError, Secrets};

/// Maximum difference between the signature's time and ours, in seconds and in both directions: the value that the
/// specification proposes and that Linq's own clients use (linq-go, client.go).
pub const TOLERANCE: u64 = 5 * 60;

/// Decodes secrets with and without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The keys of one connection, several during a rotation.
pub struct SigningKeys(Vec<SecretSlice<u8>>);

impl SigningKeys {
    /// Parses secrets of `whsec_` and base64; `setting` is the key in the configuration.
    ///
    /// # Errors
    /// A secret has another format.
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

    /// Verifies that one of the keys signed the request recently, and returns its id.
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

    /// Checks that a recent signature is present and well-formed, whatever the body is.
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
        // Besides v1 there is v1a, which is of another kind, and there may be later versions.
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

/// Returns the headers that sign a body, for tests.
#[cfg(debug_assertions)]
pub(crate) fn sign(key: &[u8], id: &str, time: &str, body: &[u8]) -> String {
    format!("v1,{}", BASE64_STANDARD.encode(mac(key, id, time, body).finalize().into_bytes()))
}

/// An HMAC over the raw body, in a header of its own.
#[derive(Clone, Copy, Debug)]
pub struct BodyHmac<'a> {
    pub header: &'a str,
    pub algorithm: Algorithm,
    pub encoding: Encoding,
    /// Prefix of the signature in the header: `sha256=`.
    pub prefix: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    Sha256,
    Sha512,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    Hex,
    Base64,
}

impl BodyHmac<'_> {
    /// Checks that a signature is present and well-formed, whatever the body is.
    ///
    /// # Errors
    /// As for [`Self::verify`].
    pub fn admits(&self, head: &CallbackRequest, secrets: &Secrets) -> Result<(), CallbackError> {
        self.given(head, secrets).map(drop)
    }

    fn given(&self, request: &CallbackRequest, secrets: &Secrets) -> Result<Vec<u8>, CallbackError> {
        if secrets.first().is_none() {
            return Err(CallbackError::NotConfigured);
        }
        let given = request.header(self.header).and_then(|text| text.strip_prefix(self.prefix));
        let given = given.and_then(|text| self.encoding.decode(text));
        given.filter(|mac| mac.len() == self.algorithm.size()).ok_or(CallbackError::Forged)
    }

    /// Verifies that one of the secrets made the signature of a request.
    ///
    /// # Errors
    /// [`CallbackError::NotConfigured`] without any secret, else [`CallbackError::Forged`].
    pub fn verify(&self, request: &CallbackRequest, secrets: &Secrets) -> Result<(), CallbackError> {
        let given = self.given(request, secrets)?;
        let made = |secret: &SecretString| {
            let key = secret.expose_secret().as_bytes();
            self.algorithm.is_mac(key, &request.body, &given)
        };
        if secrets.iter().any(made) { Ok(()) } else { Err(CallbackError::Forged) }
    }
}

impl Encoding {
    fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Hex => decode_hex(text),
            Self::Base64 => BASE64_STANDARD.decode(text).ok(),
        }
    }
}

/// Decodes hexadecimal in either case. The crate `hex` would be another dependency for four lines.
fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

impl Algorithm {
    /// Bytes of a signature.
    fn size(self) -> usize {
        match self {
            Self::Sha256 => Sha256::output_size(),
            Self::Sha512 => Sha512::output_size(),
        }
    }

    /// Compares in constant time.
    fn is_mac(self, key: &[u8], body: &[u8], given: &[u8]) -> bool {
        match self {
            Self::Sha256 => {
                let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
                mac.chain_update(body).verify_slice(given).is_ok()
            }
            Self::Sha512 => {
                let mac = Hmac::<Sha512>::new_from_slice(key).expect("HMAC takes a key of any length");
                mac.chain_update(body).verify_slice(given).is_ok()
            }
        }
    }
}

/// Returns the hexadecimal HMAC-SHA512 of a body, for tests.
#[cfg(debug_assertions)]
pub(crate) fn sign_body(key: &[u8], body: &[u8]) -> String {
    let mac = Hmac::<Sha512>::new_from_slice(key).expect("HMAC takes a key of any length").chain_update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Verifies a JSON Web Token of HMAC-SHA256 (RFC 7515), the only kind with which gateways sign their webhooks. The
/// token authenticates the sender and not the body.
///
/// # Errors
/// [`CallbackError::NotConfigured`] without any secret, [`CallbackError::Stale`] where it has expired, else
/// [`CallbackError::Forged`].
pub fn verify_jwt(token: &str, secrets: &Secrets, now: Timestamp) -> Result<(), CallbackError> {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
    }
    #[derive(Deserialize)]
    struct Claims {
        exp: Option<i64>,
    }
    if secrets.first().is_none() {
        return Err(CallbackError::NotConfigured);
    }
    let read = || {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let json = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).ok();
        let header: Header = serde_json::from_slice(&json(header)?).ok()?;
        let claims: Claims = serde_json::from_slice(&json(claims)?).ok()?;
        let signature = json(signature)?;
        // "none" and every other algorithm: https://datatracker.ietf.org/doc/html/rfc8725#section-3.1
        let made = |secret: &SecretString| {
            let key = secret.expose_secret().as_bytes();
            Algorithm::Sha256.is_mac(key, signed.as_bytes(), &signature)
        };
        (header.alg == "HS256" && secrets.iter().any(made)).then_some(claims)
    };
    let claims = read().ok_or(CallbackError::Forged)?;
    let tolerance = i64::try_from(TOLERANCE).unwrap_or(i64::MAX);
    if claims.exp.is_some_and(|exp| exp.saturating_add(tolerance) < now.as_second()) {
        return Err(CallbackError::Stale);
    }
    Ok(())
}

/// Verifies a shared secret in a header or in the address.
///
/// # Errors
/// [`CallbackError::NotConfigured`] without any secret, else [`CallbackError::Forged`].
pub fn verify_token(given: Option<&str>, secrets: &Secrets) -> Result<(), CallbackError> {
    if secrets.first().is_none() {
        return Err(CallbackError::NotConfigured);
    }
    let known = given.is_some_and(|given| is_one_of(given, secrets));
    if known { Ok(()) } else { Err(CallbackError::Forged) }
}

/// Whether `given` is one of the secrets. The time of the comparison reveals only lengths.
fn is_one_of(given: &str, secrets: &Secrets) -> bool {
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
    fn signatures_of_the_reference_implementation_are_accepted() {
        assert_eq!(keys(&[SECRET]).verify(&genuine()), Ok("evt_test_0001"));
        // The values are those of the reference implementation: standard-webhooks/libraries/rust/src/lib.rs, test_sign.
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
    fn either_side_may_use_both_secrets_during_a_rotation() {
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
    fn clocks_may_differ_by_five_minutes() {
        for (seconds, expected) in
            [(300, Ok("evt_test_0001")), (301, Err(CallbackError::Stale)), (-301, Err(CallbackError::Stale))]
        {
            let mut late = genuine();
            late.now += SignedDuration::from_secs(seconds);
            assert_eq!(keys(&[SECRET]).verify(&late), expected, "{seconds}");
        }
    }

    #[test]
    fn secret_of_another_format_is_refused_without_being_shown() {
        for secret in ["whsec_", "whsec_not base64", "!"] {
            let secrets = serde_json::from_value(secret.into()).expect("secrets");
            let error = SigningKeys::read("webhook_secret", &secrets).err().expect("refused");
            assert!(error.key == "webhook_secret" && !error.message.contains("not base64"), "{error}");
        }
        assert!(!keys(&["MDEyMzQ1Njc4OWFiY2RlZg"]).is_empty(), "neither prefix nor padding");
    }

    fn secrets(secret: &str) -> Secrets {
        serde_json::from_value(secret.into()).expect("secrets")
    }

    /// The values are those of RFC 4231, test case 2.
    #[test]
    fn hmac_over_the_body_is_accepted_in_both_encodings() {
        const SHA256: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let body = "what do ya want for nothing?";
        let mut request = request("id", 0, "v1,", body);
        let kind =
            |encoding, prefix| BodyHmac { header: "x-mac", algorithm: Algorithm::Sha256, encoding, prefix };
        let base64 = BASE64_STANDARD.encode(decode_hex(SHA256).expect("hexadecimal"));
        for (hmac, given) in [
            (kind(Encoding::Hex, ""), SHA256.to_owned()),
            (kind(Encoding::Hex, "sha256="), format!("sha256={}", SHA256.to_uppercase())),
            (kind(Encoding::Base64, "v1="), format!("v1={base64}")),
        ] {
            request.headers.insert("x-mac", given.parse().expect("a header value"));
            let head = CallbackRequest { body: Bytes::new(), ..request.clone() };
            assert_eq!(hmac.admits(&head, &secrets("Jefe")), Ok(()), "{given}");
            assert_eq!(hmac.admits(&head, &Secrets::default()), Err(CallbackError::NotConfigured));
            assert_eq!(hmac.verify(&request, &secrets("Jefe")), Ok(()), "{given}");
            assert_eq!(hmac.verify(&request, &secrets("Jeff")), Err(CallbackError::Forged));
            assert_eq!(hmac.verify(&request, &Secrets::default()), Err(CallbackError::NotConfigured));
            let other = CallbackRequest { body: Bytes::from_static(b"something else"), ..request.clone() };
            assert_eq!(hmac.verify(&other, &secrets("Jefe")), Err(CallbackError::Forged));
        }
        for nonsense in ["5bd", "zz", ""] {
            request.headers.insert("x-mac", nonsense.parse().expect("a header value"));
            let verified = kind(Encoding::Hex, "").verify(&request, &secrets("Jefe"));
            assert_eq!(verified, Err(CallbackError::Forged), "{nonsense:?}");
            let admitted = kind(Encoding::Hex, "").admits(&request, &secrets("Jefe"));
            assert_eq!(admitted, Err(CallbackError::Forged), "{nonsense:?}");
        }
    }

    #[test]
    fn jwt_must_be_signed_with_the_secret_and_not_expired() {
        let token = |header: &str, claims: &str, key: &[u8]| {
            let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
            let signed = format!("{}.{}", part(header), part(claims));
            let mac = Hmac::<Sha256>::new_from_slice(key).expect("a key").chain_update(signed.as_bytes());
            format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
        };
        let now = Timestamp::from_second(1_767_225_600).expect("a time");
        let hs256 = r#"{"alg":"HS256","typ":"JWT"}"#;
        let judge = |token: String| verify_jwt(&token, &secrets("key"), now);
        assert_eq!(judge(token(hs256, r#"{"app":"x","exp":1767226200}"#, b"key")), Ok(()));
        assert_eq!(judge(token(hs256, "{}", b"key")), Ok(()), "it need not expire");
        assert_eq!(judge(token(hs256, r#"{"exp":1767225000}"#, b"key")), Err(CallbackError::Stale));
        assert_eq!(judge(token(hs256, "{}", b"other")), Err(CallbackError::Forged));
        assert_eq!(judge(token(r#"{"alg":"none"}"#, "{}", b"key")), Err(CallbackError::Forged));
        for nonsense in ["", ".", "..", "a.b.c", "e30.e30."] {
            assert_eq!(judge(nonsense.to_owned()), Err(CallbackError::Forged), "{nonsense:?}");
        }
        assert_eq!(verify_jwt("", &Secrets::default(), now), Err(CallbackError::NotConfigured));
    }

    #[test]
    fn token_must_be_one_of_the_configured_ones() {
        let secrets = serde_json::from_value(serde_json::json!(["old-token", "new-token"])).expect("secrets");
        for (given, expected) in [("old-token", true), ("new-token", true), ("new-toke", false), ("", false)]
        {
            assert_eq!(is_one_of(given, &secrets), expected, "{given:?}");
        }
    }
}
