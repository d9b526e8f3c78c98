//! One send: the message of a note in each form, and the meaning of its answer.

use jiff::Timestamp;
use reqwest::{Method, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use super::{Discord, Refusal, channel::is_snowflake, voice};
use crate::{
    Accepted, Content, Form, Memory, OutboundAudio, OutboundNote, SendError, SendErrorKind, SendWarning,
    wire::{self, Answer, Multipart, Step},
};

/// <https://docs.discord.com/developers/resources/message#message-object-message-flags>
const IS_VOICE_MESSAGE: u64 = 1 << 13;

/// Longest nonce that Discord takes, in characters.
const NONCE_LENGTH: usize = 25;

/// Content of `Memory::note`.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Tried {
    /// The channel was gone and was opened again.
    reopened: bool,
}

/// The request that shows the note.
pub(super) async fn message(note: &OutboundNote, url: Url) -> Result<Request, SendError> {
    let mut message = json!({
        "nonce": nonce(&note.id),
        "enforce_nonce": true,
        // A text that was written by a program mentions nobody.
        "allowed_mentions": {"parse": []},
    });
    if let Some(answered) = answered(note) {
        // If that message is gone, the note is sent as a message of its own.
        message["message_reference"] = json!({"message_id": answered, "fail_if_not_exists": false});
    }
    match &note.content {
        Content::Text(text) => {
            message["content"] = json!(text);
            Ok(wire::json_request(Method::POST, url, Some(&message)))
        }
        Content::Audio { form, audio, caption } => {
            message["attachments"] = json!([attachment(*form, audio)]);
            if *form == Form::Voice {
                message["flags"] = json!(IS_VOICE_MESSAGE);
            } else if let Some(caption) = caption {
                message["content"] = json!(caption);
            }
            let bytes = audio.read().await?;
            // Discord's own clients name the type without its parameters, too.
            Ok(Multipart::new(&note.id)
                .json("payload_json", &message)
                .file("files[0]", &audio.filename, audio.bare_mime_type(), &bytes)
                .request(Method::POST, url))
        }
    }
}

/// The description of the file. Of a voice message, clients draw what stands here.
fn attachment(form: Form, audio: &OutboundAudio) -> Value {
    let mut attachment = json!({"id": "0", "filename": audio.filename});
    if form == Form::Voice {
        attachment["duration_secs"] = voice::seconds(audio.facts.duration_ms);
        attachment["waveform"] = json!(voice::waveform(&audio.waveform, audio.facts.duration_ms));
    }
    attachment
}

/// The message to answer, where it can be one of Discord's.
fn answered(note: &OutboundNote) -> Option<&str> {
    note.reply_to.as_deref().filter(|id| is_snowflake(id))
}

/// Nonce of a note: equal in all of its attempts, and different from those of other notes.
fn nonce(note_id: &str) -> String {
    let digits = Sha256::digest(note_id.as_bytes()).into_iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<String>().chars().take(NONCE_LENGTH).collect()
}

impl Discord {
    /// Reads the answer to the visible request.
    pub(crate) fn dispatched(
        &self,
        now: Timestamp,
        note: &OutboundNote,
        memory: &mut Memory,
        answer: &Answer,
    ) -> Result<Accepted, SendError> {
        if answer.status.is_success() {
            return accepted(note, answer);
        }
        let link = note.link_secrets();
        let refusal = Refusal::read(answer, now, &self.secrets(&link));
        let tried = memory.note.as_ref().and_then(|value| Tried::deserialize(value).ok()).unwrap_or_default();
        if refusal.is_unknown_channel() && memory.recipient.take().is_some() && !tried.reopened {
            memory.note = serde_json::to_value(Tried { reopened: true }).ok();
            let detail = "the channel of the direct messages is gone; it is opened again";
            return Err(SendError::new(SendErrorKind::Outdated, detail).from_upstream(refusal.upstream));
        }
        Err(refusal.into_error(Step::Dispatch))
    }
}

fn accepted(note: &OutboundNote, answer: &Answer) -> Result<Accepted, SendError> {
    let message = answer.json();
    let Some(id) = message["id"].as_str().filter(|id| is_snowflake(id)) else {
        return Err(wire::no_message_id(answer));
    };
    let lost = note.reply_to.is_some() && message["message_reference"]["message_id"].is_null();
    Ok(Accepted {
        message_id: id.to_owned(),
        form: Some(shown(&message)),
        warnings: if lost { vec![SendWarning::ReplyLost] } else { Vec::new() },
        ..Accepted::default()
    })
}

/// The form that people see, as the message in the answer states it, whatever the request asked for.
fn shown(message: &Value) -> Form {
    let is_voice = message["flags"].as_u64().is_some_and(|flags| flags & IS_VOICE_MESSAGE != 0);
    let attachments = message["attachments"].as_array().is_some_and(|all| !all.is_empty());
    match (is_voice, attachments) {
        (true, _) => Form::Voice,
        (false, true) => Form::Audio,
        (false, false) => Form::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonce_is_the_same_for_all_attempts_of_a_note() {
        let nonce = |id| super::nonce(id);
        assert_eq!(nonce("vn_1"), nonce("vn_1"));
        assert_ne!(nonce("vn_1"), nonce("vn_2"));
        assert_eq!(nonce("vn_1").len(), NONCE_LENGTH);
    }
}
