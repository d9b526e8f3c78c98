//! Positions of events as clients see them: encrypted, so that they do not reveal how many events other tenants have.
//!
//! A position is a place, encrypted under a pad derived from its own authenticator (as in SIV, RFC 5297, with
//! HMAC-SHA256 for both). Sealing is deterministic, and forged positions are recognised.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::StoreError;

const TAG: usize = 16;
const PLACE: usize = 8;

/// Converts places to positions and back.
pub struct Positions {
    key: [u8; 32],
    /// Last place for which plain numbers were given out.
    plain_until: i64,
}

impl Positions {
    pub fn new(key: [u8; 32], plain_until: i64) -> Self {
        Self { key, plain_until }
    }

    pub fn seal(&self, tenant: &str, place: i64) -> String {
        let tag = self.tag(tenant, place);
        let mut sealed = [0; TAG + PLACE];
        sealed[..TAG].copy_from_slice(&tag);
        sealed[TAG..].copy_from_slice(&(place ^ self.pad(&tag)).to_be_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(sealed)
    }

    /// # Errors
    /// [`StoreError::Position`] for a position that was not given to this tenant. A plain number is taken only up to
    /// the last one given out; later ones would reveal the place of one's own events among all.
    pub fn open(&self, tenant: &str, position: &str) -> Result<i64, StoreError> {
        if let Ok(plain) = position.parse::<i64>() {
            let known = (0..=self.plain_until).contains(&plain) && plain.to_string() == position;
            return if known { Ok(plain) } else { Err(StoreError::Position) };
        }
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(position).map_err(|_| StoreError::Position)?;
        let (tag, place) = sealed.split_first_chunk::<TAG>().ok_or(StoreError::Position)?;
        let place: [u8; PLACE] = place.try_into().map_err(|_| StoreError::Position)?;
        let place = i64::from_be_bytes(place) ^ self.pad(tag);
        if bool::from(self.tag(tenant, place).ct_eq(tag)) { Ok(place) } else { Err(StoreError::Position) }
    }

    fn tag(&self, tenant: &str, place: i64) -> [u8; TAG] {
        self.hash(&[b"tag", &place.to_be_bytes(), tenant.as_bytes()])
    }

    fn pad(&self, tag: &[u8; TAG]) -> i64 {
        i64::from_be_bytes(self.hash(&[b"pad", tag]))
    }

    fn hash<const N: usize>(&self, parts: &[&[u8]]) -> [u8; N] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        parts.iter().for_each(|part| mac.update(part));
        let hash = mac.finalize().into_bytes();
        std::array::from_fn(|index| hash[index])
    }
}

impl std::fmt::Debug for Positions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Positions").field("plain_until", &self.plain_until).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_opens_only_for_its_tenant() {
        let positions = Positions::new([7; 32], 0);
        for place in [0, 1, 2, i64::MAX] {
            let position = positions.seal("acme", place);
            assert_eq!(positions.open("acme", &position).expect("genuine"), place);
            assert_eq!(positions.seal("acme", place), position, "the same each time");
            assert!(positions.open("bob", &position).is_err());
            assert!(Positions::new([8; 32], 0).open("acme", &position).is_err());
        }
    }

    #[test]
    fn positions_of_neighbouring_places_look_unrelated() {
        let positions = Positions::new([7; 32], 0);
        let sealed: Vec<String> = (0..100).map(|place| positions.seal("acme", place)).collect();
        let starts: std::collections::BTreeSet<&str> = sealed.iter().map(|position| &position[..8]).collect();
        let ends: std::collections::BTreeSet<&str> = sealed.iter().map(|position| &position[24..]).collect();
        assert_eq!((starts.len(), ends.len()), (100, 100));
    }

    #[test]
    fn forged_positions_are_refused() {
        let positions = Positions::new([7; 32], 41);
        assert_eq!(positions.open("acme", "41").expect("from before"), 41);
        let mut other = positions.seal("acme", 5);
        other.replace_range(..1, if other.starts_with('A') { "B" } else { "A" });
        for position in ["42", "-1", "041", "+1", "yesterday", "", "AAAA", &"A".repeat(32), &other] {
            assert!(positions.open("acme", position).is_err(), "{position}");
        }
    }
}
