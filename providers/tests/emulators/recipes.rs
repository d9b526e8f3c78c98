//! Each recipe that comes with voicegate sends a note to the emulator of its API, which checks method, path, credentials,
//! body and audio by its own reading of the vendor's pages.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use voicegate_providers::{
    Accepted, AudioFacts, Codec, Container, Content, Context, Form, Memory, OutboundAudio, OutboundNote,
    Provider, SendError, SendErrorKind, Settings,
    dial::{DialOptions, Dialer},
    find,
    guard::{AddressRules, GuardedClient},
    parse_recipient,
    proxy::Proxy,
    trust::Trust,
};
use voicegate_sandbox::{Sandbox, SandboxOptions};

const TOKEN: &str = "sandbox-http-token";
const NOTE_ID: &str = "vn_0198c5f2-7c00-7000-8000-000000000001";

struct Case {
    name: &'static str,
    settings: Value,
    to: &'static str,
    /// The recipient, as the emulator saw it.
    seen: &'static str,
    form: Form,
    file: &'static str,
    reply_to: Option<&'static str>,
}

fn cases() -> Vec<Case> {
    let whatsapp = |name, settings, seen| Case {
        name,
        settings,
        to: "+15551234567",
        seen,
        form: Form::Voice,
        file: "speech-opus-wideband.ogg",
        reply_to: None,
    };
    vec![
        Case {
            reply_to: Some("3EB0AAAA"),
            ..whatsapp(
                "z-api",
                json!({"instance": "SANDBOX3C01", "client_token": "sandbox-client-token"}),
                "15551234567",
            )
        },
        whatsapp("ultramsg", json!({"instance": "instance1150"}), "+15551234567"),
        Case { reply_to: Some("Oi3Ff1234"), ..whatsapp("whapi", json!({}), "15551234567") },
        whatsapp("wuzapi", json!({}), "15551234567"),
        Case {
            reply_to: Some("3EB0AAAA"),
            ..whatsapp("gowa", json!({"user": "admin"}), "15551234567@s.whatsapp.net")
        },
        Case {
            file: "speech-opus.caf",
            ..whatsapp(
                "loopmessage",
                json!({"secret_key": "sandbox-loop-secret", "sender_name": "voice@imsg.example"}),
                "+15551234567",
            )
        },
        Case {
            file: "speech-opus.caf",
            ..whatsapp(
                "sendblue",
                json!({"key_id": "sandbox-key-id", "from": "+15005550006"}),
                "+15551234567",
            )
        },
        Case {
            to: "http:U4af4980629",
            form: Form::Audio,
            file: "speech-moov-first.m4a",
            ..whatsapp("line", json!({}), "U4af4980629")
        },
        whatsapp(
            "twilio-whatsapp",
            json!({"account": "ACsandbox", "from": "+15005550006"}),
            "whatsapp:+15551234567",
        ),
    ]
}

/// A sandbox, and a server that has every file under every address.
struct World {
    sandbox: Sandbox,
    url: String,
    files: String,
}

impl World {
    async fn start() -> Self {
        let sandbox = Sandbox::new(SandboxOptions::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(sandbox.clone().serve(listener));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let files = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).await.unwrap_or_default();
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let name =
                    head.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
                let bytes = std::fs::read(file(name)).unwrap_or_default();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    bytes.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.write_all(&bytes).await;
            }
        });
        Self { sandbox, url, files }
    }

    fn connection(&self, case: &Case, token: &str) -> Arc<dyn Provider> {
        let settings = json!({
            "recipe": case.name, "base_url": format!("{}/http/{}", self.url, case.name), "token": token,
            "settings": case.settings,
        });
        let settings: Map<String, Value> = settings.as_object().cloned().expect("an object");
        (find("http").expect("the adapter").build)(Settings::new(settings)).expect("settings that suffice")
    }

    async fn send(&self, case: &Case, token: &str) -> Result<Accepted, SendError> {
        let provider = self.connection(case, token);
        let (cx, note, mut memory) = (context(), self.note(case), Memory::default());
        let prepared = provider.prepare(&cx, &note, &mut memory).await?;
        provider.dispatch(&cx, &note, prepared, &mut memory).await
    }

    fn note(&self, case: &Case) -> OutboundNote {
        let bytes = std::fs::read(file(case.file)).expect("a file");
        let (container, mime_type) = match case.file.rsplit('.').next() {
            Some("ogg") => (Container::Ogg, "audio/ogg; codecs=opus"),
            Some("caf") => (Container::Caf, "audio/x-caf"),
            _ => (Container::Mp4, "audio/mp4"),
        };
        let facts = AudioFacts {
            container,
            codec: Codec::new("opus"),
            mime_type: mime_type.to_owned(),
            duration_ms: 3000,
            size_bytes: bytes.len() as u64,
            sample_rate: 48_000,
            channels: 1,
            sha256: hex::encode(Sha256::digest(&bytes)),
        };
        let audio = OutboundAudio {
            facts,
            filename: case.file.to_owned(),
            path: file(case.file),
            link: format!("{}/m/token/{}", self.files, case.file).parse().expect("a URL"),
            provider_converts: false,
            waveform: (0..64).map(|bar| bar + bar / 2).collect(),
        };
        OutboundNote {
            id: NOTE_ID.to_owned(),
            to: parse_recipient(case.to).expect("a recipient"),
            content: Content::Audio { form: case.form, audio, caption: None },
            reply_to: case.reply_to.map(str::to_owned),
        }
    }
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/audio").join(name)
}

