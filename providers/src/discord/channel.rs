//! Recipients at Discord, and the channels of direct messages.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Discord, Refusal};
use crate::{
    Context, Memory, OutboundNote, Recipient, SendError, SendErrorKind,
    wire::{self, NoAnswer, Step},
};

/// The recipient of a note.
#[derive(Debug, PartialEq)]
pub(super) enum Place<'a> {
    Channel(&'a str),
    User(&'a str),
}

impl<'a> Place<'a> {
    pub fn parse(text: &'a str) -> Option<Self> {
        let (number, place): (&str, fn(&'a str) -> Self) = match text.strip_prefix("user:") {
            Some(number) => (number, Place::User),
            None => (text, Place::Channel),
        };
        is_snowflake(number).then(|| place(number))
    }
}

/// Discord's ids are numbers of 64 bits: <https://docs.discord.com/developers/reference#snowflakes>
pub(super) fn is_snowflake(text: &str) -> bool {
    (5..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0')
}

/// Content of `Memory::recipient` for a person: the channel of our direct messages.
#[derive(Serialize, Deserialize)]
struct Opened {
    channel_id: String,
}

impl Discord {
    /// Returns the channel of the note. A channel with a person is opened, which the person does not see, and
    /// remembered.
    pub(super) async fn channel(
        &self,
        cx: &Context,
        note: &OutboundNote,
        memory: &mut Memory,
    ) -> Result<String, SendError> {
        let invalid =
            || SendError::new(SendErrorKind::InvalidRecipient, "this is no channel or person of Discord's");
        let Recipient::Native { id, .. } = &note.to else { return Err(invalid()) };
        let user = match Place::parse(id).ok_or_else(invalid)? {
            Place::Channel(channel) => return Ok(channel.to_owned()),
            Place::User(user) => user,
        };
        let known = memory.recipient.as_ref().and_then(|value| Opened::deserialize(value).ok());
        if let Some(known) = known {
            return Ok(known.channel_id);
        }
        // https://docs.discord.com/developers/resources/user#create-dm
        let url = self.api.join(&["users", "@me", "channels"]);
        let request = wire::json_request(Method::POST, url, Some(&json!({"recipient_id": user})));
        let answer = wire::call(cx, self.signed(request)).await.map_err(NoAnswer::in_prepare)?;
        if !answer.status.is_success() {
            return Err(
                Refusal::read(&answer, cx.now, &self.secrets(&note.link_secrets())).into_error(Step::Prepare)
            );
        }
        let body = answer.json();
        let channel = body["id"].as_str().filter(|id| is_snowflake(id)).ok_or_else(|| {
            let detail = "the provider's answer names no channel";
            SendError::new(SendErrorKind::Unavailable, detail)
        })?;
        memory.recipient = serde_json::to_value(Opened { channel_id: channel.to_owned() }).ok();
        Ok(channel.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_channel_or_a_person() {
        for (text, expected) in [
            ("1234567890123456789", Some(Place::Channel("1234567890123456789"))),
            ("user:1234567890123456789", Some(Place::User("1234567890123456789"))),
            ("user:user:1234567", None),
            ("0123456", None),
            ("1234", None),
            ("12345678901234567890123", None),
            ("general", None),
        ] {
            assert_eq!(Place::parse(text), expected, "{text}");
        }
    }
}
