//! Finding the chat that a note goes to.

use std::collections::BTreeSet;

use jiff::Timestamp;
use reqwest::{
    Method,
    header::{HeaderName, HeaderValue},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Linq,
    errors::{Refusal, Step},
};
use crate::{Context, Form, Memory, OutboundNote, Recipient, RecipientError, SendError, SendErrorKind};

/// Pages of [`PAGE`] chats that are searched. A person may be in many groups, but not in this many.
const MAX_PAGES: usize = 10;

/// The most that `limit` takes.
pub(super) const PAGE: &str = "100";

/// A chat that is known to be the right one: what `Memory::recipient` holds.
#[derive(Serialize, Deserialize)]
pub(super) struct KnownChat {
    pub chat_id: String,
    pub service: Option<String>,
    /// The note that looked it up. A later note that finds the chat gone looks again; this one need not.
    learned_by: String,
}

impl KnownChat {
    fn recall(memory: &Memory) -> Option<Self> {
        Self::deserialize(memory.recipient.as_ref()?).ok()
    }

    fn remember(self, memory: &mut Memory) -> Self {
        memory.recipient = serde_json::to_value(&self).ok();
        self
    }

    /// The form in which the recipient will see a memo. A chat without a service has had no message yet; Linq tries
    /// iMessage first there (<https://docs.linqapp.com/guides/messaging/protocol-selection/>).
    pub fn form(&self) -> Form {
        self.service.as_deref().and_then(form_over).unwrap_or(Form::Voice)
    }
}

/// <https://docs.linqapp.com/guides/messaging/voice-memos/>: a bubble in iMessage, an attachment elsewhere.
pub(super) fn form_over(service: &str) -> Option<Form> {
    match service {
        "iMessage" => Some(Form::Voice),
        "RCS" | "SMS" => Some(Form::Audio),
        _ => None,
    }
}

/// A chat as `GET /v3/chats` and `GET /v3/chats/{id}` show it.
#[derive(Deserialize)]
pub(crate) struct Chat {
    pub(super) id: String,
    service: Option<String>,
    is_group: Option<bool>,
    #[serde(default)]
    handles: Vec<Handle>,
    updated_at: Option<String>,
}

/// A page of `GET /v3/chats`.
#[derive(Deserialize)]
pub(crate) struct Page {
    pub chats: Vec<Chat>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Handle {
    handle: String,
    is_me: Option<bool>,
    status: Option<String>,
}

impl Handle {
    /// E-mail addresses come back in the case in which they were once written.
    fn is(&self, address: &str) -> bool {
        self.handle.eq_ignore_ascii_case(address)
    }

    fn is_present(&self) -> bool {
        !matches!(self.status.as_deref(), Some("left" | "removed"))
    }

    /// Whether this is the account's own line, as far as can be told: `is_me` may be null.
    fn is_mine(&self, line: Option<&str>) -> Option<bool> {
        self.is_me.or_else(|| line.map(|line| self.is(line)))
    }
}

impl Chat {
    /// Offsets differ from chat to chat, so the texts do not compare.
    pub(super) fn last_used(&self) -> Option<Timestamp> {
        self.updated_at.as_ref()?.parse().ok()
    }

    /// Whether the chat has `recipient` and nobody else at its other end. `to=` matches every chat that
    /// contains the handle, groups included, and a voice note to the wrong people cannot be called back.
    pub(crate) fn is_direct_with(&self, recipient: &str, line: Option<&str>) -> bool {
        if self.is_group != Some(false) {
            return false;
        }
        let present: Vec<&Handle> = self.handles.iter().filter(|handle| handle.is_present()).collect();
        if present.iter().any(|handle| handle.is_mine(line).is_none()) {
            // The answer does not say which handle is the line's own: it must be the one beside the recipient's.
            return present.len() == 2 && present.iter().any(|handle| handle.is(recipient));
        }
        let others: BTreeSet<String> = present
            .iter()
            .filter(|handle| handle.is_mine(line) == Some(false))
            .map(|handle| handle.handle.to_ascii_lowercase())
            .collect();
        others == BTreeSet::from([recipient.to_ascii_lowercase()])
    }
}

impl Linq {
    /// The chat for the note's recipient, remembered or found. `None`: it has yet to be opened, and may be.
    pub(super) async fn known_chat(
        &self,
        cx: &Context,
        note: &OutboundNote,
        memory: &mut Memory,
    ) -> Result<Option<KnownChat>, SendError> {
        if let Some(known) = KnownChat::recall(memory) {
            return Ok(Some(known));
        }
        let recipient = super::Provider::recipient_key(self, &note.to).map_err(invalid)?;
        let (chat_id, service) = match &note.to {
            Recipient::Native { .. } => self.read_chat(cx, note, &recipient).await?,
            _ => match self.find_chat(cx, note, &recipient).await? {
                Some(chat) => (chat.id, chat.service),
                None if self.opening_text.is_some() => return Ok(None),
                None => return Err(no_chat()),
            },
        };
        Ok(Some(KnownChat { chat_id, service, learned_by: note.id.clone() }.remember(memory)))
    }

    async fn read_chat(
        &self,
        cx: &Context,
        note: &OutboundNote,
        id: &str,
    ) -> Result<(String, Option<String>), SendError> {
        let request = self.request(Method::GET, self.api.join(&["v3", "chats", id]), None);
        let chat: Chat = self.ask(cx, note, request).await?;
        Ok((chat.id, chat.service))
    }

