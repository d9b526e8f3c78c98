//! Sends the table of `tests/fixtures/audio/matrix.toml` through the whole gateway. Independent tools check the audio
//! that the emulators received.

#[path = "../support/audio_tools.rs"]
#[expect(dead_code, reason = "shared with the tests of the engine alone")]
mod tools;

use futures_util::StreamExt;
use serde_json::Value;
use tools::{Input, Made, ffprobe, opusinfo, table};
use voicegate_sandbox::LedgerEntry;

use crate::harness::{World, fixture, read};

/// The connection, the profile and the emulator.
const TARGETS: [(&str, &str, &str); 3] =
    [("imessage", "linq-1", "linq"), ("whatsapp", "whatsapp-1", "wawp"), ("fullband", "whatsapp-3", "wawp")];

#[tokio::test(flavor = "multi_thread")]
async fn every_source_arrives_as_the_table_says() {
    let world = World::with(|config| {
        let (_, whatsapp) = config.split_once("[tenants.a.connections.whatsapp]").expect("a connection");
        let (whatsapp, _) = whatsapp.split_once("[tenants.b]").expect("a tenant");
        let fullband = format!("[tenants.a.connections.fullband]\nprofile = \"whatsapp-3\"{whatsapp}");
        format!("{config}\n{fullband}")
    })
    .await;
    let table = table();
    let cases: Vec<_> = table.input.iter().flat_map(|input| TARGETS.map(|target| (input, target))).collect();
    assert!(cases.len() > 60, "the table is there");
    futures_util::stream::iter(&cases)
        .map(|(input, target)| send_and_judge(&world, input, *target, &table.made))
        .buffer_unordered(4)
        .collect::<Vec<()>>()
        .await;
    assert_eq!(world.delivered("linq").len() + world.delivered("wawp").len(), cases.len());
    assert_eq!(world.stray_files(), [""; 0].map(std::path::PathBuf::from));
}

/// The structure of the audio is valid, so the request is accepted. Decoding fails before anything is sent.
#[tokio::test(flavor = "multi_thread")]
async fn audio_with_hidden_damage_fails_before_it_is_sent() {
    let world = World::start().await;
    let mut audio = fixture("speech-moov-first.m4a");
    let sound = audio.windows(4).position(|name| name == b"mdat").expect("the sound") + 4;
    audio[sound..].fill(0xff);
    for (case, wait) in [("at once", "wait=0"), ("waited for", "wait=60")] {
        let request = world.post_raw("to=%2B15551234567", audio.clone()).header("prefer", wait);
        let (status, answer) = read(request.send().await.expect("an answer")).await;
        let id = answer["id"].as_str().expect("an id");
        let note = world.until_status(id, "failed").await;
        let problem = if wait == "wait=0" { &note["error"] } else { &answer };
        assert_eq!(status, if wait == "wait=0" { 202 } else { 422 }, "{case}: {answer}");
        assert_eq!(
            (&problem["code"], &problem["stage"]),
            (&"audio_unreadable".into(), &"probe".into()),
            "{case}"
        );
    }
    assert_eq!(world.dispatches(), 0);
    assert_eq!(world.stray_files(), [""; 0].map(std::path::PathBuf::from));
}

/// Two concatenated files. The header of the first counts only its own frames.
#[tokio::test(flavor = "multi_thread")]
async fn contradictory_source_causes_a_warning() {
    let world = World::start().await;
    let joined = fixture("speech-24k.mp3").repeat(2);
    let (status, note) = read(
        world
            .post_raw("to=%2B15551234567", joined.clone())
            .header("prefer", "wait=60")
            .send()
            .await
            .expect("an answer"),
    )
    .await;
    assert_eq!((status, &note["status"]), (reqwest::StatusCode::OK, &"accepted".into()), "{note}");
    let warned = |note: &Value| -> Vec<Value> {
        note["warnings"].as_array().expect("a list").iter().map(|warning| warning["code"].clone()).collect()
    };
    assert_eq!(warned(&note), ["audio_inconsistent"], "{note}");
    assert_eq!(note["audio"]["sent"]["work"], "remuxed", "{note}");
    assert!(note["audio"]["source"]["duration_ms"].as_u64().is_some_and(|ms| ms > 5_990), "{note}");

    let refused = world.post_raw("to=%2B15551234567&strict=true", joined).send().await.expect("an answer");
    let (status, problem) = read(refused).await;
    assert_eq!(
        (status.as_u16(), &problem["code"], &problem["stage"]),
        (422, &"audio_inconsistent".into(), &"probe".into()),
        "{problem}"
    );
    let fine = world.post_raw("to=%2B15551234567&strict=true", fixture("speech-24k.mp3"));
    let (status, note) = read(fine.header("prefer", "wait=60").send().await.expect("an answer")).await;
    assert_eq!((status.as_u16(), warned(&note)), (200, vec![]), "{note}");
}

