//! `GET /usage`: exact, of one tenant, and kept when notes are erased or removed.

use std::time::Duration;

use serde_json::{Value, json};
use voicegate::delivery::housekeeping::remove_what_is_old;
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::harness::{KEY, OTHER_KEY, World, fixture, read};

async fn usage(world: &World, query: &str) -> Value {
    let (status, answer) = read(world.get(&format!("/usage{query}")).send().await.expect("an answer")).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

#[tokio::test]
async fn usage_is_the_sum_of_all_notes_and_outlives_them() {
    let world = World::start().await;
    assert_eq!(usage(&world, "").await["items"], json!([]));
    let mut notes = Vec::new();
    for query in ["", "via=whatsapp"] {
        let id = world.accept(query, fixture("speech-24k.mp3")).await;
        notes.push(world.until_status(&id, "accepted").await);
    }
    let refused =
        FaultAction::Status { status: 400, body: None, headers: Default::default(), retry_after: None };
    world.sandbox.add_fault(Fault::new(Provider::WAWP, Operation::Voice, refused));
    let id = world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
    notes.push(world.until_status(&id, "failed").await);

    let sum = |at: &str, of: &dyn Fn(&Value) -> bool| -> u64 {
        notes.iter().filter(|note| of(note)).filter_map(|note| note.pointer(at)?.as_u64()).sum()
    };
    let items = usage(&world, "?by=connection").await["items"].clone();
    assert_eq!(items.as_array().map(Vec::len), Some(2), "{items}");
    for (item, via, by_status) in [
        (&items[0], "imessage", json!({ "accepted": 1 })),
        (&items[1], "whatsapp", json!({ "accepted": 1, "failed": 1 })),
    ] {
        let of = |note: &Value| note["via"] == via;
        assert_eq!(item["key"], via);
        assert_eq!(
            item["notes"],
            by_status.as_object().map_or(0, |all| all.values().filter_map(Value::as_u64).sum())
        );
        assert_eq!(item["bytes_in"], sum("/audio/source/size_bytes", &of));
        assert_eq!(item["bytes_out"], sum("/audio/sent/size_bytes", &of));
        let ms = item["seconds"].as_f64().expect("a number") * 1000.0;
        assert_eq!(format!("{ms:.0}"), sum("/audio/source/duration_ms", &of).to_string());
        assert_eq!(item["attempts"], item["notes"]);
        assert_eq!(item["by_status"], by_status);
    }
    let by_status = usage(&world, "?by=status").await;
    assert_eq!(
        (&by_status["items"][0]["key"], &by_status["items"][0]["notes"]),
        (&json!("accepted"), &json!(2))
    );
    assert_eq!(
        (&by_status["items"][1]["key"], &by_status["items"][1]["notes"]),
        (&json!("failed"), &json!(1))
    );

    let before = usage(&world, "").await;
    let today = before["to"].as_str().expect("a date");
    assert_eq!((&before["items"][0]["key"], &before["items"][0]["notes"]), (&json!(today), &json!(3)));
    let path = format!("{}/voice/{}", world.url, notes[0]["id"].as_str().expect("an id"));
    let erased = world.http.delete(path).bearer_auth(KEY).send().await.expect("an answer");
    assert_eq!(erased.status(), 204);
    assert_eq!(usage(&world, "").await, before, "an erased note counts");
    let range = format!("?from={today}&to={today}");
    let that_day = usage(&world, &range).await["items"].clone();
    world.clock.advance(Duration::from_secs(40 * 24 * 60 * 60));
    // The audio goes first, and then the notes.
    for _ in 0..2 {
        remove_what_is_old(&world.gateway).await.expect("removed");
    }
    for note in &notes {
        let path = format!("/voice/{}", note["id"].as_str().expect("an id"));
        assert_eq!(world.get(&path).send().await.expect("an answer").status(), 404);
    }
    assert_eq!(usage(&world, &range).await["items"], that_day, "removed notes count");
    assert_eq!(usage(&world, "").await["items"], json!([]), "the last 30 days have none");
}

#[tokio::test]
async fn usage_is_of_one_tenant_and_of_a_bounded_period() {
    let world = World::start().await;
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&id, "accepted").await;
    let path = format!("{}/usage", world.url);
    let other = world.http.get(&path).bearer_auth(OTHER_KEY).send().await.expect("an answer");
    assert_eq!(read(other).await.1["items"], json!([]));
    assert_eq!(world.http.get(&path).send().await.expect("an answer").status(), 401);
    for (query, field) in [
        ("from=soon", "from"),
        ("to=2026-02-30", "to"),
        ("from=2026-02-01&to=2026-01-01", "from"),
        ("from=2020-01-01&to=2026-01-01", "from"),
        ("by=hour", "by"),
        ("until=2026-01-01", "until"),
    ] {
        let answer = world.get(&format!("/usage?{query}")).send().await.expect("an answer");
        let (status, problem) = read(answer).await;
        assert_eq!((status.as_u16(), &problem["field"]), (400, &json!(field)), "{query}: {problem}");
    }
}
