//! Whom a note is for, and over which connections.

use voicegate_providers::{Form, Recipient, RecipientError, ReplySupport, parse_recipient, visible};

use super::{
    accept::VoiceRequest,
    known::Known,
    ladder::{choose, form_degraded, text_dropped, words},
};
use crate::{
    config::{Connection, Tenant},
    gateway::Gateway,
    model::{
        code::{Code, Stage, WarningCode},
        note::{NoteId, Refusal, Stop, TextAs, Warning},
        problem::Problem,
    },
    store::StoreError,
};

/// The connections that `via` names, or without it those of the tenant's own route, in order.
///
/// # Errors
/// `unknown_connection`
pub fn named<'a>(tenant: &'a Tenant, via: Option<&str>) -> Result<Vec<&'a Connection>, Problem> {
    let unknown =
        |detail: String| Problem::new(Code::UnknownConnection, detail).stage(Stage::Request).field("via");
    let names: Vec<&String> = match via {
        None if tenant.route.is_empty() => {
            return Err(unknown("this tenant has no default route; name a connection in `via`".to_owned()));
        }
        None => tenant.route.iter().collect(),
        Some(via) => match (tenant.connections.get_key_value(via), tenant.routes.get(via)) {
            (Some((name, _)), _) => vec![name],
            (None, Some(route)) if !route.is_empty() => route.iter().collect(),
            _ => {
                return Err(unknown(
                    "there is no connection or route of this name; GET /connections lists them".to_owned(),
                ));
            }
        },
    };
    Ok(names.into_iter().filter_map(|name| tenant.connections.get(name)).collect())
}

/// The connections of the route that can reach the recipient, in order.
pub(super) fn route(tenant: &Tenant, target: &Target, via: Option<&str>) -> Result<Vec<Stop>, Problem> {
    let connections = named(tenant, via)?;
    target.exists_at(tenant)?;
    let mut stops = Vec::new();
    let mut reasons = Vec::new();
    for connection in connections {
        match target.on(tenant, connection) {
            Ok((recipient, recipient_key)) => stops.push(Stop {
                connection: connection.name.clone(),
                provider: connection.provider_name.to_owned(),
                to: recipient.to_string(),
                recipient_key,
            }),
            Err(reason) => reasons.push(format!("{}: {reason}", connection.name)),
        }
    }
    if stops.is_empty() {
        let detail = reasons.join("; ");
        return Err(Problem::new(Code::RecipientUnsupported, detail).stage(Stage::Request).field("to"));
    }
    Ok(stops)
}

fn invalid_recipient(detail: impl Into<String>) -> Problem {
    Problem::new(Code::RecipientInvalid, detail).stage(Stage::Request).field("to")
}

/// The canonical spelling of a recipient, in which notes are found again.
///
/// # Errors
/// `recipient_invalid`
pub fn canonical(to: &str) -> Result<String, Problem> {
    Ok(Target::parse(to)?.to_string())
}

/// `to`, before it is known over which connection.
pub(super) enum Target {
    Recipient(Recipient),
    /// By the name behind `alias:`.
    Alias(String),
}

impl Target {
    pub fn parse(to: &str) -> Result<Self, Problem> {
        if let Some(name) = visible(to).trim().strip_prefix("alias:") {
            return Ok(Self::Alias(name.to_owned()));
        }
        parse_recipient(to).map(Self::Recipient).map_err(|error| invalid_recipient(error.to_string()))
    }

    /// Whether the tenant has the alias, if it is one.
    pub fn exists_at(&self, tenant: &Tenant) -> Result<(), Problem> {
        match self {
            Self::Alias(name) if !tenant.aliases.contains_key(name) => {
                Err(invalid_recipient("there is no such alias"))
            }
            _ => Ok(()),
        }
    }

    /// Whom it names on this connection, and that connection's key for them.
    pub fn on(
        &self,
        tenant: &Tenant,
        connection: &Connection,
    ) -> Result<(Recipient, String), RecipientError> {
        let recipient = match self {
            Self::Recipient(recipient) => recipient.clone(),
            Self::Alias(name) => {
                let none = || RecipientError::Unsupported("the alias names nobody here".to_owned());
                let target = tenant.aliases.get(name).and_then(|targets| targets.get(&connection.name));
                parse_recipient(target.ok_or_else(none)?)?
            }
        };
        let key = connection.provider.recipient_key(&recipient)?;
        Ok((recipient, key))
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Recipient(recipient) => recipient.fmt(f),
            Self::Alias(name) => write!(f, "alias:{name}"),
        }
    }
}

/// What is kept of `reply_to`: nothing where no connection of the route can use it. The first one's trouble is a
/// warning, and with `strict` a refusal.
pub(super) async fn reply(
    gateway: &Gateway,
    tenant: &Tenant,
    route: &[Stop],
    request: &VoiceRequest,
) -> Result<(Option<String>, Vec<Warning>), Problem> {
    let Some(reply_to) = &request.reply_to else { return Ok((None, Vec::new())) };
    reply_exists(gateway, tenant, reply_to).await?;
    let mut usable = Vec::new();
    for stop in route {
        let connection = &tenant.connections[&stop.connection];
        usable.push(native_reply(gateway, &tenant.name, connection, reply_to).await?);
    }
    let kept = usable.iter().any(Result::is_ok).then(|| reply_to.clone());
    match usable.swap_remove(0) {
        Ok(_) => Ok((kept, Vec::new())),
        Err(why) if request.strict => {
            Err(Problem::new(Code::ReplyUnsupported, why).stage(Stage::Request).field("reply_to"))
        }
        Err(why) => Ok((kept, vec![reply_dropped(why)])),
    }
}

