//! The APIs of other gateways, as their clients use them: each door that sends, with bytes and with an address; each kind of
//! problem in the words of its API; pending instead of an error where nothing is known; and limits.

mod clients;
mod converter;
mod limits;
mod linq;
mod questions;
mod specs;

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::harness::{KEY, PHONE, World, fixture, read};

/// Turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// A way in for a voice note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Evolution,
    EvolutionV1,
    Waha,
    Wawp,
    WawpFlat,
    Linq,
}

const DOORS: [Door; 6] =
    [Door::Evolution, Door::EvolutionV1, Door::Waha, Door::Wawp, Door::WawpFlat, Door::Linq];

/// The audio of a request: bytes, or their address.
#[derive(Clone)]
enum Audio {
    Bytes(Vec<u8>),
    Url(String),
}

/// An answer that was read.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

async fn answer(request: RequestBuilder) -> Answer {
    let sent = tokio::time::timeout(PATIENCE, request.send()).await.expect("an answer in time");
    let response = sent.expect("an answer");
    let headers = response.headers().clone();
    let (status, body) = read(response).await;
    Answer { status, headers, body }
}

/// A server with the sample.
async fn served() -> Audio {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/greeting.mp3", listener.local_addr().expect("an address"));
    let app = axum::Router::new().fallback(async || fixture("speech-24k.mp3"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Audio::Url(url)
}

/// Parameters of a query.
fn query(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn sample() -> Audio {
    Audio::Bytes(fixture("speech-24k.mp3"))
}

impl World {
    /// A world with a route `support`, in which dialects wait for a moment only.
    async fn of_dialects() -> Self {
        Self::with(|config| {
            config
                .replace("[tenants.a]\n", "[dialects]\nwait = \"20s\"\n[tenants.a]\n")
                .replace("routes.both", "routes.support = [\"imessage\"]\nroutes.both")
        })
        .await
    }

    fn compat(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/compat/{path}", self.url))
    }

    /// The chat of a recipient in Linq's dialect.
    async fn chat(&self, to: &str) -> String {
        let path = format!("linq/v3/chats?{}", query(&[("to", to)]));
        let request = self.compat(Method::GET, &path).bearer_auth(KEY);
        let Answer { status, body, .. } = answer(request).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body["chats"][0]["id"].as_str().expect("an id").to_owned()
    }

    /// Uploads an attachment as Linq's clients do, and returns its id.
    async fn attach(&self, bytes: Vec<u8>) -> String {
        let body = json!({ "filename": "a.mp3", "content_type": "audio/mpeg", "size_bytes": bytes.len() });
        let request = self.compat(Method::POST, "linq/v3/attachments").bearer_auth(KEY).json(&body);
        let Answer { status, body, .. } = answer(request).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let url = body["upload_url"].as_str().expect("an address");
        assert!(url.starts_with(&self.url), "{url} lies below public_url");
        let mut upload = self.http.put(url).body(bytes);
        for (name, value) in body["required_headers"].as_object().expect("headers") {
            upload = upload.header(name, value.as_str().expect("text"));
        }
        let Answer { status, body: said, .. } = answer(upload).await;
        assert_eq!(status, StatusCode::OK, "{said}");
        body["attachment_id"].as_str().expect("an id").to_owned()
    }
}

impl Door {
    /// A request with a key, to the route `support` where the dialect can name one.
    async fn request(self, world: &World, key: &str, to: &str, audio: &Audio) -> RequestBuilder {
        let (path, body) = match self {
            Self::Linq => {
                let chat = world.chat(to).await;
                let body = match audio {
                    Audio::Bytes(bytes) => json!({ "attachment_id": world.attach(bytes.clone()).await }),
                    Audio::Url(url) => json!({ "voice_memo_url": url }),
                };
                (format!("linq/v3/chats/{chat}/voicememo"), body)
            }
            _ => (self.path().to_owned(), self.body(to, audio)),
        };
        self.with_key(world.compat(Method::POST, &path), key).json(&body)
    }

    fn with_key(self, request: RequestBuilder, key: &str) -> RequestBuilder {
        match self {
            Self::Evolution | Self::EvolutionV1 => request.header("apikey", key),
            Self::Waha => request.header("x-api-key", key),
            Self::Wawp | Self::WawpFlat => request.header("access-token", key),
            Self::Linq => request.bearer_auth(key),
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Evolution | Self::EvolutionV1 => "evolution/message/sendWhatsAppAudio/support",
            Self::Waha => "waha/api/sendVoice",
            Self::Wawp | Self::WawpFlat => "wawp/v2/send/voice",
            Self::Linq => "linq/v3/chats/f19ee7b8-8533-4c5c-83ec-4ef8d6d1ddbd/voicememo",
        }
    }

    /// The body as the clients of the API write it.
    fn body(self, to: &str, audio: &Audio) -> Value {
        let digits = to.trim_start_matches('+');
        let text = match audio {
            Audio::Bytes(bytes) => BASE64_STANDARD.encode(bytes),
            Audio::Url(url) => url.clone(),
        };
        let (url, data) = match audio {
            Audio::Bytes(_) => (None, Some(text.clone())),
            Audio::Url(url) => (Some(url.clone()), None),
        };
        let chat = format!("{digits}@c.us");
        match self {
            Self::Evolution => {
                json!({ "number": digits, "audio": text, "mimetype": "audio/mp3", "fileName": "a.mp3" })
            }
            Self::EvolutionV1 => json!({
                "number": digits,
                "options": { "delay": 0, "presence": "recording", "encoding": true },
                "audioMessage": { "audio": text },
            }),
            Self::Waha => {
                let mut file = json!({ "mimetype": "audio/mpeg" });
                match (url, data) {
                    (Some(url), _) => file["url"] = json!(url),
                    (_, data) => {
                        file["data"] = json!(data);
                        file["filename"] = json!("greeting.mp3");
                    }
                }
                json!({ "session": "support", "chatId": chat, "file": file, "convert": true })
            }
            Self::Wawp => json!({
                "instance_id": "support", "chatId": chat, "convert": true,
                "file": { "url": url.unwrap_or(format!("data:audio/mpeg;base64,{text}")), "filename": "a.mp3", "mimetype": "audio/mpeg" },
            }),
            Self::WawpFlat => json!({
                "instance_id": "support", "chatId": chat, "convert": "true",
                "file[url]": url.unwrap_or(format!("data:audio/mpeg;base64,{text}")), "file[filename]": "a.mp3",
            }),
            Self::Linq => json!({ "voice_memo_url": text }),
        }
    }

    fn success(self) -> u16 {
        match self {
            Self::Evolution | Self::EvolutionV1 | Self::Waha => 201,
            Self::Wawp | Self::WawpFlat => 200,
            Self::Linq => 202,
        }
    }

    /// The note that an answer names.
    fn note(self, body: &Value) -> String {
        let id = match self {
            Self::Evolution | Self::EvolutionV1 => &body["key"]["id"],
            Self::Waha => &body["id"],
            Self::Wawp | Self::WawpFlat => &body["id"]["_serialized"],
            Self::Linq => &body["voice_memo"]["id"],
        };
        let id = id.as_str().unwrap_or_else(|| panic!("no id in {body}"));
        match self {
            Self::Linq => format!("vn_{id}"),
            Self::Evolution | Self::EvolutionV1 => id.to_owned(),
            _ => id.strip_prefix("true_15551234567@c.us_").unwrap_or_else(|| panic!("{id}")).to_owned(),
        }
    }

    fn is_pending(self, body: &Value) -> bool {
        match self {
            Self::Evolution | Self::EvolutionV1 => body["status"] == "PENDING",
            Self::Waha => body["ack"] == 0 && body["ackName"] == "PENDING",
            Self::Wawp | Self::WawpFlat => body["ack"] == 0,
            Self::Linq => body["voice_memo"]["status"] == "pending",
        }
    }

    /// The status that this API has where ours is 422 or 424.
    fn unprocessable(self) -> u16 {
        match self {
            Self::Evolution | Self::EvolutionV1 | Self::Wawp | Self::WawpFlat => 400,
            Self::Waha | Self::Linq => 422,
        }
    }

    /// Checks that a problem is in the envelope of the API, and returns its text.
    fn problem(self, answer: &Answer) -> String {
        let Answer { status, headers, body } = answer;
        let (code, name) = (status.as_u16(), status.canonical_reason().expect("a name"));
        assert_eq!(headers["content-type"], "application/json", "{body}");
        let text = match self {
            Self::Evolution | Self::EvolutionV1 => {
                assert_eq!((&body["status"], &body["error"]), (&json!(code), &json!(name)), "{body}");
                body["response"]["message"][0].to_string()
            }
            Self::Waha => {
                assert_eq!(body["statusCode"], code, "{body}");
                match &body["message"] {
                    Value::Array(texts) => texts[0].to_string(),
                    text => text.to_string(),
                }
            }
            Self::Wawp | Self::WawpFlat => {
                assert_eq!((&body["status"], &body["error"]), (&json!(code), &json!(name)), "{body}");
                assert!(body["code"].is_string(), "{body}");
                body["message"].to_string()
            }
            Self::Linq => {
                assert_eq!(
                    (&body["success"], &body["error"]["status"]),
                    (&json!(false), &json!(code)),
                    "{body}"
                );
                let number = body["error"]["code"].as_u64().expect("a code");
                let doc = format!("https://docs.linqapp.com/error/codes/{}xxx/{number}/", number / 1000);
                assert_eq!(body["error"]["doc_url"], doc);
                assert_eq!(body["trace_id"], headers["x-trace-id"].to_str().expect("text"));
                body["error"]["message"].to_string()
            }
        };
        assert!(text.len() > 5, "{body}");
        text
    }
}

#[tokio::test]
async fn each_door_sends_a_note_and_names_it() {
    let world = World::of_dialects().await;
    let url = served().await;
    let mut sent = 0;
    for door in DOORS {
        for audio in [sample(), url.clone()] {
            let Answer { status, body, .. } = answer(door.request(&world, KEY, PHONE, &audio).await).await;
            assert_eq!(status, door.success(), "{door:?}: {body}");
            sent += 1;
            let note = world.note(&door.note(&body)).await;
            assert_eq!((&note["status"], &note["to"]), (&json!("accepted"), &json!(PHONE)), "{door:?}");
            assert_eq!(world.delivered("linq").len(), sent, "{door:?}");
        }
    }
    assert_eq!(world.app.memory.used(), 0);
}

#[tokio::test]
async fn one_edit_of_a_route_sends_elsewhere() {
    let world = World::of_dialects().await;
    // Linq's and Wawp's clients name no route, or one that is unknown here.
    let edit = |config: String| {
        config
            .replace("route = [\"imessage\"]\nroutes", "route = [\"whatsapp\"]\nroutes")
            .replace("routes.support = [\"imessage\"]", "routes.support = [\"whatsapp\"]")
    };
    for door in DOORS {
        let body = answer(door.request(&world, KEY, PHONE, &sample()).await).await.body;
        assert_eq!(world.note(&door.note(&body)).await["provider"], "linq", "{door:?}");
    }
    world.reconfigure(edit).expect("reloaded");
    for (door, count) in DOORS.into_iter().zip(1..) {
        let Answer { status, body, .. } = answer(door.request(&world, KEY, PHONE, &sample()).await).await;
        assert_eq!(status, door.success(), "{door:?}: {body}");
        assert_eq!(world.note(&door.note(&body)).await["provider"], "wawp", "{door:?}");
        assert_eq!(world.delivered("wawp").len(), count);
    }
}

#[tokio::test]
async fn provider_that_never_answers_is_pending_and_a_repetition_with_a_key_makes_no_second_note() {
    let world = World::of_dialects().await;
    world.reconfigure(|config| config.replace("wait = \"20s\"", "wait = \"500ms\"")).expect("reloaded");
    world.sandbox.add_fault(
        Fault::new(Provider::LINQ, Operation::Voicememo, FaultAction::Stall { ms: None }).times(100),
    );
    for (door, audio) in DOORS.into_iter().zip([sample(), served().await].into_iter().cycle()) {
        let key = format!("{door:?}-once");
        let world = &world;
        let ask = async || {
            let request = door.request(world, KEY, PHONE, &audio).await;
            answer(request.header("idempotency-key", &key)).await
        };
        let first = ask().await;
        assert_eq!(first.status, door.success(), "{door:?}: {}", first.body);
        assert!(door.is_pending(&first.body), "{door:?}: {}", first.body);
        let again = ask().await;
        assert_eq!(again.status, door.success(), "{door:?}: {}", again.body);
        assert_eq!(door.note(&again.body), door.note(&first.body), "{door:?}");
    }
    assert!(world.dispatches() <= 1, "the lane of this person is held");
}

#[tokio::test]
async fn unknown_outcome_is_pending_at_once() {
    let world = World::of_dialects().await;
    for door in DOORS {
        world.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Voicememo, FaultAction::ResetBefore));
        let Answer { status, body, .. } = answer(door.request(&world, KEY, PHONE, &sample()).await).await;
        assert_eq!(status, door.success(), "{door:?}: {body}");
        assert!(door.is_pending(&body), "{door:?}: {body}");
        world.until_status(&door.note(&body), "unknown").await;
        world.clock.advance(Duration::from_secs(31)); // the lane is free again
    }
}

#[tokio::test]
async fn note_that_failed_is_an_error_that_is_not_worth_repeating() {
    let world = World::of_dialects().await;
    for door in DOORS {
        let refused =
            FaultAction::Status { status: 422, body: None, headers: Default::default(), retry_after: None };
        world.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Voicememo, refused));
        let answer = answer(door.request(&world, KEY, PHONE, &sample()).await).await;
        assert_eq!(answer.status, door.unprocessable(), "{door:?}: {}", answer.body);
        let text = door.problem(&answer);
        assert!(
            text.contains("provider_rejected") || answer.body["code"] == "provider_rejected",
            "{door:?}: {text}"
        );
    }
}

