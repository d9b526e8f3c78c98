//! Limits at every path of the dialects that takes audio. A refusal is in the words of its dialect, says when to come
//! again where that helps, and leaves nothing behind.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{Method, RequestBuilder, StatusCode, multipart};
use serde_json::{Value, json};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use super::{Answer, Audio, DOORS, Door, answer, sample, served};
use crate::harness::{KEY, OTHER_KEY, PHONE, World, fixture};

/// A path that takes audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entrance {
    Note(Door),
    /// The form of the request to Evolution.
    EvolutionForm,
    /// A new chat with audio.
    LinqChat,
    /// The request for an upload, which stores nothing.
    LinqTicket,
    /// The bytes of that upload. The address needs no key.
    LinqFile,
    WahaConverter,
    Converter,
    ConverterForm,
}

impl Entrance {
    fn all() -> impl Iterator<Item = Self> {
        let others = [
            Self::EvolutionForm,
            Self::LinqChat,
            Self::LinqTicket,
            Self::LinqFile,
            Self::WahaConverter,
            Self::Converter,
            Self::ConverterForm,
        ];
        DOORS.into_iter().map(Self::Note).chain(others)
    }

    fn success(self) -> u16 {
        match self {
            Self::Note(door) => door.success(),
            Self::EvolutionForm | Self::LinqChat => 201,
            _ => 200,
        }
    }

    /// Whether the audio, or a note with its address, is stored.
    fn stores(self) -> bool {
        matches!(self, Self::Note(_) | Self::EvolutionForm | Self::LinqChat | Self::LinqFile)
    }

    /// A request with this audio; `None` if the path does not take it in this way.
    async fn request(self, world: &World, key: &str, audio: &Audio) -> Option<RequestBuilder> {
        let post = |door: Door, path: &str| door.with_key(world.compat(Method::POST, path), key);
        let ticket = |bytes: &[u8]| {
            let body =
                json!({ "filename": "a.mp3", "content_type": "audio/mpeg", "size_bytes": bytes.len() });
            post(Door::Linq, "linq/v3/attachments").json(&body)
        };
        let converter = || world.compat(Method::POST, "converter/process-audio").header("apikey", key);
        Some(match (self, audio) {
            (Self::Note(Door::Linq) | Self::LinqChat, Audio::Bytes(_)) => return None,
            (Self::LinqTicket | Self::LinqFile, Audio::Url(_)) => return None,
            (Self::Note(door), _) => door.request(world, key, PHONE, audio).await,
            (Self::EvolutionForm, _) => {
                let form = multipart::Form::new().text("number", "15551234567");
                post(Door::Evolution, Door::Evolution.path()).multipart(with_audio(form, audio, "audio"))
            }
            (Self::LinqChat, Audio::Url(url)) => {
                let part = json!({ "type": "media", "url": url });
                let body = json!({ "from": "+12052535597", "to": [PHONE], "message": { "parts": [part] } });
                post(Door::Linq, "linq/v3/chats").json(&body)
            }
            (Self::LinqTicket, Audio::Bytes(bytes)) => ticket(bytes),
            (Self::LinqFile, Audio::Bytes(bytes)) => {
                let Answer { status, body, .. } = answer(ticket(bytes)).await;
                assert_eq!(status, StatusCode::OK, "{body}");
                let url = body["upload_url"].as_str().expect("an address");
                world.http.put(url).header("content-type", "audio/mpeg").body(bytes.clone())
            }
            (Self::WahaConverter, _) => {
                let request = post(Door::Waha, "waha/api/support/media/convert/voice");
                request.header("accept", "application/json").json(&field(audio, "data"))
            }
            (Self::Converter, _) => converter().json(&field(audio, "base64")),
            (Self::ConverterForm, _) => {
                let form = multipart::Form::new().text("format", "ogg");
                converter().multipart(with_audio(form, audio, "url"))
            }
        })
    }

    /// Checks that a problem is in the envelope of the dialect.
    fn problem(self, answer: &Answer) {
        match self {
            Self::Note(door) => door.problem(answer),
            Self::EvolutionForm => Door::Evolution.problem(answer),
            Self::WahaConverter => Door::Waha.problem(answer),
            Self::LinqChat | Self::LinqTicket | Self::LinqFile => Door::Linq.problem(answer),
            Self::Converter | Self::ConverterForm => {
                let Answer { headers, body, .. } = answer;
                assert_eq!(headers["content-type"], "application/json", "{body}");
                let text = body["error"].as_str().unwrap_or_else(|| panic!("no text: {body}"));
                assert!(text.len() > 5 && body.as_object().map(serde_json::Map::len) == Some(1), "{body}");
                text.to_owned()
            }
        };
    }
}

