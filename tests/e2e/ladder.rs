//! The ladder of forms, on an emulated Telegram: the forms that replace a voice note, the refusals that are remembered,
//! and the warnings.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::harness::{KEY, World, attempts, fixture, read};

/// Chats that the emulated bot knows.
const ANN: &str = "telegram:123456789";
const NO_VOICE: &str = "telegram:222000222";

/// A world with a Telegram bot, whose connection has additional settings.
async fn world(settings: &str) -> World {
    let settings = settings.to_owned();
    World::with(move |config| with_bot(&config, &settings)).await
}

fn with_bot(config: &str, settings: &str) -> String {
    let (_, sandbox) = config.split_once("base_url = \"").expect("an emulator");
    let sandbox = sandbox.split("/linq").next().expect("its address");
    let bot = format!(
        "[tenants.a.connections.bot]\nprovider = \"telegram\"\nbase_url = \"{sandbox}/telegram\"\n\
         token = \"123456789:sandbox-telegram-token\"\n{settings}\n"
    );
    config
        .replace("[tenants.b]", &format!("{bot}\n[tenants.b]"))
        .replace("routes.both = ", "routes.bot_then_whatsapp = [\"bot\", \"whatsapp\"]\nroutes.both = ")
}

fn telegram() -> Provider {
    Provider::named("telegram").expect("its emulator")
}

fn body(to: &str, more: Value) -> Value {
    let mut body = json!({"to": to, "via": "bot", "audio": {"data": audio()}});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

fn audio() -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    BASE64_STANDARD.encode(fixture("speech-24k.mp3"))
}

/// Sends a note and waits until it has ended.
async fn send(world: &World, body: &Value) -> (StatusCode, Value) {
    read(world.post_json(body).header("prefer", "wait=30").send().await.expect("an answer")).await
}

async fn accepted(world: &World, body: &Value) -> Value {
    let (status, note) = send(world, body).await;
    assert_eq!(status, StatusCode::OK, "{note}");
    note
}

/// The paths of the visible requests that the emulator received.
fn methods(world: &World) -> Vec<String> {
    let requests = world.sandbox.requests().into_iter().filter(|request| request.provider == "telegram");
    requests
        .filter(|request| request.operation == "voice")
        .map(|request| request.path.rsplit('/').next().unwrap_or_default().to_owned())
        .collect()
}

fn codes(note: &Value) -> Vec<&str> {
    let warnings = note["warnings"].as_array().expect("a list").iter();
    warnings.map(|warning| warning["code"].as_str().expect("a code")).collect()
}

#[tokio::test]
async fn refused_voice_falls_back_to_audio_and_is_remembered() {
    let world = world("degrade = [\"audio\", \"text\"]").await;
    let body = body(NO_VOICE, json!({"text": "Your parcel is here.", "text_as": "caption"}));
    let first = accepted(&world, &body).await;
    assert_eq!((attempts(&first), &first["form"]), (2, &json!("audio")), "{first}");
    assert_eq!(first["attempts"][0]["outcome"], "refused");
    for _ in 0..10 {
        let note = accepted(&world, &body).await;
        assert_eq!((attempts(&note), &note["form"]), (1, &json!("audio")), "{note}");
        assert_eq!(codes(&note), ["form_degraded"]);
        let why = note["warnings"][0]["detail"].as_str().expect("text");
        assert!(why.contains("does not take voice messages") && why.contains("audio"), "{why}");
        assert_eq!(note["audio"]["sent"]["profile"], "m4a-1");
    }
    let methods = methods(&world);
    assert_eq!(methods.iter().filter(|method| *method == "sendVoice").count(), 1, "{methods:?}");
    let phones = world.delivered("telegram");
    assert_eq!(phones.len(), 11);
    for entry in &phones {
        assert_eq!((entry.form, entry.text.as_deref()), ("audio", Some("Your parcel is here.")));
        assert_eq!(entry.audio.as_ref().and_then(|audio| audio.codec.as_deref()), Some("aac"));
        assert_eq!(entry.problems, Vec::<String>::new());
    }
    // The event contains both, too.
    let (_, events) = read(world.get("/voice").send().await.expect("an answer")).await;
    assert_eq!(events["items"][0]["warnings"][0]["code"], "form_degraded");
}