#[tokio::test]
async fn every_problem_of_a_request_is_in_the_words_of_its_dialect() {
    let world = World::with(|config| {
        config
            .replace("[fetch]", "[audio]\nmax_bytes = \"300 KiB\"\n[fetch]")
            .replace("routes.both", "routes.support = [\"imessage\"]\nroutes.both")
    })
    .await;
    for door in DOORS {
        let expect = async |what: &str, request: RequestBuilder, status: u16| {
            let answer = answer(request).await;
            assert_eq!(answer.status, status, "{door:?}: {what}: {}", answer.body);
            door.problem(&answer)
        };
        let post = || world.compat(Method::POST, door.path());
        let good = door.body(PHONE, &sample());
        expect("no key", post().json(&good), 401).await;
        expect("a wrong key", door.with_key(post(), "nobody's").json(&good), 401).await;
        let with = |body: &Value| door.with_key(post(), KEY).json(body);
        expect("no fields", with(&json!({})), 400).await;
        expect("a list", with(&json!([])), 400).await;
        let broken = door.with_key(post(), KEY).header("content-type", "application/json").body("{\"a\":");
        expect("no JSON", broken, 400).await;
        let unread = door.with_key(post(), KEY).header("content-type", "image/png").body("x");
        expect("another type", unread, 400).await;
        if door != Door::Linq {
            let text = door.body(PHONE, &Audio::Url("this is no audio!".to_owned()));
            expect("no base64", with(&text), 400).await;
            let noise = door.body(PHONE, &Audio::Bytes(vec![7; 5000]));
            expect("no audio", with(&noise), door.unprocessable()).await;
            let large = door.body(PHONE, &Audio::Bytes(vec![7; 320 << 10]));
            expect("too large", with(&large), 413).await;
            let nobody = door.body("abc", &sample());
            let text = expect("no recipient", with(&nobody), 400).await;
            let is_evolution = matches!(door, Door::Evolution | Door::EvolutionV1);
            assert_eq!(text.contains("\"exists\":false"), is_evolution, "{text}");
        }
        let forbidden = door.body(PHONE, &Audio::Url("https://10.0.0.1/a.mp3".to_owned()));
        let forbidden = match door {
            Door::Linq => {
                let chat = world.chat(PHONE).await;
                let path = format!("linq/v3/chats/{chat}/voicememo");
                door.with_key(world.compat(Method::POST, &path), KEY).json(&forbidden)
            }
            _ => with(&forbidden),
        };
        expect("a forbidden address", forbidden, door.unprocessable()).await;
        let unserved = door.path().split('/').next().expect("a dialect");
        expect(
            "an unknown path",
            door.with_key(world.compat(Method::GET, &format!("{unserved}/no/such/path")), KEY),
            404,
        )
        .await;
        expect("another method", door.with_key(world.compat(Method::DELETE, door.path()), KEY), 405).await;
    }
    let absent =
        world.compat(Method::POST, "evolution/message/sendWhatsAppAudio/nobody").header("apikey", KEY);
    let answered = answer(absent.json(&Door::Evolution.body(PHONE, &sample()))).await;
    assert_eq!(answered.status, StatusCode::NOT_FOUND);
    assert_eq!(Door::Evolution.problem(&answered), "\"The \\\"nobody\\\" instance does not exist\"");
    let mut body = Door::Waha.body(PHONE, &sample());
    body["session"] = json!("nobody");
    let answered =
        answer(world.compat(Method::POST, "waha/api/sendVoice").header("x-api-key", KEY).json(&body)).await;
    assert_eq!(answered.status, StatusCode::NOT_FOUND, "{}", answered.body);
    Door::Waha.problem(&answered);
    assert_eq!(world.dispatches(), 0, "nothing was sent");
}
