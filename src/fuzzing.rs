//! Every reader of foreign bytes, as a fuzz target: it takes any bytes, returns, and asserts what has to hold for
//! all of them. `fuzz/` runs them under libFuzzer, `tests/fuzz_seeds.rs` with each test run. Not in a release build.

use std::{io::Write, time::Duration};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;
use url::Url;
use uuid::Uuid;

use crate::{
    config::{Layers, Rate, RateOrOff, Size, Span24, load},
    delivery::route::canonical,
    http,
    media::{AudioVariant, LinkError, Links},
    model::id::{NoteId, UploadId},
};

/// A name, and what is done with the bytes.
pub type Target = (&'static str, fn(&[u8]));

const OWN: &[Target] = &[
    ("config_file", config_file),
    ("config_values", config_values),
    ("ids", ids),
    ("link_token", link_token),
    ("to_field", to_field),
];

/// Every target of the workspace.
pub fn targets() -> impl Iterator<Item = Target> {
    let all = [
        OWN,
        voicegate_audio::fuzzing::TARGETS,
        http::fuzzing::TARGETS,
        voicegate_providers::fuzzing::TARGETS,
        voicegate_sandbox::fuzzing::TARGETS,
    ];
    all.into_iter().flatten().copied()
}

/// Runs one target.
///
/// # Panics
/// Panics if there is no such target, or if an assertion of the target fails.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = targets().find(|(known, _)| *known == name).expect("the name of a target");
    target(data);
}

/// A secret that the configuration's messages must not repeat.
const SECRET: &str = "S3CRET";

/// A whole configuration file.
fn config_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // A secret may name a file, and some files have no end.
    if text.contains("/dev/") || text.contains("/proc/") {
        return;
    }
    let mut file = NamedTempFile::new().expect("a scratch file");
    file.write_all(data).expect("room for it");
    let layers = Layers::of_file(Some(file.path().to_owned()));
    match load(&layers, None) {
        Ok((config, _)) => {
            let (again, _) = load(&layers, None).expect("what was sound before");
            assert_eq!(again, config);
        }
        Err(mistakes) => {
            assert!(mistakes.0.iter().all(|mistake| mistake.contains(':')), "a mistake without its place");
            if keeps_its_secret_in_place(text) {
                assert!(!mistakes.to_string().contains(SECRET), "{mistakes}");
            }
        }
    }
}

/// Whether the secret is only where secrets belong. Elsewhere, as a route's name for example, it is none.
fn keeps_its_secret_in_place(text: &str) -> bool {
    let in_place = |line: &str| {
        let lead = line.trim_start().split_once(SECRET).map(|(lead, _)| lead);
        lead.is_none_or(|lead| ["token = \"", "access_token = \"", "api_keys = [\""].contains(&lead))
    };
    !text.contains("\"\"\"") && !text.contains("'''") && text.lines().all(in_place)
}

/// Durations, sizes and rates.
fn config_values(data: &[u8]) {
    fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
        serde_json::from_value(text.into()).ok().or_else(|| serde_json::from_str(text).ok())
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let ten_years = Duration::from_secs(10 * 366 * 24 * 3600);
    if let Some(Span24(span)) = read(text) {
        assert!(span <= ten_years);
        let seconds = format!("{}s {}ns", span.as_secs(), span.subsec_nanos());
        assert_eq!(Span24::parse(&seconds), Ok(Span24(span)));
    }
    if let Some(Size(size)) = read(text) {
        assert_eq!(read(&size.to_string()), Some(Size(size)));
    }
    let rate: Option<Rate> = read(text);
    assert!(rate.is_none_or(|rate| !rate.per.is_zero() && rate.per <= ten_years));
    let perhaps: Option<RateOrOff> = read(text);
    assert_eq!(perhaps.and_then(|perhaps| perhaps.0), rate);
}

fn ids(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(id) = text.parse::<NoteId>() {
        assert_eq!(id.to_string(), text);
        assert_eq!(serde_json::from_value::<NoteId>(text.into()).ok(), Some(id));
        let _ = id.made_at();
    }
    if let Ok(id) = text.parse::<UploadId>() {
        assert_eq!(id.to_string(), text);
        let _ = id.made_at();
    }
}

/// The first 17 bytes are what a link is for, the rest is a token that somebody tries.
fn link_token(data: &[u8]) {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    let links = Links::new([7; 32]);
    let (claims, tried) = data.split_at(data.len().min(17));
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(claims) {
        *to = *from;
    }
    let note = NoteId(Uuid::from_bytes(id));
    let which = if claims.last().is_some_and(|byte| byte % 2 == 1) {
        AudioVariant::Sent
    } else {
        AudioVariant::Source
    };
    let token = |note, which| {
        let base: Url = "https://voice.example/base".parse().expect("a URL");
        let url = links.make(&base, note, which, "voice.ogg", now, Duration::from_secs(60));
        url.path_segments().and_then(|mut path| path.nth(2)).expect("a token").to_owned()
    };
    assert_eq!(links.open(&token(note, which), now), Ok((note, which)));

    // A fuzzer sees the token above, and tries it for other notes.
    let tried = String::from_utf8_lossy(tried);
    match links.open(&tried, now) {
        Ok((note, which)) => assert_eq!(tried, token(note, which)),
        Err(why) => assert_eq!(why, LinkError::Forged),
    }
}

/// `to`, aliases included.
fn to_field(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match canonical(text) {
        Ok(printed) => assert_eq!(canonical(&printed).as_ref(), Ok(&printed)),
        Err(problem) => {
            assert_eq!((problem.code.as_str(), problem.field.as_deref()), ("recipient_invalid", Some("to")))
        }
    }
}
