//! One attempt of an adapter against the stub.

use std::{
    collections::BTreeSet,
    io,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use secrecy::ExposeSecret;
use serde_json::{Map, Value};
use tokio::io::AsyncWrite;
use voicegate_providers::{
    Accepted, AudioFacts, Codec, Container, Content, Context, Descriptor, Fetched, Form, LookUp, MediaRef,
    Memory, OutboundAudio, OutboundNote, Prepared, Presence, Provider, Recipient, SendError, Settings,
    UnknownSend,
    dial::{DialOptions, Dialer},
    guard::{AddressRules, GuardedClient},
    proxy::Proxy,
    trust::Trust,
};

use crate::{
    fixture::{self, Fixture, NOTE_ID},
    stub::{Recorded, Stub},
};

/// Long enough for a loopback on a busy machine, short enough to wait for where the stub stalls.
pub const SHORT: Duration = Duration::from_millis(400);
pub const LONG: Duration = Duration::from_secs(20);

/// The part of the link that grants access.
const LINK: &str = "https://gateway.example/m/secret-link-token/";

/// The result of an attempt, and the requests that the provider saw.
pub struct Attempt {
    pub result: Result<Accepted, SendError>,
    /// Method and path of the request that shows the note.
    pub dispatched: Option<(String, String)>,
    pub memory: Memory,
    pub requests: Vec<Recorded>,
    pub problems: Vec<String>,
    pub endless_bytes: usize,
    pub secrets: BTreeSet<String>,
    pub secret_in_path: bool,
    pub note: OutboundNote,
}

/// The result of a check.
pub struct Checked {
    pub result: Result<String, SendError>,
    pub requests: Vec<Recorded>,
    pub problems: Vec<String>,
    pub endless_bytes: usize,
    pub secrets: BTreeSet<String>,
    pub secret_in_path: bool,
}

pub fn example(descriptor: &Descriptor) -> Map<String, Value> {
    serde_json::from_str(descriptor.example).expect("an example in JSON")
}

pub fn build(descriptor: &Descriptor, settings: Map<String, Value>) -> Arc<dyn Provider> {
    (descriptor.build)(Settings::new(settings)).expect("settings that suffice")
}

/// Every setting that must stay hidden.
pub fn secrets(settings: &Map<String, Value>) -> BTreeSet<String> {
    let all = settings
        .values()
        .flat_map(|value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice));
    let values = all.filter_map(Value::as_str).filter(|value| value.contains("secret"));
    values.map(str::to_owned).collect()
}

pub fn context(timeout: Duration, allow_loopback: bool) -> Context {
    let trust = Trust::nobody().expect("TLS settings");
    let http = trust
        .client()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .build()
        .expect("a client");
    let rules = AddressRules {
        allow_http: allow_loopback,
        allow_networks: if allow_loopback { vec!["127.0.0.0/8".parse().expect("a network")] } else { vec![] },
    };
    let guarded = GuardedClient::new(rules, Duration::from_secs(5), &trust).expect("a client");
    let dial =
        Dialer::new(DialOptions { proxy: Proxy::None, ..DialOptions::new(trust) }).expect("a dialer").dial();
    Context { http, dial, guarded, now: "2026-01-01T00:00:00Z".parse().expect("a time"), timeout }
}

pub fn recipient(text: &str) -> Recipient {
    voicegate_providers::parse_recipient(text).expect("a recipient")
}

pub fn note(provider: &dyn Provider, fixture: &Fixture) -> OutboundNote {
    let support = provider.capabilities().form(fixture.form);
    let profile = support.and_then(|support| support.profile.as_deref()).unwrap_or_default();
    let container =
        if fixture.convert { Container::Mp3 } else { fixture.container.unwrap_or(made_by(profile)) };
    let bytes = fixture::audio();
    let facts = AudioFacts {
        container,
        codec: Codec::new(codec(container)),
        mime_type: mime_type(container).to_owned(),
        duration_ms: 2000,
        size_bytes: fixture.size.unwrap_or(bytes.len() as u64),
        sample_rate: 48_000,
        channels: 1,
        sha256: fixture::sha256(&bytes),
    };
    let filename = format!("voice.{}", facts.extension());
    let audio = OutboundAudio {
        facts,
        path: fixture::audio_path(),
        link: format!("{LINK}{filename}").parse().expect("a URL"),
        filename,
        provider_converts: fixture.convert,
        waveform: (0..=63).map(|bar| bar + bar / 2).collect(),
    };
    let content = match fixture.form {
        Form::Text => Content::Text(fixture.text.clone()),
        form => Content::Audio { form, audio, caption: fixture.caption.clone() },
    };
    OutboundNote {
        id: NOTE_ID.to_owned(),
        to: recipient(&fixture.to),
        content,
        reply_to: fixture.reply_to.clone(),
    }
}

