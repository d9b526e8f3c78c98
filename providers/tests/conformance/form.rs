//! `multipart/form-data` as it went over the wire, taken apart again.

use crate::stub::Recorded;

/// One part of a form.
#[derive(Debug)]
pub struct Part {
    pub name: String,
    pub filename: Option<String>,
    pub content_type: Option<String>,
    pub body: Vec<u8>,
}

/// The parts of a request; `None` where it is no form.
pub fn parts(request: &Recorded) -> Option<Vec<Part>> {
    let (_, kind) = request.headers.iter().find(|(name, _)| name == "content-type")?;
    let boundary = kind.strip_prefix("multipart/form-data; boundary=")?;
    let delimiter = format!("--{boundary}").into_bytes();
    let mut places: Vec<usize> = Vec::new();
    for place in 0..request.body.len() {
        if request.body[place..].starts_with(&delimiter) {
            places.push(place);
        }
    }
    assert!(request.body.ends_with(b"--\r\n"), "the form has no end");
    places.windows(2).map(|pair| part(&request.body[pair[0] + delimiter.len()..pair[1]])).collect()
}

fn part(bytes: &[u8]) -> Option<Part> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let value = |start: &str| {
        let rest = head.split_once(start)?.1;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let content_type = head.lines().find_map(|line| line.strip_prefix("Content-Type: "));
    Some(Part {
        name: value("; name=\"")?,
        filename: value("; filename=\""),
        content_type: content_type.map(str::to_owned),
        body: bytes[end + 4..].strip_suffix(b"\r\n")?.to_vec(),
    })
}
