//! The console: a page for the holder of an API key, to send notes and to see what became of them. The page itself is
//! public and contains nothing; the browser asks the API with the key that a person enters.

use axum::{
    extract::{Path, rejection::PathRejection},
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};

use crate::model::{code::Code, problem::Problem};

const PAGE: &str = include_str!("index.html");
const SCRIPT: &str = include_str!("console.js");
const STYLE: &str = include_str!("console.css");

/// Scripts, styles and requests are this gateway's own; audio is what the script has read with the key.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src blob:; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const PERMISSIONS: HeaderName = HeaderName::from_static("permissions-policy");
const MICROPHONE: HeaderValue = HeaderValue::from_static("microphone=(self)");

/// An upgrade changes the files without changing their addresses.
const ALWAYS_ASK: HeaderValue = HeaderValue::from_static("no-cache");

/// Open the console
///
/// A page for the holder of an API key: sends notes, shows them live, plans files, lists connections.
#[utoipa::path(
    get, path = "/console", tag = "Operation", operation_id = "getConsole",
    responses((status = 200, description = "A page.", content_type = "text/html", body = String)),
)]
pub async fn page() -> Response {
    file(PAGE, "text/html; charset=utf-8")
}

/// Read a file of the console
#[utoipa::path(
    get, path = "/console/{file}", tag = "Operation", operation_id = "getConsoleFile",
    params(("file" = String, Path, description = "`console.js` or `console.css`.", example = "console.js")),
    responses((
        status = 200, description = "The script or the style sheet.",
        content((String = "text/javascript"), (String = "text/css")),
    )),
)]
pub async fn part(name: Result<Path<String>, PathRejection>) -> Result<Response, Problem> {
    match name.as_ref().map_or("", |Path(name)| name) {
        "console.js" => Ok(file(SCRIPT, "text/javascript; charset=utf-8")),
        "console.css" => Ok(file(STYLE, "text/css; charset=utf-8")),
        _ => Err(Problem::new(Code::NotFound, "the console has no such file; it begins at /console")),
    }
}

fn file(text: &'static str, kind: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (PERMISSIONS, MICROPHONE),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, ALWAYS_ASK),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_is_small() {
        let size = PAGE.len() + SCRIPT.len() + STYLE.len();
        assert!(size <= 60 * 1024, "{size} bytes");
    }
}