fn context() -> Context {
    let trust = Trust::nobody().expect("TLS settings");
    let http = trust.client().no_proxy().build().expect("a client");
    let guarded =
        GuardedClient::new(AddressRules::default(), Duration::from_secs(5), &trust).expect("a client");
    let dialer =
        Dialer::new(DialOptions { proxy: Proxy::None, ..DialOptions::new(trust) }).expect("a dialer");
    Context {
        http,
        dial: dialer.dial(),
        guarded,
        now: "2026-01-01T00:00:00Z".parse().expect("a time"),
        timeout: Duration::from_secs(20),
    }
}

#[tokio::test]
async fn every_recipe_sends_what_its_api_wants() {
    let world = World::start().await;
    for case in cases() {
        let name = case.name;
        let accepted = world.send(&case, TOKEN).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let entry = world.sandbox.ledger().pop().unwrap_or_else(|| panic!("{name}: nothing arrived"));
        assert_eq!(
            (entry.message_id.as_str(), entry.to[0].as_str()),
            (accepted.message_id.as_str(), case.seen),
            "{name}"
        );
        let sent = world.note(&case);
        let sha256 = sent.audio().map(|audio| audio.facts.sha256.clone());
        assert_eq!((entry.sha256, entry.problems.as_slice()), (sha256, [].as_slice()), "{name}");
        let form = if case.form == Form::Voice { "voice" } else { "audio" };
        assert_eq!((entry.form, entry.reply_to.as_deref()), (form, case.reply_to), "{name}");
    }
    assert_eq!(world.sandbox.ledger_len(), cases().len());
    let recipes =
        std::fs::read_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recipes")).expect("a folder");
    assert_eq!(recipes.count(), cases().len(), "a recipe that no emulator has seen");
}

#[tokio::test]
async fn every_recipe_knows_a_wrong_credential_and_sends_nothing() {
    let world = World::start().await;
    for mut case in cases() {
        // There the token is a part of the path, and the proof is in a header.
        let token = if case.name == "z-api" { TOKEN } else { "wrong-token" };
        if case.name == "z-api" {
            case.settings["client_token"] = json!("wrong-token");
        }
        let error = world.send(&case, token).await.expect_err(case.name);
        assert_eq!(error.kind, SendErrorKind::Unauthorized, "{}: {error:?}", case.name);
        assert!(!format!("{error:?}").contains("wrong-token"), "{error:?}");
    }
    assert_eq!(world.sandbox.ledger_len(), 0);
}

#[tokio::test]
async fn every_check_is_answered() {
    let world = World::start().await;
    let mut asked = 0;
    for case in cases() {
        let said = world.connection(&case, TOKEN).check(&context()).await;
        let said = said.unwrap_or_else(|error| panic!("{}: {error:?}", case.name));
        let expected = "the provider answers as the recipe expects";
        if said == expected {
            asked += 1;
        } else {
            assert!(said.starts_with("nothing was asked"), "{}: {said}", case.name);
        }
    }
    assert_eq!(asked, 6);
}

#[tokio::test]
async fn a_note_that_is_repeated_with_its_key_arrives_once() {
    let world = World::start().await;
    let case = cases().into_iter().find(|case| case.name == "line").expect("LINE");
    let first = world.send(&case, TOKEN).await.expect("accepted");
    let second = world.send(&case, TOKEN).await.expect("accepted");
    assert_eq!(first.message_id, second.message_id);
    assert_eq!(world.sandbox.ledger_len(), 1);
    let window = world.connection(&case, TOKEN).capabilities().idempotency.map(|known| known.window);
    assert_eq!(window, Some(Duration::from_secs(24 * 60 * 60)));
}

