//! Every fault of the sandbox at the request that shows a note, with every provider: the note ends as the kind of the
//! fault says, and the recipient has it once or not at all. The table is that of the adapters' own test.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use voicegate_sandbox::{Door, Fault, FaultAction, Operation, Provider, Sandbox, SandboxOptions};

use super::{Setup, USUAL};
use crate::harness::{World, fixture, read};

type Rows = BTreeMap<String, String>;

/// The kind of each fault of a provider's visible request, and what follows from each kind.
fn table(provider: &str) -> (Operation, Rows, Rows) {
    let table: toml::Table =
        include_str!("../../../providers/tests/emulators/faults.toml").parse().expect("TOML");
    let rows = |value: &toml::Value| -> Rows { value.clone().try_into().expect("texts") };
    let of_provider = &table[provider];
    let found = [("voice", Operation::Voice), ("voicememo", Operation::Voicememo)];
    let (name, operation) =
        found.into_iter().find(|(name, _)| of_provider.get(name).is_some()).expect("a visible request");
    (operation, rows(&of_provider[name]), rows(&table["dispositions"]))
}

/// A fault by the name that it has in the table.
fn fault(name: &str) -> FaultAction {
    if let Some(status) = name.strip_prefix("status_") {
        let status = status.parse().expect("a status");
        return FaultAction::Status { status, body: None, headers: BTreeMap::new(), retry_after: None };
    }
    if let Some(refusal) = name.strip_prefix("refusal_") {
        return FaultAction::Refusal { name: refusal.to_owned() };
    }
    let found =
        [json!({"kind": name}), json!({"kind": name, "retry_after": 7}), json!({"kind": name, "ms": 20})];
    found.into_iter().find_map(|value| serde_json::from_value(value).ok()).expect("a fault")
}

fn is_processed(fault: &FaultAction) -> bool {
    matches!(fault, FaultAction::ResetAfter | FaultAction::StallAfter { .. } | FaultAction::Garbage)
}

/// Lets the time pass until the note has ended.
async fn end_of(world: &World, id: &str) -> Value {
    for _ in 0..200 {
        let note = world.note(id).await;
        let status = note["status"].as_str().expect("a status");
        if !["queued", "processing", "sending"].contains(&status) {
            return note;
        }
        if status == "queued" {
            world.clock.advance(Duration::from_secs(5));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the note does not end: {:#}", world.note(id).await);
}

async fn judge(provider: &str) {
    let (operation, kinds, dispositions) = table(provider);
    let emulator = Provider::named(provider).expect("an emulator");
    let doors = Sandbox::new(SandboxOptions::default()).doors("http://127.0.0.1");
    let door: &Door = doors.iter().find(|door| door.provider == provider).expect("an emulator");
    // Each fault is met over a connection of its own, because some of them pause the connection.
    let names: Vec<String> = (0..kinds.len()).map(|index| format!("fault-{index}")).collect();
    let settings = "timeout = \"1s\"\ndegrade = []";
    let connections: Vec<_> = names.iter().map(|name| (name.as_str(), provider, settings)).collect();
    let world = Setup { connections: &connections, ..USUAL }.start().await;
    for ((fault_name, kind), via) in kinds.iter().zip(&names) {
        let action = fault(fault_name);
        // Its limits go by a clock of its own.
        world.sandbox.clear();
        world.sandbox.add_fault(Fault::new(emulator, operation, action.clone()));
        let query = format!("to={}&via={via}", door.to.replace('+', "%2B"));
        let request = world.post_raw(&query, fixture("speech-24k.mp3"));
        let (status, note) = read(request.send().await.expect("an answer")).await;
        assert_eq!(status.as_u16(), 202, "{note}");
        let note = end_of(&world, note["id"].as_str().expect("an id")).await;

        let case = format!("{provider} {fault_name} ({kind}): {note:#}");
        assert_eq!(world.sandbox.pending_faults(), 0, "no request met the fault: {case}");
        let arrived = world.delivered(provider).len();
        let is_repeatable = provider == "discord";
        let expected = match dispositions.get(kind).map(String::as_str) {
            // The send succeeds, at once or later.
            None | Some("retry" | "slow_down" | "prepare_again") => ("accepted", 1),
            Some("stop" | "next_form" | "next_connection") => ("failed", 0),
            // The provider knows the note again, so it is repeated.
            Some("hold") if is_repeatable => ("accepted", 1),
            Some("hold") => ("unknown", usize::from(is_processed(&action))),
            Some(other) => panic!("{other} is no disposition"),
        };
        assert_eq!((note["status"].as_str(), arrived), (Some(expected.0), expected.1), "{case}");
        let error = &note["attempts"][0]["error"]["code"];
        assert_eq!(error.is_null(), kind == "ok" || kind == "outdated", "{case}");
    }
}

macro_rules! providers {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                judge($name).await;
            }
        )*

        #[test]
        fn every_provider_is_judged() {
            let mut judged = vec![$($name),*];
            judged.sort_unstable();
            let mut known: Vec<&str> = voicegate_providers::PROVIDERS.iter().map(|one| one.name).collect();
            known.sort_unstable();
            assert_eq!(judged, known);
        }
    };
}

providers! {
    linq_shows_no_note_twice: "linq",
    wawp_shows_no_note_twice: "wawp",
    waha_shows_no_note_twice: "waha",
    evolution_shows_no_note_twice: "evolution",
    whatsapp_cloud_shows_no_note_twice: "whatsapp-cloud",
    telegram_shows_no_note_twice: "telegram",
    discord_shows_no_note_twice: "discord",
    http_shows_no_note_twice: "http",
}
