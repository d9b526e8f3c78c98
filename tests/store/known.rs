//! Tests of learned facts, run for every store: media handles, connections that open no conversations, and recipients.

use serde_json::json;
use voicegate::{
    model::note::Status,
    store::{Change, Closed, Learned, MediaChange, MediaKey, Step},
};
use voicegate_providers::{Form, MediaHandle};

use crate::support::{Any, accept, after, claim, horizon, start, write};

fn key(connection: &str, form: Form) -> MediaKey {
    MediaKey { connection: format!("t/{connection}"), form, sha256: "ab".repeat(32) }
}

fn handle(value: &str) -> MediaHandle {
    MediaHandle { value: value.to_owned(), valid_until: None }
}

pub async fn media_handle_is_found_by_connection_form_and_bytes_until_it_expires(store: Any) {
    accept(&store, "a", "+1").await;
    let send = claim(&store, start()).await.remove(0);
    let keep = |media| Change { media: Some(media), ..Change::new(send.note.clone(), Step::Progress) };
    let voice = key("a", Form::Voice);
    let ends = MediaHandle { valid_until: Some(after(100)), ..handle("file-1") };
    store.write(&send, &keep(MediaChange::Keep(voice.clone(), ends.clone()))).await.expect("written");
    let found = async |key: &MediaKey, now| store.media(key, now).await.expect("an answer");
    assert_eq!(found(&voice, after(99)).await, Some(ends));
    assert_eq!(found(&voice, after(100)).await, None);
    for other in
        [key("b", Form::Voice), key("a", Form::Audio), MediaKey { sha256: "cd".into(), ..voice.clone() }]
    {
        assert_eq!(found(&other, after(1)).await, None, "{other:?}");
    }
    // A newer handle replaces an older one, and dropping the older one then drops nothing.
    store.write(&send, &keep(MediaChange::Keep(voice.clone(), handle("file-2")))).await.expect("written");
    let drop_old = MediaChange::Forget(voice.clone(), "file-1".to_owned());
    store.write(&send, &keep(drop_old)).await.expect("written");
    assert_eq!(found(&voice, after(1)).await, Some(handle("file-2")));
    let drop_new = MediaChange::Forget(voice.clone(), "file-2".to_owned());
    store.write(&send, &keep(drop_new)).await.expect("written");
    assert_eq!(found(&voice, after(1)).await, None);
}

pub async fn old_media_is_forgotten(store: Any) {
    accept(&store, "a", "+1").await;
    let send = claim(&store, start()).await.remove(0);
    let mut note = send.note.clone();
    (note.status, note.updated_at) = (Status::Accepted, after(5));
    let media = Some(MediaChange::Keep(key("a", Form::Voice), handle("file-1")));
    store.write(&send, &Change { media, ..Change::new(note, Step::Done) }).await.expect("written");
    store.forget(&horizon(after(4))).await.expect("forgotten");
    assert!(store.media(&key("a", Form::Voice), after(9)).await.expect("an answer").is_some());
    store.forget(&horizon(after(5))).await.expect("forgotten");
    assert!(store.media(&key("a", Form::Voice), after(9)).await.expect("an answer").is_none());
}

pub async fn every_claim_says_that_its_connection_opens_no_conversations(store: Any) {
    accept(&store, "a", "+1").await;
    accept(&store, "b", "+2").await;
    let send =
        claim(&store, start()).await.into_iter().find(|claim| claim.connection == "t/a").expect("leased");
    assert_eq!(send.closed, None);
    let closed = Closed { until: after(500), why: "the account was limited".to_owned() };
    let change = Change {
        closed: Some(("t/a".to_owned(), closed.clone())),
        ..Change::new(send.note.clone(), Step::Done)
    };
    store.write(&send, &change).await.expect("written");
    accept(&store, "a", "+3").await;
    accept(&store, "b", "+4").await;
    for claim in claim(&store, after(1)).await {
        assert_eq!(claim.closed.is_some(), claim.connection == "t/a", "{}", claim.connection);
        assert!(claim.closed.is_none_or(|known| known == closed));
    }
    let states = store.connections("t").await.expect("an answer");
    let of_a = states.iter().find(|state| state.connection == "a").expect("a state");
    assert_eq!(of_a.closed, Some(closed));
}

pub async fn successful_attempt_can_pause_its_connection(store: Any) {
    accept(&store, "a", "+1").await;
    let send = claim(&store, start()).await.remove(0);
    let mut note = send.note.clone();
    note.status = Status::Accepted;
    let pause = Some(("t/a".to_owned(), after(60)));
    store.write(&send, &Change { pause, ..Change::new(note, Step::Done) }).await.expect("written");
    accept(&store, "a", "+2").await;
    assert!(claim(&store, after(59)).await.is_empty());
    assert_eq!(claim(&store, after(60)).await.len(), 1);
}

pub async fn learned_facts_are_read_by_lane(store: Any) {
    accept(&store, "a", "+1").await;
    let send = claim(&store, start()).await.remove(0);
    let lane = send.note.lane();
    let learned = Learned::Set { lane: lane.clone(), value: json!({"refused": []}), expires_at: after(50) };
    let change = Change { learned, ..Change::new(send.note.clone(), Step::Progress) };
    store.write(&send, &change).await.expect("written");
    assert_eq!(store.learned(&lane, after(49)).await.expect("an answer"), Some(json!({"refused": []})));
    assert_eq!(store.learned(&lane, after(50)).await.expect("an answer"), None);
    assert_eq!(store.learned("another", after(1)).await.expect("an answer"), None);
}

/// A form was refused: nothing was sent, and a crash before the next form is no interruption.
pub async fn refused_send_goes_back_to_preparation(store: Any) {
    accept(&store, "a", "+1").await;
    let send = claim(&store, start()).await.remove(0);
    write(&store, &send, Step::Dispatching).await.expect("written");
    write(&store, &send, Step::Again).await.expect("written");
    let again = claim(&store, start() + std::time::Duration::from_secs(10_000)).await.remove(0);
    assert!(!again.interrupted);
    write(&store, &again, Step::Dispatching).await.expect("written");
    write(&store, &again, Step::Again).await.expect("written");
    write(&store, &again, Step::Dispatching).await.expect("the next form");
}
