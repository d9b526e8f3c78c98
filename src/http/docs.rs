//! The documentation, open to everybody: it holds nothing about this gateway or its tenants.

use axum::{
    extract::{Path, rejection::PathRejection},
    http::{HeaderValue, header},
    response::{Html, IntoResponse, Response},
};

use crate::{
    docs::{self, STYLE},
    model::problem::Problem,
};

/// The pages bring no script, no form and nothing from elsewhere, and nobody may frame them.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

/// Read the documentation
///
/// Its first page, which leads to the others.
#[utoipa::path(
    get, path = "/docs", tag = "Operation", operation_id = "getDocs",
    responses((status = 200, description = "A page.", content_type = "text/html", body = String)),
)]
pub async fn index() -> Response {
    docs::page("index").map_or_else(|| absent().into_response(), html)
}

/// Read a page of the documentation
///
/// Or the style sheet that the pages name.
#[utoipa::path(
    get, path = "/docs/{page}", tag = "Operation", operation_id = "getDocsPage",
    params(("page" = String, Path, description = "The page's name, such as `http`.", example = "http")),
    responses((
        status = 200, description = "The page, or `style.css`.",
        content((String = "text/html"), (String = "text/css")),
    )),
)]
pub async fn page(name: Result<Path<String>, PathRejection>) -> Result<Response, Problem> {
    let Path(name) = name.map_err(|_| absent())?;
    if name == "style.css" {
        let kind = HeaderValue::from_static("text/css; charset=utf-8");
        return Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, MINUTES)], STYLE).into_response());
    }
    docs::page(&name).map(html).ok_or_else(absent)
}

/// One page in the layout of all others.
pub fn html(page: &'static str) -> Response {
    ([(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, MINUTES)], Html(page))
        .into_response()
}

/// Short, since an upgrade brings other pages under the same addresses.
const MINUTES: HeaderValue = HeaderValue::from_static("public, max-age=300");

fn absent() -> Problem {
    Problem::new("not_found", "there is no such page; /docs lists them")
}
