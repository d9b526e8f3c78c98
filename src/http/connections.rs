//! `GET /connections`: what a tenant's connections can do, and how they are.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::auth::Caller;
use crate::{
    clock::rfc3339_millis, config::Connection, gateway::Gateway, problem::Problem, store::ConnectionState,
};

pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
) -> Result<Json<Value>, Problem> {
    let states = gateway.store.connections(&tenant.name).await?;
    let states: BTreeMap<&str, &ConnectionState> =
        states.iter().map(|state| (state.connection.as_str(), state)).collect();
    let now = gateway.clock.now();
    let items: Vec<Value> = tenant
        .connections
        .values()
        .map(|connection| view(connection, states.get(connection.name.as_str()).copied(), now))
        .collect();
    Ok(Json(json!({ "items": items })))
}

fn view(connection: &Connection, state: Option<&ConnectionState>, now: Timestamp) -> Value {
    let (health, detail) = health(state, now);
    let capabilities = connection.provider.capabilities();
    json!({
        "name": connection.name,
        "provider": connection.provider_name,
        "health": health,
        "health_detail": detail,
        "capabilities": {
            "profile": connection.profile.name,
            "convert": connection.convert.unwrap_or_default(),
            "provider_converts": capabilities.provider_converts.is_some(),
            "intake": capabilities.intake,
            "max_bytes": capabilities.max_bytes,
            "recipients": capabilities.recipients,
            "reply": capabilities.reply,
            "caption": capabilities.caption,
            "idempotent_send": capabilities.idempotent_send,
            "degrade": connection.degrade,
        },
    })
}

fn health(state: Option<&ConnectionState>, now: Timestamp) -> (&'static str, Option<String>) {
    let Some(state) = state else { return ("unchecked", None) };
    if let Some(until) = state.paused_until.filter(|until| *until > now) {
        let until = rfc3339_millis::text(until);
        return ("paused", Some(format!("the provider asked to slow down; nothing is sent before {until}")));
    }
    match (&state.failure, state.seen_at) {
        (Some(failure), Some(at)) => ("failing", Some(format!("{failure} ({})", rfc3339_millis::text(at)))),
        (_, Some(_)) => ("ok", None),
        (_, None) => ("unchecked", None),
    }
}
