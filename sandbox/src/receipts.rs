//! Receipts of accepted messages: their times, their repetitions, and the rules that change them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Sandbox;
use crate::emulator::{EMULATORS, Emulator};
use crate::faults::Provider;
use crate::ledger::LedgerEntry;
use crate::state::{self, Event};

/// The status of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptStatus {
    /// Only WhatsApp's gateways report this status.
    Accepted,
    Sent,
    Delivered,
    Read,
    /// Only WhatsApp's gateways report this status.
    Played,
    Failed,
}

/// One receipt for one message.
#[derive(Clone, Debug, Serialize)]
pub struct Receipt {
    pub status: ReceiptStatus,
    pub at: String,
    /// Final answers of the registered addresses: a status, or `no answer`. Empty if there are none.
    pub answers: Vec<String>,
}

/// A rule that replaces the usual receipts of matching messages. The first matching rule applies.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptRule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// Only messages to recipients whose handle contains this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Number of messages that the rule applies to; without it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Receipts to send; empty for none.
    pub steps: Vec<ReceiptStep>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptStep {
    pub status: ReceiptStatus,
    /// Delay since the message was accepted, which is before the send is answered.
    #[serde(default)]
    pub after_ms: u64,
    /// Number of deliveries of the same event.
    #[serde(default = "once")]
    pub copies: u32,
    /// Error code of a failure, for Linq and Meta.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u32>,
}

fn once() -> u32 {
    1
}

impl ReceiptStep {
    pub fn new(status: ReceiptStatus, after_ms: u64) -> Self {
        Self { status, after_ms, copies: 1, code: None }
    }
}

impl ReceiptRule {
    fn fits(&self, entry: &LedgerEntry) -> bool {
        self.provider.is_none_or(|provider| provider.name() == entry.provider)
            && self.to.as_ref().is_none_or(|part| entry.to.iter().any(|handle| handle.contains(part)))
    }
}

impl Sandbox {
    /// Adds a rule for the receipts of matching messages.
    pub fn add_receipt_rule(&self, rule: ReceiptRule) {
        self.inner.lock().rules.push(rule);
    }

    /// Starts the receipts of a message that was just accepted.
    pub(crate) fn follow(&self, entry: &LedgerEntry, is_group: bool) {
        let mut state = self.inner.lock();
        let rule = state.rules.iter_mut().find(|rule| rule.times != Some(0) && rule.fits(entry));
        let steps = rule.map_or_else(
            || emulator_of(entry).map_or_else(Vec::new, |one| one.usual_receipts(entry, is_group)),
            |rule| {
                rule.times = rule.times.map(|times| times - 1);
                rule.steps.clone()
            },
        );
        drop(state);
        for step in steps {
            let (sandbox, id) = (self.clone(), entry.id);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(step.after_ms)).await;
                sandbox.tell(id, &step).await;
            });
        }
    }

    /// Sends this receipt for a message now. Returns `false` if the message does not exist, or if its provider has no
    /// such receipt.
    pub async fn receipt(&self, entry: Uuid, status: ReceiptStatus) -> bool {
        self.tell(entry, &ReceiptStep::new(status, 0)).await
    }

    async fn tell(&self, id: Uuid, step: &ReceiptStep) -> bool {
        let at = state::now();
        let Some(entry) = self.book(id, step.status, &at) else { return false };
        let outgoing = emulator_of(&entry).map_or_else(Vec::new, |one| one.receipts(self, &entry, step, &at));
        let copies = (0..step.copies.clamp(1, 10)).flat_map(|_| outgoing.iter().cloned());
        let sent: Vec<_> = copies.map(|one| tokio::spawn(self.clone().send(one))).collect();
        let mut answers = Vec::new();
        for answer in sent {
            answers.extend(answer.await.ok());
        }
        self.answered(id, step.status, &at, answers);
        true
    }

    /// Records the receipt and returns the updated entry.
    fn book(&self, id: Uuid, status: ReceiptStatus, at: &str) -> Option<LedgerEntry> {
        let mut state = self.inner.lock();
        let entry = state.ledger.iter_mut().rev().find(|entry| entry.id == id)?;
        if entry.form == "refused" || !emulator_of(entry).is_some_and(|one| one.says(status)) {
            return None;
        }
        entry.receipts.push(Receipt { status, at: at.to_owned(), answers: Vec::new() });
        let entry = entry.clone();
        for chat in &mut state.chats {
            chat.book(&entry.message_id, status, at);
        }
        let _ = self.inner.events.send(Event::Receipts(entry.id, entry.receipts.clone()));
        Some(entry)
    }

    fn answered(&self, id: Uuid, status: ReceiptStatus, at: &str, answers: Vec<String>) {
        let mut state = self.inner.lock();
        let Some(entry) = state.ledger.iter_mut().rev().find(|entry| entry.id == id) else { return };
        let is_it = |receipt: &&mut Receipt| receipt.status == status && receipt.at == at;
        if let Some(receipt) = entry.receipts.iter_mut().find(is_it) {
            receipt.answers = answers;
        }
        let _ = self.inner.events.send(Event::Receipts(id, entry.receipts.clone()));
    }
}

fn emulator_of(entry: &LedgerEntry) -> Option<&'static dyn Emulator> {
    EMULATORS.iter().find(|emulator| emulator.name() == entry.provider).copied()
}