/// The audio as a member of a JSON body: its address, or base64 under the name `data`.
fn field(audio: &Audio, data: &str) -> Value {
    match audio {
        Audio::Bytes(bytes) => json!({ data: BASE64_STANDARD.encode(bytes) }),
        Audio::Url(url) => json!({ "url": url }),
    }
}

/// Adds the audio to a form: the part `file`, or its address as the field `address`.
fn with_audio(form: multipart::Form, audio: &Audio, address: &'static str) -> multipart::Form {
    match audio {
        Audio::Bytes(bytes) => form.part("file", multipart::Part::bytes(bytes.clone()).file_name("a.mp3")),
        Audio::Url(url) => form.text(address, url.clone()),
    }
}

/// Requests to every entrance, with the audio and with its address. They are made before a limit is set, since some need
/// requests of their own.
async fn requests(world: &World, key: &str, ways: &[Audio]) -> Vec<(Entrance, RequestBuilder)> {
    let mut requests = Vec::new();
    for entrance in Entrance::all() {
        for audio in ways {
            requests.extend(entrance.request(world, key, audio).await.map(|request| (entrance, request)));
        }
    }
    requests
}

/// A world with a route `support` and a changed configuration.
async fn limited(edit: impl FnOnce(String) -> String) -> World {
    World::with(|config| edit(config.replace("routes.both", "routes.support = [\"imessage\"]\nroutes.both")))
        .await
}

/// Adds a line to the table of the tenant.
fn set(world: &World, line: &str) {
    world
        .reconfigure(|config| config.replace("[tenants.a]\n", &format!("[tenants.a]\n{line}\n")))
        .expect("reloaded");
}

/// The traces of requests: bytes of stored audio, rows of the queue, requests to providers, and temporary files.
async fn traces(world: &World) -> (u64, u64, usize, usize) {
    let store = &world.gateway.store;
    let bytes = store.kept_audio().await.expect("counted").iter().map(|(_, bytes)| bytes).sum();
    let rows = store.queue_depth().await.expect("counted");
    (bytes, rows, world.dispatches(), world.stray_files().len())
}

/// Makes the requests, and checks each answer and that nothing was left behind.
async fn expect(
    world: &World,
    requests: Vec<(Entrance, RequestBuilder)>,
    expected: impl Fn(Entrance) -> u16,
) {
    let before = traces(world).await;
    for (entrance, request) in requests {
        let answer = answer(request).await;
        let status = expected(entrance);
        assert_eq!(answer.status, status, "{entrance:?}: {}", answer.body);
        if status < 400 {
            continue;
        }
        entrance.problem(&answer);
        let wait = answer.headers.get("retry-after").map(|wait| wait.to_str().expect("text").to_owned());
        match wait.map(|wait| wait.parse::<u64>().expect("seconds")) {
            Some(wait) => assert!((1..=600).contains(&wait), "{entrance:?}: {wait} s"),
            None => assert!(![429, 503].contains(&status), "{entrance:?} does not say when to come again"),
        }
    }
    assert_eq!(traces(world).await, before, "bytes, rows, dispatches or files were left behind");
}

#[tokio::test]
async fn wrong_key_opens_no_path() {
    let world = World::of_dialects().await;
    let ways = [sample(), served().await];
    let mut asked = Vec::new();
    for entrance in Entrance::all().filter(|entrance| *entrance != Entrance::LinqFile) {
        for audio in &ways {
            let request = entrance.request(&world, "nobody's", audio).await;
            asked.extend(request.map(|request| (entrance, request)));
        }
    }
    // Further wrong keys are answered late.
    asked.dedup_by_key(|(entrance, _)| *entrance);
    expect(&world, asked, |_| 401).await;
}

