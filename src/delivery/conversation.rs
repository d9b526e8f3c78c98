//! New conversations over a connection whose provider lets the account open none for now. Conversations that exist
//! already go on.

use jiff::Timestamp;

use crate::{
    gateway::Gateway,
    store::{Closed, NoteQuery, StoreError},
};

/// A conversation exists if one of this many newest notes to the recipient was accepted.
const NEWEST: u32 = 50;

/// A recipient over a connection, in every spelling by which notes to them are listed.
pub(super) struct Person<'a> {
    pub tenant: &'a str,
    pub connection: &'a str,
    /// The recipient as the request named it, and as the connection knows it. They differ for an alias.
    pub spellings: [&'a str; 2],
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
    Ok(Some(format!("{}; nothing is sent to people who were not written to before", closed.why)))
}

/// Whether a note reached this person over this connection before.
async fn exists(gateway: &Gateway, person: &Person<'_>) -> Result<bool, StoreError> {
    let [named, known] = person.spellings;
    for to in std::iter::once(named).chain((known != named).then_some(known)) {
        let wanted = NoteQuery {
            tenant: person.tenant,
            status: None,
            to: Some(to),
            via: Some(person.connection),
            before: None,
            limit: NEWEST,
        };
        let page = gateway.store.notes(&wanted).await?;
        if page.notes.iter().any(|note| note.status.is_accepted()) {
            return Ok(true);
        }
    }
    Ok(false)
}
