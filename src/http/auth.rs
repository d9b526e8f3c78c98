//! Who is calling: the tenant comes from the API key alone.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{Extensions, HeaderMap, header::AUTHORIZATION, request::Parts},
};

use super::{App, seats::Seat, wrong_keys::WrongKeys};
use crate::{config::Tenant, model::problem::Problem};

/// The tenant whose key the request carries, within its rate of requests.
pub struct Caller(pub Arc<Tenant>);

/// What `Authorization: Bearer` has.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// A key was tried that nobody has.
pub(super) async fn wrong_key(extensions: &Extensions) {
    if let Some(keys) = extensions.get::<Arc<WrongKeys>>() {
        keys.tried(extensions.get::<Arc<Seat>>()).await;
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let refused = |detail: &str| Problem::new("unauthorized", detail).stage("request");
        let Some(key) = bearer(&parts.headers) else {
            return Err(refused("send the header `Authorization: Bearer KEY`"));
        };
        let live = app.gateway.live();
        let Some(tenant) = live.tenants.by_key(key) else {
            wrong_key(&parts.extensions).await;
            return Err(refused("this API key is not known here"));
        };
        live.take_request(&tenant.name)?;
        Ok(Self(tenant.clone()))
    }
}
