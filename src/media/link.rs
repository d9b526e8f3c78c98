//! Signed links. Each grants the download of one file of one note for a limited time, and nothing else.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use url::Url;
use uuid::Uuid;

use super::AudioVariant;
use crate::model::id::{NoteId, ReceivedId};

/// Length of the claims in bytes: note (16), variant (1), expiry in seconds (8). Half an HMAC-SHA256 (16) follows, as
/// RFC 2104 section 5 allows.
const CLAIMS: usize = 25;
const MAC: usize = 16;

/// The purpose of links to received audio.
const RECEIVED: &str = "received audio";

#[derive(Clone)]
pub struct Links {
    secret: [u8; 32],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// The signature is not ours.
    Forged,
    Expired,
}

impl Links {
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// Makes `{public_url}/m/{token}/{filename}`, valid until `now + ttl`. The link grants access, so never log it.
    pub fn make(
        &self,
        public_url: &Url,
        note: NoteId,
        which: AudioVariant,
        filename: &str,
        now: Timestamp,
        ttl: Duration,
    ) -> Url {
        let expiry = expiry(now, ttl);
        let mut token = Vec::with_capacity(CLAIMS + MAC);
        token.extend_from_slice(note.0.as_bytes());
        token.push(u8::from(which == AudioVariant::Sent));
        token.extend_from_slice(&expiry.to_be_bytes());
        let mac = self.mac(&token);
        token.extend_from_slice(&mac.finalize().into_bytes()[..MAC]);
        at(public_url, &BASE64_URL_SAFE_NO_PAD.encode(token), filename)
    }

    /// Makes a link to the audio of a received note as it came, in the same form, valid until `now + ttl`.
    pub fn make_received(
        &self,
        public_url: &Url,
        (tenant, note): (&str, ReceivedId),
        filename: &str,
        now: Timestamp,
        ttl: Duration,
    ) -> Url {
        let expiry = expiry(now, ttl);
        let claims = [note.0.as_bytes(), &expiry.to_be_bytes()[..], tenant.as_bytes()].concat();
        at(public_url, &self.seal(RECEIVED, &claims), filename)
    }

    /// The tenant and the received note for which a token was made.
    ///
    /// # Errors
    /// [`LinkError`] if the token is forged or expired.
    pub fn open_received(&self, token: &str, now: Timestamp) -> Result<(String, ReceivedId), LinkError> {
        let claims = self.unseal(RECEIVED, token).ok_or(LinkError::Forged)?;
        let (note, rest) = claims.split_at_checked(16).ok_or(LinkError::Forged)?;
        let (expiry, tenant) = rest.split_first_chunk::<8>().ok_or(LinkError::Forged)?;
        let note = Uuid::from_slice(note).map_err(|_| LinkError::Forged)?;
        if i64::from_be_bytes(*expiry) <= now.as_second() {
            return Err(LinkError::Expired);
        }
        let tenant = String::from_utf8(tenant.to_vec()).map_err(|_| LinkError::Forged)?;
        Ok((tenant, ReceivedId(note)))
    }

    /// The note and variant for which a token was made.
    ///
    /// # Errors
    /// [`LinkError`] if the token is forged or expired.
    pub fn open(&self, token: &str, now: Timestamp) -> Result<(NoteId, AudioVariant), LinkError> {
        let token = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| LinkError::Forged)?;
        if token.len() != CLAIMS + MAC {
            return Err(LinkError::Forged);
        }
        let (claims, mac) = token.split_at(CLAIMS);
        self.mac(claims).verify_truncated_left(mac).map_err(|_| LinkError::Forged)?;
        let note = Uuid::from_slice(&claims[..16]).map_err(|_| LinkError::Forged)?;
        let expiry: [u8; 8] = claims[17..].try_into().map_err(|_| LinkError::Forged)?;
        if i64::from_be_bytes(expiry) <= now.as_second() {
            return Err(LinkError::Expired);
        }
        Ok((NoteId(note), if claims[16] == 1 { AudioVariant::Sent } else { AudioVariant::Source }))
    }

    /// Signs `claims` for a purpose other than a note's audio. The token can be part of a path. Whoever has it can do what
    /// it is for, so never log it.
    pub fn seal(&self, purpose: &str, claims: &[u8]) -> String {
        let mut token = claims.to_vec();
        token.extend_from_slice(&self.keyed_hash(purpose, claims)[..MAC]);
        BASE64_URL_SAFE_NO_PAD.encode(token)
    }

    /// The claims of a token that was made for this purpose; `None` for any other.
    pub fn unseal(&self, purpose: &str, token: &str) -> Option<Vec<u8>> {
        let mut token = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
        let claims = token.len().checked_sub(MAC)?;
        let mac = token.split_off(claims);
        let is_ours = self.keyed_hash(purpose, &token)[..MAC].ct_eq(&mac);
        bool::from(is_ours).then_some(token)
    }

    /// A hash that only this gateway can make, different for each purpose.
    pub fn keyed_hash(&self, purpose: &str, text: &[u8]) -> [u8; 32] {
        let mut mac = self.mac(&[0xff]); // no claims of a link begin with a purpose
        mac.update(&(purpose.len() as u64).to_be_bytes());
        mac.update(purpose.as_bytes());
        mac.update(text);
        mac.finalize().into_bytes().into()
    }

    fn mac(&self, claims: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes a key of any length");
        mac.update(claims);
        mac
    }
}

