//! Voice notes that people send, from the provider's callback to the bot.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::StreamExt;
use reqwest::{StatusCode, header};
use serde_json::{Value, json};

use crate::{
    bot::{Bot, Told},
    bucket::large,
    harness::{KEY, OTHER_KEY, World, fixture, read, whole},
    house::{House, WEBHOOK_SECRET, ogg, path, received},
    receipts,
    renders::runs,
    waha_server::{API_KEY, Answer, signed, voice},
};

pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test]
async fn voice_note_is_fetched_rendered_announced_and_served() {
    let house = House::start().await;
    let native = fixture("recorder-wideband.ogg");
    let note = house.heard("M1", ogg()).await;
    for (field, expected) in [
        ("status", json!("received")),
        ("from", json!("+15551234567")),
        ("conversation", json!("+15551234567")),
        ("group", json!(false)),
        ("sender_name", json!("Ann")),
        ("via", json!("waha")),
        ("provider", json!("waha")),
        ("provider_message_id", json!("false_15551234567@c.us_M1")),
        ("reply_to", Value::Null),
        ("form", json!("voice")),
        ("transcript", Value::Null),
        ("error", Value::Null),
    ] {
        assert_eq!(note[field], expected, "{field}: {note}");
    }
    assert_eq!(note["waveform"].as_array().map(Vec::len), Some(64));
    let audio = &note["audio"];
    assert_eq!((&audio["native"]["container"], &audio["native"]["codec"]), (&json!("ogg"), &json!("opus")));
    assert_eq!(audio["native"]["size_bytes"], native.len());
    let renders: Vec<&String> = audio["renders"].as_object().expect("renders").keys().collect();
    assert_eq!(renders, ["mp3-1", "wav16k-1"]);
    assert_eq!(audio["renders"]["wav16k-1"]["sample_rate"], 16_000);

    let answer = house.world.get(path(&audio["native"]["url"])).send().await.expect("an answer");
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "audio/ogg; codecs=opus");
    assert_eq!(answer.headers()[header::CONTENT_DISPOSITION], "inline; filename=\"voice.ogg\"");
    assert_eq!(answer.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let etag = answer.headers()[header::ETAG].clone();
    assert!(!etag.to_str().expect("text").starts_with("W/"), "strong");
    assert_eq!(whole(answer).await, native, "untouched");
    for (name, render) in audio["renders"].as_object().expect("renders") {
        let request = house.world.get(path(&render["url"])).header(header::RANGE, "bytes=4-9");
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT, "{name}");
        let range = format!("bytes 4-9/{}", render["size_bytes"]);
        assert_eq!(answer.headers()[header::CONTENT_RANGE].to_str().expect("text"), range, "{name}");
        assert_eq!(whole(answer).await.len(), 6);
    }
    let known = house.world.get(path(&audio["native"]["url"])).header(header::IF_NONE_MATCH, etag);
    assert_eq!(known.send().await.expect("an answer").status(), StatusCode::NOT_MODIFIED);

    let id = note["id"].as_str().expect("an id");
    let (_, read_again) =
        read(house.world.get(&format!("/received/{id}")).send().await.expect("an answer")).await;
    assert_eq!(read_again, note, "the note as it was announced");
    assert_eq!(
        house.listed("?from=%2B15551234567&conversation=%2B1%20555%20123%204567&via=waha").await,
        std::slice::from_ref(&note)
    );
    assert!(house.listed("?from=%2B15550000000").await.is_empty());
    assert_eq!(house.waha.asked(), [("M1.oga".to_owned(), Some(API_KEY.to_owned()))], "asked once");
    assert_eq!(house.world.stray_files(), [""; 0].map(PathBuf::from));
    let metrics =
        house.world.http.get(format!("{}/metrics", house.world.url)).send().await.expect("an answer");
    let metrics = String::from_utf8(whole(metrics).await).expect("text");
    assert!(
        metrics
            .contains("voicegate_received_notes_total{tenant=\"a\",connection=\"waha\",status=\"received\"}"),
        "{metrics}"
    );
}

#[tokio::test]
async fn event_is_on_the_stream_once() {
    let house = House::start().await;
    let request = house.world.get("/events").send().await.expect("an answer");
    let mut stream = request.bytes_stream();
    house.heard("M1", ogg()).await;
    let mut text = String::new();
    while !text.contains("\n\nid: ") && text.matches("\n\n").count() < 2 {
        match tokio::time::timeout(Duration::from_secs(5), stream.next()).await {
            Ok(Some(Ok(piece))) => text += std::str::from_utf8(&piece).expect("text"),
            _ => break,
        }
    }
    assert_eq!(text.matches("event: voice.received\n").count(), 1, "{text}");
}

