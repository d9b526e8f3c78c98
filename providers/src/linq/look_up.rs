//! Finding a memo whose answer was lost, in the list of a chat's messages.

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Linq, chats,
    chats::{Chat, PAGE, Page},
    receipts,
};
use crate::{Accepted, Context, LookUp, Provider as _, Recipient, SendError, SendErrorKind, UnknownSend};

/// Linq's clock and ours may differ.
const SLACK: SignedDuration = SignedDuration::from_mins(1);

/// Chats that are looked into: a person may have written to several lines of the account.
const MAX_CHATS: usize = 3;

/// Pages of [`PAGE`] messages that are read of each. What is looked for was sent minutes ago.
const MAX_PAGES: usize = 3;

/// A message as `GET /v3/chats/{id}/messages` shows it; its parts are read as those of a webhook.
#[derive(Deserialize)]
struct Message {
    id: String,
    is_from_me: Option<bool>,
    service: Option<String>,
    created_at: Option<String>,
    #[serde(flatten)]
    rest: Value,
}

impl Message {
    fn created(&self) -> Option<Timestamp> {
        self.created_at.as_ref()?.parse().ok()
    }
}

impl Linq {
    /// A memo by its uploaded file, which no other note has. A memo that Linq was to download has no such name, and by
    /// its time alone it could be taken for the one before or after it; telling a bot that a note arrived which did
    /// not is worse than not knowing, so those are not looked for.
    pub(super) async fn seen(&self, cx: &Context, note: &UnknownSend) -> Result<LookUp, SendError> {
        if note.correlation_ids.is_empty() {
            return Ok(LookUp::NotSeen);
        }
        for chat in self.likely_chats(cx, &note.to).await? {
            if let Some(accepted) = self.find_memo(cx, &chat, note).await? {
                return Ok(LookUp::Found(accepted));
            }
        }
        Ok(LookUp::NotSeen)
    }

    /// The chats where it would be, the one that was used last first.
    async fn likely_chats(&self, cx: &Context, to: &Recipient) -> Result<Vec<String>, SendError> {
        let key = self
            .recipient_key(to)
            .map_err(|error| SendError::new(SendErrorKind::InvalidRecipient, error.to_string()))?;
        if matches!(to, Recipient::Native { .. }) {
            return Ok(vec![key]);
        }
        let mut url = self.api.join(&["v3", "chats"]);
        url.query_pairs_mut().append_pair("to", &key).append_pair("limit", PAGE);
        let page: Page = self.inquire(cx, self.request(Method::GET, url, None)).await?;
        let direct = |chat: &Chat| chat.is_direct_with(&key, self.from.as_deref());
        let mut chats: Vec<Chat> = page.chats.into_iter().filter(direct).collect();
        chats.sort_by_key(|chat| std::cmp::Reverse(chat.last_used()));
        Ok(chats.into_iter().take(MAX_CHATS).map(|chat| chat.id).collect())
    }

    async fn find_memo(
        &self,
        cx: &Context,
        chat: &str,
        note: &UnknownSend,
    ) -> Result<Option<Accepted>, SendError> {
        #[derive(Deserialize)]
        struct Body {
            messages: Vec<Message>,
            next_cursor: Option<String>,
        }
        let earliest = note.dispatched_at.checked_sub(SLACK).unwrap_or(Timestamp::MIN);
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut url = self.api.join(&["v3", "chats", chat, "messages"]);
            url.query_pairs_mut().append_pair("limit", PAGE);
            if let Some(cursor) = &cursor {
                url.query_pairs_mut().append_pair("cursor", cursor);
            }
            let page: Body = self.inquire(cx, self.request(Method::GET, url, None)).await?;
            let is_it = |message: &&Message| {
                message.is_from_me != Some(false)
                    && message.created().is_none_or(|at| at >= earliest)
                    && receipts::attachment(&message.rest)
                        .is_some_and(|id| note.correlation_ids.contains(&id))
            };
            if let Some(message) = page.messages.iter().find(is_it).filter(|message| !message.id.is_empty()) {
                return Ok(Some(Accepted {
                    message_id: message.id.clone(),
                    form: message.service.as_deref().and_then(chats::form_over),
                    ..Accepted::default()
                }));
            }
            // The order is not documented. Only where the newest come first do older pages hold nothing.
            let times: Vec<Timestamp> = page.messages.iter().filter_map(Message::created).collect();
            let past = times.is_sorted_by(|a, b| a >= b) && times.last().is_some_and(|last| *last < earliest);
            cursor = page.next_cursor.filter(|next| !next.is_empty() && !past);
            if cursor.is_none() {
                break;
            }
        }
        Ok(None)
    }
}
