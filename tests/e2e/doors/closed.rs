//! Senders that may open no new conversations for now, and pauses that a provider announces.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use voicegate::{config::Layers, gateway::Gateway};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use super::{Setup, USUAL, codes, plan, requests, send, shown};
use crate::harness::{World, attempts, fixture, read};

const ROUTES: &str = "routes.waha-first = [\"waha\", \"whatsapp-cloud\"]\n\
                      aliases.friend = { waha = \"+15557770001\", whatsapp-cloud = \"+15557770001\" }";

async fn world() -> World {
    Setup { tenant: ROUTES, ..USUAL }.start().await
}

/// Sends a note to a number, over the route or connection.
async fn note_to(world: &World, to: &str, via: &str) -> Value {
    let to = to.replace('+', "%2B");
    let (status, note) = send(world, &format!("to={to}&via={via}"), fixture("speech-24k.mp3")).await;
    assert_eq!(status, StatusCode::OK, "{note}");
    note
}

fn attempted(note: &Value) -> (Option<&str>, usize) {
    (note["via"].as_str(), attempts(note))
}

fn time_lock(world: &World) {
    let waha = Provider::named("waha").expect("an emulator");
    let action = FaultAction::Refusal { name: "time_lock".to_owned() };
    world.sandbox.add_fault(Fault::new(waha, Operation::Voice, action));
}

#[tokio::test]
async fn time_lock_of_a_sender_is_remembered_until_it_ends() {
    let world = world().await;
    // Two people were written to before the lock, one of them by an alias.
    for to in ["+15551234567", "alias:friend"] {
        assert_eq!(attempted(&note_to(&world, to, "waha-first").await), (Some("waha"), 1));
    }
    time_lock(&world);
    // The clock of the gateway stands still, so the next connection has the note without any wait.
    let refused = note_to(&world, "+15557770002", "waha-first").await;
    assert_eq!(attempted(&refused), (Some("whatsapp-cloud"), 2), "{refused}");
    let first = &refused["attempts"][0];
    assert_eq!(
        (&first["outcome"], &first["error"]["code"]),
        (&json!("refused"), &json!("conversation_closed"))
    );
    assert_eq!(requests(&world, "waha", "voice"), 3);

    // The next new conversation makes no attempt there; conversations that exist go on.
    let next = note_to(&world, "+15557770003", "waha-first").await;
    assert_eq!(attempted(&next), (Some("whatsapp-cloud"), 1), "{next}");
    assert_eq!(requests(&world, "waha", "voice"), 3, "nothing was asked");
    for to in ["+15551234567", "15551234567@c.us", "15551234567@s.whatsapp.net", "alias:friend"] {
        assert_eq!(attempted(&note_to(&world, to, "waha-first").await), (Some("waha"), 1), "{to}");
    }
    // Without another connection the note fails, and says why.
    let (status, problem) = send(&world, "to=%2B15557770004&via=waha", fixture("speech-24k.mp3")).await;
    assert_eq!((status.as_u16(), &problem["code"]), (424, &json!("conversation_closed")), "{problem}");
    assert_eq!(attempts(&world.note(problem["id"].as_str().expect("an id")).await), 0);

    // It is shown, and plans say so.
    assert!(shown(&world, "waha").await["conversations_closed_until"].is_string());
    let planned = plan(&world, "to=%2B15557770004&via=waha", fixture("speech-24k.mp3")).await;
    assert_eq!(
        (&planned["verdict"], codes(&planned["reasons"])),
        (&json!("refused"), vec!["conversation_closed"])
    );
    let forms = planned["forms"].as_array().expect("forms");
    assert!(forms.iter().all(|form| form["chosen"] == false), "{forms:?}");
    assert!(forms[0]["reason"].is_string() && forms[0]["until"].is_string(), "{forms:?}");
    let planned = plan(&world, "to=%2B15551234567&via=waha", fixture("speech-24k.mp3")).await;
    assert_eq!(planned["verdict"], "ok", "{planned}");

    // The emulated server names the end of the lock: a day after it was asked.
    world.clock.advance(Duration::from_secs(23 * 60 * 60));
    assert_eq!(attempted(&note_to(&world, "+15557770005", "waha-first").await), (Some("whatsapp-cloud"), 1));
    world.clock.advance(Duration::from_secs(2 * 60 * 60));
    assert_eq!(attempted(&note_to(&world, "+15557770006", "waha-first").await), (Some("waha"), 1));
    assert!(shown(&world, "waha").await["conversations_closed_until"].is_null());
}

