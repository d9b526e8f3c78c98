//! Request ids, the minimum of free disk space, and the behaviour of a gateway that is stopping.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::harness::{PHONE, World, fixture, read};

fn id_of(answer: &Response) -> String {
    answer.headers()["x-request-id"].to_str().expect("text").to_owned()
}

#[tokio::test]
async fn every_answer_has_the_id_of_its_request() {
    let world = World::start().await;
    for path in ["/healthz", "/readyz", "/docs", "/voice", "/nowhere", "/m/x/y", "/voice/vn_x"] {
        let own = world.get(path).header("x-request-id", "bot-7/42").send().await.expect("an answer");
        assert_eq!(id_of(&own), "bot-7/42", "{path}");
        for unfit in ["", "with space", "tab\there", &"x".repeat(129)] {
            let answer = world.get(path).header("x-request-id", unfit).send().await.expect("an answer");
            let made = id_of(&answer);
            assert!(made.len() == 32 && made != unfit, "{path}: {made}");
        }
        let (one, other) = (world.get(path).send().await, world.get(path).send().await);
        assert_ne!(id_of(&one.expect("an answer")), id_of(&other.expect("an answer")));
    }
}

#[tokio::test]
async fn a_problem_names_its_request_and_a_note_keeps_it() {
    let world = World::start().await;
    let answer = world.post_json(&json!({})).header("x-request-id", "r-1").send().await.expect("an answer");
    let (status, problem) = read(answer).await;
    assert_eq!((status, &problem["request_id"]), (StatusCode::BAD_REQUEST, &json!("r-1")));
    let refused = world.http.get(format!("{}/voice", world.url)).send().await.expect("an answer");
    let id = id_of(&refused);
    assert_eq!(read(refused).await.1["request_id"], json!(id));

    let locked = FaultAction::Status { status: 401, body: None, headers: [].into(), retry_after: None };
    world.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Chats, locked));
    let request =
        world.post_raw("to=%2B15551234567", fixture("speech-24k.mp3")).header("x-request-id", "r-2");
    let (_, note) = read(request.send().await.expect("an answer")).await;
    let note = world.until_status(note["id"].as_str().expect("an id"), "failed").await;
    // The request that reads the note has another id.
    assert_eq!(note["error"].get("request_id"), None, "{note}");
    let id = note["id"].as_str().expect("an id").parse().expect("an id");
    let stored = world.gateway.store.note(id, None).await.expect("a store").expect("a note");
    assert_eq!(stored.request_id.as_deref(), Some("r-2"));
}

