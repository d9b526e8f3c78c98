//! APIs of other gateways below `/compat`, so that their clients reach this gateway with another base URL and key.
//!
//! Each module translates the requests of one API to [`accept`], which `POST /voice` uses as well, and notes and problems
//! back into its words. None has rules of its own. These clients repeat requests that failed, so only a note that
//! certainly failed is answered with an error: any other outcome is pending.

mod converter;
pub mod document;
mod evolution;
mod fields;
mod linq;
mod waha;
mod wawp;

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Path, Request, rejection::PathRejection},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use url::Url;
use utoipa_axum::{router::OpenApiRouter, routes};
use voicegate_audio::{Hints, Work};
use voicegate_providers::AudioFacts;

use self::fields::Fields;
use super::{
    App,
    body::foreign::{self, Foreign, Shape},
    memory::Holding,
    room,
    voice::{KEY, idempotency_key, is_key},
    wait::{is_settled, wait_for},
};
use crate::{
    config::Tenant,
    delivery::{SendTime, VoiceRequest, accept::accept, answer},
    gateway::Gateway,
    media::{AudioInput, AudioVariant},
    model::{
        code::{Code, Stage},
        note::{Metadata, Note, Status, TextAs},
        problem::Problem,
    },
    store::ConnectionState,
    telemetry::metrics,
};

/// All paths of all dialects, with their documentation.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(evolution::about))
        .route("/compat/evolution", axum::routing::get(evolution::about))
        .routes(routes!(evolution::send))
        .routes(routes!(evolution::instances))
        .routes(routes!(evolution::state))
        .routes(routes!(evolution::numbers))
        .routes(routes!(waha::send))
        .routes(routes!(waha::sessions))
        .routes(routes!(waha::session))
        .routes(routes!(waha::convert))
        .routes(routes!(waha::ping))
        .routes(routes!(waha::version))
        .routes(routes!(wawp::send))
        .routes(routes!(wawp::info, wawp::info_by_query))
        .routes(routes!(linq::chats::list, linq::chats::create))
        .routes(routes!(linq::chats::show))
        .routes(routes!(linq::send))
        .routes(routes!(linq::attachments::request))
        .routes(routes!(linq::attachments::show))
        .routes(routes!(linq::attachments::put, linq::attachments::download))
        .routes(routes!(converter::process))
}

/// An API that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Evolution,
    Waha,
    Wawp,
    Linq,
    Converter,
}

impl Dialect {
    pub const ALL: [Self; 5] = [Self::Evolution, Self::Waha, Self::Wawp, Self::Linq, Self::Converter];

    /// The part of the path behind `/compat/`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Evolution => "evolution",
            Self::Waha => "waha",
            Self::Wawp => "wawp",
            Self::Linq => "linq",
            Self::Converter => "converter",
        }
    }

    /// The dialect of a path.
    pub fn of(path: &str) -> Option<Self> {
        let name = path.strip_prefix("/compat/")?.split('/').next();
        Self::ALL.into_iter().find(|dialect| name == Some(dialect.name()))
    }

    /// The status and the body that this API has for a problem.
    fn words(self, problem: &Problem) -> (StatusCode, Value) {
        match self {
            Self::Evolution => evolution::problem(problem),
            Self::Waha => waha::problem(problem),
            Self::Wawp => wawp::problem(problem),
            Self::Linq => linq::problem(problem),
            Self::Converter => converter::problem(problem),
        }
    }
}

/// Seconds after which a client may try again where there was no room.
const NO_ROOM_S: u64 = 60;

/// Puts problems into the words of the dialect, wherever they came up, and counts its requests.
pub async fn in_its_dialect(request: Request, next: Next) -> Response {
    let Some(dialect) = Dialect::of(request.uri().path()) else { return next.run(request).await };
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() {
        let mut problem = Arc::unwrap_or_clone(problem);
        let (mut head, _) = response.into_parts();
        if matches!(problem.status, 503 | 507) {
            // A full disk or quota has no time of its own, but clients repeat a 503 at once unless they are told.
            let seconds = *problem.retry_after.get_or_insert(NO_ROOM_S);
            head.headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        let (status, body) = dialect.words(&problem);
        head.status = status;
        for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::WWW_AUTHENTICATE] {
            head.headers.remove(name);
        }
        let (of_json, body) = axum::Json(body).into_response().into_parts();
        head.headers.extend(of_json.headers);
        response = Response::from_parts(head, body);
    }
    if dialect == Dialect::Linq {
        linq::trace(&mut response);
    }
    metrics::dialect(dialect.name(), response.status());
    response
}

