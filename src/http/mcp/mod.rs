//! `POST /mcp`: the Model Context Protocol over streamable HTTP. Its tools are calls of this gateway's own API, so they
//! have no rules of their own; `voicegate mcp` makes the same calls from another machine.
//!
//! There are no sessions: every request stands alone, so any process can answer it.

mod advice;
mod calls;
mod server;
mod tools;

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{
        Method, StatusCode,
        header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::Response,
};
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
};
use serde_json::Value;
use tower::ServiceExt;
use url::{Position, Url};

use super::{
    App, REPLAYED,
    auth::{Caller, Vouched},
    body,
};
use crate::{
    config::Tenant,
    model::problem::Problem,
    telemetry::request_id::{self, RequestId},
};

pub use server::McpServer;

/// The longest answer of the API that is read, in bytes.
const LONGEST_ANSWER: usize = 16 << 20;

/// Memory that a body takes besides itself, per byte: outside of texts as a tree of values, and inside of them as copies.
const TREE: usize = 16;
const COPIES: usize = 3;

/// A way to call the API of a gateway.
pub trait Api: Send + Sync + 'static {
    /// # Errors
    /// [`NoAnswer`] if it is not known what the gateway did.
    fn call(&self, call: Call) -> impl Future<Output = Result<Answer, NoAnswer>> + Send;
}

/// A call of the API.
#[derive(Debug)]
pub struct Call {
    pub method: Method,
    /// The parts of the path, which are not encoded.
    pub path: Vec<String>,
    pub query: Vec<(&'static str, String)>,
    pub headers: Vec<(&'static str, String)>,
    pub body: Option<Value>,
}

/// The API's answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
    /// The answer belongs to an earlier request with the same idempotency key.
    pub replayed: bool,
}

/// The gateway gave no usable answer. Contains the reason.
#[derive(Debug)]
pub struct NoAnswer(pub String);

/// The API of this process, as one tenant.
struct InProcess {
    router: Router,
    tenant: Arc<Tenant>,
    request_id: Option<String>,
}

/// The router that the tools call.
#[derive(Clone)]
pub(super) struct Inner(pub Router);

/// Answers a message of the Model Context Protocol.
pub(super) async fn serve(
    State(app): State<App>,
    Caller(tenant): Caller,
    Extension(Inner(router)): Extension<Inner>,
    request: Request,
) -> Result<Response, Problem> {
    let limit = app.gateway.live().config.server.max_json_body.0;
    let (mut parts, bytes, mut held) = body::whole(&app, &tenant.name, request, limit).await?;
    // Nothing behind this needs the key.
    parts.headers.remove(AUTHORIZATION);
    held.grow(taken(&bytes))?;
    let request_id = request_id::current();
    let server = move || {
        Ok(McpServer::new(InProcess {
            router: router.clone(),
            tenant: tenant.clone(),
            request_id: request_id.clone(),
        }))
    };
    // A request needs a key, which no foreign page has, so names of hosts prove nothing here.
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(bytes.len())
        .disable_allowed_hosts();
    let service = StreamableHttpService::new(server, Arc::new(NeverSessionManager::default()), config);
    let response = service.handle(Request::from_parts(parts, Body::from(bytes))).await;
    drop(held);
    Ok(response.map(Body::new))
}

/// An upper limit of the memory that reading a body takes.
fn taken(json: &[u8]) -> usize {
    let (mut inside, mut is_text, mut is_escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_text,
            b'"' => is_text = !is_text,
            _ => {}
        }
        inside += usize::from(is_text);
    }
    (json.len() - inside) * TREE + inside * COPIES
}

impl Api for InProcess {
    async fn call(&self, call: Call) -> Result<Answer, NoAnswer> {
        let no_answer = || NoAnswer("the gateway has a fault; its log says more".to_owned());
        let mut request = call.request().ok_or_else(no_answer)?;
        request.extensions_mut().insert(Vouched(self.tenant.clone()));
        let calling = self.router.clone().oneshot(request);
        let id = self.request_id.as_ref().and_then(|id| RequestId::given(id.as_bytes()));
        let response = match id {
            Some(id) => id.during(calling).await,
            None => calling.await,
        };
        let Ok(response) = response;
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, LONGEST_ANSWER).await.map_err(|_| no_answer())?;
        let body = serde_json::from_slice(&bytes).map_err(|_| no_answer())?;
        let replayed = parts.headers.get(REPLAYED).is_some_and(|value| value == "true");
        Ok(Answer { status: parts.status, body, replayed })
    }
}

impl Call {
    pub(super) fn get<const N: usize>(path: [&str; N]) -> Self {
        let path = path.map(str::to_owned).into();
        Self { method: Method::GET, path, query: Vec::new(), headers: Vec::new(), body: None }
    }

    pub(super) fn post<const N: usize>(path: [&str; N], body: Value) -> Self {
        Self { method: Method::POST, body: Some(body), ..Self::get(path) }
    }

    /// The call as a request to a router of this process.
    fn request(self) -> Option<Request> {
        // Only the path and the query are used.
        let mut url = Url::parse("http://gateway/").ok()?;
        url.path_segments_mut().ok()?.pop_if_empty().extend(&self.path);
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        let mut request = Request::builder().method(self.method).uri(&url[Position::BeforePath..]);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let body = self.body.map(|body| body.to_string());
        if let Some(text) = &body {
            request = request.header(CONTENT_TYPE, "application/json").header(CONTENT_LENGTH, text.len());
        }
        request.body(body.map_or_else(Body::empty, Body::from)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_body_is_charged_by_what_it_becomes() {
        assert_eq!(taken(b"[[],[]]"), 7 * TREE);
        let data = format!("{{\"data\":\"{}\"}}", "A".repeat(300_000));
        assert!((900_000..900_300).contains(&taken(data.as_bytes())), "{}", taken(data.as_bytes()));
        // An escaped quote does not end a text.
        assert_eq!(taken(br#""a\"b""#), 5 * COPIES + TREE);
    }

    #[test]
    fn path_and_query_of_a_call_are_encoded() {
        let call =
            Call { query: vec![("from", "+15551234567".to_owned())], ..Call::get(["voice", "a/../b?c"]) };
        let request = call.request().expect("a request");
        assert_eq!(request.uri(), "/voice/a%2F..%2Fb%3Fc?from=%2B15551234567");
    }
}