#[tokio::test]
async fn learned_refusal_is_shown_in_plans_and_expires() {
    let world = world("").await;
    accepted(&world, &body(NO_VOICE, json!({}))).await;
    let plan = world.http.post(format!("{}/voice/plan", world.url)).bearer_auth(KEY);
    let (_, plan) = read(plan.json(&body(NO_VOICE, json!({}))).send().await.expect("an answer")).await;
    let forms = &plan["connections"][0]["forms"];
    assert_eq!(forms[0]["form"], "voice", "{plan}");
    assert!(forms[0]["reason"].as_str().is_some_and(|why| why.contains("voice")), "{plan}");
    assert!(forms[0]["until"].is_string() && forms[0]["chosen"] == false && forms[1]["chosen"] == true);
    world.clock.advance(Duration::from_secs(25 * 60 * 60));
    accepted(&world, &body(NO_VOICE, json!({}))).await;
    let tried = methods(&world).iter().filter(|method| *method == "sendVoice").count();
    assert_eq!(tried, 2, "after learned_ttl it is tried once more");
}

#[tokio::test]
async fn degrade_of_the_request_overrides_the_connection() {
    let world = world("degrade = []").await;
    let (status, problem) = send(&world, &body(NO_VOICE, json!({}))).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("recipient_unsupported")), "{problem}");
    // The refusal is known now, so no attempt is made.
    let (status, problem) = send(&world, &body(NO_VOICE, json!({}))).await;
    assert_eq!((status.as_u16(), &problem["code"]), (424, &json!("form_unavailable")), "{problem}");
    let note = world.note(problem["id"].as_str().expect("an id")).await;
    assert_eq!(attempts(&note), 0, "{note}");
    // The order is irrelevant; the form `text` needs a text.
    let text = json!({"degrade": ["text", "file"], "text": "Hello"});
    assert_eq!(accepted(&world, &body(NO_VOICE, text)).await["form"], "file");
    let text = accepted(&world, &body(NO_VOICE, json!({"degrade": ["text"], "text": "Hello"}))).await;
    assert_eq!((&text["form"], codes(&text)), (&json!("text"), vec!["form_degraded"]), "{text}");
    assert_eq!(
        world.delivered("telegram").last().and_then(|entry| entry.text.clone()).as_deref(),
        Some("Hello")
    );
    let (status, problem) = send(&world, &body(NO_VOICE, json!({"degrade": ["text"]}))).await;
    assert_eq!((status.as_u16(), &problem["code"]), (424, &json!("form_unavailable")), "{problem}");
    assert_eq!(methods(&world), ["sendVoice", "sendDocument", "sendMessage"]);
}

#[tokio::test]
async fn degrade_is_parsed_and_validated_in_every_body() {
    let world = world("").await;
    for query in [
        "degrade=file,text&text=Hi",
        "degrade=%5B%22file%22%5D",
        "degrade=text%2C%20file",
        "degrade=text&degrade=file",
        "degrade=%5B%22text%22%5D&degrade=text,file",
    ] {
        let request = world.post_raw(&format!("to={NO_VOICE}&via=bot&{query}"), fixture("speech-24k.mp3"));
        let (status, note) = read(request.header("prefer", "wait=30").send().await.expect("an answer")).await;
        assert_eq!((status, &note["form"]), (StatusCode::OK, &json!("file")), "{query}: {note}");
    }
    for (degrade, status) in [("", 424), ("[]", 424), ("voice", 400), ("video", 400), ("[1]", 400)] {
        let query = format!("to={NO_VOICE}&via=bot&degrade={degrade}");
        let request = world.post_raw(&query, fixture("speech-24k.mp3"));
        let (found, answer) =
            read(request.header("prefer", "wait=30").send().await.expect("an answer")).await;
        assert_eq!(found.as_u16(), status, "{degrade:?}: {answer}");
        assert!(status != 400 || answer["field"] == "degrade", "{answer}");
    }
}

