//! Speech as a source: a text goes in, a voice note comes out.

use std::{collections::BTreeMap, time::Duration};

use reqwest::multipart::Form;
use serde_json::{Value, json};
use voicegate::{
    config::Layers,
    delivery::{VoiceRequest, Worker, accept::accept},
    gateway::Gateway,
    media::AudioInput,
    model::note::{SpokenText, Status},
};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::harness::{KEY, World, attempts, read};

const OPENAI_KEY: &str = "sandbox-openai-key";

/// Adds speech servers of the sandbox to tenant `a`. `more` goes below its table.
pub fn with_speech(config: String, more: &str) -> String {
    let sandbox = config
        .split("base_url = \"")
        .find_map(|rest| rest.split_once("/linq\"").map(|(url, _)| url.to_owned()))
        .expect("the sandbox's address");
    format!(
        "{config}
[tenants.a.speech.anna]
kind = \"openai\"
base_url = \"{sandbox}/openai\"
api_key = \"{OPENAI_KEY}\"
{more}
"
    )
}

async fn world() -> World {
    World::with(|config| with_speech(config, "")).await
}

fn spoken(to: &str, text: &str) -> Value {
    json!({ "to": to, "audio": { "speech": { "text": text } } })
}

async fn send(world: &World, body: &Value) -> String {
    let (status, note) = read(world.post_json(body).send().await.expect("an answer")).await;
    assert_eq!(status, 202, "{note}");
    note["id"].as_str().expect("an id").to_owned()
}

/// The number of texts that the servers were asked to speak.
pub fn calls(world: &World) -> usize {
    world.sandbox.requests().iter().filter(|request| request.operation == "speech").count()
}

fn openai() -> Provider {
    Provider::named("openai").expect("an emulator")
}

fn refusal(name: &str) -> FaultAction {
    FaultAction::Refusal { name: name.to_owned() }
}

fn status(status: u16) -> FaultAction {
    FaultAction::Status { status, body: None, headers: BTreeMap::new(), retry_after: None }
}