/// Whether a note that is named is the tenant's; ids of providers are not ours to judge.
pub(super) async fn reply_exists(gateway: &Gateway, tenant: &Tenant, reply_to: &str) -> Result<(), Problem> {
    let Ok(id) = reply_to.parse::<NoteId>() else { return Ok(()) };
    match gateway.store.note(id, Some(&tenant.name)).await {
        // It is there, and has no message to reply to.
        Err(StoreError::Corrupt(_)) => Ok(()),
        found => match found? {
            Some(_) => Ok(()),
            None => Err(Problem::invalid("reply_to", "there is no such voice note")),
        },
    }
}

/// The provider's own id of the message that `reply_to` means, or why there is none on this connection.
pub async fn native_reply(
    gateway: &Gateway,
    tenant: &str,
    connection: &Connection,
    reply_to: &str,
) -> Result<Result<String, &'static str>, StoreError> {
    if connection.provider.capabilities().reply == ReplySupport::None {
        return Ok(Err("replies are not possible over this connection"));
    }
    let Ok(id) = reply_to.parse::<NoteId>() else { return Ok(Ok(reply_to.to_owned())) };
    let note = match gateway.store.note(id, Some(tenant)).await {
        Err(StoreError::Corrupt(_)) => None,
        note => note?,
    };
    let message = note
        .filter(|note| note.current().connection == connection.name)
        .and_then(|note| note.provider_message_id);
    Ok(message.ok_or("the note to reply to has no message at this connection"))
}

/// What becomes of `text` where no connection of the route shows it.
///
/// # Errors
/// `text_unsupported` with `strict`.
pub(super) fn text(
    tenant: &Tenant,
    route: &[Stop],
    request: &VoiceRequest,
) -> Result<Option<Warning>, Problem> {
    let mut connections = route.iter().filter_map(|stop| tenant.connections.get(&stop.connection));
    if !has_text(request) || connections.any(|connection| may_show_text(connection, request)) {
        return Ok(None);
    }
    if request.strict {
        return Err(Problem::new(Code::TextUnsupported, NO_TEXT).stage(Stage::Request).field("text"));
    }
    Ok(Some(text_dropped(NO_TEXT)))
}

const NO_TEXT: &str =
    "no connection of the route shows a text beside a voice note, or may show it instead of one";

/// Whether the request has a text to be shown.
pub(super) fn has_text(request: &VoiceRequest) -> bool {
    request.text.as_ref().is_some_and(|text| !text.trim().is_empty())
}

/// Whether the connection may show a note's text: beside one of the allowed forms, or in its place.
pub(super) fn may_show_text(connection: &Connection, request: &VoiceRequest) -> bool {
    let degrade = request.degrade.as_ref().unwrap_or(&connection.degrade);
    let beside = request.text_as == TextAs::Caption;
    connection.provider.capabilities().forms.iter().any(|support| {
        degrade.allows(support.form) && (support.form == Form::Text || (beside && support.caption.is_some()))
    })
}

/// Refuses what would be a warning about the note's form over the first connection.
///
/// # Errors
/// `recipient_unsupported` or `text_unsupported`, with `strict` alone.
pub(super) async fn strict_about_form(
    gateway: &Gateway,
    tenant: &Tenant,
    first: &Stop,
    request: &VoiceRequest,
    duration_ms: Option<u64>,
) -> Result<(), Problem> {
    if !request.strict {
        return Ok(());
    }
    let connection = &tenant.connections[&first.connection];
    let now = gateway.clock.now();
    let stored = gateway.store.learned(&first.lane(&tenant.name), now).await?;
    let known = Known::read(stored.as_ref(), now);
    let refused: Vec<&Refusal> = known.refused.iter().collect();
    let wanted = request.wanted(connection, duration_ms);
    let Ok(rung) = choose(connection.provider.capabilities(), &wanted, &refused, now) else { return Ok(()) };
    if let Some(why) = &rung.instead {
        let detail = form_degraded(rung.support.form, why).detail;
        return Err(Problem::new(Code::RecipientUnsupported, detail).stage(Stage::Request).field("degrade"));
    }
    match words(rung.support, &wanted).warning {
        Some(warning) if warning.code == WarningCode::TextShortened => {
            Err(Problem::new(Code::TextUnsupported, warning.detail).stage(Stage::Request).field("text"))
        }
        _ => Ok(()),
    }
}

/// The note goes out all the same, as a message of its own.
pub fn reply_dropped(why: &str) -> Warning {
    let detail = format!("{why}, so the note is sent as a message of its own");
    Warning { code: WarningCode::ReplyUnsupported, detail }
}