#[tokio::test]
async fn callback_that_comes_fifty_times_makes_one_note() {
    let house = House::start().await;
    house.waha.put("M1.oga", ogg());
    let event = voice("M1", &format!("{}/api/files/default/M1.oga", house.waha.url));
    let calls = (0..50).map(|turn| {
        let mut event = event.clone();
        // WAHA sends a message as another event, too.
        event["id"] = json!(format!("evt_{}", turn % 7));
        event["event"] = json!(if turn % 2 == 0 { "message" } else { "message.any" });
        let call = house.callback(&event);
        async move { call.send().await.expect("an answer").status() }
    });
    let answers: Vec<StatusCode> = futures_util::stream::iter(calls).buffer_unordered(10).collect().await;
    assert!(answers.iter().all(StatusCode::is_success));
    house.bot.told(1).await;
    let again = house.callback(&event).send().await.expect("an answer");
    assert_eq!(again.status(), StatusCode::OK);
    let last = house.heard("M2", ogg()).await;
    let told = house.bot.told(2).await;
    assert_eq!(told.len(), 2, "{told:#?}");
    assert_eq!(last["provider_message_id"], "false_15551234567@c.us_M2");
    assert_eq!(house.waha.asked().len(), 2, "each file is asked for once");
}

#[tokio::test]
async fn callback_without_proof_makes_nothing_and_fetches_nothing() {
    let house = House::start().await;
    house.waha.put("M1.oga", ogg());
    let body = voice("M1", &format!("{}/api/files/default/M1.oga", house.waha.url)).to_string();
    for signature in [None, Some(signed(b"something else")), Some("00".repeat(64))] {
        let mut request =
            house.world.http.post(format!("{}/callbacks/a/waha", house.world.url)).body(body.clone());
        if let Some(signature) = signature {
            request = request.header("x-webhook-hmac", signature);
        }
        assert_eq!(request.send().await.expect("an answer").status(), StatusCode::UNAUTHORIZED);
    }
    house.heard("M2", ogg()).await;
    assert_eq!(house.waha.asked().len(), 1, "only the second note's file");
    assert_eq!(house.listed("").await.len(), 1);
}

#[tokio::test]
async fn answer_with_reply_to_alone_goes_back_to_its_conversation_as_a_quote() {
    let house = House::start().await;
    let note = house.heard("M1", Answer::Status(404)).await;
    assert_eq!(note["status"], "failed", "a note that failed can be answered as well: {note}");
    let audio = json!({ "media_id": upload(&house).await });
    let answer = json!({ "reply_to": note["id"], "audio": audio });
    let (status, sent) = read(house.world.post_json(&answer).send().await.expect("an answer")).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{sent}");
    assert_eq!((&sent["to"], &sent["via"]), (&json!("+15551234567"), &json!("waha")));
    assert_eq!(sent["reply_to"], note["id"]);
    assert_eq!(sent["warnings"], json!([]));
    // Both may be given, and then they count.
    let elsewhere =
        json!({ "to": "+15550000000", "via": "imessage", "reply_to": note["id"], "audio": audio });
    let (_, sent) = read(house.world.post_json(&elsewhere).send().await.expect("an answer")).await;
    assert_eq!((&sent["to"], &sent["via"]), (&json!("+15550000000"), &json!("imessage")));
    assert_eq!(sent["warnings"][0]["code"], "reply_unsupported", "{sent}");

    let unknown = "in_01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41";
    for (key, id) in [(KEY, unknown), (OTHER_KEY, note["id"].as_str().expect("an id"))] {
        let body = json!({ "reply_to": id, "audio": { "url": "https://example.com/a.mp3" } });
        for path in ["/voice", "/voice/plan"] {
            let request = house.world.http.post(format!("{}{path}", house.world.url)).bearer_auth(key);
            let (status, problem) = read(request.json(&body).send().await.expect("an answer")).await;
            assert_eq!(
                (status, &problem["field"]),
                (StatusCode::BAD_REQUEST, &json!("reply_to")),
                "{problem}"
            );
        }
    }
    let nobody = json!({ "audio": audio });
    let (status, problem) = read(house.world.post_json(&nobody).send().await.expect("an answer")).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("to")), "{problem}");
}

async fn upload(house: &House) -> Value {
    let request = house.world.http.post(format!("{}/media", house.world.url)).bearer_auth(KEY);
    let request = request.header("content-type", "audio/mpeg").body(fixture("speech-24k.mp3"));
    let (status, upload) = read(request.send().await.expect("an answer")).await;
    assert_eq!(status, StatusCode::CREATED, "{upload}");
    upload["id"].clone()
}