#[tokio::test]
async fn audio_that_is_too_large_is_refused_at_every_path() {
    let world =
        limited(|config| config.replace("[fetch]", "[audio]\nmax_bytes = \"300 KiB\"\n[fetch]")).await;
    let large = vec![7; 320 << 10];
    let file = large.clone();
    let app = axum::Router::new().fallback(move || std::future::ready(file.clone()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}/large.mp3", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });

    let ways = [Audio::Bytes(large.clone()), Audio::Url(address)];
    let mut asked = Vec::new();
    for entrance in Entrance::all().filter(|entrance| *entrance != Entrance::LinqFile) {
        for audio in &ways {
            let request = entrance.request(&world, KEY, audio).await;
            asked.extend(request.map(|request| (entrance, request)));
        }
    }
    // Linq refuses a stated size like any other field that is wrong, with a code of its own.
    let ticket = Entrance::LinqTicket.request(&world, KEY, &ways[0]).await.expect("a request");
    assert_eq!(answer(ticket).await.body["error"]["code"], 5005);
    expect(&world, asked, |entrance| if entrance == Entrance::LinqTicket { 400 } else { 413 }).await;
    assert_eq!(world.dispatches(), 0);

    // An upload that does not state its size ends where the agreed size is reached.
    let audio = Audio::Bytes(fixture("speech-24k.mp3"));
    let upload = Entrance::LinqFile.request(&world, KEY, &audio).await.expect("a request");
    let pieces: Vec<_> = large.chunks(10_000).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    let upload = upload.body(reqwest::Body::wrap_stream(futures_util::stream::iter(pieces)));
    expect(&world, vec![(Entrance::LinqFile, upload)], |_| 413).await;
}

#[tokio::test]
async fn requests_are_refused_while_the_memory_of_the_tenant_is_used_up() {
    let world = World::of_dialects().await;
    let url = served().await;
    let mut asked = requests(&world, KEY, &[sample(), url.clone()]).await;
    // Bytes that are the whole body take no memory from the limit.
    asked.retain(|(entrance, _)| *entrance != Entrance::LinqFile);
    let mut held = world.app.memory.for_request("a");
    for step in [64 << 10, 1 << 10, 1] {
        while held.grow(step).is_ok() {}
    }
    expect(&world, asked, |_| 503).await;
    drop(held);
    assert_eq!(world.app.memory.used(), 0, "a refused request gives back what it has taken");
    for (entrance, request) in requests(&world, KEY, &[url]).await {
        let answer = answer(request).await;
        assert_eq!(answer.status, entrance.success(), "{entrance:?}: {}", answer.body);
    }
    assert_eq!(world.app.memory.used(), 0);
}

#[tokio::test]
async fn full_disk_refuses_audio_at_every_path() {
    let world = limited(|config| config.replace("[storage]", "[storage]\nmin_free = \"8000000 TiB\"")).await;
    let asked = requests(&world, KEY, &[sample(), served().await]).await;
    let expected = |entrance: Entrance| if entrance == Entrance::LinqTicket { 200 } else { 503 };
    expect(&world, asked, expected).await;
}

#[tokio::test]
async fn request_rate_of_the_tenant_holds_at_every_path() {
    let world = World::of_dialects().await;
    let asked = requests(&world, KEY, &[sample(), served().await]).await;
    set(&world, "request_rate = \"1/600s\"");
    let first = world.get("/connections").send().await.expect("an answer");
    assert_eq!(first.status(), StatusCode::OK);
    expect(&world, asked, |_| 429).await;
    for door in DOORS {
        let request = door.with_key(world.compat(Method::POST, door.path()), OTHER_KEY).json(&json!({}));
        assert_ne!(answer(request).await.status, StatusCode::TOO_MANY_REQUESTS, "another tenant");
    }
}

#[tokio::test]
async fn nothing_is_stored_beyond_the_quota_or_the_queue_of_the_tenant() {
    let world = World::of_dialects().await;
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&id, "accepted").await;
    let unlimited = std::fs::read_to_string(world.folder.path().join("config.toml")).expect("a file");
    let ways = [sample(), served().await];
    let asked = requests(&world, KEY, &ways).await;
    set(&world, "max_storage = 1");
    let full = |entrance: Entrance| if entrance.stores() { 503 } else { entrance.success() };
    expect(&world, asked, full).await;

    world.reconfigure(|_| unlimited.clone()).expect("reloaded");
    let mut asked = requests(&world, KEY, &ways).await;
    asked.retain(|(entrance, _)| entrance.stores() && *entrance != Entrance::LinqFile);
    world.reconfigure(|config| config + "\n[delivery]\nmax_queue_per_tenant = 0\n").expect("reloaded");
    expect(&world, asked, |_| 503).await;
}

#[tokio::test]
async fn stopping_gateway_takes_no_more_audio_and_still_converts() {
    let world = World::of_dialects().await;
    let asked = requests(&world, KEY, &[sample(), served().await]).await;
    // A request to a provider is under way, so the gateway cannot stop yet.
    let stalled = FaultAction::StallAfter { ms: Some(20_000) };
    world.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Voicememo, stalled));
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&id, "sending").await;
    while world.dispatches() == 0 {
        tokio::task::yield_now().await;
    }
    world.gateway.stop.cancel();
    let is_refused = |entrance: Entrance| entrance.stores() || entrance == Entrance::LinqTicket;
    expect(&world, asked, |entrance| if is_refused(entrance) { 503 } else { entrance.success() }).await;
}
