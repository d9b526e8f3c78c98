//! Webhooks in the dialects of other products: their events, the ids in them, and the signatures, which Python verifies. If
//! `PROVIDER_SPECS` names a folder with the vendors' API files, bodies are validated against them.

use std::{
    collections::BTreeMap,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use axum::{Router, body::Bytes, http::HeaderMap, routing::post};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, sync::watch};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider, ReceiptStatus};

use crate::{
    harness::{OTHER_KEY, World, fixture, whole},
    receipts::register,
    waha_server::{Answer, WahaServer, signed, voice},
};

const STANDARD: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const PLAIN: &str = "a secret that the bot has always had";

/// A request to the bot.
#[derive(Clone, Debug)]
struct Post {
    headers: BTreeMap<String, String>,
    raw: String,
    body: Value,
}

/// A bot that keeps whatever it is sent.
struct Listener {
    url: String,
    posts: watch::Receiver<Vec<Post>>,
}

impl Listener {
    async fn start() -> Self {
        let (sender, posts) = watch::channel(Vec::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook?token=S3CRET", listener.local_addr().expect("an address"));
        let app = Router::new().route(
            "/hook",
            post(async move |headers: HeaderMap, raw: Bytes| {
                let text = |value: &axum::http::HeaderValue| value.to_str().expect("text").to_owned();
                let headers =
                    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
                let raw = String::from_utf8(raw.to_vec()).expect("text");
                let body = serde_json::from_str(&raw).expect("JSON");
                sender.send_modify(|posts| posts.push(Post { headers, raw, body }));
            }),
        );
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, posts }
    }

    async fn world(&self, dialect: &str, secret: &str) -> World {
        self.world_with(dialect, secret, "").await
    }

    async fn world_with(&self, dialect: &str, secret: &str, more: &str) -> World {
        let webhook = format!(
            "[tenants.a.webhook]\nurl = \"{}\"\nsecrets = [\"{secret}\"]\ndialect = \"{dialect}\"\n\
             headers = {{ X-Mine = \"mine\" }}\n",
            self.url
        );
        World::with(|config| {
            config.replacen("access_token", &format!("callback_token = \"{OTHER_KEY}\"\naccess_token"), 1)
                + &webhook
                + more
        })
        .await
    }