/// The output of a profile, by its family. The gateway's own tests hold the real table.
fn made_by(profile: &str) -> Container {
    match profile.split('-').next().unwrap_or_default() {
        "whatsapp" | "meta" | "telegram" | "discord" => Container::Ogg,
        "mp3" => Container::Mp3,
        "wav16k" => Container::Wav,
        "imessage" => Container::Caf,
        _ => Container::Mp4,
    }
}

fn codec(container: Container) -> &'static str {
    match container {
        Container::Mp3 => "mp3",
        Container::Ogg | Container::Webm | Container::Matroska => "opus",
        Container::Flac => "flac",
        Container::Amr => "amr_nb",
        Container::Wav | Container::Aiff | Container::Pcm => "pcm_s16le",
        Container::Mp4 | Container::Adts | Container::Caf => "aac",
    }
}

fn mime_type(container: Container) -> &'static str {
    match container {
        Container::Mp3 => "audio/mpeg",
        Container::Ogg => "audio/ogg; codecs=opus",
        Container::Wav => "audio/wav",
        Container::Mp4 => "audio/mp4",
        _ => "application/octet-stream",
    }
}

/// When the provider goes away.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    Never,
    BeforePrepare,
    BeforeDispatch,
}

pub async fn attempt(descriptor: &Descriptor, fixture: &Fixture, timeout: Duration, gone: Gone) -> Attempt {
    let mut stub = Stub::start(fixture.script.clone()).await;
    let mut settings = example(descriptor);
    settings.insert("base_url".to_owned(), stub.base_url().into());
    settings.extend(fixture.settings.clone());
    let mut secrets = secrets(&settings);
    secrets.insert("secret-link-token".to_owned());
    let provider = build(descriptor, settings);
    let (cx, note) = (context(timeout, fixture.allow_loopback), note(&*provider, fixture));
    let mut memory = fixture.memory.clone();
    if gone == Gone::BeforePrepare {
        stub.stop().await;
    }
    let prepared = provider.prepare(&cx, &note, &mut memory).await;
    if gone == Gone::BeforeDispatch {
        stub.stop().await;
    }
    let dispatched = prepared.as_ref().ok().map(dispatch_line);
    let early = count(&stub.requests(), dispatched.as_ref());
    let result = match prepared {
        Ok(prepared) => provider.dispatch(&cx, &note, prepared, &mut memory).await,
        Err(error) => Err(error),
    };
    let requests = stub.requests();
    let mut problems = stub.problems();
    if early > 0 || count(&requests, dispatched.as_ref()) > 1 {
        problems.push("the request that shows the note was made early or more than once".to_owned());
    }
    let endless_bytes = stub.endless_bytes();
    let secret_in_path = descriptor.secret_in_path;
    Attempt { result, dispatched, memory, requests, problems, endless_bytes, secrets, secret_in_path, note }
}

/// A question about the account, or a change to it, that is no send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Check,
    Register,
    Status,
    LookUp,
    Presence,
}

impl Ask {
    pub const ALL: [Self; 5] = [Self::Check, Self::Register, Self::Status, Self::LookUp, Self::Presence];

    /// The folder of its fixtures.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Register => "register",
            Self::Status => "callback_status",
            Self::LookUp => "look_up",
            Self::Presence => "presence",
        }
    }
}

/// The address of the callbacks in all fixtures.
const CALLBACKS: &str = "https://gateway.example/callbacks/acme/main";

