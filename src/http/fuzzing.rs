//! Fuzz targets for the headers of a request; those for its body are in `body`.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    body,
    media::tame_range,
    voice::{MAX_WAIT, idempotency_key, preferred_wait},
};

/// A name, and what is done with the bytes.
type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("headers", headers),
    ("json_body", body::fuzzing::json),
    ("multipart_body", body::fuzzing::multipart),
    ("query_fields", body::fuzzing::query),
];

/// Reads one header per line.
fn headers(data: &[u8]) {
    let header = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in data.split(|byte| *byte == b'\n').filter_map(header) {
        headers.append(name, value);
    }
    assert!(preferred_wait(&headers).is_none_or(|wait| wait.as_secs() <= MAX_WAIT));
    if let Ok(Some(key)) = idempotency_key(&headers) {
        assert!((1..=255).contains(&key.len()) && key.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    }
    tame_range(&mut headers);
    assert!(!headers.contains_key(header::IF_RANGE));
    let once = headers.clone();
    tame_range(&mut headers);
    assert_eq!(headers, once, "a range that was kept is one to keep");
    if let Some(range) = headers.get(header::RANGE) {
        let digits = range.to_str().ok().and_then(|text| text.strip_prefix("bytes=")).expect("bytes");
        assert!(digits.bytes().all(|byte| byte.is_ascii_digit() || b" -".contains(&byte)), "{digits}");
    }
}