    /// Waits for a request for which the condition holds.
    async fn find(&self, world: &World, wanted: impl Fn(&Value) -> bool) -> Post {
        for _ in 0..600 {
            if let Some(post) = self.posts.borrow().iter().find(|post| wanted(&post.body)) {
                return post.clone();
            }
            world.clock.advance(Duration::from_millis(200));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("waited in vain; there were {:#?}", *self.posts.borrow());
    }
}

/// Whether a script of Python's own library finds the request genuine.
fn is_genuine(post: &Post, script: &str) -> bool {
    let mut python = Command::new("python3");
    python.args([
        "-c",
        &format!("import sys, json, hmac, hashlib, base64\ngiven = json.load(sys.stdin)\n{script}"),
    ]);
    python.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python.spawn().expect("Python");
    let given = json!({ "headers": post.headers, "body": post.raw });
    child.stdin.take().expect("its input").write_all(given.to_string().as_bytes()).expect("written");
    child.wait_with_output().expect("ended").stdout.starts_with(b"True")
}

/// A vendor's schema as JSON Schema, with `corrections` made to it, or `None` if the files are not here.
fn schema(file: &str, name: &str, corrections: &[(&str, Value)]) -> Option<jsonschema::Validator> {
    let Some(folder) = std::env::var_os("PROVIDER_SPECS") else {
        println!("skipped: PROVIDER_SPECS names no folder with {file}");
        return None;
    };
    let text = std::fs::read_to_string(PathBuf::from(folder).join(file)).expect("the file");
    let mut document: Value = serde_yaml_ng::from_str(&text).expect("YAML or JSON");
    for (pointer, value) in corrections {
        *document.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value.clone();
    }
    without_nullable(&mut document);
    let root =
        json!({ "$ref": format!("#/components/schemas/{name}"), "components": document["components"] });
    Some(jsonschema::options().build(&root).expect("a schema"))
}

/// Replaces OpenAPI 3.0's `nullable` by what JSON Schema has for it, and removes `required: true`, which no version has.
fn without_nullable(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.values_mut().for_each(without_nullable);
            object.retain(|name, value| name != "required" || !value.is_boolean());
            if object.remove("nullable") == Some(json!(true)) {
                let inner: Map<String, Value> = std::mem::take(object);
                object.insert("anyOf".to_owned(), json!([inner, { "type": "null" }]));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(without_nullable),
        _ => {}
    }
}

fn assert_valid(validator: Option<&jsonschema::Validator>, body: &Value) {
    let Some(validator) = validator else { return };
    let errors: Vec<String> =
        validator.iter_errors(body).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?} in {body:#}");
}

/// A note over Wawp that is delivered and played, and one that is refused.
async fn play_and_fail(world: &World) -> (String, String) {
    register(world, "whatsapp").await;
    let played = world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
    world.until_status(&played, "delivered").await;
    assert!(world.sandbox.receipt(world.delivered("wawp")[0].id, ReceiptStatus::Played).await);
    world.until_status(&played, "played").await;
    let refused =
        FaultAction::Status { status: 400, body: None, headers: BTreeMap::new(), retry_after: None };
    world.sandbox.add_fault(Fault::new(Provider::WAWP, Operation::Voice, refused).times(1));
    let failed = world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
    world.until_status(&failed, "failed").await;
    (played, failed)
}

/// WAHA's schema of an event with a message, without its mistakes: a text has the type `object` there, and what WAHA leaves
/// empty is required as a text.
fn waha_message(name: &str, event: &str) -> Option<jsonschema::Validator> {
    let text_or_null = json!({ "type": ["string", "null"] });
    let corrected = format!("/components/schemas/{name}/properties/event");
    schema(
        "waha.openapi.json",
        name,
        &[
            (&corrected, json!({ "const": event })),
            ("/components/schemas/WAMessage/properties/participant", text_or_null.clone()),
            ("/components/schemas/WAMessage/properties/mediaUrl", text_or_null),
        ],
    )
}

#[tokio::test]
async fn waha_bot_gets_acks_that_it_can_verify() {
    let bot = Listener::start().await;
    let world = bot.world("waha", PLAIN).await;
    let (played, failed) = play_and_fail(&world).await;
    let id = |note: &str| format!("true_15551234567@c.us_{note}");
    let ack = schema(
        "waha.openapi.json",
        "WAHAWebhookMessageAck",
        &[
            ("/components/schemas/WAHAWebhookMessageAck/properties/event", json!({ "const": "message.ack" })),
            // The documentation shows `null` for people, and the file requires a text.
            (
                "/components/schemas/WAMessageAckBody/properties/participant",
                json!({ "type": ["string", "null"] }),
            ),
        ],
    );
    let any = waha_message("WAHAWebhookMessageAny", "message.any");
    for (level, name, note) in [(2, "DEVICE", &played), (4, "PLAYED", &played), (-1, "ERROR", &failed)] {
        let post = bot
            .find(&world, |body| {
                body["event"] == "message.ack"
                    && body["payload"]["ack"] == level
                    && body["payload"]["id"] == id(note)
            })
            .await;
        assert_eq!(post.body["payload"]["ackName"], name);
        assert_valid(ack.as_ref(), &post.body);
    }
    let own = bot.find(&world, |body| body["event"] == "message.any").await;
    assert_eq!(own.body["payload"]["id"], id(&played));
    assert_eq!((&own.body["session"], &own.body["payload"]["source"]), (&json!("whatsapp"), &json!("api")));
    assert_valid(any.as_ref(), &own.body);
    for post in bot.posts.borrow().iter() {
        let event = post.body["id"].as_str().expect("an id");
        assert!(event.starts_with("evt_") && event.len() == 30, "{event}");
        assert_eq!(
            (&*post.headers["x-webhook-hmac-algorithm"], &*post.headers["x-mine"]),
            ("sha512", "mine")
        );
        let script = format!(
            "key, sent = b'{PLAIN}', given['headers']['x-webhook-hmac']\n\
             print(hmac.compare_digest(hmac.new(key, given['body'].encode(), hashlib.sha512).hexdigest(), sent))"
        );
        assert!(is_genuine(post, &script), "{:?}", post.headers);
        assert!(!post.headers.contains_key("webhook-signature"));
    }
}

#[tokio::test]
async fn evolution_bot_gets_updates_that_it_can_verify() {
    let bot = Listener::start().await;
    let world = bot.world("evolution", PLAIN).await;
    let (played, failed) = play_and_fail(&world).await;
    let sent = bot.find(&world, |body| body["event"] == "send.message").await;
    let key = json!({ "remoteJid": "15551234567@s.whatsapp.net", "fromMe": true, "id": played });
    assert_eq!(sent.body["data"]["key"], key);
    assert_eq!(sent.body["instance"], "whatsapp");
    let audio = &sent.body["data"]["message"]["audioMessage"];
    assert_eq!((&audio["ptt"], &audio["seconds"]), (&json!(true), &json!(3)), "{audio}");
    for (status, note) in [("DELIVERY_ACK", &played), ("PLAYED", &played), ("ERROR", &failed)] {
        let post = bot
            .find(&world, |body| {
                body["event"] == "messages.update"
                    && body["data"]["status"] == status
                    && body["data"]["keyId"] == **note
            })
            .await;
        assert_eq!(post.body["data"]["remoteJid"], key["remoteJid"]);
    }
    for post in bot.posts.borrow().iter() {
        assert!(!post.raw.contains("S3CRET"), "{}", post.raw);
        let script = format!(
            "head, claims, sent = given['headers']['authorization'].removeprefix('Bearer ').split('.')\n\
             plain = lambda part: base64.urlsafe_b64decode(part + '=' * (-len(part) % 4))\n\
             mac = hmac.new(b'{PLAIN}', f'{{head}}.{{claims}}'.encode(), hashlib.sha256).digest()\n\
             claims = json.loads(plain(claims))\n\
             print(hmac.compare_digest(mac, plain(sent)) and json.loads(plain(head))['alg'] == 'HS256'\n\
                   and claims['exp'] - claims['iat'] == 600 and claims['app'] == 'evolution')"
        );
        assert!(is_genuine(post, &script), "{:?}", post.headers);
    }
}

#[tokio::test]
async fn linq_bot_gets_message_events_that_it_can_verify() {
    let bot = Listener::start().await;
    let world = bot.world("linq", STANDARD).await;
    register(&world, "imessage").await;
    let note = world.accept("via=imessage", fixture("speech-24k.mp3")).await;
    world.until_status(&note, "delivered").await;
    assert!(world.sandbox.receipt(world.delivered("linq")[0].id, ReceiptStatus::Read).await);
    world.until_status(&note, "read").await;
    let refused = json!({ "error": { "code": 5004, "message": "refused" } });
    let refused =
        FaultAction::Status { status: 422, body: Some(refused), headers: BTreeMap::new(), retry_after: None };
    world.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Voicememo, refused).times(1));
    let failed = world.accept("via=imessage", fixture("speech-24k.mp3")).await;
    world.until_status(&failed, "failed").await;
    let uuid = |note: &str| note.strip_prefix("vn_").expect("a note").to_owned();
    for (kind, schema_name) in [
        ("message.sent", "MessageSentWebhookV2"),
        ("message.delivered", "MessageDeliveredWebhookV2"),
        ("message.read", "MessageReadWebhookV2"),
    ] {
        let post = bot.find(&world, |body| body["event_type"] == kind).await;
        assert_eq!(post.body["data"]["id"], uuid(&note));
        assert_eq!(post.body["data"]["direction"], "outbound");
        assert_valid(schema("linq.openapi.yaml", schema_name, &[]).as_ref(), &post.body);
        let part = &post.body["data"]["parts"][0];
        let audio = world.http.get(part["url"].as_str().expect("a link")).send().await.expect("an answer");
        assert_eq!(audio.status(), 200);
        assert_eq!(audio.content_length(), part["size_bytes"].as_u64());
    }
    let post = bot.find(&world, |body| body["event_type"] == "message.failed").await;
    assert_eq!(post.body["data"]["message_id"], uuid(&failed));
    assert_valid(schema("linq.openapi.yaml", "MessageFailedWebhook", &[]).as_ref(), &post.body);
    for post in bot.posts.borrow().iter() {
        let script = format!(
            "headers = given['headers']\n\
             key = base64.b64decode('{STANDARD}'.removeprefix('whsec_'))\n\
             signed = f\"{{headers['webhook-id']}}.{{headers['webhook-timestamp']}}.{{given['body']}}\".encode()\n\
             mac = 'v1,' + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()\n\
             print(any(hmac.compare_digest(mac, one) for one in headers['webhook-signature'].split(' ')))"
        );
        assert!(is_genuine(post, &script), "{:?}", post.headers);
    }
    let kinds: Vec<_> =
        bot.posts.borrow().iter().map(|post| post.body["event_type"].as_str().map(str::to_owned)).collect();
    assert_eq!(kinds.len(), 4, "acceptance is no event of Linq's: {kinds:?}");
}