#[tokio::test]
async fn strict_refuses_a_form_change_that_is_known_in_advance() {
    let world = world("").await;
    accepted(&world, &body(NO_VOICE, json!({"strict": true}))).await;
    let (status, problem) = send(&world, &body(NO_VOICE, json!({"strict": true}))).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("recipient_unsupported")), "{problem}");
    let long = "word ".repeat(300);
    let captioned = |strict: bool| body(ANN, json!({"text": long, "text_as": "caption", "strict": strict}));
    let (status, problem) = send(&world, &captioned(true)).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("text_unsupported")), "{problem}");
    let note = accepted(&world, &captioned(false)).await;
    assert_eq!(codes(&note), ["text_shortened"], "{note}");
    let shown = world.delivered("telegram").last().and_then(|entry| entry.text.clone()).expect("a caption");
    assert!(long.starts_with(&shown) && shown.ends_with("word") && shown.chars().count() <= 1024, "{shown}");
}

#[tokio::test]
async fn fallback_text_is_not_sent_with_audio() {
    let world = world("degrade = [\"text\"]").await;
    let note = accepted(&world, &body(ANN, json!({"text": "Hello"}))).await;
    assert_eq!((&note["form"], codes(&note)), (&json!("voice"), vec![]), "{note}");
    assert_eq!(world.delivered("telegram")[0].text, None);
}

#[tokio::test]
async fn next_connection_is_used_if_no_form_is_left() {
    let world = world("degrade = []").await;
    world
        .reconfigure(|config| {
            let family =
                "[tenants.a.aliases.nora]\nbot = \"telegram:222000222\"\nwhatsapp = \"+15551234567\"\n";
            config.replace(
                "[tenants.a.connections.imessage]",
                &format!("{family}[tenants.a.connections.imessage]"),
            )
        })
        .expect("reloaded");
    let body = |via: &str| body("alias:nora", json!({"via": via}));
    let note = accepted(&world, &body("bot_then_whatsapp")).await;
    assert_eq!((&note["via"], attempts(&note)), (&json!("whatsapp"), 2), "{note}");
    let note = accepted(&world, &body("bot_then_whatsapp")).await;
    assert_eq!(
        (&note["via"], attempts(&note)),
        (&json!("whatsapp"), 1),
        "what is known is not tried: {note}"
    );
}

#[tokio::test]
async fn hundred_notes_with_the_same_audio_upload_it_once() {
    let world = world("").await;
    let mut ids = Vec::new();
    for guest in 0..100 {
        let body = body(&format!("telegram:{}", 700_000_000 + guest), json!({}));
        let (status, note) = read(world.post_json(&body).send().await.expect("an answer")).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{note}");
        ids.push(note["id"].as_str().expect("an id").to_owned());
    }
    for id in &ids {
        world.until_status(id, "accepted").await;
    }
    let phones = world.delivered("telegram");
    assert_eq!(phones.len(), 100);
    let uploaded = phones.iter().filter(|entry| entry.via.ends_with("with the file")).count();
    assert_eq!(uploaded, 1);
    // Another form needs another upload, and so does a file that the provider has deleted.
    world.sandbox.add_fault(Fault::new(
        telegram(),
        Operation::Voice,
        FaultAction::Status {
            status: 400,
            body: Some(json!({"ok": false, "error_code": 400,
                "description": "Bad Request: wrong file_id or the file is temporarily unavailable"})),
            headers: Default::default(),
            retry_after: None,
        },
    ));
    let note = accepted(&world, &body(ANN, json!({}))).await;
    assert_eq!(attempts(&note), 1, "made ready again within the attempt: {note}");
    let last = world.delivered("telegram").pop().expect("an entry");
    assert!(last.via.ends_with("with the file"), "{}", last.via);
}

#[tokio::test]
async fn group_migration_is_followed_within_the_attempt() {
    let world = world("").await;
    for _ in 0..2 {
        let note = accepted(&world, &body("telegram:-123456", json!({}))).await;
        assert_eq!((attempts(&note), codes(&note)), (1, vec![]), "{note}");
    }
    let tried = methods(&world).len();
    assert_eq!(tried, 3, "the second note knows the new number");
    assert!(world.delivered("telegram").iter().all(|entry| entry.conversation == "-1001234567890"));
}