async fn send_and_judge(
    world: &World,
    input: &Input,
    (via, profile, provider): (&str, &str, &str),
    made: &std::collections::BTreeMap<String, Made>,
) {
    let case = format!("{} for {profile}", input.file);
    let mut query = format!("to=%2B15551234567&via={via}&filename={}", input.file);
    if let Some(format) = &input.format {
        let format = serde_json::to_string(format).expect("JSON");
        query.extend([
            "&format=",
            &url::form_urlencoded::byte_serialize(format.as_bytes()).collect::<String>(),
        ]);
    }
    let request = world.post_raw(&query, fixture(&input.file)).header("prefer", "wait=60");
    let (status, note) = read(request.send().await.expect("an answer")).await;
    assert_eq!(status, 200, "{case}: {note}");

    let source = &note["audio"]["source"];
    assert_eq!(
        (&source["container"], &source["codec"]),
        (&text(&input.container), &text(&input.codec)),
        "{case}"
    );
    assert!(source["duration_ms"].as_u64().is_some_and(|duration| duration > 0), "{case}");
    assert_eq!(note["audio"]["waveform"].as_array().map(Vec::len), Some(64), "{case}");
    let sent = &note["audio"]["sent"];
    assert_eq!((&sent["work"], &sent["profile"]), (&text(&input.work[profile]), &text(profile)), "{case}");

    let arrived: LedgerEntry = world
        .delivered(provider)
        .into_iter()
        .find(|entry| note["provider_message_id"] == entry.message_id)
        .unwrap_or_else(|| panic!("{case} did not arrive"));
    // Copied packets keep their start: some encoders declare no samples to skip.
    let kept = sent["work"] == "remuxed";
    let problems: Vec<_> =
        arrived.problems.iter().filter(|problem| !(kept && problem.starts_with("Pre-skip is 0"))).collect();
    assert!(problems.is_empty(), "{case}: {problems:?}");
    assert_eq!(sent["sha256"], arrived.sha256.clone().unwrap_or_default(), "{case}");
    let bytes = world.sandbox.audio(&arrived.id).expect("its audio");
    if sent["work"] == "none" {
        assert_eq!(bytes, fixture(&input.file), "{case}: untouched means untouched");
    } else {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), &bytes).expect("written");
        judge(&case, file.path(), sent, &made[profile]);
    }
}

fn judge(case: &str, path: &std::path::Path, sent: &Value, made: &Made) {
    let found = ffprobe(path);
    let stream = &found["streams"][0];
    assert_eq!(found["format"]["format_name"], made.container.as_str(), "{case}");
    assert_eq!(
        (&stream["codec_name"], &stream["codec_name"]),
        (&text(&made.codec), &sent["codec"]),
        "{case}"
    );
    assert_eq!(
        (&stream["channels"], &sent["channels"]),
        (&made.channels.into(), &made.channels.into()),
        "{case}"
    );
    if made.codec == "opus" {
        let said = opusinfo(path);
        let has = |part: &str| assert!(said.contains(part), "{case} lacks {part:?}: {said}");
        has(&format!("Encoded with {}\n", made.vendor.as_deref().expect("a vendor")));
        has(&format!("Original sample rate: {} Hz", sent["sample_rate"]));
        assert!(!said.contains("User comments section follows"), "{case}: {said}");
    } else {
        assert_eq!(stream["sample_rate"], sent["sample_rate"].to_string(), "{case}");
    }
}

fn text(text: &str) -> Value {
    text.into()
}