/// A world in which a person has sent a voice note over WAHA, and a file that is no audio.
async fn spoken_to(bot: &Listener, dialect: &str, secret: &str) -> (World, WahaServer) {
    let waha = WahaServer::start().await;
    let world = bot.world_with(dialect, secret, &waha.connection()).await;
    let garbage = Answer::Audio(b"no audio at all, and not a little of it".to_vec().into());
    for (message, answer) in [("M1", Answer::Audio(fixture("recorder-wideband.ogg").into())), ("M2", garbage)]
    {
        let name = format!("{message}.oga");
        waha.put(&name, answer);
        let event = voice(message, &format!("{}/api/files/default/{name}", waha.url)).to_string();
        let request = world.http.post(format!("{}/callbacks/a/waha", world.url));
        let request = request.header("x-webhook-hmac", signed(event.as_bytes())).body(event);
        assert_eq!(request.send().await.expect("an answer").status(), 200);
    }
    (world, waha)
}

/// The audio behind a link of an event, which needs no key, and takes the one that these bots send.
async fn linked(world: &World, url: &Value) -> Vec<u8> {
    let url = url.as_str().expect("a link");
    assert!(url.starts_with(&world.url), "{url}");
    let forged = url.replace("/m/", "/m/A");
    assert_eq!(world.http.get(forged).send().await.expect("an answer").status(), 404);
    let answer = world.http.get(url).header("x-api-key", OTHER_KEY).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    whole(answer).await
}

