//! Hostile and unusual files that people send in through the emulators of two providers. Each affects only its own note.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use voicegate_sandbox::SentIn;

#[cfg(target_os = "linux")]
use crate::hostile::children;
use crate::{
    bot::Bot,
    harness::{KEY, World, fixture},
    hostile::{
        has_one_heap, resident_kib,
        rows::{Row, rows},
    },
    house::{path, received},
    inbound::{PROVIDERS, files_in, with_emulators},
    waha_server::WahaServer,
};

/// WAHA names an address in its callback. Telegram names a file, whose address has to be asked for.
const DOORS: [&str; 2] = ["waha", "telegram"];

/// The most notes that are on their way at the same time.
const UNDER_WAY: usize = 7;

/// Sends a file in through a provider, as a person would.
async fn say(world: &World, base: &str, door: &str, bytes: &[u8], more: Value) -> SentIn {
    let from = PROVIDERS.iter().find(|(name, ..)| *name == door).expect("a provider").2;
    let mut order = json!({ "provider": door, "from": from, "audio": BASE64_STANDARD.encode(bytes) });
    order.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let order = serde_json::from_value(order).expect("an order");
    let sent = world.sandbox.send_in(base, order).await.unwrap_or_else(|why| panic!("{door}: {why}"));
    assert!(sent.answers.iter().all(|answer| answer == "200"), "{door}: {:?}", sent.answers);
    sent
}

/// Waits for a number of deliveries without copying them.
async fn until_told(bot: &Bot, times: usize) {
    let mut told = bot.count();
    let waiting = told.wait_for(|told| told.len() >= times);
    let in_time = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    assert!(in_time.is_ok(), "waited in vain for {times} deliveries");
}

/// The code that a received note with this file ends with; `null` if it is received.
fn expected(row: &Row) -> Value {
    match &row.refused {
        // A name that hints at headerless samples is not told by the provider.
        Some(refused) if refused.code == "audio_format_required" => json!("audio_unreadable"),
        Some(refused) => json!(refused.code),
        None => Value::Null,
    }
}

#[test]
fn every_hostile_file_that_comes_in_ends_and_leaves_nothing() {
    if has_one_heap("hostile_received::every_hostile_file_that_comes_in_ends_and_leaves_nothing") {
        tokio::runtime::Runtime::new().expect("a runtime").block_on(let_them_all_in());
    }
}

async fn let_them_all_in() {
    // Headerless samples have no declared format when they come in.
    let rows: Vec<Row> = rows().into_iter().filter(|row| row.format.is_none()).collect();
    let files: Vec<Vec<u8>> = rows.iter().map(Row::bytes).collect();
    let (world, bot, base) = with_emulators("[tenants.a.inbound]\nrenders = [\"mp3-1\"]\n").await;
    let mut sizes = Vec::new();
    for (round, door) in DOORS.into_iter().enumerate() {
        let before = round * files.len();
        let mut sent: HashMap<String, usize> = HashMap::new();
        for (number, file) in files.iter().enumerate() {
            let message = say(&world, &base, door, file, json!({})).await.message_id;
            sent.insert(message, number);
            until_told(&bot, (before + number + 1).saturating_sub(UNDER_WAY)).await;
        }
        world.pass_until_told(&bot, before + files.len()).await;
        let told = bot.told(before + files.len()).await.split_off(before);
        let mut wrong = Vec::new();
        let mut kept = Vec::new();
        for note in told.iter().map(received) {
            let number = sent.remove(path(&note["provider_message_id"])).expect("one event for each note");
            let (row, code) = (&rows[number], expected(&rows[number]));
            let status = if code.is_null() { "received" } else { "failed" };
            if (&note["status"], &note["error"]["code"], &note["via"])
                != (&json!(status), &code, &json!(door))
            {
                wrong.push(format!("{}: {} and not {code}", row.name, note["error"]));
            }
            if code.is_null() {
                kept.push(path(&note["id"]).to_owned());
            }
        }
        assert!(wrong.is_empty(), "through {door}:\n{}", wrong.join("\n"));
        assert!(sent.is_empty(), "through {door}, no event came for {sent:?}");
        check_that_nothing_stays(&world, &kept).await;
        // The emulators keep what people sent.
        world.sandbox.clear();
        sizes.push(resident_kib());
    }
    let sent_kib = files.iter().map(|file| file.len() as u64).sum::<u64>() / 1024;
    println!("in memory after each round: {sizes:?} KiB; sent in each: {sent_kib} KiB");
    // The heap keeps up to half of that for later use. A copy of every file that stays is more than all of it.
    assert!(sizes[1] <= sizes[0] + sent_kib * 3 / 4, "{sizes:?}, {sent_kib} were sent");
}