#[tokio::test]
async fn time_lock_is_known_after_a_restart() {
    let world = world().await;
    time_lock(&world);
    note_to(&world, "+15557770002", "waha-first").await;
    let clock = world.clock.clone();
    let folder = world.stop().await;
    let layers = Layers::of_file(Some(folder.path().join("config.toml")));
    let gateway = Gateway::open(layers, clock).await.expect("a gateway");
    let states = gateway.store.connections("a").await.expect("the states");
    let closed: Vec<&str> = states
        .iter()
        .filter(|state| state.closed.as_ref().is_some_and(|closed| closed.until > gateway.clock.now()))
        .map(|state| state.connection.as_str())
        .collect();
    assert_eq!(closed, ["waha"]);
}

#[tokio::test]
async fn window_of_one_conversation_says_nothing_about_others() {
    let world = world().await;
    world
        .reconfigure(|config| {
            config.replace("routes.both", "routes.cloud-first = [\"whatsapp-cloud\", \"waha\"]\nroutes.both")
        })
        .expect("sound");
    // The emulator refuses this number with Meta's code 131047: the person has not written for a day.
    let closed = note_to(&world, "+15550131047", "cloud-first").await;
    assert_eq!(attempted(&closed), (Some("waha"), 2), "{closed}");
    assert_eq!(closed["attempts"][0]["error"]["code"], "conversation_closed");
    assert!(shown(&world, "whatsapp-cloud").await["conversations_closed_until"].is_null());
    let open = note_to(&world, "+15557770002", "cloud-first").await;
    assert_eq!(attempted(&open), (Some("whatsapp-cloud"), 1), "{open}");
    // The person may write at any time, so it is tried again.
    let again = note_to(&world, "+15550131047", "cloud-first").await;
    assert_eq!(attempted(&again), (Some("waha"), 2), "{again}");
}

#[tokio::test]
async fn pause_that_a_success_announces_holds_for_the_whole_connection() {
    let world = Setup { ..USUAL }.start().await;
    let discord = Provider::named("discord").expect("an emulator");
    let headers =
        [("x-ratelimit-global", "true"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset-after", "30")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let body = json!({"id": "3000000000000000001", "channel_id": "2000000000000000001"});
    let action = FaultAction::Status { status: 200, body: Some(body), headers, retry_after: None };
    world.sandbox.add_fault(Fault::new(discord, Operation::Voice, action));
    let first = note_to(&world, "discord:2000000000000000001", "discord").await;
    assert_eq!(first["status"], "accepted");

    // Another channel of the same connection waits; another connection does not.
    let request =
        world.post_raw("to=discord:user:3000000000000000001&via=discord", fixture("speech-24k.mp3"));
    let (_, waiting) = read(request.send().await.expect("an answer")).await;
    let id = waiting["id"].as_str().expect("an id");
    assert_eq!(note_to(&world, "telegram:123456789", "telegram").await["status"], "accepted");
    assert_eq!(shown(&world, "discord").await["health"], "paused");
    assert_eq!(requests(&world, "discord", "voice"), 1);
    world.clock.advance(Duration::from_secs(29));
    assert_eq!(attempts(&world.note(id).await), 0);
    world.clock.advance(Duration::from_secs(2));
    world.until_status(id, "accepted").await;
    assert_eq!(requests(&world, "discord", "voice"), 2);
}