    /// The direct chat with `recipient` that was used last.
    async fn find_chat(
        &self,
        cx: &Context,
        note: &OutboundNote,
        recipient: &str,
    ) -> Result<Option<Chat>, SendError> {
        // A chat is opened on a line of Linq's choice, so it may be on any line when it is looked for later:
        // a search on one line alone would miss it and send the opening text again.
        let line = self.from.as_deref().filter(|_| self.opening_text.is_none());
        let mut found: Option<Chat> = None;
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut url = self.api.join(&["v3", "chats"]);
            url.query_pairs_mut().append_pair("to", recipient).append_pair("limit", PAGE);
            if let Some(line) = line {
                url.query_pairs_mut().append_pair("from", line);
            }
            if let Some(cursor) = &cursor {
                url.query_pairs_mut().append_pair("cursor", cursor);
            }
            let page: Page = self.ask(cx, note, self.request(Method::GET, url, None)).await?;
            let direct =
                page.chats.into_iter().filter(|chat| chat.is_direct_with(recipient, self.from.as_deref()));
            found = found.into_iter().chain(direct).max_by_key(Chat::last_used);
            cursor = page.next_cursor.filter(|next| !next.is_empty());
            if cursor.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// Sends the opening text, which creates the chat. Repeating it shows the text once: Linq answers a known
    /// key with its first answer (<https://docs.linqapp.com/guides/messaging/sending-messages/>).
    pub(super) async fn open_chat(
        &self,
        cx: &Context,
        note: &OutboundNote,
        memory: &mut Memory,
    ) -> Result<KnownChat, SendError> {
        #[derive(Deserialize)]
        struct Opened {
            chat_id: String,
            service: Option<String>,
        }
        let recipient = super::Provider::recipient_key(self, &note.to).map_err(invalid)?;
        let text = self.opening_text.as_ref().ok_or_else(no_chat)?;
        let key = format!("{}-opening", note.id);
        let message = json!({"parts": [{"type": "text", "value": text}], "idempotency_key": key});
        let body = json!({"to": [recipient], "message": message});
        let mut request = self.request(Method::POST, self.api.join(&["v3", "messages"]), Some(&body));
        if let Ok(key) = HeaderValue::from_str(&key) {
            request.headers_mut().insert(HeaderName::from_static("idempotency-key"), key);
        }
        let opened: Opened = self.ask(cx, note, request).await?;
        let chat =
            KnownChat { chat_id: opened.chat_id, service: opened.service, learned_by: note.id.clone() };
        Ok(chat.remember(memory))
    }
}

/// The queue asks for the recipient's key before it comes here, so this is for callers that did not.
fn invalid(error: RecipientError) -> SendError {
    SendError::new(SendErrorKind::InvalidRecipient, error.to_string())
}

pub(super) fn no_chat() -> SendError {
    SendError::new(
        SendErrorKind::NotReachable,
        "there is no conversation with this recipient: the recipient must write first, or the connection \
         must set open_chat = \"text\" with an opening_text, or an existing conversation must be addressed \
         as linq:UUID",
    )
}

/// The chat is gone. Where an earlier note had found it, the recipient may have another one by now.
pub(super) fn gone(refusal: Refusal, note: &OutboundNote, memory: &mut Memory) -> SendError {
    let remembered = KnownChat::recall(memory).is_some_and(|known| known.learned_by != note.id);
    memory.recipient = None;
    let error = refusal.into_error(Step::Dispatch);
    if remembered && !matches!(note.to, Recipient::Native { .. }) {
        return SendError {
            kind: SendErrorKind::Outdated,
            detail: "the conversation used before is gone; it is looked up again".to_owned(),
            ..error
        };
    }
    error
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const ANN: &str = "+15550001111";
    const LINE: &str = "+15559990000";

    fn chat(is_group: bool, handles: &[(&str, Value, &str)]) -> Chat {
        let handles: Vec<Value> = handles
            .iter()
            .map(|(handle, is_me, status)| json!({"handle": handle, "is_me": is_me, "status": status}))
            .collect();
        serde_json::from_value(json!({"id": "c", "is_group": is_group, "handles": handles})).expect("a chat")
    }

    #[test]
    fn a_direct_chat_has_the_recipient_and_nobody_else() {
        let (me, other, unknown) = (json!(true), json!(false), json!(null));
        let active = "active";
        let line = Some(LINE);
        for (matches, line, chat) in [
            (true, None, chat(false, &[(LINE, me.clone(), active), (ANN, other.clone(), active)])),
            (false, None, chat(true, &[(LINE, me.clone(), active), (ANN, other.clone(), active)])),
            (
                false,
                None,
                chat(false, &[(LINE, me.clone(), active), ("+15550002222", other.clone(), active)]),
            ),
            // Left behind: a chat that was a group, or one that the recipient has left.
            (
                true,
                None,
                chat(
                    false,
                    &[
                        (LINE, me.clone(), active),
                        (ANN, other.clone(), active),
                        ("b@x.io", other.clone(), "left"),
                    ],
                ),
            ),
            (false, None, chat(false, &[(LINE, me.clone(), active), (ANN, other.clone(), "removed")])),
            // is_me is nullable.
            (true, line, chat(false, &[(LINE, unknown.clone(), active), (ANN, unknown.clone(), active)])),
            (true, None, chat(false, &[(LINE, unknown.clone(), active), (ANN, unknown.clone(), active)])),
            (
                false,
                None,
                chat(
                    false,
                    &[
                        (LINE, unknown.clone(), active),
                        (ANN, unknown.clone(), active),
                        ("b@x.io", unknown, active),
                    ],
                ),
            ),
        ] {
            assert_eq!(chat.is_direct_with(ANN, line), matches, "{:?}", chat.handles.len());
        }
    }
}