#[tokio::test]
async fn reply_to_a_note_in_another_chat_is_dropped_with_a_warning() {
    let world = world("").await;
    let first = accepted(&world, &body(ANN, json!({}))).await;
    accepted(&world, &body("telegram:700000001", json!({}))).await;
    let id = first["id"].as_str().expect("an id");
    let reply = accepted(&world, &body("telegram:700000001", json!({"reply_to": id}))).await;
    assert_eq!(codes(&reply), ["reply_lost"], "{reply}");
    let reply = accepted(&world, &body(ANN, json!({"reply_to": id}))).await;
    assert_eq!(codes(&reply), Vec::<&str>::new(), "{reply}");
    let phones = world.delivered("telegram");
    let replies: Vec<_> = phones.iter().map(|entry| entry.reply_to.as_deref()).collect();
    assert_eq!(replies, [None, None, None, Some("1")]);
}

#[tokio::test]
async fn five_unreachable_recipients_do_not_pause_the_connection() {
    let world = world("").await;
    for stranger in 1..=5 {
        let (status, problem) = send(&world, &body(&format!("telegram:{stranger}00"), json!({}))).await;
        assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("recipient_unsupported")), "{problem}");
    }
    assert_eq!(accepted(&world, &body(ANN, json!({}))).await["status"], "accepted");
    let (_, connections) = read(world.get("/connections").send().await.expect("an answer")).await;
    let bot = &connections["items"][0];
    assert_eq!((&bot["name"], &bot["health"]), (&json!("bot"), &json!("ok")), "{connections}");
    let forms: Vec<_> =
        bot["capabilities"]["forms"].as_array().expect("a list").iter().map(|form| &form["form"]).collect();
    assert_eq!(forms, ["voice", "audio", "file", "text"]);
    assert_eq!(bot["capabilities"]["forms"][0]["caption"], 1024);
}

#[tokio::test]
async fn form_does_not_change_after_an_unknown_outcome() {
    let world = world("on_unknown = \"resend\"").await;
    world.sandbox.add_fault(Fault::new(telegram(), Operation::Voice, FaultAction::ResetAfter));
    let refused = FaultAction::Status {
        status: 400,
        body: Some(
            json!({"ok": false, "error_code": 400, "description": "Bad Request: VOICE_MESSAGES_FORBIDDEN"}),
        ),
        headers: Default::default(),
        retry_after: None,
    };
    world.sandbox.add_fault(Fault::new(telegram(), Operation::Voice, refused));
    let (status, note) = read(world.post_json(&body(ANN, json!({}))).send().await.expect("an answer")).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{note}");
    let id = note["id"].as_str().expect("an id");
    world.to_next_attempt(id, 1).await;
    let note = world.until_status(id, "unknown").await;
    assert_eq!((attempts(&note), &note["form"]), (2, &json!("voice")), "{note}");
    assert_eq!(methods(&world), ["sendVoice", "sendVoice"]);
}

#[tokio::test]
async fn rate_limit_of_one_chat_does_not_delay_others() {
    let world = world("").await;
    world.sandbox.add_fault(Fault::new(
        telegram(),
        Operation::Voice,
        FaultAction::RateLimit { retry_after: 30 },
    ));
    let group = body("telegram:-1001234567890/17", json!({}));
    let (_, limited) = read(world.post_json(&group).send().await.expect("an answer")).await;
    let id = limited["id"].as_str().expect("an id").to_owned();
    world.until(&id, |note| attempts(note) == 1 && note["status"] == "queued").await;
    assert_eq!(accepted(&world, &body(ANN, json!({}))).await["status"], "accepted");
    world.to_next_attempt(&id, 1).await;
    let note = world.until_status(&id, "accepted").await;
    assert_eq!(attempts(&note), 2);
    assert_eq!(
        world.delivered("telegram").last().map(|entry| entry.conversation.clone()).as_deref(),
        Some("-1001234567890/17")
    );
}