/// The status that these APIs have for a problem. They know neither 415 nor 424, and no 507: a client that meets one of
/// the last two would repeat a note that failed for good, or give up one that only has to wait.
fn status(problem: &Problem, unprocessable: StatusCode) -> StatusCode {
    match problem.status {
        410 => StatusCode::NOT_FOUND,
        415 => StatusCode::BAD_REQUEST,
        422 | 424 => unprocessable,
        507 => StatusCode::SERVICE_UNAVAILABLE,
        _ => problem.http_status(),
    }
}

/// The request of a client, before its dialect has said what the fields mean.
pub struct Order {
    pub fields: Fields,
    pub audio: Option<AudioInput>,
    /// Stated by a form or a data URI.
    mime_type: Option<String>,
    filename: Option<String>,
    key: Option<String>,
    held: Holding,
}

/// The meaning of the fields.
#[derive(Debug, Default)]
pub struct Wishes {
    pub to: String,
    /// A connection or a route. `None`: the tenant's route.
    pub via: Option<String>,
    pub reply_to: Option<String>,
    /// How long not to send yet.
    pub delay: Option<Duration>,
    pub mime_type: Option<String>,
    pub filename: Option<String>,
    /// A key in the body. The header takes precedence.
    pub key: Option<String>,
}

/// Reads a request, by the limits of `POST /voice`.
///
/// # Errors
/// A problem with the request, its tenant or the gateway; nothing is stored.
pub async fn take(app: &App, tenant: &Tenant, request: Request, shape: Shape) -> Result<Order, Problem> {
    let gateway = &*app.gateway;
    gateway.open_for_work()?;
    let key = idempotency_key(request.headers())?;
    let expected = room::expect(gateway, tenant, request.headers(), key.as_deref()).await?;
    let Foreign { fields, audio, mime_type, filename, held } =
        foreign::read(app, &tenant.name, request, shape).await?;
    drop(expected); // the size is known now
    Ok(Order { fields: Fields(fields), audio, mime_type, filename, key, held })
}

/// Reads a request whose audio is not kept.
///
/// # Errors
/// A problem with the request, its tenant or the gateway.
pub async fn look(app: &App, tenant: &Tenant, request: Request, shape: Shape) -> Result<Order, Problem> {
    app.gateway.accept_gate.pass(&tenant.name).await?;
    let Foreign { fields, audio, mime_type, filename, held } =
        foreign::read(app, &tenant.name, request, shape).await?;
    Ok(Order { fields: Fields(fields), audio, mime_type, filename, key: None, held })
}

impl Order {
    /// Hints about the audio: those of the fields, else those of the transfer.
    pub fn hints(&mut self, mime_type: Option<String>, filename: Option<String>) -> Hints {
        Hints {
            mime_type: mime_type.or(self.mime_type.take()),
            filename: filename.or(self.filename.take()),
            format: None,
        }
    }

