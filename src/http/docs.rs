//! The documentation. It is public, since it contains nothing about this gateway or its tenants.

use axum::{
    extract::{Path, rejection::PathRejection},
    http::{HeaderValue, header},
    response::{Html, IntoResponse, Response},
};

use crate::{
    docs::{self, STYLE},
    model::{code::Code, problem::Problem},
};

/// The pages contain no script, no form and nothing from other hosts, and cannot be framed.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

/// Read the documentation
///
/// The first page, with links to the others.
#[utoipa::path(
    get, path = "/docs", tag = "Operation", operation_id = "getDocs",
    responses((status = 200, description = "A page.", content_type = "text/html", body = String)),
)]
pub async fn index() -> Response {
    docs::page("index").map_or_else(|| absent().into_response(), html)
}

/// Read a page of the documentation
///
/// The style sheet of the pages has an address here too.
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

/// Renders a page in the common layout.
pub fn html(page: &'static str) -> Response {
    ([(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, MINUTES)], Html(page))
        .into_response()
}

/// The time is short, since an upgrade changes the pages without changing their addresses.
const MINUTES: HeaderValue = HeaderValue::from_static("public, max-age=300");

fn absent() -> Problem {
    Problem::new(Code::NotFound, "there is no such page; /docs lists them")
}