#[tokio::test]
async fn waha_bot_hears_a_person() {
    let native = fixture("recorder-wideband.ogg");
    let bot = Listener::start().await;
    let (world, _waha) = spoken_to(&bot, "waha", PLAIN).await;
    let heard = bot
        .find(&world, |body| body["event"] == "message" && body["payload"]["media"]["url"].is_string())
        .await;
    let payload = &heard.body["payload"];
    let id = payload["id"].as_str().expect("an id");
    assert!(id.starts_with("false_15551234567@c.us_in_"), "{id}");
    assert_eq!((&payload["from"], &payload["fromMe"]), (&json!("15551234567@c.us"), &json!(false)));
    assert_eq!(payload["_data"]["Message"]["audioMessage"]["PTT"], true);
    assert_eq!((&payload["hasMedia"], &heard.body["session"]), (&json!(true), &json!("waha")));
    assert_eq!(linked(&world, &payload["media"]["url"]).await, native);
    let message = waha_message("WAHAWebhookMessage", "message");
    assert_valid(message.as_ref(), &heard.body);
    let silent = bot.find(&world, |body| body["payload"]["media"]["error"].is_object()).await;
    assert_eq!(silent.body["payload"]["media"]["error"]["code"], "audio_unreadable");
    assert_valid(message.as_ref(), &silent.body);
}

#[tokio::test]
async fn evolution_bot_hears_a_person() {
    let native = fixture("recorder-wideband.ogg");
    let bot = Listener::start().await;
    let (world, _waha) = spoken_to(&bot, "evolution", PLAIN).await;
    let heard = bot.find(&world, |body| body["data"]["message"]["base64"].is_string()).await;
    assert_eq!((&heard.body["event"], &heard.body["instance"]), (&json!("messages.upsert"), &json!("waha")));
    let data = &heard.body["data"];
    assert!(data["key"]["id"].as_str().is_some_and(|id| id.starts_with("in_")), "{data}");
    assert_eq!(
        (&data["key"]["remoteJid"], &data["pushName"]),
        (&json!("15551234567@s.whatsapp.net"), &json!("Ann"))
    );
    assert_eq!(
        (&data["messageType"], &data["message"]["audioMessage"]["ptt"]),
        (&json!("audioMessage"), &json!(true))
    );
    let inside = BASE64_STANDARD.decode(data["message"]["base64"].as_str().expect("text")).expect("base64");
    assert_eq!(inside, native);
    assert_eq!(linked(&world, &data["message"]["mediaUrl"]).await, native);
    let silent = bot.find(&world, |body| body["data"]["error"].is_object()).await;
    assert_eq!(silent.body["data"]["error"]["code"], "audio_unreadable");
}

#[tokio::test]
async fn linq_bot_hears_a_person() {
    let native = fixture("recorder-wideband.ogg");
    let bot = Listener::start().await;
    let (world, _waha) = spoken_to(&bot, "linq", STANDARD).await;
    let heard = bot.find(&world, |body| body["data"]["parts"][0]["url"].is_string()).await;
    assert_eq!(heard.body["event_type"], "message.received");
    let data = &heard.body["data"];
    assert_eq!(
        (&data["direction"], &data["sender_handle"]["handle"]),
        (&json!("inbound"), &json!("+15551234567"))
    );
    assert_eq!(linked(&world, &data["parts"][0]["url"]).await, native);
    let received = schema("linq.openapi.yaml", "MessageReceivedWebhookV2", &[]);
    assert_valid(received.as_ref(), &heard.body);
    let silent = bot.find(&world, |body| body["data"]["error"].is_object()).await;
    assert_eq!(silent.body["data"]["error"]["code"], "audio_unreadable");
    assert_valid(received.as_ref(), &silent.body);
}
