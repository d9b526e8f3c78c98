//! Shows a recipient that a note is being recorded: at the request of a bot, or while the speech of a note is made. It is a
//! courtesy, so its failure is never that of a note.

use std::{sync::Arc, time::Duration};

use voicegate_providers::{Presence, Recipient, SendError, parse_recipient};

use super::{
    known::Known,
    route::{Target, named},
};
use crate::{
    config::{Connection, Tenant},
    gateway::{Gateway, Live},
    model::{
        code::{Code, Stage},
        note::{AudioSource, Note, RouteEntry},
        problem::Problem,
    },
    telemetry::metrics,
};

/// The sign is shown for a note at most this long. Something is wrong with a note that takes longer.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// The longest time for one request to a provider.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Shows the sign over the first connection that has it and reaches the recipient.
///
/// # Errors
/// `recipient_unsupported` if no connection of the route has it, or the problem of the provider.
pub async fn show(
    gateway: &Gateway,
    tenant: &Tenant,
    to: &str,
    via: Option<&str>,
    sign: Presence,
) -> Result<(), Problem> {
    let live = gateway.live();
    let target = Target::parse(to)?;
    let connections = named(tenant, via)?;
    target.exists_at(tenant)?;
    let mut reasons = Vec::new();
    for connection in connections {
        let reached = target.on(tenant, connection);
        match (connection.provider.capabilities().presence, reached) {
            (None, _) => {
                reasons.push(format!("{} cannot show that a note is being recorded", connection.name));
            }
            (_, Err(reason)) => reasons.push(format!("{}: {reason}", connection.name)),
            (Some(_), Ok((recipient, key))) => {
                let entry = RouteEntry {
                    connection: connection.name.clone(),
                    provider: connection.provider_name.to_owned(),
                    to: recipient.to_string(),
                    recipient_key: key,
                };
                let asked = ask(gateway, &live, tenant, connection, (&recipient, &entry), sign).await;
                return asked.map_err(|error| Problem::from(&error).stage(Stage::Dispatch));
            }
        }
    }
    Err(Problem::new(Code::RecipientUnsupported, reasons.join("; ")).stage(Stage::Request).field("to"))
}

async fn ask(
    gateway: &Gateway,
    live: &Live,
    tenant: &Tenant,
    connection: &Connection,
    (recipient, entry): (&Recipient, &RouteEntry),
    sign: Presence,
) -> Result<(), SendError> {
    let now = gateway.clock.now();
    // Facts that are known about the recipient save a look-up, and nothing else.
    let stored = gateway.store.learned(&entry.lane(&tenant.name), now).await.ok().flatten();
    let known = Known::read(stored.as_ref(), now).adapter();
    let cx = live.context(gateway.clock.wall(), connection.timeout.min(TIMEOUT));
    let shown = connection.provider.presence(&cx, recipient, known.as_ref(), sign).await;
    metrics::presence(&tenant.name, &connection.name, if shown.is_ok() { "shown" } else { "failed" });
    if let Err(error) = &shown {
        tracing::debug!(tenant = tenant.name, connection = connection.name, %error, "a sign was not shown");
    }
    shown
}

/// Begins to show the sign for a note whose speech is made, if its connection wants that. It ends with the note.
pub(super) fn begin(gateway: &Arc<Gateway>, note: &Note) {
    let live = gateway.live();
    let wanted = note.source == AudioSource::Speech
        && live.connection(&note.tenant, &note.current().connection).is_some_and(|connection| {
            connection.presence && connection.provider.capabilities().presence.is_some()
        });
    if wanted && gateway.recording.begin(note.id) {
        let (gateway, note) = (gateway.clone(), note.clone());
        tokio::spawn(async move {
            follow(&gateway, &note).await;
            gateway.recording.end(note.id);
        });
    }
}

/// Repeats the sign until the note was sent or has ended.
async fn follow(gateway: &Gateway, note: &Note) {
    let mut changes = gateway.changes.of_note(note.id);
    let entry = note.current();
    let Ok(recipient) = parse_recipient(&entry.to) else { return };
    let until = gateway.clock.now() + LONGEST;
    while gateway.clock.now() < until && !gateway.stop.is_cancelled() {
        let live = gateway.live();
        let tenant = live.tenants.get(&note.tenant);
        let found = tenant.and_then(|tenant| Some((tenant, tenant.connections.get(&entry.connection)?)));
        let Some((tenant, connection)) = found else { return };
        let Some(lasts) = connection.provider.capabilities().presence else { return };
        if ask(gateway, &live, tenant, connection, (&recipient, entry), Presence::Recording).await.is_err() {
            return;
        }
        // The sign is shown again before it ends.
        let again = gateway.clock.now() + Duration::from_secs(u64::from(lasts)).mul_f64(0.8);
        loop {
            tokio::select! {
                () = gateway.stop.cancelled() => return,
                () = gateway.clock.sleep_until(again) => break,
                _ = changes.next() => {}
            }
            let Ok(Some(latest)) = gateway.store.note(note.id, None).await else { return };
            if latest.status.is_ended() {
                // A message that arrives ends the sign by itself.
                if !latest.status.is_accepted() {
                    let ended =
                        ask(gateway, &live, tenant, connection, (&recipient, entry), Presence::Paused);
                    let _ = ended.await;
                }
                return;
            }
        }
    }
}