#[tokio::test]
async fn a_link_that_is_too_long_is_not_sent() {
    let mut world = World::start().await;
    let case = cases().into_iter().find(|case| case.name == "loopmessage").expect("LoopMessage");
    world.files = format!("{}/{}", world.files, "x".repeat(250));
    let error = world.send(&case, TOKEN).await.expect_err("too long");
    assert_eq!(error.kind, SendErrorKind::Misconfigured);
    assert!(error.detail.contains("the provider takes 256; shorten server.public_url"), "{error:?}");
    assert!(world.sandbox.requests().is_empty());
}

/// The emulator is no formality: what its pages do not have is refused.
#[tokio::test]
async fn the_emulators_refuse_what_their_apis_do_not_take() {
    let world = World::start().await;
    let send = async |name: &str, recipe: &str, change: fn(&mut Case)| {
        let mut case = cases().into_iter().find(|case| case.name == name).expect("a case");
        change(&mut case);
        let (cx, note, mut memory) = (context(), world.note(&case), Memory::default());
        let settings = json!({
            "recipe": recipe, "base_url": format!("{}/http/{name}", world.url), "token": TOKEN, "settings": case.settings,
        });
        let settings = settings.as_object().cloned().expect("an object");
        let provider = (find("http").expect("the adapter").build)(Settings::new(settings)).expect("settings");
        let prepared = provider.prepare(&cx, &note, &mut memory).await.expect("made ready");
        provider.dispatch(&cx, &note, prepared, &mut memory).await.expect_err(name).kind
    };
    // Another API's request.
    assert_eq!(send("wuzapi", "whapi", |_| {}).await, SendErrorKind::InvalidRecipient);
    // Other audio than an API plays.
    let caf = |case: &mut Case| case.file = "speech-opus.caf";
    assert_eq!(send("whapi", "whapi", caf).await, SendErrorKind::Rejected);
    let ogg = |case: &mut Case| case.file = "speech-opus-wideband.ogg";
    assert_eq!(send("sendblue", "sendblue", ogg).await, SendErrorKind::MediaRejected);
    assert_eq!(send("line", "line", ogg).await, SendErrorKind::OutcomeUnknown);
    assert_eq!(world.sandbox.ledger_len(), 0);
}

/// A vendor with scripted answers, and the requests that it got, one connection after the other.
async fn vendor(answers: Vec<(u16, &'static str)>) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = tokio::spawn(async move {
        let mut asked = Vec::new();
        for (status, answer) in answers {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            loop {
                let text = String::from_utf8_lossy(&request).into_owned();
                let length = text.to_ascii_lowercase().split("content-length: ").nth(1).map(|rest| {
                    rest.split("\r\n")
                        .next()
                        .and_then(|length| length.parse::<usize>().ok())
                        .unwrap_or_default()
                });
                let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
                if body.is_some_and(|body| body >= length.unwrap_or_default()) {
                    asked.push(text);
                    break;
                }
                assert!(stream.read_buf(&mut request).await.expect("a request") > 0, "the request broke off");
            }
            let head = format!(
                "HTTP/1.1 {status} -\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                answer.len()
            );
            stream.write_all((head + answer).as_bytes()).await.expect("an answer");
        }
        asked
    });
    (url, asked)
}