#[tokio::test]
async fn audio_is_refused_if_the_disk_is_nearly_full() {
    let world =
        World::with(|config| config.replace("[storage]", "[storage]\nmin_free = \"8000000 TiB\"")).await;
    let mp3 = fixture("speech-24k.mp3");
    let form = || {
        let audio = reqwest::multipart::Part::bytes(mp3.clone()).file_name("a.mp3");
        reqwest::multipart::Form::new().text("to", PHONE).part("audio", audio)
    };
    let url = |path: &str| format!("{}{path}", world.url);
    let inline = json!({ "to": PHONE, "audio": { "data": BASE64_STANDARD.encode(&mp3) } });
    // This takes a row now, and a download later.
    let by_url = json!({ "to": PHONE, "audio": { "url": format!("{}/docs", world.url) } });
    let requests = [
        world.post_json(&by_url),
        world.post_raw("to=%2B15551234567", mp3.clone()),
        world.http.post(url("/voice")).bearer_auth(crate::harness::KEY).multipart(form()),
        world.post_json(&inline),
        world
            .http
            .post(url("/media"))
            .bearer_auth(crate::harness::KEY)
            .body(mp3.clone())
            .header("content-type", "audio/mpeg"),
    ];
    for request in requests {
        let answer = request.send().await.expect("an answer");
        assert!(answer.headers().contains_key("retry-after"));
        let (status, problem) = read(answer).await;
        assert_eq!((status, &problem["code"]), (StatusCode::INSUFFICIENT_STORAGE, &json!("storage_full")));
    }
    assert_eq!(world.stray_files(), [""; 0].map(std::path::PathBuf::from));
    assert_eq!(world.gateway.store.queue_depth().await.expect("a number"), 0);
    world.gateway.audio_test.run(&world.gateway).await;
    let (status, ready) = read(world.get("/readyz").send().await.expect("an answer")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let checks: Vec<&Value> =
        ["database", "media", "ffmpeg", "disk"].iter().map(|name| &ready["checks"][name]["status"]).collect();
    assert_eq!(checks, ["ok", "ok", "ok", "failed"], "{ready}");
    let confinement = ready["checks"]["ffmpeg"]["confinement"].as_str().expect("it has run");
    assert!(["enforced", "partial", "unavailable"].contains(&confinement), "{confinement}");
    let reason = ready["checks"]["disk"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("storage.min_free"), "{reason}");
}

#[tokio::test]
async fn audio_is_refused_if_the_media_folder_is_missing() {
    let world = World::start().await;
    world.gateway.audio_test.run(&world.gateway).await;
    let (media, moved) = (world.folder.path().join("media"), world.folder.path().join("moved"));
    let large = wav(400 << 10);
    std::fs::rename(&media, &moved).expect("moved");
    for empty in [false, true] {
        if empty {
            // The folder is like the mount point of a disk that is not mounted.
            std::fs::create_dir_all(media.join("incoming")).expect("made");
        }
        let answer = world.post_raw("to=%2B15551234567", large.clone()).send().await.expect("an answer");
        assert!(answer.headers().contains_key("retry-after"));
        let (status, problem) = read(answer).await;
        assert_eq!((status, &problem["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("overloaded")));
        let (status, ready) = read(world.get("/readyz").send().await.expect("an answer")).await;
        assert_eq!(
            (status, &ready["checks"]["media"]["status"]),
            (StatusCode::SERVICE_UNAVAILABLE, &json!("failed"))
        );
    }
    assert!(!media.join("notes").exists(), "nothing is kept there");
    std::fs::remove_dir_all(&media).expect("removed");
    std::fs::rename(&moved, &media).expect("back");
    let id = world.accept("", large).await;
    world.until_status(&id, "accepted").await;
}

/// Silence of a number of bytes, as WAV.
fn wav(bytes: u32) -> Vec<u8> {
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + bytes).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend(16_000_u32.to_le_bytes());
    wav.extend(32_000_u32.to_le_bytes());
    wav.extend(b"\x02\0\x10\0data");
    wav.extend(bytes.to_le_bytes());
    wav.resize(44 + bytes as usize, 0);
    wav
}

#[tokio::test]
async fn stopping_gateway_is_not_ready_and_refuses_notes() {
    let world = World::start().await;
    world.gateway.audio_test.run(&world.gateway).await;
    let (status, ready) = read(world.get("/readyz").send().await.expect("an answer")).await;
    assert_eq!((status, ready["checks"].get("shutdown")), (StatusCode::OK, None), "{ready}");
    // A request is in flight, so the gateway cannot stop yet.
    world.sandbox.add_fault(Fault::new(
        Provider::LINQ,
        Operation::Voicememo,
        FaultAction::StallAfter { ms: Some(2000) },
    ));
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&id, "sending").await;
    world.gateway.stop.cancel();

    let answer = world.get("/readyz").send().await.expect("an answer");
    assert_eq!(answer.headers()["connection"], "close");
    let (status, ready) = read(answer).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready["checks"]["shutdown"]["status"], "failed", "{ready}");
    let mp3 = fixture("speech-24k.mp3");
    let upload = world.http.post(format!("{}/media", world.url)).bearer_auth(crate::harness::KEY);
    let resend = world.http.post(format!("{}/voice/{id}/resend", world.url)).bearer_auth(crate::harness::KEY);
    for request in [
        world.post_raw("to=%2B15551234567", mp3.clone()),
        upload.header("content-type", "audio/mpeg").body(mp3),
        resend,
    ] {
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.headers()["retry-after"], "5");
        let (status, problem) = read(answer).await;
        assert_eq!((status, &problem["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("overloaded")));
    }
    assert_eq!(world.note(&id).await["status"], "sending", "what is there can still be read");
}