/// Lets the time pass until the note has ended.
async fn end_of(world: &World, id: &str) -> Value {
    for _ in 0..400 {
        let note = world.note(id).await;
        let status = note["status"].as_str().expect("a status");
        if !["queued", "processing", "sending"].contains(&status) {
            return note;
        }
        if status == "queued" {
            world.clock.advance(Duration::from_secs(20));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the note does not end: {:#}", world.note(id).await);
}

#[tokio::test]
async fn text_goes_in_and_a_voice_note_comes_out() {
    let world = world().await;
    let id = send(&world, &spoken("+15551234567", "Your parcel is here.")).await;
    let note = world.until_status(&id, "accepted").await;
    let expected = json!({
        "text": "Your parcel is here.", "with": "anna", "voice": null, "instructions": null, "speed": null,
    });
    assert_eq!(note["audio"]["speech"], expected);
    assert_eq!(note["audio"]["source"]["container"], "wav");
    // Twenty characters of 72 ms each, behind a header that states no size.
    let length = note["audio"]["source"]["duration_ms"].as_u64().expect("a length");
    assert!((1_430..=1_450).contains(&length), "{note}");
    assert_eq!((note["form"].as_str(), note["warnings"].as_array().map(Vec::len)), (Some("voice"), Some(0)));
    let delivered = world.delivered("linq");
    assert_eq!(delivered.len(), 1);
    let sent = delivered[0].audio.as_ref().expect("audio").duration_ms.expect("a length");
    assert!(sent.abs_diff(length) < 100, "{sent} of {length}");
    assert_eq!(calls(&world), 1);
}

#[tokio::test]
async fn form_takes_the_speech_as_a_field() {
    let world = world().await;
    let form =
        Form::new().text("to", "+15551234567").text("speech", r#"{"text":"hello","voice":"otto","speed":2}"#);
    let request = world.http.post(format!("{}/voice", world.url)).bearer_auth(KEY).multipart(form);
    let (status, note) = read(request.send().await.expect("an answer")).await;
    assert_eq!(status, 202, "{note}");
    let note = world.until_status(note["id"].as_str().expect("an id"), "accepted").await;
    assert_eq!(note["audio"]["speech"]["voice"], "otto");
    let requests = world.sandbox.requests();
    let asked = requests.iter().find(|request| request.operation == "speech").expect("a call");
    assert_eq!((&asked.body["voice"], &asked.body["speed"]), (&json!("otto"), &json!(2.0)));
}

#[tokio::test]
async fn sentence_that_many_notes_have_costs_one_call() {
    const NOTES: usize = 120;
    let world = World::with(|config| with_speech(config, "")).await;
    let mut ids = Vec::new();
    for n in 0..NOTES {
        let mut body = spoken(&format!("+1555000{:04}", n % 40), "The same sentence for all of you");
        body["via"] = json!("whatsapp");
        ids.push(send(&world, &body).await);
    }
    for id in &ids {
        world.until_status(id, "accepted").await;
    }
    assert_eq!((world.delivered("wawp").len(), calls(&world)), (NOTES, 1));
    // Everything that the speech depends on makes it another one.
    for (n, change) in [
        json!({ "text": "The same sentence for all of you!" }),
        json!({ "voice": "otto" }),
        json!({ "speed": 1.2 }),
        json!({ "instructions": "calmly" }),
    ]
    .into_iter()
    .enumerate()
    {
        let mut body = spoken("+15551234567", "The same sentence for all of you");
        let speech = body["audio"]["speech"].as_object_mut().expect("an object");
        speech.extend(change.as_object().cloned().expect("an object"));
        let id = send(&world, &body).await;
        world.until_status(&id, "accepted").await;
        assert_eq!(calls(&world), n + 2, "{body}");
    }
    let mut usual = spoken("+15551234567", "The same sentence for all of you");
    usual["audio"]["speech"]["speed"] = json!(1.0);
    let id = send(&world, &usual).await;
    world.until_status(&id, "accepted").await;
    assert_eq!(calls(&world), 5, "the usual speed is no other speech");
}

#[tokio::test]
async fn bad_answer_is_asked_for_again_and_nothing_half_spoken_is_sent() {
    let world = world().await;
    let bad = [
        ("half_file", refusal("half_file")),
        ("half_framed", refusal("half_framed")),
        ("web_page", refusal("web_page")),
        ("empty", refusal("empty")),
        ("json", refusal("json")),
        ("garbage", FaultAction::Garbage),
        ("rate limit", FaultAction::RateLimit { retry_after: 3 }),
        ("500", status(500)),
        ("503", status(503)),
        ("reset", FaultAction::ResetBefore),
    ];
    for (n, (name, action)) in bad.iter().enumerate() {
        let before = calls(&world);
        world.sandbox.add_fault(Fault::new(openai(), Operation::Speech, action.clone()));
        let id = send(&world, &spoken("+15551234567", &format!("sentence number {n}"))).await;
        let note = end_of(&world, &id).await;
        assert_eq!(note["status"], "accepted", "{name}: {note:#}");
        assert_eq!(attempts(&note), 2, "{name}: {note:#}");
        let error = &note["attempts"][0]["error"];
        assert_eq!(
            (&error["code"], &error["stage"]),
            (&json!("speech_unavailable"), &json!("speech")),
            "{name}: {error}"
        );
        assert_eq!((world.delivered("linq").len(), calls(&world)), (n + 1, before + 2), "{name}");
    }
    // A server that never gives a usable answer ends the note within minutes.
    world.sandbox.add_fault(Fault::new(openai(), Operation::Speech, refusal("half_framed")).times(99));
    let id = send(&world, &spoken("+15551234567", "never said")).await;
    let note = end_of(&world, &id).await;
    assert_eq!(
        (&note["status"], &note["error"]["code"]),
        (&json!("failed"), &json!("speech_unavailable")),
        "{note:#}"
    );
    assert_eq!((note["error"]["status"].as_u64(), attempts(&note)), (Some(424), 7));
    assert_eq!(world.delivered("linq").len(), bad.len(), "nothing half spoken was sent");
    // It can be sent again once the server works.
    world.sandbox.forget_faults();
    let again = world.http.post(format!("{}/voice/{id}/resend", world.url)).bearer_auth(KEY);
    let (status, note) = read(again.send().await.expect("an answer")).await;
    assert_eq!(status, 202, "{note}");
    world.until_status(note["id"].as_str().expect("an id"), "accepted").await;
    assert_eq!(world.stray_files(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn refusal_is_final_and_shows_no_key() {
    let world = world().await;
    for code in [400, 401, 403, 404, 422] {
        let before = calls(&world);
        world.sandbox.add_fault(Fault::new(openai(), Operation::Speech, status(code)));
        let id = send(&world, &spoken("+15551234567", &format!("refused with {code}"))).await;
        let note = end_of(&world, &id).await;
        let error = &note["error"];
        assert_eq!(
            (&error["code"], &error["stage"]),
            (&json!("speech_rejected"), &json!("speech")),
            "{code}: {note:#}"
        );
        assert_eq!(
            (error["status"].as_u64(), error["provider"]["status"].as_u64()),
            (Some(422), Some(code.into()))
        );
        assert_eq!(calls(&world), before + 1, "{code}");
        assert!(!note.to_string().contains(OPENAI_KEY), "{note}");
    }
    assert_eq!(world.delivered("linq").len(), 0);
}

#[tokio::test]
async fn request_for_speech_is_judged_at_once() {
    let world = world().await;
    for (speech, field) in [
        (json!({ "text": " " }), "audio.speech.text"),
        (json!({}), "audio.speech.text"),
        (json!({ "text": "x", "with": "nobody" }), "audio.speech.with"),
        (json!({ "text": "x", "speed": 9 }), "audio.speech.speed"),
        (json!({ "text": "x", "tone": "y" }), "audio.speech.tone"),
        (json!("x"), "audio.speech"),
    ] {
        let body = json!({ "to": "+15551234567", "audio": { "speech": speech } });
        for path in ["/voice", "/voice/plan"] {
            let request = world.http.post(format!("{}{path}", world.url)).bearer_auth(KEY).json(&body);
            let (status, problem) = read(request.send().await.expect("an answer")).await;
            assert_eq!(
                (status.as_u16(), &problem["field"]),
                (400, &json!(field)),
                "{path} {body}: {problem}"
            );
        }
    }
    let both = json!({ "to": "+15551234567", "audio": { "speech": { "text": "x" }, "media_id": "m" } });
    let (status, problem) = read(world.post_json(&both).send().await.expect("an answer")).await;
    assert_eq!((status.as_u16(), &problem["field"]), (400, &json!("audio")), "{problem}");
    let upload = json!({ "audio": { "speech": { "text": "x" } } });
    let request = world.http.post(format!("{}/media", world.url)).bearer_auth(KEY).json(&upload);
    let (status, problem) = read(request.send().await.expect("an answer")).await;
    assert_eq!((status.as_u16(), &problem["field"]), (400, &json!("audio.speech")), "{problem}");
    assert_eq!(calls(&world), 0);
}

#[tokio::test]
async fn plan_knows_no_length_until_the_speech_is_there() {
    let world = world().await;
    let plan = async || {
        let body = spoken("+15551234567", "hello");
        let request = world.http.post(format!("{}/voice/plan", world.url)).bearer_auth(KEY).json(&body);
        read(request.send().await.expect("an answer")).await
    };
    let (status, planned) = plan().await;
    assert_eq!((status.as_u16(), &planned["audio"]), (200, &Value::Null), "{planned}");
    let first = &planned["connections"][0];
    assert_eq!(
        (&first["verdict"], &first["form"], &first["audio"]),
        (&json!("ok"), &json!("voice"), &Value::Null)
    );
    assert_eq!(calls(&world), 0, "a plan asks no server");
    let id = send(&world, &spoken("+15551234567", "hello")).await;
    world.until_status(&id, "accepted").await;
    let (_, planned) = plan().await;
    assert_eq!(planned["audio"]["duration_ms"], 360, "{planned}");
}

#[tokio::test]
async fn speech_without_a_header_is_rendered_as_it_is_sent() {
    let world = World::with(|config| with_speech(config, "format = \"pcm\"")).await;
    let audio = json!({ "speech": { "text": "Your parcel is here." } });
    let request = world.http.post(format!("{}/render?for=whatsapp", world.url)).bearer_auth(KEY);
    let (status, rendered) = read(
        request
            .header("accept", "application/json")
            .json(&json!({ "audio": audio }))
            .send()
            .await
            .expect("an answer"),
    )
    .await;
    assert_eq!(status.as_u16(), 200, "{rendered}");
    let id = send(&world, &json!({ "to": "+15551234567", "via": "whatsapp", "audio": audio })).await;
    let note = world.until_status(&id, "accepted").await;
    assert_eq!(note["audio"]["sent"]["sha256"], rendered["audio"]["sent"]["sha256"]);
}

#[tokio::test]
async fn rendering_speaks_and_uses_kept_speech_but_keeps_nothing() {
    let world = world().await;
    let render = async |text: &str| {
        let request = world.http.post(format!("{}/render?for=whatsapp", world.url)).bearer_auth(KEY);
        let request = request.header("accept", "application/json");
        let request = request.json(&json!({ "audio": { "speech": { "text": text } } }));
        read(request.send().await.expect("an answer")).await
    };
    let (status_code, rendered) = render("Your parcel is here.").await;
    assert_eq!(
        (status_code.as_u16(), rendered["audio"]["sent"]["container"].as_str()),
        (200, Some("ogg")),
        "{rendered}"
    );
    let length = rendered["audio"]["sent"]["duration_ms"].as_u64().expect("a length");
    assert!((1_430..=1_450).contains(&length), "{rendered}");
    let (_, again) = render("Your parcel is here.").await;
    assert_eq!((calls(&world), &again["audio"]["sent"]), (2, &rendered["audio"]["sent"]), "nothing was kept");

    let id = send(&world, &spoken("+15551234567", "Your parcel is here.")).await;
    world.until_status(&id, "accepted").await;
    let (_, kept) = render("Your parcel is here.").await;
    assert_eq!(
        (calls(&world), &kept["audio"]["sent"]),
        (3, &rendered["audio"]["sent"]),
        "the note's was used"
    );

    world.sandbox.add_fault(Fault::new(openai(), Operation::Speech, status(500)));
    let (status_code, problem) = render("Something else.").await;
    assert_eq!(
        (status_code.as_u16(), problem["code"].as_str()),
        (424, Some("speech_unavailable")),
        "{problem}"
    );
    assert_eq!(world.stray_files(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn kept_speech_goes_with_the_notes_that_have_it() {
    let world = world().await;
    let erase = async |id: &str| {
        let request = world.http.delete(format!("{}/voice/{id}", world.url)).bearer_auth(KEY);
        assert_eq!(request.send().await.expect("an answer").status(), 204);
    };
    let first = send(&world, &spoken("+15551234567", "for two")).await;
    world.until_status(&first, "accepted").await;
    let second = send(&world, &spoken("+15551234567", "for two")).await;
    world.until_status(&second, "accepted").await;
    erase(&first).await;
    let note = world.note(&first).await;
    assert_eq!((&note["audio"]["speech"], &note["to"]), (&Value::Null, &Value::Null), "the text is erased");
    let third = send(&world, &spoken("+15551234567", "for two")).await;
    world.until_status(&third, "accepted").await;
    assert_eq!(calls(&world), 1, "the second note still has it");
    erase(&second).await;
    erase(&third).await;
    let fourth = send(&world, &spoken("+15551234567", "for two")).await;
    world.until_status(&fourth, "accepted").await;
    assert_eq!(calls(&world), 2, "no note had it any more");
    // A tenant has its own.
    world
        .reconfigure(|config| {
            with_speech(config, "").replace("[tenants.a.speech.anna]", "[tenants.b.speech.anna]").replacen(
                "[tenants.b.speech.anna]",
                "[tenants.a.speech.anna]",
                1,
            )
        })
        .expect("reloaded");
    let body = spoken("+15551234567", "for two");
    let request =
        world.http.post(format!("{}/voice", world.url)).bearer_auth(crate::harness::OTHER_KEY).json(&body);
    let (status, note) = read(request.send().await.expect("an answer")).await;
    assert_eq!(status, 202, "{note}");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while calls(&world) < 3 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(calls(&world), 3, "nothing is shared between tenants");
}

#[tokio::test]
async fn kept_speech_survives_a_restart() {
    let world = world().await;
    let id = send(&world, &spoken("+15551234567", "said before the restart")).await;
    world.until_status(&id, "accepted").await;
    let (sandbox, clock) = (world.sandbox.clone(), world.clock.clone());
    let folder = world.stop().await;
    let file = folder.path().join("config.toml");
    let config = std::fs::read_to_string(&file).expect("the configuration");
    let port =
        config.split("/linq\"").next().and_then(|head| head.rsplit(':').next()).expect("the sandbox's port");
    // The connections of the gateway end a moment after it.
    let listener = async {
        loop {
            match tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let listener = tokio::time::timeout(Duration::from_secs(30), listener).await.expect("the same port");
    tokio::spawn(sandbox.clone().serve(listener));
    let gateway = Gateway::open(Layers::of_file(Some(file)), clock).await.expect("a gateway");
    let worker = tokio::spawn(Worker::new(gateway.clone()).run());
    let tenant = gateway.live().tenants.get("a").cloned().expect("a tenant");
    let request = VoiceRequest {
        to: "+15551234567".to_owned(),
        audio: AudioInput::Speech(SpokenText {
            text: "said before the restart".to_owned(),
            with: String::new(),
            voice: None,
            instructions: None,
            speed: None,
        }),
        hints: Default::default(),
        via: None,
        convert: None,
        reply_to: None,
        text: None,
        text_as: Default::default(),
        degrade: None,
        strict: false,
        send_at: None,
        expires_in: None,
        metadata: Default::default(),
        idempotency_key: None,
    };
    let note = accept(&gateway, &tenant, request).await.expect("accepted").note;
    let accepted = async {
        while gateway.store.note(note.id, None).await.expect("read").expect("a note").status
            != Status::Accepted
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), accepted).await.expect("accepted in time");
    let calls = sandbox.requests().iter().filter(|request| request.operation == "speech").count();
    assert_eq!(calls, 1);
    gateway.stop.cancel();
    worker.await.expect("stopped in order");
}

#[tokio::test]
async fn sign_of_recording_is_shown_until_the_note_is_sent() {
    let world = World::with(|config| {
        with_speech(
            config.replacen("provider = \"linq\"", "provider = \"linq\"\npresence = \"recording\"", 1),
            "",
        )
    })
    .await;
    world.sandbox.add_fault(Fault::new(openai(), Operation::Speech, FaultAction::Slow { ms: 400 }));
    let id = send(&world, &spoken("+15551234567", "hello")).await;
    world.until_status(&id, "accepted").await;
    let operations: Vec<&str> = world.sandbox.requests().iter().map(|request| request.operation).collect();
    let place = |wanted: &str| operations.iter().position(|operation| *operation == wanted);
    assert!(place("presence").is_some() && place("presence") < place("voicememo"), "{operations:?}");
    assert_eq!(operations.iter().filter(|operation| **operation == "presence").count(), 1, "{operations:?}");
    // Its failure is never that of the note.
    let linq = Provider::named("linq").expect("an emulator");
    world.sandbox.add_fault(Fault::new(linq, Operation::Presence, status(500)));
    let id = send(&world, &spoken("+15551234567", "hello again")).await;
    let note = world.until_status(&id, "accepted").await;
    assert_eq!(attempts(&note), 1, "{note}");
}

#[tokio::test]
async fn bot_shows_the_sign_itself() {
    let world = World::start().await;
    let show = async |body: Value| {
        let request = world.http.post(format!("{}/presence", world.url)).bearer_auth(KEY).json(&body);
        read(request.send().await.expect("an answer")).await
    };
    for state in ["recording", "paused"] {
        let (status, problem) = show(json!({ "to": "+15551234567", "state": state })).await;
        assert_eq!(status, 204, "{problem}");
    }
    let methods: Vec<String> = world
        .sandbox
        .requests()
        .iter()
        .filter(|request| request.operation == "presence")
        .map(|request| request.method.clone())
        .collect();
    assert_eq!(methods, ["POST", "DELETE"]);
    for (body, status, code) in [
        (
            json!({ "to": "+15551234567", "via": "whatsapp", "state": "recording" }),
            422,
            "recipient_unsupported",
        ),
        (json!({ "to": "+15551234567", "via": "nobody", "state": "recording" }), 422, "unknown_connection"),
        (json!({ "to": "nobody", "state": "recording" }), 400, "recipient_invalid"),
        (json!({ "to": "+15551234567", "state": "dancing" }), 400, "invalid_request"),
        (json!({ "to": "+15551234567" }), 400, "invalid_request"),
    ] {
        let (found, problem) = show(body.clone()).await;
        assert_eq!((found.as_u16(), &problem["code"]), (status, &json!(code)), "{body}: {problem}");
    }
}
