//! Tests of the shares of tenants, run for every store.

use std::time::Duration;

use serde_json::{Map, Value, json};
use voicegate::{
    model::note::{NoteId, SentAudio, Status},
    store::{Acceptance, NewNote, NoteQuery, Page, Step, StoreError},
};
use voicegate_audio::Work;

use crate::{
    lists::{upload, wanted},
    support::{Any, after, claim, horizon, new_note, start, write},
};

const DAY: u64 = 24 * 60 * 60;

/// Builds a note that is due this many seconds after the start, in a queue for three notes and two per tenant.
fn due(tenant: &str, seconds: u64, share: u64) -> NewNote {
    let mut new = new_note(tenant, "c", &NoteId::new().to_string(), start());
    new.note.send_at = Some(after(seconds));
    new.note.expires_at = after(seconds + DAY);
    NewNote { max_queue: 3, max_queue_per_tenant: 2, share, ..new }
}

async fn answers(store: &Any, notes: &[(&str, u64)], share: u64) -> String {
    let mut answers = String::new();
    for (tenant, seconds) in notes {
        let answer = store.accept(&due(tenant, *seconds, share)).await.expect("answered");
        answers.push(if answer == Acceptance::Created { '+' } else { '-' });
    }
    answers
}

pub async fn notes_due_after_a_day_do_not_fill_the_queue(store: Any) {
    let year = 365 * DAY;
    let next_year = [("a", year), ("a", year), ("b", year), ("b", year), ("c", year)];
    assert_eq!(answers(&store, &next_year, 0).await, "+++++");
    assert_eq!(answers(&store, &[("a", year), ("b", DAY + 1)], 0).await, "--", "that has a bound of its own");
    assert_eq!(store.queue_depth().await.expect("a number"), 0);
    assert_eq!(answers(&store, &[("d", 0), ("a", DAY), ("a", 0), ("d", 0)], 0).await, "+++-");
    assert_eq!(store.queue_depth().await.expect("a number"), 3);
}

pub async fn notes_that_become_due_within_a_day_count_as_waiting(store: Any) {
    assert_eq!(answers(&store, &[("a", 2 * DAY), ("a", 3 * DAY), ("b", 2 * DAY)], 0).await, "+++");
    assert_eq!(store.count_near(after(DAY - 1)).await.expect("counted"), 0);
    assert_eq!(store.queue_depth().await.expect("a number"), 0);
    assert_eq!(store.count_near(after(DAY)).await.expect("counted"), 2);
    assert_eq!(store.queue_depth().await.expect("a number"), 2);
    assert_eq!(store.count_near(after(DAY)).await.expect("counted"), 0, "each once");
    assert_eq!(answers(&store, &[("a", 0), ("a", 0), ("a", 9 * DAY), ("a", 9 * DAY)], 0).await, "+-+-");
    // A note is no longer counted, however it leaves the queue.
    let claimed = claim(&store, after(2 * DAY)).await;
    for claim in &claimed {
        write(&store, claim, Step::Done).await.expect("written");
    }
    assert_eq!((claimed.len(), store.queue_depth().await.expect("a number")), (3, 0));
    let scheduled = claim(&store, after(3 * DAY)).await.remove(0);
    write(&store, &scheduled, Step::Done).await.expect("written");
    assert_eq!(
        store.queue_depth().await.expect("a number"),
        0,
        "it was counted with the later ones to its end"
    );
    assert_eq!(answers(&store, &[("a", 9 * DAY), ("a", 9 * DAY)], 0).await, "+-");
}

pub async fn tenant_below_its_share_is_accepted_although_others_fill_the_queue(store: Any) {
    assert_eq!(answers(&store, &[("a", 0), ("a", 0), ("b", 0), ("b", 0)], 1).await, "+++-");
    assert_eq!(answers(&store, &[("c", 0), ("c", 0), ("d", 0), ("d", 0)], 1).await, "+-+-");
    assert_eq!(answers(&store, &[("b", 0), ("e", 0)], 0).await, "--");
}

async fn kept(store: &Any) -> Vec<(String, u64)> {
    let mut kept = store.kept_audio().await.expect("counted");
    kept.retain(|(_, bytes)| *bytes > 0);
    kept.sort();
    kept
}

fn kept_by(of: &[(&str, u64)]) -> Vec<(String, u64)> {
    of.iter().map(|(tenant, bytes)| ((*tenant).to_owned(), *bytes)).collect()
}

pub async fn kept_audio_counts_for_its_tenant(store: Any) {
    let (first, second) = (upload("t", after(10)), upload("u", after(10)));
    for upload in [&first, &second, &first] {
        store.add_upload(upload).await.expect("added");
    }
    assert_eq!(kept(&store).await, kept_by(&[("t", 4000), ("u", 4000)]), "each once");
    let mut new = new_note("t", "c", "r", start());
    new.note.probed = Some(first.probed.clone());
    store.accept(&new).await.expect("accepted");
    assert_eq!(kept(&store).await, kept_by(&[("t", 8000), ("u", 4000)]));
    let mut claimed = claim(&store, start()).await.remove(0);
    let facts = first.probed.facts.clone();
    claimed.note.sent = Some(SentAudio {
        facts: voicegate_providers::AudioFacts { size_bytes: 500, ..facts },
        profile: "linq-1".to_owned(),
        work: Work::Transcoded,
        checks: Vec::new(),
    });
    claimed.note.status = Status::Accepted;
    write(&store, &claimed, Step::Done).await.expect("written");
    assert_eq!(kept(&store).await, kept_by(&[("t", 8500), ("u", 4000)]), "with what was made");
    store.upload_audio_removed(first.id).await.expect("recorded");
    store.remove_upload(second.id).await.expect("removed");
    assert_eq!(kept(&store).await, kept_by(&[("t", 4500)]));
    store.audio_removed(new.note.id).await.expect("recorded");
    assert_eq!(kept(&store).await, []);
    // A later receipt does not count the audio again.
    store.forget(&horizon(after(100))).await.expect("forgotten");
    assert_eq!(kept(&store).await, []);
}

