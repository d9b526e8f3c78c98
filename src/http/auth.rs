//! Authentication: the API key alone determines the tenant.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{Extensions, HeaderMap, header::AUTHORIZATION, request::Parts},
};

use super::{App, seats::Seat, wrong_keys::WrongKeys};
use crate::{
    config::Tenant,
    model::{
        code::{Code, Stage},
        problem::Problem,
    },
};

/// Returns the tenant whose key the request carries, unless its request rate is exceeded.
pub struct Caller(pub Arc<Tenant>);

/// Marks a request that this process makes for a caller whose key was checked and counted already.
#[derive(Clone)]
pub(super) struct Vouched(pub Arc<Tenant>);

/// The token of `Authorization: Bearer`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// The request has a key that belongs to no tenant.
pub(super) async fn wrong_key(extensions: &Extensions) {
    if let Some(keys) = extensions.get::<Arc<WrongKeys>>() {
        keys.tried(extensions.get::<Arc<Seat>>()).await;
    }
}

/// The tenant whose key this is, unless its request rate is exceeded. `how` says how a key is sent.
///
/// # Errors
/// `unauthorized` or `rate_limited`.
pub(super) async fn tenant(
    app: &App,
    extensions: &Extensions,
    key: Option<&str>,
    how: &str,
) -> Result<Arc<Tenant>, Problem> {
    let refused = |detail: &str| Problem::new(Code::Unauthorized, detail).stage(Stage::Request);
    let Some(key) = key else { return Err(refused(how)) };
    let live = app.gateway.live();
    let Some(tenant) = live.tenants.by_key(key) else {
        wrong_key(extensions).await;
        return Err(refused("this API key is not known here"));
    };
    live.take_request(&tenant.name)?;
    Ok(tenant.clone())
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        if let Some(Vouched(tenant)) = parts.extensions.get() {
            return Ok(Self(tenant.clone()));
        }
        if parts.headers.get_all(AUTHORIZATION).iter().nth(1).is_some() {
            return Err(Problem::invalid("Authorization", "the header is given twice"));
        }
        let how = "send the header `Authorization: Bearer KEY`";
        tenant(app, &parts.extensions, bearer(&parts.headers), how).await.map(Self)
    }
}