    /// Sends the note, and waits for its provider for `dialects.wait`. A returned note was not proven to have failed.
    ///
    /// # Errors
    /// The problem of the request, or of a note that failed.
    pub async fn send(mut self, app: &App, tenant: &Tenant, wishes: Wishes) -> Result<Note, Problem> {
        let gateway = &*app.gateway;
        let Wishes { to, via, reply_to, delay, mime_type, filename, key } = wishes;
        let hints = self.hints(mime_type, filename);
        let Self { audio, key: header, held, .. } = self;
        let audio = audio.ok_or_else(|| Problem::invalid("audio", "there is no audio"))?;
        if key.as_deref().is_some_and(|key| !is_key(key)) {
            return Err(Problem::invalid("idempotency_key", KEY));
        }
        let idempotency_key = header.or(key);
        // The answer to a received note goes back the way that it came, unless an account is named.
        let (to, via) = answer::addressed(gateway, tenant, (Some(to), via), reply_to.as_deref()).await?;
        let send_at = delay.filter(|delay| !delay.is_zero()).map(SendTime::After);
        let request = VoiceRequest {
            to,
            audio,
            hints,
            via,
            convert: None,
            reply_to,
            text: None,
            text_as: TextAs::default(),
            degrade: None,
            strict: false,
            send_at,
            expires_in: None,
            metadata: Metadata::default(),
            idempotency_key,
        };
        let admission = accept(gateway, tenant, request).await?;
        drop(held);
        let wait = gateway.live().config.dialects.wait.0;
        let is_known = |note: &Note| is_settled(note) || note.status == Status::Unknown;
        let waited = wait_for(gateway, &admission.note, admission.changes, wait, is_known).await;
        // The note was accepted, so it is no failure if its state cannot be read.
        let note = waited.unwrap_or(admission.note);
        if !note.status.is_failure() {
            return Ok(note);
        }
        let unsaid = || Problem::new(Code::ProviderRejected, "the note was not sent").stage(Stage::Dispatch);
        Err(note.error.clone().unwrap_or_else(unsaid).of_note(note.id))
    }
}

/// The connection or route of the tenant with this name.
fn named(tenant: &Tenant, name: &str) -> Option<String> {
    let known = tenant.connections.contains_key(name) || tenant.routes.contains_key(name);
    known.then(|| name.to_owned())
}

/// A path parameter. One that is not text names nothing.
fn parameter(path: Result<Path<String>, PathRejection>) -> String {
    path.map(|Path(name)| name).unwrap_or_default()
}

/// A connection or a route, as these APIs show an account.
struct Account {
    name: String,
    /// Whether the last attempts found no fault of the account or its provider. For a route: of any connection.
    works: bool,
}

/// The accounts of a tenant: its default route, its routes and its connections.
async fn accounts(gateway: &Gateway, tenant: &Tenant) -> Result<Vec<Account>, Problem> {
    let states = gateway.store.connections(&tenant.name).await?;
    let works = |connection: &String| {
        let fails = |state: &ConnectionState| state.connection == *connection && state.failure.is_some();
        !states.iter().any(fails)
    };
    let routes = tenant.routes.iter().map(|(name, route)| (name, route.iter().any(works)));
    let connections = tenant.connections.keys().map(|name| (name, works(name)));
    let default = (!tenant.route.is_empty() && named(tenant, DEFAULT).is_none())
        .then(|| Account { name: DEFAULT.to_owned(), works: tenant.route.iter().any(works) });
    let others = routes.chain(connections).map(|(name, works)| Account { name: name.clone(), works });
    Ok(default.into_iter().chain(others).collect())
}

/// The name that stands for the tenant's own route.
const DEFAULT: &str = "default";

/// The audio of a note as an answer shows it.
struct Shown<'a> {
    facts: &'a AudioFacts,
    url: Url,
    filename: String,
}

/// The audio as it was sent, or the source until then. `None` until a download was read.
fn shown<'a>(gateway: &Gateway, note: &'a Note) -> Option<Shown<'a>> {
    let made = note.sent.as_ref().filter(|sent| sent.work != Work::None);
    let (facts, which) = match (made, &note.probed) {
        (Some(sent), _) => (&sent.facts, AudioVariant::Sent),
        (None, Some(probed)) => (&probed.facts, AudioVariant::Source),
        (None, None) => return None,
    };
    let filename = format!("voice.{}", facts.extension());
    let live = gateway.live();
    let server = &live.config.server;
    let now = gateway.clock.now();
    let url = gateway.links.make(&server.public_url, note.id, which, &filename, now, server.link_ttl.0);
    Some(Shown { facts, url, filename })
}

/// Whole seconds, at least 1: players show no length for 0.
fn seconds(facts: &AudioFacts) -> u64 {
    ((facts.duration_ms + 500) / 1000).max(1)
}
