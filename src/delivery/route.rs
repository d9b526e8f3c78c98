//! Finds the recipient of a note, and the connections of its route.

use voicegate_audio::{Probed, keep_budget};
use voicegate_providers::{
    Form, FormSupport, Recipient, RecipientError, ReplySupport, parse_recipient, visible,
};

use super::{
    accept::VoiceRequest,
    answer,
    known::Known,
    ladder::{Rung, Wanted, choose, shown_as, text_dropped, words},
};
use crate::{
    config::{Connection, Tenant},
    gateway::Gateway,
    model::{
        code::{Code, Stage, WarningCode},
        id::ReceivedId,
        note::{ConvertChoice, NoteId, Refusal, RouteEntry, TextAs, Warning},
        problem::Problem,
    },
    store::StoreError,
};

/// The connections that `via` names, or those of the tenant's default route, in order.
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
pub(super) fn route(tenant: &Tenant, target: &Target, via: Option<&str>) -> Result<Vec<RouteEntry>, Problem> {
    let connections = named(tenant, via)?;
    target.exists_at(tenant)?;
    let mut entries = Vec::new();
    let mut reasons = Vec::new();
    for connection in connections {
        match target.on(tenant, connection) {
            Ok((recipient, recipient_key)) => entries.push(RouteEntry {
                connection: connection.name.clone(),
                provider: connection.provider_name.to_owned(),
                to: recipient.to_string(),
                recipient_key,
            }),
            Err(reason) => reasons.push(format!("{}: {reason}", connection.name)),
        }
    }
    if entries.is_empty() {
        let detail = reasons.join("; ");
        return Err(Problem::new(Code::RecipientUnsupported, detail).stage(Stage::Request).field("to"));
    }
    Ok(entries)
}

fn invalid_recipient(detail: impl Into<String>) -> Problem {
    Problem::new(Code::RecipientInvalid, detail).stage(Stage::Request).field("to")
}

/// The canonical spelling of a recipient, by which notes are searched.
///
/// # Errors
/// `recipient_invalid`
pub fn canonical(to: &str) -> Result<String, Problem> {
    Ok(Target::parse(to)?.to_string())
}

/// The parsed field `to`, before a connection is chosen.
pub(super) enum Target {
    Recipient(Recipient),
    /// The name after `alias:`.
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
            Self::Alias(name) if !tenant.aliases.contains_key(name) => Err(invalid_recipient(
                "there is no such alias; the tenant's aliases are in its configuration",
            )),
            _ => Ok(()),
        }
    }

    /// The recipient on this connection, and the connection's key for it.
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