#[tokio::test]
async fn only_what_the_tenant_wants_is_received() {
    let house = House::with("[tenants.a.inbound]\nrenders = []\n").await;
    let mut file = voice("M1", &format!("{}/api/files/default/M1.oga", house.waha.url));
    file["payload"]["_data"]["type"] = json!("audio");
    house.waha.put("M1.oga", ogg());
    house.callback(&file).send().await.expect("an answer");
    let mut ours = voice("M2", &format!("{}/api/files/default/M2.oga", house.waha.url));
    ours["payload"]["fromMe"] = json!(true);
    ours["payload"]["id"] = json!("true_15551234567@c.us_M2");
    house.callback(&ours).send().await.expect("an answer");
    let note = house.heard("M3", ogg()).await;
    assert_eq!(note["audio"]["renders"], json!({}));
    assert_eq!(note["waveform"].as_array().map(Vec::len), Some(64));
    assert_eq!(house.listed("").await.len(), 1);
    let accept = "[tenants.a.inbound]\naccept_audio = true\n";
    house.world.reconfigure(|text| text.replace("[tenants.a.inbound]\n", accept)).expect("sound");
    house.callback(&file).send().await.expect("an answer");
    let told = house.bot.told(2).await;
    assert_eq!(received(&told[1])["form"], "audio");
    house
        .world
        .reconfigure(|text| text.replace("provider = \"waha\"\n", "provider = \"waha\"\ninbound = false\n"))
        .expect("sound");
    house.say("M4", ogg()).await;
    assert_eq!(house.listed("").await.len(), 2);
}

