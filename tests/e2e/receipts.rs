//! Receipts end to end: the adapters subscribe to them, the emulators send them, and the gateway verifies and stores
//! them.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value, json};
use voicegate_providers::{
    Context, LookUp, Provider, Settings, UnknownSend,
    dial::{DialOptions, Dialer},
    find,
    guard::{AddressRules, GuardedClient},
    parse_recipient,
    proxy::Proxy,
    trust::Trust,
};
use voicegate_sandbox::{Fault, FaultAction, Operation, ReceiptRule, ReceiptStatus, ReceiptStep};

use crate::harness::{OTHER_KEY, PHONE, World, fixture};

/// The adapter of a connection in the world's configuration, as the commands use it.
pub fn adapter(world: &World, connection: &str) -> Arc<dyn Provider> {
    let text = std::fs::read_to_string(world.folder.path().join("config.toml")).expect("the configuration");
    let config: toml::Table = text.parse().expect("TOML");
    let table = &config["tenants"]["a"]["connections"][connection];
    let mut settings: Map<String, Value> =
        serde_json::from_value(serde_json::to_value(table).expect("JSON")).expect("a table");
    let provider = settings.remove("provider").expect("a provider");
    settings.remove("timeout");
    let descriptor = find(provider.as_str().expect("a name")).expect("an adapter");
    (descriptor.build)(Settings::new(settings)).expect("settings that suffice")
}

#[expect(clippy::disallowed_methods, reason = "the emulators live in real time")]
pub fn context() -> Context {
    let trust = Trust::nobody().expect("TLS settings");
    let guarded =
        GuardedClient::new(AddressRules::default(), Duration::from_secs(5), &trust).expect("a client");
    let http = trust.client().no_proxy().build().expect("a client");
    let dial =
        Dialer::new(DialOptions { proxy: Proxy::None, ..DialOptions::new(trust) }).expect("a dialer").dial();
    Context { http, dial, guarded, now: jiff::Timestamp::now(), timeout: Duration::from_secs(10) }
}

/// Subscribes the world's gateway to receipts, and configures it to verify them.
pub async fn register(world: &World, connection: &str) {
    let url = format!("{}/callbacks/a/{connection}", world.url).parse().expect("a URL");
    let made = adapter(world, connection).register_callbacks(&context(), &url).await.expect("registered");
    if let Some((key, secret)) = made.secret {
        use secrecy::ExposeSecret as _;
        let line = format!("{key} = \"{}\"", secret.expose_secret());
        set(world, connection, &line);
    }
    let status = adapter(world, connection).callback_status(&context(), &url).await.expect("a status");
    assert!(status.starts_with("receipts on"), "{status}");
    adapter(world, connection).register_callbacks(&context(), &url).await.expect("it does no harm again");
}

pub fn set(world: &World, connection: &str, line: &str) {
    let head = format!("[tenants.a.connections.{connection}]");
    world.reconfigure(|text| text.replace(&head, &format!("{head}\n{line}"))).expect("sound");
}

#[tokio::test]
async fn a_memo_is_sent_delivered_and_read() {
    let world = World::start().await;
    register(&world, "imessage").await;
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    let note = world.until_status(&id, "delivered").await;
    assert!(note["sent_at"].is_string() && note["delivered_at"].is_string(), "{note}");
    assert!(world.sandbox.receipt(world.delivered("linq")[0].id, ReceiptStatus::Read).await);
    world.until_status(&id, "read").await;
    assert!(world.sandbox.callbacks().iter().all(|log| log.tries.iter().all(|one| one.status == Some(200))));
}

#[tokio::test]
async fn a_voice_note_is_played() {
    let world = World::start().await;
    set(&world, "whatsapp", &format!("callback_token = \"{OTHER_KEY}\""));
    register(&world, "whatsapp").await;
    let id = world.accept("via=whatsapp", fixture("speech-24k.mp3")).await;
    world.until_status(&id, "delivered").await;
    assert!(world.sandbox.receipt(world.delivered("wawp")[0].id, ReceiptStatus::Played).await);
    let note = world.until_status(&id, "played").await;
    assert!(note["played_at"].is_string() && note["read_at"].is_null(), "missing steps are normal: {note}");
}

#[tokio::test]
async fn later_delivery_replaces_a_failure() {
    let world = World::start().await;
    register(&world, "imessage").await;
    let failed = ReceiptStep { copies: 2, code: Some(3007), ..ReceiptStep::new(ReceiptStatus::Failed, 0) };
    world.sandbox.add_receipt_rule(ReceiptRule {
        provider: None,
        to: None,
        times: None,
        steps: vec![failed],
    });
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    let note = world.until_status(&id, "failed").await;
    assert_eq!(
        (&note["error"]["code"], &note["error"]["stage"]),
        (&json!("provider_rejected"), &json!("receipt"))
    );
    assert_eq!(note["error"]["provider"]["code"], "3007");
    assert!(world.sandbox.receipt(world.delivered("linq")[0].id, ReceiptStatus::Delivered).await);
    let note = world.until_status(&id, "delivered").await;
    assert!(note["error"].is_null(), "{note}");
}

#[tokio::test]
async fn receipt_resolves_a_memo_whose_answer_was_lost() {
    let world = World::with(|config| {
        config.replace("token = \"sandbox-linq-token\"", "token = \"sandbox-linq-token\"\ntimeout = \"1s\"")
    })
    .await;
    register(&world, "imessage").await;
    world.sandbox.add_fault(Fault::new(
        voicegate_sandbox::Provider::LINQ,
        Operation::Voicememo,
        FaultAction::StallAfter { ms: None },
    ));
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    let note = world.until_status(&id, "delivered").await;
    let entry = &world.delivered("linq")[0];
    assert_eq!(note["provider_message_id"], entry.message_id);
    assert_eq!(world.dispatches(), 1, "nothing was sent twice");

    // The provider's records have the same facts, for gateways without receipts.
    let linq = adapter(&world, "imessage");
    let mark = entry.request["attachment_id"].as_str().expect("an upload").to_owned();
    let to = parse_recipient(PHONE).expect("a recipient");
    let mut unknown = UnknownSend { to, correlation_ids: vec![mark], dispatched_at: context().now };
    let found = linq.look_up(&context(), &unknown).await.expect("an answer");
    assert!(matches!(found, LookUp::Found(accepted) if accepted.message_id == entry.message_id));
    unknown.correlation_ids = vec!["00000000-0000-4000-8000-000000000000".to_owned()];
    assert_eq!(linq.look_up(&context(), &unknown).await.expect("an answer"), LookUp::NotSeen);
}