/// Returns the `reply_to` to store: `None` if no connection of the route can use it. If the first connection cannot,
/// the note gets a warning, or with `strict` the request is refused.
pub(super) async fn reply(
    gateway: &Gateway,
    tenant: &Tenant,
    route: &[RouteEntry],
    request: &VoiceRequest,
) -> Result<(Option<String>, Vec<Warning>), Problem> {
    let Some(reply_to) = &request.reply_to else { return Ok((None, Vec::new())) };
    reply_exists(gateway, tenant, reply_to).await?;
    let mut usable = Vec::new();
    for entry in route {
        let connection = &tenant.connections[&entry.connection];
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

/// Checks that a note or received note to reply to belongs to the tenant. Ids of providers are not checked.
pub(super) async fn reply_exists(gateway: &Gateway, tenant: &Tenant, reply_to: &str) -> Result<(), Problem> {
    if let Ok(id) = reply_to.parse::<ReceivedId>() {
        return answer::received(gateway, &tenant.name, id).await.map(drop);
    }
    let absent = || Problem::invalid("reply_to", "there is no such voice note");
    let Ok(id) = reply_to.parse::<NoteId>() else {
        let is_ours = ["vn_", "in_"].iter().any(|prefix| reply_to.starts_with(prefix));
        return if is_ours { Err(absent()) } else { Ok(()) };
    };
    match gateway.store.note(id, Some(&tenant.name)).await {
        // The note exists, but its record is damaged, so there is no message to reply to.
        Err(StoreError::Corrupt(_)) => Ok(()),
        found => match found? {
            Some(_) => Ok(()),
            None => Err(absent()),
        },
    }
}

/// The provider's own id of the message in `reply_to`, or the reason why there is none on this connection.
pub async fn native_reply(
    gateway: &Gateway,
    tenant: &str,
    connection: &Connection,
    reply_to: &str,
) -> Result<Result<String, &'static str>, StoreError> {
    if connection.provider.capabilities().reply == ReplySupport::None {
        return Ok(Err("replies are not possible over this connection"));
    }
    if let Ok(id) = reply_to.parse::<ReceivedId>() {
        let received = match gateway.store.received(id, tenant).await {
            Err(StoreError::Corrupt(_)) => None,
            received => received?,
        };
        let here = received.filter(|received| received.connection == connection.name);
        return Ok(here.map(|received| received.message_id).ok_or(NOT_HERE));
    }
    let Ok(id) = reply_to.parse::<NoteId>() else { return Ok(Ok(reply_to.to_owned())) };
    let note = match gateway.store.note(id, Some(tenant)).await {
        Err(StoreError::Corrupt(_)) => None,
        note => note?,
    };
    let message = note
        .filter(|note| note.current().connection == connection.name)
        .and_then(|note| note.provider_message_id);
    Ok(message.ok_or(NOT_HERE))
}

const NOT_HERE: &str = "the note to reply to has no message at this connection";

/// Returns a warning if no connection of the route shows the `text`.
///
/// # Errors
/// `text_unsupported`, with `strict`.
pub(super) fn dropped_text(
    tenant: &Tenant,
    route: &[RouteEntry],
    request: &VoiceRequest,
) -> Result<Option<Warning>, Problem> {
    let connections: Vec<&Connection> =
        route.iter().filter_map(|entry| tenant.connections.get(&entry.connection)).collect();
    if !has_text(request) || connections.iter().any(|connection| may_show_text(connection, request)) {
        return Ok(None);
    }
    let why = no_text(&connections, request);
    if request.strict {
        return Err(Problem::new(Code::TextUnsupported, why.refusal()).stage(Stage::Request).field("text"));
    }
    Ok(Some(why.warning()))
}

/// The reason why a text is not shown, and what would show it.
#[derive(Debug)]
pub(super) struct NoText {
    why: &'static str,
    remedy: Option<&'static str>,
}

impl NoText {
    pub fn refusal(&self) -> String {
        self.remedy.map_or_else(|| self.why.to_owned(), |remedy| format!("{}; {remedy}", self.why))
    }

    pub fn warning(&self) -> Warning {
        let mut warning = text_dropped(self.why);
        if let Some(remedy) = self.remedy {
            warning.detail = format!("{}; {remedy}", warning.detail);
        }
        warning
    }
}

/// Tells why none of these connections, over which the note may go, shows its text.
pub(super) fn no_text(connections: &[&Connection], request: &VoiceRequest) -> NoText {
    let offers = |is_it: fn(&FormSupport) -> bool| {
        connections.iter().any(|connection| {
            let degrade = request.degrade.as_ref().unwrap_or(&connection.degrade);
            let forms = &connection.provider.capabilities().forms;
            forms
                .iter()
                .any(|support| is_it(support) && (support.form == Form::Text || degrade.allows(support.form)))
        })
    };
    if offers(|support| support.form != Form::Text && support.caption.is_some()) {
        return NoText {
            why: "the text may only be shown in place of a voice note, and `degrade` does not allow that",
            remedy: Some("with `text_as` \"caption\" it is shown beside the note"),
        };
    }
    let why = "no text can be shown beside the note over this route";
    if offers(|support| support.form == Form::Text) {
        return NoText {
            why,
            remedy: Some("with \"text\" in `degrade` it may be shown in place of the note"),
        };
    }
    NoText { why, remedy: None }
}

/// Whether the request asks for a text to be shown. The text of speech is there for a form that shows it, but nobody asked
/// for it, unless `text_as` does.
pub(super) fn has_text(request: &VoiceRequest) -> bool {
    let asked = if request.text_as == TextAs::Caption { request.text() } else { request.text.as_deref() };
    asked.is_some_and(|text| !text.trim().is_empty())
}

/// Whether the connection can show a note's text beside one of the allowed forms, or in place of the audio.
pub(super) fn may_show_text(connection: &Connection, request: &VoiceRequest) -> bool {
    let degrade = request.degrade.as_ref().unwrap_or(&connection.degrade);
    let beside = request.text_as == TextAs::Caption;
    connection.provider.capabilities().forms.iter().any(|support| {
        degrade.allows(support.form) && (support.form == Form::Text || (beside && support.caption.is_some()))
    })
}

/// With `strict`, refuses a note that would get a warning about its form on the first connection.
///
/// # Errors
/// `recipient_unsupported` or `text_unsupported`, only with `strict`.
pub(super) async fn strict_about_form(
    gateway: &Gateway,
    tenant: &Tenant,
    first: &RouteEntry,
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
    strict_about_rung(&rung, &wanted)
}

/// With `strict`, refuses a form that replaces a voice bubble, and a text that would be cut.
///
/// # Errors
/// `recipient_unsupported` or `text_unsupported`.
pub(super) fn strict_about_rung(rung: &Rung<'_>, wanted: &Wanted<'_>) -> Result<(), Problem> {
    if let Some(why) = &rung.instead {
        let shown = shown_as(rung.support.form);
        let detail = format!("{why}; without `strict` the note would be sent as {shown}");
        return Err(Problem::new(Code::RecipientUnsupported, detail).stage(Stage::Request).field("degrade"));
    }
    let is_cut = words(rung.support, wanted).warning.is_some_and(|w| w.code == WarningCode::TextShortened);
    match rung.support.caption {
        Some(most) if is_cut => {
            let detail = format!(
                "the text is longer than the {most} characters that this connection shows; shorten it, or let it be cut \
                 without `strict`"
            );
            Err(Problem::new(Code::TextUnsupported, detail).stage(Stage::Request).field("text"))
        }
        _ => Ok(()),
    }
}

/// With `strict`, refuses audio that can only be sent with a warning about its size.
///
/// # Errors
/// `audio_too_long` or `convert_refused`.
pub(super) fn strict_about_size(
    connection: &Connection,
    source: &Probed,
    convert: Option<ConvertChoice>,
) -> Result<(), Problem> {
    let choice = connection.choice(convert);
    Ok(keep_budget(source, connection.profile_for(Form::Voice, choice), choice.into())?)
}

/// A warning that the note is sent as a message of its own instead of a reply.
pub fn reply_dropped(why: &str) -> Warning {
    let detail = format!("{why}, so the note is sent as a message of its own");
    Warning { code: WarningCode::ReplyUnsupported, detail }
}
