//! The documentation. It is public, since it contains nothing about this gateway or its tenants.

use axum::{
    extract::{Path, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};

use crate::{
    docs::{self, SCRIPT, SEARCH, STYLE},
    model::{code::Code, problem::Problem},
};

/// The pages load nothing from other hosts, run no script but their own file, and cannot be framed.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Read the documentation
///
/// The first page, with links to the others.
#[utoipa::path(
    get, path = "/docs", tag = "Operation", operation_id = "getDocs",
    responses((status = 200, description = "A page.", content_type = "text/html", body = String)),
)]
pub async fn index() -> Response {
    docs::page("index").map_or_else(|| problem().into_response(), html)
}

/// Read a page of the documentation
///
/// The style sheet, the script and the search index of the pages have addresses here too.
#[utoipa::path(
    get, path = "/docs/{page}", tag = "Operation", operation_id = "getDocsPage",
    params(("page" = String, Path, description = "The page's name, such as `http`.", example = "http")),
    responses((
        status = 200, description = "The page, or `style.css`, `docs.js` or `search.json`.",
        content(
            (String = "text/html"), (String = "text/css"), (String = "text/javascript"),
            (String = "application/json"),
        ),
    )),
)]
pub async fn page(name: Result<Path<String>, PathRejection>, headers: HeaderMap) -> Response {
    match name.as_ref().map_or("", |Path(name)| name) {
        "style.css" => file(STYLE, "text/css; charset=utf-8"),
        "docs.js" => file(SCRIPT, "text/javascript; charset=utf-8"),
        "search.json" => file(&SEARCH, "application/json"),
        name => docs::page(name).map_or_else(|| absent(&headers, problem()), html),
    }
}

/// The answer where nothing is: a page for people, whose browsers ask for HTML, and `problem` for programs.
pub fn absent(headers: &HeaderMap, problem: Problem) -> Response {
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if !accepts.contains("text/html") {
        return problem.into_response();
    }
    let mut response = html(docs::absent());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

fn file(text: &'static str, kind: &'static str) -> Response {
    let kind = HeaderValue::from_static(kind);
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, MINUTES)], text).into_response()
}

/// Renders a page in the common layout.
pub fn html(page: &'static str) -> Response {
    ([(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, MINUTES)], Html(page))
        .into_response()
}

/// The time is short, since an upgrade changes the pages without changing their addresses.
const MINUTES: HeaderValue = HeaderValue::from_static("public, max-age=300");

fn problem() -> Problem {
    Problem::new(Code::NotFound, "there is no such page; /docs lists them")
}
