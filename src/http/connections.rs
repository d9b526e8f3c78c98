//! `GET /connections`: the capabilities of a tenant's connections, and their health.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use jiff::Timestamp;
use voicegate_providers::Form;

use super::auth::Caller;
use crate::{
    config::Connection,
    gateway::Gateway,
    model::{breaker, clock::rfc3339_millis, problem::Problem},
    store::{ConnectionState, EVENTS, WebhookState},
    view::{self, Health},
};

/// List connections
///
/// The capabilities of the connections of this tenant, and whether they work, as does its webhook. No provider is asked
/// for this: `health` is the experience of the last notes.
#[utoipa::path(
    get, path = "/connections", tag = "Connections", operation_id = "listConnections",
    responses((status = 200, description = "All connections, by name.", body = view::ConnectionList)),
)]
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
) -> Result<Json<view::ConnectionList>, Problem> {
    let states = gateway.store.connections(&tenant.name).await?;
    let states: BTreeMap<&str, &ConnectionState> =
        states.iter().map(|state| (state.connection.as_str(), state)).collect();
    let now = gateway.clock.now();
    let items = tenant
        .connections
        .values()
        .map(|connection| view(connection, states.get(connection.name.as_str()).copied(), now))
        .collect();
    let webhook = match &tenant.webhook {
        Some(_) => {
            let state = gateway.store.webhook(&tenant.name).await?;
            Some(webhook(states.get(EVENTS).copied(), state.unwrap_or_default(), now))
        }
        None => None,
    };
    Ok(Json(view::ConnectionList { items, webhook }))
}

fn webhook(connection: Option<&ConnectionState>, state: WebhookState, now: Timestamp) -> view::Webhook {
    let (failing_since, paused_at) = (state.failing_since, state.paused_at);
    if let Some(at) = paused_at {
        let why = state.error.unwrap_or_default();
        let detail = format!(
            "{why}; it failed for five days, and nothing is posted since {}; resume it with POST /webhook/recover",
            rfc3339_millis::text(at)
        );
        return view::Webhook {
            health: Health::Paused,
            health_detail: Some(detail),
            failing_since,
            paused_at,
        };
    }
    let (health, health_detail) = health(connection, now);
    view::Webhook { health, health_detail, failing_since, paused_at }
}

fn view(connection: &Connection, state: Option<&ConnectionState>, now: Timestamp) -> view::Connection {
    let (health, detail) = health(state, now);
    let capabilities = connection.provider.capabilities();
    view::Connection {
        name: connection.name.clone(),
        provider: connection.provider_name.to_owned(),
        health,
        health_detail: detail,
        conversations_closed_until: state
            .and_then(|state| state.closed.as_ref())
            .map(|closed| closed.until)
            .filter(|until| *until > now),
        capabilities: view::Capabilities {
            profile: connection.profile.name,
            audio: connection.profile.into(),
            convert: connection.convert.unwrap_or_default(),
            provider_converts: capabilities.provider_converts.is_some(),
            intake: capabilities.intake(),
            max_bytes: capabilities.max_bytes(),
            recipients: capabilities.recipients,
            reply: capabilities.reply,
            caption: capabilities
                .forms
                .iter()
                .any(|support| support.form != Form::Text && support.caption.is_some()),
            presence: capabilities.presence.is_some(),
            idempotent_send: capabilities.idempotency.is_some(),
            degrade: connection.degrade.clone(),
            forms: connection.forms().iter().map(Into::into).collect(),
        },
    }
}

fn health(state: Option<&ConnectionState>, now: Timestamp) -> (Health, Option<String>) {
    let Some(state) = state else { return (Health::Unchecked, None) };
    if let Some(until) = state.paused_until.filter(|until| *until > now) {
        let until = rfc3339_millis::text(until);
        let why = match &state.failure {
            Some(failure) if breaker::is_open(state.failures) => failure,
            _ => "the provider asked to slow down",
        };
        let detail = format!("{why}; nothing is sent before {until}");
        return (Health::Paused, Some(detail));
    }
    match (&state.failure, state.seen_at) {
        (Some(failure), Some(at)) => {
            (Health::Failing, Some(format!("{failure} ({})", rfc3339_millis::text(at))))
        }
        (_, Some(_)) => (Health::Ok, None),
        (_, None) => (Health::Unchecked, None),
    }
}
