//! The effect of a provider's receipts on a note. Receipts come late, twice and out of order, so they only ever raise
//! the rank of a note's status.

use jiff::{SignedDuration, Timestamp};
use voicegate_providers::{Receipt, ReceiptStatus};

use super::{Note, Status};
use crate::model::{
    code::{Code, Stage},
    problem::Problem,
};

/// The provider's clock may differ from ours by this much.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(2);

/// A provider tells of a message within this time after its dispatch, or not at all.
const LATEST_GUESS: SignedDuration = SignedDuration::from_mins(30);

impl Status {
    /// The rank of a status. A status with a higher rank replaces one with a lower rank.
    fn rank(self) -> u8 {
        match self {
            Self::Queued | Self::Processing | Self::Sending | Self::Canceled | Self::Expired => 0,
            Self::Unknown => 1,
            Self::Accepted => 2,
            Self::Sent => 3,
            // A sent note may fail, and a failed note may still be delivered.
            Self::Failed => 4,
            Self::Delivered => 5,
            Self::Read => 6,
            Self::Played => 7,
        }
    }
}

impl Note {
    /// Applies a receipt, and returns whether it changed the note. A receipt also resolves a note whose outcome was
    /// unknown, or that was queued again because of that.
    pub fn receive(&mut self, receipt: &Receipt, now: Timestamp) -> bool {
        if !self.may_be_meant(receipt) {
            return false;
        }
        let before =
            (self.status, self.sent_at, self.delivered_at, self.read_at, self.played_at, self.stalled);
        self.date(receipt);
        let status = match receipt.status {
            ReceiptStatus::Accepted => Status::Accepted,
            ReceiptStatus::Sent => Status::Sent,
            ReceiptStatus::Delivered => Status::Delivered,
            ReceiptStatus::Read => Status::Read,
            ReceiptStatus::Played => Status::Played,
            ReceiptStatus::Failed => Status::Failed,
        };
        // If a note was sent twice, the failure of one copy says nothing about the other.
        let of_another = self.status.rank() == 0
            || self.provider_message_id.as_ref().is_some_and(|id| !is_id_of(id, receipt));
        if status.rank() > self.status.rank() && !(status == Status::Failed && of_another) {
            self.raise(status, receipt);
        }
        let after =
            (self.status, self.sent_at, self.delivered_at, self.read_at, self.played_at, self.stalled);
        if before != after {
            self.updated_at = now.max(self.updated_at);
        }
        before != after
    }

    /// Whether a receipt that only guesses at its note may be about this one: its message is not known, and was sent at
    /// about that time. Any other receipt names its message.
    fn may_be_meant(&self, receipt: &Receipt) -> bool {
        let Some(guess) = &receipt.guess else { return true };
        if self.erased {
            return false;
        }
        let own = |name: &String| name != guess && self.correlation_ids.contains(name);
        let known = self.provider_message_id.as_ref();
        let is_named =
            known.is_some_and(|id| is_id_of(id, receipt)) || receipt.correlation_id.as_ref().is_some_and(own);
        let is_near = |at: Timestamp| {
            let apart = receipt.at.duration_since(at);
            -CLOCKS_APART <= apart && apart <= LATEST_GUESS
        };
        is_named || (known.is_none() && self.dispatched_at.is_some_and(is_near))
    }

    fn raise(&mut self, status: Status, receipt: &Receipt) {
        self.status = status;
        self.next_attempt_at = None;
        if status == Status::Failed {
            self.error = Some(failed(receipt).of_note(self.id)).filter(|_| !self.erased);
            return;
        }
        self.error = None;
        self.accepted_at = self.accepted_at.or(Some(receipt.at));
        if !self.erased {
            self.provider_message_id.get_or_insert_with(|| receipt.message_id.clone());
        }
        if status.rank() > Status::Accepted.rank() {
            self.stalled = false;
        }
    }

    /// Records the time of the step, unless an earlier receipt has set it.
    fn date(&mut self, receipt: &Receipt) {
        let place = match receipt.status {
            ReceiptStatus::Accepted | ReceiptStatus::Failed => return,
            ReceiptStatus::Sent => &mut self.sent_at,
            ReceiptStatus::Delivered => &mut self.delivered_at,
            ReceiptStatus::Read => &mut self.read_at,
            ReceiptStatus::Played => &mut self.played_at,
        };
        place.get_or_insert(receipt.at);
    }
}

/// Whether a message's id is that of the receipt. WhatsApp spells the chat within an id in two ways; the correlation id
/// is then the other part of it.
fn is_id_of(id: &str, receipt: &Receipt) -> bool {
    let part = |name: &String| !name.is_empty() && id.contains(name.as_str());
    id == receipt.message_id || receipt.correlation_id.as_ref().is_some_and(part)
}

