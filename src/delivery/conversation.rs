//! New conversations over a connection whose provider lets the account open none for now. Conversations that exist
//! already go on.

use std::collections::BTreeSet;

use jiff::Timestamp;
use voicegate_providers::parse_recipient;

use crate::{
    gateway::Gateway,
    store::{Closed, NoteQuery, ReceivedQuery, StoreError},
};

/// A conversation exists if one of this many newest notes to the recipient was accepted.
const NEWEST: u32 = 50;

/// A recipient over a connection: a person or a group.
pub(super) struct Person<'a> {
    tenant: &'a str,
    connection: &'a str,
    /// Every spelling by which notes to and from them are listed.
    spellings: BTreeSet<String>,
}

impl<'a> Person<'a> {
    /// `named` is the recipient as the request names it, `known` as the connection knows it. They differ for an alias.
    pub fn new(tenant: &'a str, connection: &'a str, named: &str, known: &str) -> Self {
        let spellings = |text: &str| {
            parse_recipient(text).map_or_else(|_| vec![text.to_owned()], |recipient| recipient.spellings())
        };
        Self { tenant, connection, spellings: [named, known].into_iter().flat_map(spellings).collect() }
    }
}

/// The reason for which nothing may be sent to this person; `None` if something may.
pub(super) async fn refusal(
    gateway: &Gateway,
    closed: Option<&Closed>,
    person: &Person<'_>,
    now: Timestamp,
) -> Result<Option<String>, StoreError> {
    let Some(closed) = closed.filter(|closed| closed.until > now) else { return Ok(None) };
    if exists(gateway, person).await? {
        return Ok(None);
    }
    Ok(Some(format!("{}; there was no conversation with this recipient before", closed.why)))
}

/// Whether a note reached this person over this connection before, or came from them.
async fn exists(gateway: &Gateway, person: &Person<'_>) -> Result<bool, StoreError> {
    for spelling in &person.spellings {
        let sent = NoteQuery {
            tenant: person.tenant,
            status: None,
            to: Some(spelling),
            via: Some(person.connection),
            before: None,
            limit: NEWEST,
        };
        let page = gateway.store.notes(&sent).await?;
        if page.notes.iter().any(|note| note.status.is_accepted()) {
            return Ok(true);
        }
        let received = ReceivedQuery {
            tenant: person.tenant,
            from: None,
            conversation: Some(spelling),
            via: Some(person.connection),
            before: None,
            limit: 1,
        };
        if !gateway.store.received_notes(&received).await?.items.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
