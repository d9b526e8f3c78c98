//! Signed links. Each grants the download of one file of one note for a limited time, and nothing else.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use url::Url;
use uuid::Uuid;

use super::AudioVariant;
use crate::model::note::NoteId;

/// Length of the claims in bytes: note (16), variant (1), expiry in seconds (8). Half an HMAC-SHA256 (16) follows, as
/// RFC 2104 section 5 allows.
const CLAIMS: usize = 25;
const MAC: usize = 16;

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
        let expiry = now.as_second().saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
        let mut token = Vec::with_capacity(CLAIMS + MAC);
        token.extend_from_slice(note.0.as_bytes());
        token.push(u8::from(which == AudioVariant::Sent));
        token.extend_from_slice(&expiry.to_be_bytes());
        let mac = self.mac(&token);
        token.extend_from_slice(&mac.finalize().into_bytes()[..MAC]);
        let mut url = public_url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["m", &BASE64_URL_SAFE_NO_PAD.encode(token), filename]);
        }
        url
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

    fn mac(&self, claims: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes a key of any length");
        mac.update(claims);
        mac
    }
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