pub async fn ask(
    ask: Ask,
    descriptor: &Descriptor,
    fixture: &Fixture,
    timeout: Duration,
    gone: bool,
) -> Checked {
    let mut stub = Stub::start(fixture.script.clone()).await;
    let mut settings = example(descriptor);
    settings.insert("base_url".to_owned(), stub.base_url().into());
    settings.extend(fixture.settings.clone());
    let secrets = secrets(&settings);
    let provider = build(descriptor, settings);
    if gone {
        stub.stop().await;
    }
    let (cx, url) = (context(timeout, false), CALLBACKS.parse().expect("a URL"));
    let result = match ask {
        Ask::Check => provider.check(&cx).await,
        Ask::Register => provider.register_callbacks(&cx, &url).await.map(|made| {
            assert!(!format!("{made:?}").contains("whsec_"), "Debug shows the secret");
            let secret = made.secret.map(|(key, secret)| format!("; {key} = {}", secret.expose_secret()));
            made.summary + &secret.unwrap_or_default()
        }),
        Ask::Status => provider.callback_status(&cx, &url).await,
        Ask::Presence => {
            let shown = provider.presence(&cx, &recipient(&fixture.to), None, Presence::Recording).await;
            shown.map(|()| "shown".to_owned())
        }
        Ask::LookUp => {
            let unknown = UnknownSend {
                to: recipient(&fixture.to),
                correlation_ids: fixture.correlation_ids.clone(),
                dispatched_at: cx.now,
            };
            provider.look_up(&cx, &unknown).await.map(|found| match found {
                LookUp::Found(accepted) => format!("found {}", accepted.message_id),
                LookUp::NotSeen => "not seen".to_owned(),
            })
        }
    };
    let (requests, problems, endless_bytes) = (stub.requests(), stub.problems(), stub.endless_bytes());
    let secret_in_path = descriptor.secret_in_path;
    Checked { result, requests, problems, endless_bytes, secrets, secret_in_path }
}

/// The result of fetching the audio of a received note.
pub struct Received {
    pub result: Result<Fetched, SendError>,
    pub written: Vec<u8>,
    pub requests: Vec<Recorded>,
    pub problems: Vec<String>,
    pub endless_bytes: usize,
    pub secrets: BTreeSet<String>,
    pub secret_in_path: bool,
}

/// A receiver that takes no more than its limit.
pub struct Limited {
    pub bytes: Vec<u8>,
    pub limit: usize,
}

impl AsyncWrite for Limited {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.bytes.len() + buf.len() > self.limit {
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        self.bytes.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

pub async fn fetch(
    descriptor: &Descriptor,
    fixture: &Fixture,
    timeout: Duration,
    limit: usize,
    gone: bool,
) -> Received {
    let mut stub = Stub::start(fixture.script.clone()).await;
    let mut settings = example(descriptor);
    settings.insert("base_url".to_owned(), stub.base_url().into());
    settings.extend(fixture.settings.clone());
    let secrets = secrets(&settings);
    let provider = build(descriptor, settings);
    if gone {
        stub.stop().await;
    }
    let value = serde_json::from_str(&stub.filled(&fixture.media)).expect("a reference in JSON");
    let media = MediaRef { value, fetch_before: None };
    let mut out = Limited { bytes: Vec::new(), limit };
    let result = provider.fetch(&context(timeout, fixture.allow_loopback), &media, &mut out).await;
    let (requests, problems, endless_bytes) = (stub.requests(), stub.problems(), stub.endless_bytes());
    let secret_in_path = descriptor.secret_in_path;
    Received { result, written: out.bytes, requests, problems, endless_bytes, secrets, secret_in_path }
}

fn dispatch_line(prepared: &Prepared) -> (String, String) {
    let path = prepared.request.url().path().trim_start_matches("/base").to_owned();
    (prepared.request.method().to_string(), path)
}

fn count(requests: &[Recorded], line: Option<&(String, String)>) -> usize {
    let is = |request: &&Recorded| {
        line.is_some_and(|(method, path)| request.method == *method && request.target == *path)
    };
    requests.iter().filter(is).count()
}
