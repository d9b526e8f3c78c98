//! The effect of a provider's receipts on a note. Receipts come late, twice and out of order, so they only ever raise
//! the rank of a note's status.

use jiff::Timestamp;
use voicegate_providers::{Receipt, ReceiptStatus};

use super::{Note, Status};
use crate::model::{
    code::{Code, Stage},
    problem::Problem,
};

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
            || self.provider_message_id.as_ref().is_some_and(|id| *id != receipt.message_id);
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

    fn raise(&mut self, status: Status, receipt: &Receipt) {
        self.status = status;
        self.next_attempt_at = None;
        if status == Status::Failed {
            self.error = Some(failed(receipt).of_note(self.id));
            return;
        }
        self.error = None;
        self.accepted_at = self.accepted_at.or(Some(receipt.at));
        self.provider_message_id.get_or_insert_with(|| receipt.message_id.clone());
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
        Receipt { message_id: "m1".to_owned(), correlation_id, status, at: at(1), failure, trace }
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
