//! Notes whose answer was lost, found again by what the provider tells later, and events for other accounts than that of
//! the address to which they were sent.

use serde_json::{Value, json};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider, ReceiptRule, ReceiptStatus, ReceiptStep};

use super::{Setup, USUAL, only};
use crate::{
    harness::{World, fixture, read},
    receipts::register,
};

const SECRET: &str = "webhook_secret = \"a-secret-of-our-own-0123456789abcdef\"";
const TOKEN: &str = "callback_token = \"a-token-of-our-own-0123456789abcdef\"";

/// The account and the second number of the emulated app.
const APP: &str = "1234567890123456";
const SECOND_NUMBER: &str = "phone_number_id = \"106540352242933\"";

fn lose_the_answer(world: &World, provider: &str) {
    let emulator = Provider::named(provider).expect("an emulator");
    world.sandbox.add_fault(Fault::new(emulator, Operation::Voice, FaultAction::ResetAfter));
}

async fn accept(world: &World, to: &str, via: &str) -> String {
    let query = format!("to={}&via={via}", to.replace('+', "%2B"));
    let (status, note) =
        read(world.post_raw(&query, fixture("speech-24k.mp3")).send().await.expect("an answer")).await;
    assert_eq!(status.as_u16(), 202, "{note}");
    note["id"].as_str().expect("an id").to_owned()
}

fn outcomes(note: &Value) -> Vec<&str> {
    let attempts = note["attempts"].as_array().expect("a list").iter();
    attempts.map(|attempt| attempt["outcome"].as_str().expect("a word")).collect()
}

/// Loses the answer to a note, and waits until a receipt has settled it.
async fn is_found_again(world: &World, connection: &str, provider: &str) {
    register(world, connection).await;
    lose_the_answer(world, provider);
    let id = accept(world, "+15551234567", connection).await;
    let note = world.until_status(&id, "delivered").await;
    assert_eq!(outcomes(&note), ["unknown"], "{connection}: {note}");
    let entry = only(world.delivered(provider));
    let own = |id: &str| id.rsplit('_').next().unwrap_or_default().to_owned();
    let message = note["provider_message_id"].as_str().expect("an id");
    assert_eq!(own(message), own(&entry.message_id), "{connection}");
    assert!(note["error"].is_null() && note["accepted_at"].is_string(), "{note}");
    // Its lane is free: the next note to this person goes out without waiting.
    let next = accept(world, "+15551234567", connection).await;
    world.until_status(&next, "delivered").await;
    assert_eq!(world.delivered(provider).len(), 2, "nothing was sent twice");
}

#[tokio::test]
async fn status_with_the_id_of_the_note_settles_it_at_whatsapp_cloud() {
    let world = USUAL.start().await;
    is_found_again(&world, "whatsapp-cloud", "whatsapp-cloud").await;
    let entry = &world.delivered("whatsapp-cloud")[0];
    assert!(entry.request["biz_opaque_callback_data"].as_str().is_some_and(|id| id.starts_with("vn_")));
}

#[tokio::test]
async fn message_sent_by_the_api_settles_the_note_with_every_engine_of_waha() {
    for session in ["default", "wpp", "noweb", "gows"] {
        let more = format!("{SECRET}\nsession = \"{session}\"");
        let world = Setup { more: &[("waha", &more)], ..USUAL }.start().await;
        is_found_again(&world, "waha", "waha").await;
    }
}

#[tokio::test]
async fn message_sent_by_the_api_settles_the_note_at_evolution() {
    let world = Setup { more: &[("evolution", TOKEN)], ..USUAL }.start().await;
    is_found_again(&world, "evolution", "evolution").await;
}

/// An engine that calls people by another id in events tells late of a note that is known. That is not the next note with
/// the same audio to the same person, whose answer was lost.
#[tokio::test]
async fn late_event_of_one_note_does_not_settle_another() {
    let more = format!("{SECRET}\nsession = \"gows\"");
    let world = Setup { more: &[("waha", &more)], ..USUAL }.start().await;
    register(&world, "waha").await;
    world.sandbox.add_receipt_rule(ReceiptRule {
        provider: Provider::named("waha"),
        to: None,
        times: None,
        steps: Vec::new(),
    });
    let first = accept(&world, "+15551234567", "waha").await;
    world.until_status(&first, "accepted").await;
    lose_the_answer(&world, "waha");
    let second = accept(&world, "+15551234567", "waha").await;
    world.until_status(&second, "unknown").await;
    let [known, lost] = world.delivered("waha").try_into().expect("two messages");
    assert!(world.sandbox.receipt(known.id, ReceiptStatus::Accepted).await);
    assert_eq!(world.note(&second).await["status"], "unknown");
    assert!(world.sandbox.receipt(lost.id, ReceiptStatus::Accepted).await);
    let note = world.until_status(&second, "accepted").await;
    let own = lost.message_id.rsplit('_').next().expect("an id");
    assert!(note["provider_message_id"].as_str().is_some_and(|id| id.ends_with(own)), "{note}");
}

#[tokio::test]
async fn status_of_another_number_finds_its_connection() {
    let world = Setup { connections: &[("second", "whatsapp-cloud", SECOND_NUMBER)], ..USUAL }.start().await;
    // One address serves all numbers of the app: that of the first connection.
    let config = std::fs::read_to_string(world.folder.path().join("config.toml")).expect("the configuration");
    let config: toml::Table = config.parse().expect("TOML");
    let settings = &config["tenants"]["a"]["connections"]["whatsapp-cloud"];
    let text = |key: &str| settings[key].as_str().expect("a text").to_owned();
    let body = json!({
        "object": "whatsapp_business_account",
        "callback_url": format!("{}/callbacks/a/whatsapp-cloud", world.url),
        "verify_token": text("verify_token"),
    });
    let request = world.http.post(format!("{}/{APP}/subscriptions", text("base_url")));
    let request = request.bearer_auth(text("access_token")).json(&body);
    let (status, answer) = read(request.send().await.expect("an answer")).await;
    assert_eq!((status.as_u16(), &answer["success"]), (200, &json!(true)), "{answer}");

    for via in ["second", "whatsapp-cloud"] {
        let id = accept(&world, "+15551234567", via).await;
        let note = world.until_status(&id, "delivered").await;
        assert_eq!((note["via"].as_str(), outcomes(&note)), (Some(via), vec!["accepted"]));
    }
    // A note of the second number whose answer was lost is found over the address of the first.
    lose_the_answer(&world, "whatsapp-cloud");
    let id = accept(&world, "+15557770001", "second").await;
    let note = world.until_status(&id, "delivered").await;
    assert_eq!((note["via"].as_str(), outcomes(&note)), (Some("second"), vec!["unknown"]));
    // A later failure comes the same way, with its kind.
    world.sandbox.add_receipt_rule(ReceiptRule {
        provider: Provider::named("whatsapp-cloud"),
        to: None,
        times: None,
        steps: vec![ReceiptStep { code: Some(131_047), ..ReceiptStep::new(ReceiptStatus::Failed, 0) }],
    });
    let id = accept(&world, "+15557770002", "second").await;
    let note = world.until_status(&id, "failed").await;
    assert_eq!(
        (&note["error"]["code"], &note["error"]["stage"]),
        (&json!("conversation_closed"), &json!("receipt"))
    );
}