/// Neither files nor processes stay, once a bot has erased what it received. The audio of a note that failed goes a moment
/// after its event.
async fn check_that_nothing_stays(world: &World, received: &[String]) {
    for id in received {
        let request = world.http.delete(format!("{}/received/{id}", world.url)).bearer_auth(KEY);
        assert_eq!(request.send().await.expect("an answer").status(), 204);
    }
    let folder = world.folder.path().join("media/received");
    let gone = async {
        while !files_in(&folder).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .unwrap_or_else(|_| panic!("files stay: {:?}", files_in(&folder)));
    let kept = world.gateway.store.kept_audio().await.expect("a list");
    assert_eq!(kept.iter().map(|(_, bytes)| bytes).sum::<u64>(), 0);
    assert_eq!(world.stray_files(), [""; 0].map(PathBuf::from));
    #[cfg(target_os = "linux")]
    assert_eq!(children(), 0);
}

/// A server that hands out something else than the file. The note ends with a code, and no stranger is asked.
#[tokio::test(flavor = "multi_thread")]
async fn file_that_a_provider_does_not_hand_out_ends_with_its_code() {
    let stranger = WahaServer::start().await;
    let (world, bot, base) = with_emulators("[audio]\nmax_bytes = \"1 MiB\"\n").await;
    let ogg = fixture("recorder-wideband.ogg");
    let elsewhere = format!("{}/api/files/default/voice.oga", stranger.url);
    let faults = [
        (json!({ "kind": "expired" }), "source_unreachable"),
        (json!({ "kind": "redirect", "to": elsewhere }), "source_unreachable"),
        (json!({ "kind": "html" }), "audio_unreadable"),
        (json!({ "kind": "oversize", "bytes": 2 << 20 }), "audio_too_large"),
    ];
    let mut count = 0;
    for door in DOORS {
        for (fault, code) in &faults {
            let sent = say(&world, &base, door, &ogg, json!({ "media": fault })).await;
            count += 1;
            // Telegram is asked again for a file that it may not have at the moment.
            world.pass_until_told(&bot, count).await;
            let note = received(&bot.told(count).await[count - 1]);
            assert_eq!(note["provider_message_id"], sent.message_id);
            assert_eq!(
                (&note["status"], &note["error"]["code"]),
                (&json!("failed"), &json!(code)),
                "{door}, {fault}: {note}"
            );
        }
    }
    assert!(stranger.asked().is_empty(), "a redirect is not followed");
    check_that_nothing_stays(&world, &[]).await;
}

/// Bots may download at most 20 MB (<https://core.telegram.org/bots/api#getfile>), whatever the gateway takes. Telegram says so
/// when it is asked where the file is, so nothing is downloaded.
#[tokio::test(flavor = "multi_thread")]
async fn file_beyond_telegrams_limit_is_too_large() {
    let (world, bot, base) = with_emulators("").await;
    let sent = say(&world, &base, "telegram", &vec![0; (20 << 20) + 1], json!({})).await;
    let note = received(&bot.told(1).await[0]);
    assert_eq!(note["provider_message_id"], sent.message_id);
    assert_eq!(
        (&note["status"], &note["error"]["code"], &note["error"]["stage"]),
        (&json!("failed"), &json!("audio_too_large"), &json!("fetch")),
        "{note}"
    );
    let requests = world.sandbox.requests();
    let asked: Vec<&str> = requests
        .iter()
        .filter(|request| request.provider == "telegram" && request.operation == "media")
        .filter_map(|request| request.path.rsplit('/').next())
        .collect();
    assert_eq!(asked, ["getFile"]);
    check_that_nothing_stays(&world, &[]).await;
}
