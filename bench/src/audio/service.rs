//! Conversion and nothing else over HTTP, in a process of its own: bytes in, converted bytes out.

use std::sync::Arc;

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use tokio::net::TcpListener;

use crate::convert::{Converter, Settings};

#[derive(Clone)]
struct Service {
    converter: Arc<Converter>,
    profile: Arc<str>,
}

/// Prints its address and serves until it is killed.
pub async fn serve(profile: &str, settings: &Settings) -> anyhow::Result<()> {
    let converter = Arc::new(Converter::new(settings)?);
    let service = Service { converter, profile: profile.into() };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let router = Router::new().route("/", post(convert)).with_state(service);
    Ok(axum::serve(listener, router).await?)
}

async fn convert(State(service): State<Service>, body: Bytes) -> Result<Vec<u8>, (StatusCode, String)> {
    let made = service.converter.bytes(&body, &service.profile).await;
    made.map_err(|error| (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
}
