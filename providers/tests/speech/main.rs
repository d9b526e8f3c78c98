//! The answers of speech servers, one file each in `fixtures/speech/KIND/`. The first word of a file's name is the expected
//! end: `spoken`, `half` (the transfer is complete and the audio is not), `rejected`, `unavailable`, `too`. Lines that begin
//! with `#` are settings and expectations; a body may be `{{wav STATED BYTES}}`, `{{pcm BYTES}}` or `{{file NAME [half]}}`.

mod requests;
mod stub;
mod transcripts;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Cursor,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use voicegate_providers::speech::{
    self, Limits, SPEECH, ServerSettings, Speech, SpeechErrorKind, Utterance, whole,
};

use crate::stub::{Fixture, Stub};

/// The key of every test. It may be in no error.
pub const KEY: &str = "secret-speech-key";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/speech")
}

/// Every end that each kind of server owes.
const OWED: &[&str] = &["spoken", "half", "rejected", "unavailable", "too"];

pub fn limits(max_bytes: u64) -> Limits {
    Limits {
        timeout: Duration::from_millis(1500),
        max_bytes,
        now: "2026-01-01T00:00:00Z".parse().expect("a time"),
    }
}

pub fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client")
}

pub fn built(kind: &str, base_url: String, format: Option<&str>) -> Arc<dyn Speech> {
    let settings = ServerSettings {
        base_url: Some(base_url),
        api_key: Some(KEY.into()),
        voice: Some("anna".to_owned()),
        format: format.map(str::to_owned),
        ..ServerSettings::default()
    };
    let kind = SPEECH.iter().find(|known| known.name == kind).expect("a kind of server");
    (kind.build)(settings).expect("sound settings")
}

#[tokio::test]
async fn every_answer_has_the_end_that_its_file_is_named_after() {
    let mut wrong = Vec::new();
    for kind in SPEECH {
        let mut ends = BTreeSet::new();
        let mut files: Vec<_> = std::fs::read_dir(folder().join(kind.name))
            .expect("a folder of fixtures")
            .map(|file| file.expect("a file").path())
            .collect();
        files.sort();
        for file in files {
            let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
            let end = name.split('-').next().unwrap_or_default().to_owned();
            ends.insert(end.clone());
            if let Err(why) = judge(kind.name, &Fixture::read(&file), &end).await {
                wrong.push(format!("{}/{name}: {why}", kind.name));
            }
        }
        for owed in OWED {
            assert!(ends.contains(*owed), "{} has no fixture of the end {owed}", kind.name);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn judge(kind: &str, fixture: &Fixture, end: &str) -> Result<(), String> {
    let stub = Stub::start(fixture).await;
    let speech = built(kind, stub.base_url(), fixture.get("format"));
    let max_bytes = fixture.get("max_bytes").map_or(10_000_000, |text| text.parse().expect("a number"));
    let utterance = Utterance { text: "hello", ..Utterance::default() };
    let mut out = Cursor::new(Vec::new());
    let spoken = speech::speak(&*speech, &client(), &utterance, limits(max_bytes), &mut out).await;
    let found = match &spoken {
        Ok(spoken) => {
            let raw =
                spoken.raw.map(|raw| format!("{:?} {} {}", raw.encoding, raw.sample_rate, raw.channels));
            let expected = fixture.get("raw").map(str::to_owned);
            if end == "spoken" && raw.as_deref().map(str::to_ascii_lowercase) != expected {
                return Err(format!("the format is {raw:?}"));
            }
            match whole::judge(&mut Cursor::new(out.get_ref()), spoken.raw).expect("memory can be read") {
                whole::Verdict::Whole => "spoken",
                whole::Verdict::Half(_) => "half",
            }
        }
        Err(error) => match error.kind {
            SpeechErrorKind::Rejected => "rejected",
            SpeechErrorKind::Unavailable => "unavailable",
            SpeechErrorKind::TooLarge => "too",
            SpeechErrorKind::Disk(_) => "disk",
        },
    };
    if found != end {
        return Err(format!("{found}: {spoken:?}"));
    }
    let Err(error) = spoken else { return Ok(()) };
    let upstream = error.upstream.clone().unwrap_or_default();
    let message = upstream.message.unwrap_or_default();
    let shown: BTreeMap<_, _> =
        [("display", error.to_string()), ("debug", format!("{error:?}")), ("words", message.clone())].into();
    if let Some((place, text)) = shown.iter().find(|(_, text)| text.contains(KEY) || text.contains("secre*"))
    {
        return Err(format!("the key is in {place}: {text}"));
    }
    if let Some(says) = fixture.get("says")
        && !message.contains(says)
    {
        return Err(format!("the words are {message:?}"));
    }
    let wait = error.retry_after.map(|wait| wait.as_secs().to_string());
    if wait.as_deref() != fixture.get("retry_after") {
        return Err(format!("the wait is {wait:?}"));
    }
    Ok(())
}