#[tokio::test]
async fn erasure_and_retention_remove_what_was_received() {
    let house = House::start().await;
    let long = Answer::Audio(large().into());
    let (first, second) = (house.heard("M1", ogg()).await, house.heard("M2", long).await);
    let folder = house.world.folder.path().join("media/received");
    assert!(!files_in(&folder).is_empty(), "large audio is in files");
    let kept = async || {
        house.world.gateway.store.kept_audio().await.expect("a list").iter().map(|(_, b)| b).sum::<u64>()
    };
    assert!(kept().await > 0);
    let erase = |id: &Value| {
        let url = format!("{}/received/{}", house.world.url, path(id));
        house.world.http.delete(url)
    };
    let foreign = erase(&second["id"]).bearer_auth(OTHER_KEY).send().await.expect("an answer");
    assert_eq!(foreign.status(), StatusCode::NOT_FOUND);
    for _ in 0..2 {
        let answer = erase(&second["id"]).bearer_auth(KEY).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    }
    assert!(files_in(&folder).iter().all(|file| !file.to_string_lossy().contains(path(&second["id"]))));
    for rest in ["", "/audio", "/audio?as=mp3-1"] {
        let answer = house.world.get(&format!("/received/{}{rest}", path(&second["id"])));
        assert_eq!(answer.send().await.expect("an answer").status(), StatusCode::NOT_FOUND, "{rest}");
    }
    assert_eq!(house.listed("").await, std::slice::from_ref(&first));

    house.world.clock.advance(DAY + Duration::from_secs(1));
    let url = format!("/received/{}/audio", path(&first["id"]));
    let gone = async {
        while house.world.get(&url).send().await.expect("an answer").status() != StatusCode::GONE {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("removed");
    assert!(files_in(&folder).is_empty());
    assert_eq!(kept().await, 0);
    assert_eq!(house.listed("").await.len(), 1, "the note itself is kept for longer");
}

#[tokio::test]
async fn renders_go_with_the_audio_from_which_they_were_made() {
    let house = House::start().await;
    let before = runs(&house.world).await;
    house.heard("M1", ogg()).await;
    let needed = runs(&house.world).await - before;
    assert!(needed > 0);
    house.heard("M2", ogg()).await;
    assert_eq!(runs(&house.world).await - before, needed, "they are cached");
    house.world.clock.advance(DAY + Duration::from_secs(1));
    voicegate::delivery::housekeeping::remove_what_is_old(&house.world.gateway).await.expect("swept");
    house.heard("M3", ogg()).await;
    assert_eq!(runs(&house.world).await - before, 2 * needed, "they are made again");
}

/// The providers over which notes come in, with the setting of their callbacks' secret, a person at each of them, and the
/// person in our words.
pub const PROVIDERS: [(&str, &str, &str, &str); 6] = [
    ("linq", "", "+15551234567", "+15551234567"),
    ("wawp", "callback_token", "+15551234567", "+15551234567"),
    ("waha", "webhook_secret", "+15551234567", "+15551234567"),
    ("evolution", "callback_token", "15551234567@c.us", "+15551234567"),
    ("whatsapp-cloud", "verify_token", "+15551234567", "+15551234567"),
    ("telegram", "webhook_secret", "telegram:700000001", "telegram:700000001"),
];

/// A gateway with a bot and a connection to the emulator of each provider, named after it, whose callbacks are registered; and
/// the sandbox's address. `more` is appended to the configuration.
pub async fn with_emulators(more: &str) -> (World, Bot, String) {
    let bot = Bot::start().await;
    let webhook = format!("[tenants.a.webhook]\nurl = \"{}\"\nsecrets = [\"{WEBHOOK_SECRET}\"]\n", bot.url);
    let mut base = String::new();
    let world = World::with(|config| {
        let (_, rest) = config.split_once("base_url = \"").expect("an emulator");
        rest.split("/linq").next().expect("its address").clone_into(&mut base);
        let doors =
            voicegate_sandbox::Sandbox::new(voicegate_sandbox::SandboxOptions::default()).doors(&base);
        let connection = |(name, setting, ..): &(&str, &str, &str, &str)| {
            let door = doors.iter().find(|door| door.provider == *name).expect("an emulator");
            let mut settings = door.settings.clone();
            if !setting.is_empty() {
                settings[*setting] = json!(crate::waha_server::SECRET);
            }
            let settings = toml::to_string(&settings).expect("TOML");
            format!("[tenants.a.connections.{name}]\nprovider = \"{name}\"\n{settings}\n")
        };
        config.clone() + &webhook + &PROVIDERS.iter().map(connection).collect::<String>() + more
    })
    .await;
    for (name, ..) in PROVIDERS {
        let url = format!("{}/callbacks/a/{name}", world.url).parse().expect("a URL");
        let made = receipts::adapter(&world, name).register_callbacks(&receipts::context(), &url).await;
        if let Some((key, secret)) = made.expect("registered").secret {
            use secrecy::ExposeSecret as _;
            receipts::set(&world, name, &format!("{key} = \"{}\"", secret.expose_secret()));
        }
    }
    (world, bot, base)
}

#[tokio::test(flavor = "multi_thread")]
async fn voice_note_comes_in_through_every_emulator_and_is_answered() {
    let (world, bot, base) = with_emulators("").await;
    let native = fixture("recorder-wideband.ogg");
    let audio = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &native);
    for (count, (provider, _, from, person)) in PROVIDERS.into_iter().enumerate() {
        let order =
            json!({ "provider": provider, "from": from, "sender_name": "Ann", "audio": audio, "copies": 9 });
        let order = serde_json::from_value(order).expect("an order");
        let sent =
            world.sandbox.send_in(&base, order).await.unwrap_or_else(|why| panic!("{provider}: {why}"));
        let received: Vec<Told> = received_by(&bot, count + 1).await;
        let note = &received[count].body["data"];
        assert_eq!((&note["status"], &note["via"]), (&json!("received"), &json!(provider)), "{note}");
        assert_eq!((&note["from"], &note["conversation"]), (&json!(person), &json!(person)), "{note}");
        assert_eq!(note["audio"]["native"]["size_bytes"], sent.size_bytes, "{provider}");
        let bytes = world.get(path(&note["audio"]["native"]["url"])).send().await.expect("an answer");
        let bytes = whole(bytes).await;
        // An iPhone sends the same packets in CAF.
        assert!(bytes == native || (provider == "linq" && bytes.starts_with(b"caff")), "{provider}");
        let body = json!({ "reply_to": note["id"], "audio": { "data": audio } });
        let (status, sent) = read(world.post_json(&body).send().await.expect("an answer")).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{provider}: {sent}");
        assert_eq!((&sent["to"], &sent["via"]), (&json!(person), &json!(provider)), "{sent}");
        world.until(path(&sent["id"]), |note| note["accepted_at"].is_string()).await;
    }
    assert_eq!(received_by(&bot, 6).await.len(), 6, "each is announced once");
}

/// Waits for this many received notes, and returns all of them.
pub async fn received_by(bot: &Bot, times: usize) -> Vec<Told> {
    let mut told = bot.count();
    let received =
        |all: &[Told]| all.iter().filter(|told| told.kind() == "voice.received").cloned().collect::<Vec<_>>();
    let waiting = told.wait_for(|all| received(all).len() >= times);
    let all = tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("in time").expect("open");
    received(&all)
}

/// Twelve seconds, which are too many bytes for the database.
/// The files below a folder.
pub fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}
