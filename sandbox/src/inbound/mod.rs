//! Voice notes that people send to the emulated accounts: the orders of the control API, and what is kept of each note.

mod media;

use std::collections::VecDeque;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;
use uuid::Uuid;

pub use media::MediaFault;

use crate::audio::{self, AudioInfo};
use crate::emulator::EMULATORS;
use crate::faults::Provider;
use crate::hooks::Outgoing;
use crate::state::{self, Event};
use crate::{Sandbox, whatsapp};

/// Limits of one order, and of what is kept.
const MOST_COPIES: u32 = 200;
const MOST_NOTES: usize = 1000;
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// Notes that may come again in the same batch as another one.
const REGROUPED: usize = 4;

/// An order: a voice note that a person sends.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inbound {
    pub provider: Provider,
    /// The person: a phone number, an e-mail address, or a number of Telegram's.
    pub from: String,
    /// The group in which it is sent, as the provider spells it. Without it, it is a direct message.
    #[serde(default)]
    pub group: Option<String>,
    #[serde(default)]
    pub sender_name: Option<String>,
    /// The provider's id of the message that is answered.
    #[serde(default)]
    pub reply_to: Option<String>,
    /// The account that receives it, if it is not the usual one: a session, an instance, a number's id.
    #[serde(default)]
    pub account: Option<String>,
    /// An audio file and no recording.
    #[serde(default)]
    pub as_file: bool,
    /// The bytes as base64, or a link to them.
    #[serde(default)]
    pub audio: Option<String>,
    #[serde(default)]
    pub url: Option<Url>,
    /// The media type that the provider states. Without it, it follows from the bytes, which an iPhone's recorder puts into
    /// CAF.
    #[serde(default)]
    pub mime_type: Option<String>,
    /// Written by the account itself, on its phone.
    #[serde(default)]
    pub own: bool,
    /// Signed with another secret, or sent with another token.
    #[serde(default)]
    pub forged: bool,
    /// Number of deliveries of the event.
    #[serde(default = "once")]
    pub copies: u32,
    /// Every delivery has other notes of the same account beside this one, in another order.
    #[serde(default)]
    pub regroup: bool,
    /// Misbehaviour of the server that has the file.
    #[serde(default)]
    pub media: MediaFault,
}

fn once() -> u32 {
    1
}

/// A message of a person, as the page and the control API show it.
#[derive(Clone, Debug, Serialize)]
pub struct SentIn {
    pub id: Uuid,
    pub provider: &'static str,
    pub at: String,
    /// The chat, as [`crate::LedgerEntry::conversation`] spells it.
    pub conversation: String,
    pub from: String,
    pub group: bool,
    pub sender_name: Option<String>,
    /// The id that the provider gave to the message.
    pub message_id: String,
    pub reply_to: Option<String>,
    pub form: &'static str,
    pub mime_type: String,
    pub size_bytes: usize,
    pub audio: AudioInfo,
    /// Final answers of the registered addresses: a status, or `no answer`.
    pub answers: Vec<String>,
}

/// A message of a person, with its file.
#[derive(Clone)]
pub(crate) struct Note {
    pub id: Uuid,
    pub provider: &'static str,
    /// Part of the message's id: that of WhatsApp.
    pub raw: String,
    pub message_id: String,
    pub conversation: String,
    pub from: String,
    pub group: Option<String>,
    pub sender_name: Option<String>,
    pub reply_to: Option<String>,
    /// Empty for the usual one.
    pub account: String,
    pub is_voice: bool,
    pub mime_type: String,
    pub own: bool,
    pub media: MediaFault,
    pub at: Timestamp,
    /// Bytes as the person recorded them, which the page plays.
    recorded: Bytes,
    /// The file that the provider hands out.
    pub bytes: Bytes,
    /// The address of the sandbox, in which its emulators name files.
    pub base: String,
    answers: Vec<String>,
}

impl Note {
    /// The name of the file at the provider.
    pub fn filename(&self) -> String {
        let kind = self.mime_type.split(';').next().unwrap_or_default();
        let ending = match kind {
            "audio/ogg" => "oga",
            "audio/mpeg" => "mp3",
            "audio/x-m4a" | "audio/mp4" => "m4a",
            "audio/x-caf" => "caf",
            "audio/amr" => "amr",
            "audio/webm" => "webm",
            "audio/wav" | "audio/x-wav" => "wav",
            _ => "bin",
        };
        format!("{}.{ending}", self.raw)
    }