/// `{public_url}/m/{token}/{filename}`
fn at(public_url: &Url, token: &str, filename: &str) -> Url {
    let mut url = public_url.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(["m", token, filename]);
    }
    url
}

/// In seconds since 1970.
fn expiry(now: Timestamp, ttl: Duration) -> i64 {
    now.as_second().saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX))
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_opens_only_for_its_purpose_and_unchanged() {
        let links = Links::new([7; 32]);
        for claims in [&b""[..], b"x", &[0xff; 100]] {
            let token = links.seal("upload", claims);
            assert_eq!(links.unseal("upload", &token).as_deref(), Some(claims));
            assert_eq!(links.unseal("download", &token), None);
            assert_eq!(Links::new([8; 32]).unseal("upload", &token), None);
            for index in 0..token.len() {
                let mut changed = token.as_bytes().to_vec();
                changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
                let changed = String::from_utf8(changed).expect("ASCII");
                assert_eq!(links.unseal("upload", &changed), None, "byte {index}");
            }
        }
        assert_eq!(links.unseal("upload", ""), None);
        assert_ne!(links.keyed_hash("ab", b"c"), links.keyed_hash("a", b"bc"));
    }

    #[test]
    fn link_to_received_audio_opens_nothing_else() {
        let links = Links::new([7; 32]);
        let (public_url, now) =
            (Url::parse("https://voice.example/base/").expect("a URL"), Timestamp::UNIX_EPOCH);
        let (note, hour) = (ReceivedId::new(), Duration::from_secs(3600));
        let url = links.make_received(&public_url, ("a", note), "voice.ogg", now, hour);
        let token = url.path().strip_prefix("/base/m/").and_then(|path| path.strip_suffix("/voice.ogg"));
        let token = token.expect("a token");
        assert_eq!(links.open_received(token, now), Ok(("a".to_owned(), note)));
        assert_eq!(links.open_received(token, now + hour), Err(LinkError::Expired));
        assert_eq!(links.open(token, now), Err(LinkError::Forged));
        assert_eq!(Links::new([8; 32]).open_received(token, now), Err(LinkError::Forged));
        let other = links.make(&public_url, NoteId::new(), AudioVariant::Sent, "voice.ogg", now, hour);
        let other = other.path().split('/').nth(3).expect("a token").to_owned();
        assert_eq!(links.open_received(&other, now), Err(LinkError::Forged));
    }

    #[test]
    fn link_is_valid_until_it_expires_or_is_changed() {
        let links = Links::new([7; 32]);
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let base: Url = "https://voice.example/base/".parse().expect("a URL");
        let note = NoteId::new();
        let url = links.make(&base, note, AudioVariant::Sent, "voice.ogg", now, Duration::from_secs(60));
        let parts: Vec<_> = url.path_segments().expect("segments").collect();
        assert_eq!((parts[0], parts[1], parts[3]), ("base", "m", "voice.ogg"));
        let token = parts[2];

        let at = |seconds: u64| now + Duration::from_secs(seconds);
        assert_eq!(links.open(token, at(59)), Ok((note, AudioVariant::Sent)));
        assert_eq!(links.open(token, at(60)), Err(LinkError::Expired));
        assert_eq!(Links::new([8; 32]).open(token, now), Err(LinkError::Forged));
        for index in 0..token.len() {
            let mut changed = token.as_bytes().to_vec();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert_eq!(links.open(&changed, now), Err(LinkError::Forged), "byte {index}");
        }
        assert_eq!(links.open("", now), Err(LinkError::Forged));
    }
}