/// Nests arrays this deep.
fn nested(levels: usize) -> Map<String, Value> {
    let value = (0..levels).fold(json!(1), |inner, _| Value::Array(vec![inner]));
    Map::from_iter([("a".to_owned(), value)])
}

pub async fn document_that_fails_its_round_trip_is_refused_alone(store: Any) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20 {
        let store = store.clone();
        tasks.spawn(async move {
            let mut new = new_note("t", "c", &number.to_string(), start());
            if number % 4 == 0 {
                new.note.memory = Some(Value::Object(nested(126)));
            }
            match store.accept(&new).await {
                Err(StoreError::Unfit { field }) => assert_eq!((field.as_str(), number % 4), ("memory", 0)),
                accepted => assert_eq!(accepted.expect("accepted"), Acceptance::Created),
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(store.queue_depth().await.expect("a number"), 15);
    let page = store.notes(&wanted("t")).await.expect("a list");
    assert_eq!(page.notes.len(), 15);
    // A change that could not be read back is not stored either.
    let claimed = claim(&store, start()).await.remove(0);
    let mut note = claimed.note.clone();
    note.memory = Some(Value::Object(nested(126)));
    let change = voicegate::store::Change::new(note, Step::Progress);
    assert!(matches!(store.write(&claimed, &change).await, Err(StoreError::Unfit { .. })));
    assert_eq!(store.note(claimed.note.id, None).await.expect("read"), Some(claimed.note));
}

/// Compares every combination of filters, page by page, with a simple filter.
pub async fn every_filter_combination_lists_exactly_the_matching_notes(store: Any) {
    let (vias, recipients) = (["c", "d", "e"], ["+1", "+2"]);
    let statuses = [Status::Queued, Status::Accepted, Status::Failed];
    let mut all = Vec::new();
    for number in 0..72_usize {
        // The combinations come in a shuffled order.
        let pick = number * 29 % 72;
        let tenant = if pick % 2 == 0 { "t" } else { "u" };
        let mut new = new_note(tenant, vias[pick / 2 % 3], recipients[pick / 6 % 2], start());
        new.note.status = statuses[pick / 12 % 3];
        new.note.send_at = Some(start() + Duration::from_secs(60));
        store.accept(&new).await.expect("accepted");
        all.insert(0, new.note);
    }
    for via in [None, Some("c"), Some("e"), Some("x")] {
        for to in [None, Some("+2"), Some("+3")] {
            for status in [None, Some(Status::Failed), Some(Status::Unknown)] {
                let fits = all.iter().filter(|note| {
                    note.tenant == "t"
                        && via.is_none_or(|via| note.current().connection == via)
                        && to.is_none_or(|to| note.to == to)
                        && status.is_none_or(|status| note.status == status)
                });
                let expected: Vec<NoteId> = fits.map(|note| note.id).collect();
                let mut found = Vec::new();
                let mut before = None;
                loop {
                    let wanted = NoteQuery { via, to, status, before, limit: 4, ..wanted("t") };
                    let Page { notes, next } = store.notes(&wanted).await.expect("a page");
                    assert!(notes.len() == 4 || next.is_none(), "a page is full unless it is the last");
                    found.extend(notes.iter().map(|note| note.id));
                    before = next;
                    if next.is_none() {
                        break;
                    }
                }
                assert_eq!(found, expected, "{via:?} {to:?} {status:?}");
            }
        }
    }
}

pub async fn positions_reveal_nothing_about_other_tenants(store: Any) {
    let fail = async |tenant: &str| {
        store.accept(&new_note(tenant, "c", "r", start())).await.expect("accepted");
        let send = claim(&store, start()).await.remove(0);
        let mut note = send.note.clone();
        note.status = Status::Failed;
        store.write(&send, &voicegate::store::Change::new(note, Step::Done)).await.expect("written");
        store.last_event(tenant).await.expect("a position")
    };
    let mut positions = Vec::new();
    for tenant in ["t", "u", "t", "u", "u", "t"] {
        positions.push((tenant, fail(tenant).await));
    }
    for (number, (tenant, position)) in positions.iter().enumerate() {
        assert!(position.parse::<i64>().is_err(), "{position} is a number");
        let foreign = if *tenant == "t" { "u" } else { "t" };
        let behind = async |tenant: &str| {
            let after = Some(position.as_str());
            let wanted = voicegate::store::EventQuery { tenant, note: None, after, limit: 9 };
            store.events(&wanted).await.map(|events| events.len())
        };
        let expected = positions[number + 1..].iter().filter(|(other, _)| other == tenant).count();
        assert_eq!(behind(tenant).await.expect("events"), expected, "it is taken up where it was left");
        assert!(matches!(behind(foreign).await, Err(StoreError::Position)));
    }
    // Plain numbers would reveal the place of an event by trial.
    for number in 1..9 {
        let after = Some(number.to_string());
        let wanted =
            voicegate::store::EventQuery { tenant: "t", note: None, after: after.as_deref(), limit: 9 };
        assert!(matches!(store.events(&wanted).await, Err(StoreError::Position)), "{number}");
    }
}