    /// An iPhone sends its recordings as CAF, so a recording in Opus gets that container here. Every other file stays what
    /// it is, and so does one whose type the order states otherwise.
    pub fn become_iphones(&mut self) {
        let kind = audio::describe(&self.bytes).kind;
        if !self.is_voice || self.mime_type != kind.declared_mime() {
            return;
        }
        if let Some(caf) = audio::in_caf(&self.bytes) {
            self.bytes = caf.into();
            self.mime_type = audio::Kind::Caf.declared_mime().to_owned();
        }
    }

    /// The person's digits, however the number was written.
    pub fn digits(&self) -> String {
        self.from.split('@').next().unwrap_or_default().chars().filter(char::is_ascii_digit).collect()
    }

    pub fn seconds(&self) -> u64 {
        audio::describe(&self.bytes).duration_ms.unwrap_or(1000).div_ceil(1000)
    }

    pub fn sha256(&self) -> String {
        BASE64_STANDARD.encode(Sha256::digest(&self.bytes))
    }

    fn shown(&self) -> SentIn {
        SentIn {
            id: self.id,
            provider: self.provider,
            at: state::stamp(self.at),
            conversation: self.conversation.clone(),
            from: self.from.clone(),
            group: self.group.is_some(),
            sender_name: self.sender_name.clone(),
            message_id: self.message_id.clone(),
            reply_to: self.reply_to.clone(),
            form: if self.is_voice { "voice" } else { "audio" },
            mime_type: self.mime_type.clone(),
            size_bytes: self.bytes.len(),
            audio: audio::describe(&self.bytes),
            answers: self.answers.clone(),
        }
    }
}

/// Notes that were sent in, the oldest first.
#[derive(Default)]
struct Notes(VecDeque<Note>);

impl Sandbox {
    /// Sends a voice note in, as a person would, and waits until the registered addresses have answered. `base` is the
    /// address of this sandbox, in which its emulators name files.
    ///
    /// # Errors
    /// Says in a sentence what is wrong with the order.
    pub async fn send_in(&self, base: &str, order: Inbound) -> Result<SentIn, String> {
        let provider = order.provider;
        if !self.answers(provider.name()) {
            return Err(format!("the emulator of {} is switched off", provider.name()));
        }
        if !(1..=MOST_COPIES).contains(&order.copies) {
            return Err(format!("copies must be between 1 and {MOST_COPIES}"));
        }
        let bytes = self.bytes_of(&order).await?;
        let mut note = note(base, &order, bytes)?;
        provider.receive(self, &mut note)?;
        let batches = self.keep(&note, &order);
        let mut sent = Vec::new();
        for batch in batches {
            for outgoing in provider.inbound(self, &batch) {
                let outgoing = if order.forged { forged(outgoing) } else { outgoing };
                sent.push(tokio::spawn(self.clone().send(outgoing)));
            }
        }
        if sent.is_empty() {
            let name = provider.name();
            return Err(format!(
                "no address is registered at {name} for messages; register the callbacks first"
            ));
        }
        let mut answers = Vec::new();
        for answer in sent {
            answers.extend(answer.await.ok());
        }
        Ok(self.note_answers(note, answers))
    }

    /// Lists the notes that were sent in, in order.
    pub fn sent_in(&self) -> Vec<SentIn> {
        self.inner.lock().own::<Notes>().0.iter().map(Note::shown).collect()
    }

    /// Returns what was recorded for a note that was sent in.
    pub fn sent_in_audio(&self, id: &Uuid) -> Option<Bytes> {
        self.inner
            .lock()
            .own::<Notes>()
            .0
            .iter()
            .find(|note| note.id == *id)
            .map(|note| note.recorded.clone())
    }

    /// Finds a note that was sent in.
    pub(crate) fn inbound_note(&self, provider: &str, is_it: impl Fn(&Note) -> bool) -> Option<Note> {
        let mut state = self.inner.lock();
        let notes = &state.own::<Notes>().0;
        notes.iter().rev().find(|note| note.provider == provider && is_it(note)).cloned()
    }

