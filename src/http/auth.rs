//! Who is calling: the tenant comes from the API key alone.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{header::AUTHORIZATION, request::Parts},
};

use crate::{config::Tenant, gateway::Gateway, problem::Problem};

/// The tenant whose key the request carries, within its rate of requests.
pub struct Caller(pub Arc<Tenant>);

impl FromRequestParts<Arc<Gateway>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Problem> {
        let refused = |detail: &str| Problem::new("unauthorized", detail).stage("request");
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((scheme, key)) = header.and_then(|value| value.split_once(' ')) else {
            return Err(refused("send the header `Authorization: Bearer KEY`"));
        };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refused("send the header `Authorization: Bearer KEY`"));
        }
        let live = gateway.live();
        let Some(tenant) = live.tenants.by_key(key.trim()) else {
            return Err(refused("this API key is not known here"));
        };
        live.take_request(&tenant.name)?;
        Ok(Self(tenant.clone()))
    }
}