/// The example of the documentation, against a server that answers as the page in it says.
#[tokio::test]
async fn documented_recipe_works() {
    let page = include_str!("../../../docs/recipes.md");
    let (lead, _) = page.split_once("## The connection's keys").expect("the end of the lead");
    let recipe = lead.rsplit("```toml\n").next().and_then(|rest| rest.split("```").next()).expect("a recipe");
    let folder = std::env::temp_dir().join(format!("voicegate-example-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("example.toml");
    std::fs::write(&path, recipe).expect("a file");
    let (url, asked) = vendor(vec![
        (200, r#"{"ok": true, "result": {"messageId": "ABC123"}}"#),
        (200, r#"{"ok": false, "error": "phone not on whatsapp"}"#),
        (200, r#"{"ok": false}"#),
    ])
    .await;
    let settings = json!({"recipe": path, "base_url": url, "token": "key-of-mine", "settings": {"device": "D 17"},
                          "webhook_secret": "another-key"});
    let settings = settings.as_object().cloned().expect("an object");
    let provider =
        (find("http").expect("the adapter").build)(Settings::new(settings)).expect("settings that suffice");
    std::fs::remove_dir_all(&folder).expect("the folder");
    let world = World::start().await;
    let case = cases().into_iter().find(|case| case.name == "whapi").expect("a case");
    let (cx, note) = (context(), world.note(&case));
    let mut ends = Vec::new();
    for _ in 0..3 {
        let mut memory = Memory::default();
        let prepared = provider.prepare(&cx, &note, &mut memory).await.expect("made ready");
        let end = provider.dispatch(&cx, &note, prepared, &mut memory).await;
        ends.push(end.map(|accepted| accepted.message_id).map_err(|error| error.kind));
    }
    let expected = [Ok("ABC123".to_owned()), Err(SendErrorKind::NotReachable), Err(SendErrorKind::Rejected)];
    assert_eq!(ends, expected);
    let asked = asked.await.expect("requests").remove(0);
    let (head, body) = asked.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("POST /v2/D%2017/sendPTT HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("x-access-key: key-of-mine"), "{head}");
    let body: Value = serde_json::from_str(body).expect("JSON");
    let link = note.audio().map(|audio| audio.link.as_str().to_owned());
    let expected =
        json!({"phone": "15551234567", "file": {"url": link}, "seconds": 3, "quotedMsgId": "Oi3Ff1234"});
    assert_eq!(body, expected);
}

/// A recipe that a new user wrote from `docs/recipes.md` alone, for an API that the documentation does not have. The
/// server answers as the vendor's API file says, and every request has the fields of that file and no other.
#[tokio::test]
async fn recipe_for_another_api_works_as_its_page_says() {
    let (url, asked) = vendor(vec![
        (200, r#"{"status": {"connected": true, "loggedIn": true}}"#),
        (
            200,
            r#"{"id": "r183e2ef", "messageid": "3EB0538DA65A59F6D8A251", "response": {"status": "success"}}"#,
        ),
        (401, r#"{"error": "Invalid token"}"#),
        (413, r#"{"error": "File size exceeds limit"}"#),
        (415, r#"{"error": "Unsupported media format"}"#),
        (400, r#"{"error": "Invalid media type or file format"}"#),
        (500, r#"{"error": "Failed to upload media"}"#),
        (500, "<html>"),
    ])
    .await;
    let settings = json!({
        "recipe": concat!(env!("CARGO_MANIFEST_DIR"), "/tests/emulators/uazapi.toml"), "base_url": url, "token": "key-of-mine",
    });
    let settings = settings.as_object().cloned().expect("an object");
    let provider =
        (find("http").expect("the adapter").build)(Settings::new(settings)).expect("settings that suffice");
    let world = World::start().await;
    let case = cases().into_iter().find(|case| case.name == "gowa").expect("a case");
    let (cx, note) = (context(), world.note(&case));
    assert!(provider.check(&cx).await.is_ok());
    let mut ends = Vec::new();
    for _ in 0..7 {
        let mut memory = Memory::default();
        let prepared = provider.prepare(&cx, &note, &mut memory).await.expect("made ready");
        let end = provider.dispatch(&cx, &note, prepared, &mut memory).await;
        ends.push(end.map(|accepted| accepted.message_id).map_err(|error| error.kind));
    }
    let expected = [
        Ok("3EB0538DA65A59F6D8A251".to_owned()),
        Err(SendErrorKind::Unauthorized),
        Err(SendErrorKind::MediaTooLarge),
        Err(SendErrorKind::MediaRejected),
        Err(SendErrorKind::MediaRejected),
        Err(SendErrorKind::Unavailable),
        Err(SendErrorKind::OutcomeUnknown),
    ];
    assert_eq!(ends, expected);
    let asked = asked.await.expect("requests");
    assert!(
        asked[0].starts_with("GET /instance/status HTTP/1.1\r\n") && asked[0].contains("token: key-of-mine")
    );
    let (head, body) = asked[1].split_once("\r\n\r\n").expect("a head");
    assert!(
        head.starts_with("POST /send/media HTTP/1.1\r\n") && head.contains("token: key-of-mine"),
        "{head}"
    );
    let link = note.audio().map(|audio| audio.link.as_str().to_owned());
    let expected = json!({
        "number": "15551234567", "type": "ptt", "file": link, "replyid": "3EB0AAAA",
        "track_source": "voicegate", "track_id": note.id,
    });
    assert_eq!(serde_json::from_str::<Value>(body).expect("JSON"), expected);
}