    async fn bytes_of(&self, order: &Inbound) -> Result<Bytes, String> {
        let bytes = match (&order.audio, &order.url) {
            // A recorder that broke off leaves an empty file, so that can be sent as well.
            (Some(text), None) => {
                Bytes::from(BASE64_STANDARD.decode(text).map_err(|_| "audio must be base64")?)
            }
            (None, Some(url)) => {
                let timeout = std::time::Duration::from_secs(20);
                let fetched = self.inner.fetcher.get(url, MOST_BYTES, timeout).await;
                fetched.map_err(|_| "the link could not be downloaded")?.bytes
            }
            _ => return Err("give either audio (base64) or url".to_owned()),
        };
        if bytes.len() > MOST_BYTES { Err("the audio is too large".to_owned()) } else { Ok(bytes) }
    }

    /// Keeps the note, and says in which groups it is told of.
    fn keep(&self, note: &Note, order: &Inbound) -> Vec<Vec<Note>> {
        let mut state = self.inner.lock();
        let notes = &mut state.own::<Notes>().0;
        let same = |known: &&Note| known.provider == note.provider && known.account == note.account;
        let others: Vec<Note> = notes.iter().rev().filter(same).take(REGROUPED).cloned().collect();
        notes.push_back(note.clone());
        while notes.len() > MOST_NOTES {
            notes.pop_front();
        }
        let _ = self.inner.events.send(Event::SentIn(Box::new(note.shown())));
        let batch = |copy: u32| {
            let mut batch = vec![note.clone()];
            if order.regroup {
                // Every subset of the others comes once before any comes again.
                let picked = others.iter().enumerate().filter(|(at, _)| copy >> at & 1 == 1);
                batch.extend(picked.map(|(_, other)| other.clone()));
                let turn = copy as usize % batch.len();
                batch.rotate_left(turn);
            }
            batch
        };
        (0..order.copies).map(batch).collect()
    }

    fn note_answers(&self, mut note: Note, answers: Vec<String>) -> SentIn {
        note.answers = answers;
        let mut state = self.inner.lock();
        let kept = state.own::<Notes>().0.iter_mut().find(|kept| kept.id == note.id);
        if let Some(kept) = kept {
            kept.answers.clone_from(&note.answers);
        }
        let _ = self.inner.events.send(Event::SentIn(Box::new(note.shown())));
        note.shown()
    }
}

fn note(base: &str, order: &Inbound, bytes: Bytes) -> Result<Note, String> {
    let provider = order.provider.name();
    let provider = EMULATORS.iter().map(|emulator| emulator.name()).find(|name| *name == provider);
    let kind = audio::describe(&bytes).kind;
    Ok(Note {
        id: Uuid::new_v4(),
        provider: provider.ok_or("there is no such emulator")?,
        raw: whatsapp::raw_id(),
        message_id: String::new(),
        conversation: String::new(),
        from: order.from.trim().to_owned(),
        group: order.group.clone(),
        sender_name: order.sender_name.clone(),
        reply_to: order.reply_to.clone(),
        account: order.account.clone().unwrap_or_default(),
        is_voice: !order.as_file,
        mime_type: order.mime_type.clone().unwrap_or_else(|| kind.declared_mime().to_owned()),
        own: order.own,
        media: order.media.clone(),
        at: state::clock(),
        recorded: bytes.clone(),
        bytes,
        base: base.trim_end_matches('/').to_owned(),
        answers: Vec::new(),
    })
}

/// Turns a callback into one of somebody who does not know the secret.
fn forged(mut outgoing: Outgoing) -> Outgoing {
    if let Some(signer) = &mut outgoing.signer {
        signer.secret = "Zm9yZ2VkLXNlY3JldC0wMTIzNDU2Nzg5".to_owned();
    }
    let is_token = |name: &str| name == "token";
    if outgoing.url.query_pairs().any(|(name, _)| is_token(&name)) {
        let pairs: Vec<(String, String)> = outgoing
            .url
            .query_pairs()
            .map(|(name, value)| {
                let value = if is_token(&name) { "forged-token-0123456789".into() } else { value };
                (name.into_owned(), value.into_owned())
            })
            .collect();
        outgoing.url.query_pairs_mut().clear().extend_pairs(pairs);
    }
    outgoing
}