fn failed(receipt: &Receipt) -> Problem {
    let detail = "the provider took the note and could not deliver it";
    let code = receipt.failure.as_ref().map_or(Code::ProviderRejected, |failure| failure.kind.code().into());
    let mut problem = Problem::new(code, detail).stage(Stage::Receipt);
    if let Some(failure) = &receipt.failure {
        problem.detail.clone_from(&failure.detail);
        problem.provider = Some(failure.upstream.clone());
    }
    problem
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::note::sample::note;

    const STEPS: [ReceiptStatus; 6] = [
        ReceiptStatus::Accepted,
        ReceiptStatus::Sent,
        ReceiptStatus::Delivered,
        ReceiptStatus::Read,
        ReceiptStatus::Played,
        ReceiptStatus::Failed,
    ];

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    fn receipt(status: ReceiptStatus) -> Receipt {
        let (correlation_id, failure, trace) = (None, None, None);
        Receipt {
            message_id: "m1".to_owned(),
            correlation_id,
            guess: None,
            status,
            at: at(1),
            failure,
            trace,
        }
    }

    fn sent(status: Status) -> Note {
        let mut note = note(1);
        (note.status, note.provider_message_id) = (status, Some("m1".to_owned()));
        note
    }

    #[test]
    fn delivery_replaces_a_failure_but_not_the_reverse() {
        let mut note = sent(Status::Accepted);
        assert!(note.receive(&receipt(ReceiptStatus::Failed), at(2)));
        assert_eq!((note.status, note.error.is_some()), (Status::Failed, true));
        assert!(note.receive(&receipt(ReceiptStatus::Delivered), at(3)));
        assert_eq!((note.status, note.error.is_some()), (Status::Delivered, false));
        assert!(!note.receive(&receipt(ReceiptStatus::Failed), at(4)));
        assert_eq!((note.status, note.updated_at), (Status::Delivered, at(3)));
    }

    #[test]
    fn failure_of_another_copy_is_ignored() {
        let mut note = sent(Status::Accepted);
        note.provider_message_id = Some("m2".to_owned());
        assert!(!note.receive(&receipt(ReceiptStatus::Failed), at(2)));
        note.status = Status::Queued;
        assert!(!note.receive(&receipt(ReceiptStatus::Failed), at(2)));
    }

    #[test]
    fn failure_counts_however_the_chat_is_spelled_in_the_id() {
        let mut note = sent(Status::Accepted);
        note.provider_message_id = Some("true_1@c.us_A".to_owned());
        let failed = |own: &str| Receipt {
            message_id: format!("true_9@lid_{own}"),
            correlation_id: Some(own.to_owned()),
            ..receipt(ReceiptStatus::Failed)
        };
        assert!(!note.receive(&failed("B"), at(2)));
        assert!(note.receive(&failed("A"), at(2)));
        assert_eq!(note.status, Status::Failed);
    }

    #[test]
    fn guess_counts_only_for_a_note_whose_message_is_not_known() {
        let told = |id: &str, second| Receipt {
            message_id: format!("true_1@lid_{id}"),
            correlation_id: Some(id.to_owned()),
            guess: Some("sent:1@c.us:aa".to_owned()),
            at: at(second),
            ..receipt(ReceiptStatus::Accepted)
        };
        let unknown = || {
            let mut note = note(1);
            (note.status, note.dispatched_at) = (Status::Unknown, Some(at(1000)));
            note.correlation_ids = vec!["sent:1@c.us:aa".to_owned()];
            note
        };
        for (second, expected) in [(1000, true), (900, true), (1500, true), (800, false), (3000, false)] {
            let mut note = unknown();
            assert_eq!(note.receive(&told("A", second), at(4000)), expected, "{second}");
            assert_eq!(note.provider_message_id.is_some(), expected);
        }
        // The message of this note is known, by its own part of the id. Another one of the same kind is not this note.
        let mut known = unknown();
        known.provider_message_id = Some("true_1@c.us_A".to_owned());
        known.correlation_ids.push("A".to_owned());
        assert!(!known.receive(&told("B", 1000), at(1001)));
        assert!(known.receive(&told("A", 1000), at(1001)));
    }

    proptest! {
        /// The result depends only on the set of receipts, not on their order or their number.
        #[test]
        fn the_order_of_receipts_does_not_matter(
            said in prop::collection::vec(0..STEPS.len(), 0..8),
            shuffle in any::<prop::sample::Index>(),
            unknown in any::<bool>(),
        ) {
            let start = if unknown { Status::Unknown } else { Status::Accepted };
            let read = |order: &[usize]| {
                let mut note = sent(start);
                for step in order {
                    let before = note.status.rank();
                    note.receive(&receipt(STEPS[*step]), at(2));
                    prop_assert!(note.status.rank() >= before);
                    let again = note.clone();
                    prop_assert!(!note.receive(&receipt(STEPS[*step]), at(3)), "twice is once");
                    prop_assert_eq!(&note, &again);
                }
                Ok((note.status, note.sent_at, note.delivered_at, note.read_at, note.played_at))
            };
            let mut other = said.clone();
            if !other.is_empty() {
                let place = shuffle.index(other.len());
                other.rotate_left(place);
                other.reverse();
            }
            prop_assert_eq!(read(&said)?, read(&other)?);
        }
    }
}
