//! Knowledge about a recipient on a connection: the adapter's state, the forms that are refused, and the time before
//! which nothing may be sent. It is stored by lane until each part expires, so that the next note makes no attempt that
//! is known to fail.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    model::{clock::rfc3339_millis, note::Refusal},
    store::Learned,
};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Known {
    /// The adapter's own state, which no other code reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<Adapter>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refusal>,
    /// The provider accepts nothing for this recipient before this time.
    #[serde(with = "rfc3339_millis::option", skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Adapter {
    value: Value,
    #[serde(with = "rfc3339_millis")]
    until: Timestamp,
}

impl Known {
    /// Reads the stored knowledge, without the parts that have expired.
    pub fn read(stored: Option<&Value>, now: Timestamp) -> Self {
        let mut known: Self = stored.and_then(|value| Self::deserialize(value).ok()).unwrap_or_default();
        known.adapter = known.adapter.filter(|adapter| adapter.until > now);
        known.refused.retain(|refusal| refusal.until > now);
        known.not_before = known.not_before.filter(|at| *at > now);
        known
    }

    /// The adapter's own state.
    pub fn adapter(&self) -> Option<Value> {
        self.adapter.as_ref().map(|adapter| adapter.value.clone())
    }

    /// Records the adapter's state after an attempt.
    pub fn set_adapter(&mut self, value: Option<Value>, until: Timestamp) {
        if value != self.adapter() {
            self.adapter = value.map(|value| Adapter { value, until });
        }
    }

    /// Remembers that a form is refused.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.refused.retain(|known| known.form != refusal.form);
        self.refused.push(refusal);
    }

    /// The change to the knowledge about `lane`, which was `stored` before.
    pub fn change(&self, stored: Option<&Value>, lane: String, now: Timestamp) -> Learned {
        if *self == Self::read(stored, now) {
            return Learned::Keep;
        }
        let ends = self.refused.iter().map(|refusal| refusal.until);
        let ends = ends.chain(self.not_before).chain(self.adapter.as_ref().map(|adapter| adapter.until));
        match (ends.max(), serde_json::to_value(self)) {
            (Some(expires_at), Ok(value)) => Learned::Set { lane, value, expires_at },
            _ => Learned::Forget { lane },
        }
    }
}

/// The time at which a fact expires: the one that the provider named, or after `ttl`.
pub fn until(named: Option<Timestamp>, now: Timestamp, ttl: Duration) -> Timestamp {
    named.unwrap_or_else(|| now.checked_add(ttl).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use voicegate_providers::Form;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    #[test]
    fn each_part_expires_separately_and_the_row_with_the_last() {
        let mut known = Known::default();
        known.set_adapter(Some(json!({"chat": 7})), at(10));
        known.refuse(Refusal { form: Form::Voice, why: "no".to_owned(), until: at(20) });
        let Learned::Set { value, expires_at, .. } = known.change(None, "lane".to_owned(), at(0)) else {
            panic!("kept")
        };
        assert_eq!(expires_at, at(20));
        let read = |second| Known::read(Some(&value), at(second));
        assert_eq!(read(5), known);
        assert_eq!((read(15).adapter(), read(15).refused.len()), (None, 1));
        assert_eq!(read(25), Known::default());
        assert_eq!(read(5).change(Some(&value), "lane".to_owned(), at(5)), Learned::Keep);
        let nothing = Known::default().change(Some(&value), "lane".to_owned(), at(5));
        assert_eq!(nothing, Learned::Forget { lane: "lane".to_owned() });
    }

    #[test]
    fn unchanged_adapter_state_keeps_its_expiry() {
        let mut known = Known::default();
        known.set_adapter(Some(json!(1)), at(10));
        known.set_adapter(Some(json!(1)), at(99));
        assert_eq!(known.adapter.as_ref().map(|adapter| adapter.until), Some(at(10)));
    }

    #[test]
    fn knowledge_of_an_earlier_version_is_ignored() {
        for old in [json!({"chat_id": "x"}), json!(7), json!(null)] {
            assert_eq!(Known::read(Some(&old), at(0)), Known::default());
        }
    }
}
