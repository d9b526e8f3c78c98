//! Tests of small audio, which is stored once for each tenant and content. They run for every store.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use sqlx::migrate::Migrator;
use tokio::task::JoinSet;
use voicegate::{
    model::note::{Note, NoteId, Status},
    store::{Change, Claim, NewAudio, NewNote, SmallAudio, SqliteStore, Step, Store, StoreError},
};

use crate::{
    raw::Raw,
    support::{Any, accept, after, claim, horizon, new_note, retry, start},
};

const CONTENTS: &str = "SELECT COUNT(*) FROM contents";
const REFERENCES: &str = "SELECT COUNT(*) FROM note_audio";
const UNUSED: &str =
    "SELECT COUNT(*) FROM contents WHERE NOT EXISTS (SELECT 1 FROM note_audio WHERE content = contents.id)";

fn audio(byte: u8) -> Bytes {
    Bytes::from(vec![byte; 30_000])
}

async fn accept_with(store: &Any, tenant: &str, recipient: &str, source: Bytes) -> NoteId {
    let new = NewNote { source: Some(source.into()), ..new_note(tenant, "c", recipient, start()) };
    store.accept(&new).await.expect("accepted");
    new.note.id
}

/// Ends the note of a claim, with audio that was made for it.
async fn end(store: &Any, claim: &Claim, sent: Option<SmallAudio>) -> Note {
    let mut claim = Claim { audio: NewAudio { sent, ..NewAudio::default() }, ..claim.clone() };
    claim.note.status = Status::Failed;
    store.write(&claim, &Change::new(claim.note.clone(), Step::Done)).await.expect("written");
    claim.note
}

pub async fn equal_audio_of_a_tenant_is_stored_once_and_goes_with_its_last_note(store: Any, raw: Raw) {
    let first = accept_with(&store, "t", "first", audio(1)).await;
    let second = accept_with(&store, "t", "second", audio(1)).await;
    let other = accept_with(&store, "t", "other", audio(2)).await;
    let foreign = accept_with(&store, "u", "first", audio(1)).await;
    assert_eq!(raw.number(CONTENTS).await, 3, "tenants share nothing");
    for (id, byte) in [(first, 1), (second, 1), (other, 2), (foreign, 1)] {
        assert_eq!(store.source(id).await.expect("read"), Some(audio(byte)));
        assert_eq!(store.sent(id).await.expect("read"), None);
    }
    for claim in claim(&store, start()).await {
        // What is sent may equal the source of another note.
        let sent = (claim.note.id == other).then(|| audio(1).into());
        end(&store, &claim, sent).await;
    }
    assert_eq!((raw.number(CONTENTS).await, raw.number(REFERENCES).await), (3, 5));
    store.audio_removed(first).await.expect("removed");
    assert_eq!(store.source(first).await.expect("read"), None);
    assert_eq!(store.source(second).await.expect("read"), Some(audio(1)));
    let note = store.note(second, None).await.expect("read").expect("a note");
    assert!(store.erase(&note.erased(), &[]).await.expect("asked"));
    assert_eq!(store.sent(other).await.expect("read"), Some(audio(1)), "another note refers to it");
    assert_eq!(raw.number(CONTENTS).await, 3);
    store.audio_removed(other).await.expect("removed");
    assert_eq!(raw.number(CONTENTS).await, 1, "the bytes go with the last note");
    assert_eq!(store.source(foreign).await.expect("read"), Some(audio(1)));
    store.audio_removed(foreign).await.expect("removed");
    store.forget(&horizon(after(1))).await.expect("forgotten");
    assert_eq!((raw.number(CONTENTS).await, raw.number(REFERENCES).await), (0, 0));
}

pub async fn speech_is_found_for_as_long_as_a_note_has_its_audio(store: Any, raw: Raw) {
    const ROWS: &str = "SELECT COUNT(*) FROM spoken";
    let spoken = async |tenant: &str, recipient: &str, key: &str| {
        let new = new_note(tenant, "c", recipient, start());
        store.accept(&new).await.expect("accepted");
        let mut claimed = claim(&store, start()).await.into_iter().find(|claim| claim.note.id == new.note.id);
        let claimed = claimed.as_mut().expect("claimed");
        claimed.audio = NewAudio { source: Some(audio(1).into()), spoken: Some(key.to_owned()), sent: None };
        claimed.note.status = Status::Failed;
        store.write(claimed, &Change::new(claimed.note.clone(), Step::Done)).await.expect("written");
        new.note.id
    };
    let found = async |tenant: &str, key: &str| store.spoken(tenant, key).await.expect("read");
    assert_eq!(found("t", "k1").await, None);
    let first = spoken("t", "a", "k1").await;
    assert_eq!(found("t", "k1").await, Some(first));
    let second = spoken("t", "b", "k1").await;
    assert_eq!(found("t", "k1").await, Some(second), "the newest stays the longest");
    assert_eq!((found("u", "k1").await, found("t", "k2").await), (None, None), "nothing is shared");
    let other = spoken("u", "a", "k1").await;
    // Audio goes with its retention, with erasure, and with its note.
    store.audio_removed(second).await.expect("removed");
    assert_eq!(found("t", "k1").await, Some(first));
    let note = store.note(first, None).await.expect("read").expect("a note");
    assert!(store.erase(&note.erased(), &[]).await.expect("asked"));
    assert_eq!((found("t", "k1").await, found("u", "k1").await), (None, Some(other)));
    store.audio_removed(other).await.expect("removed");
    store.forget(&horizon(after(1))).await.expect("forgotten");
    assert_eq!(raw.number(ROWS).await, 0);
}

pub async fn sent_audio_is_stored_with_the_change_of_its_note(store: Any, raw: Raw) {
    let id = accept(&store, "c", "r").await;
    let mut claimed = claim(&store, start()).await.remove(0);
    // A download is stored when the note goes back into the queue, what was made for it with the commit before the send.
    claimed.audio.source = Some(audio(1).into());
    let change = Change::new(claimed.note.clone(), retry(start()));
    store.write(&claimed, &change).await.expect("written");
    assert_eq!(store.source(id).await.expect("read"), Some(audio(1)));
    let mut claimed = claim(&store, start()).await.remove(0);
    assert_eq!(claimed.audio, NewAudio::default());
    for (byte, step) in [(2, Step::Dispatching), (3, Step::Again)] {
        claimed.audio.sent = Some(audio(byte).into());
        let change = Change::new(claimed.note.clone(), step);
        store.write(&claimed, &change).await.expect("written");
        assert_eq!(store.sent(id).await.expect("read"), Some(audio(byte)));
        assert_eq!(raw.number(CONTENTS).await, 2, "what it replaces is removed");
    }
    // A worker whose lease was lost stores nothing.
    let stale = Claim { fence: claimed.fence - 1, ..claimed.clone() };
    let lost = Claim { audio: NewAudio { sent: Some(audio(4).into()), ..NewAudio::default() }, ..stale };
    let change = Change::new(lost.note.clone(), Step::Dispatching);
    store.write(&lost, &change).await.expect_err("refused");
    assert_eq!(store.sent(id).await.expect("read"), Some(audio(3)));
    assert_eq!(raw.number(CONTENTS).await, 2);
}

/// Removes the audio of all notes that have ended, and then the notes, as housekeeping does.
async fn remove_what_has_ended(store: &Any) {
    for id in store.notes_with_old_audio(after(1), 100).await.expect("listed") {
        store.audio_removed(id).await.expect("removed");
    }
    store.forget(&horizon(after(1))).await.expect("forgotten");
}

pub async fn retention_removes_audio_with_the_last_note_that_has_it(store: Any, raw: Raw) {
    let old = accept_with(&store, "t", "old", audio(1)).await;
    for claim in claim(&store, start()).await {
        end(&store, &claim, Some(audio(2).into())).await;
    }
    let new = accept_with(&store, "t", "new", audio(1)).await;
    remove_what_has_ended(&store).await;
    assert_eq!(store.note(old, None).await.expect("read"), None);
    assert_eq!(store.source(new).await.expect("read"), Some(audio(1)), "it waits to be sent");
    assert_eq!((raw.number(CONTENTS).await, raw.number(REFERENCES).await), (1, 1));
    for claim in claim(&store, start()).await {
        end(&store, &claim, Some(audio(1).into())).await;
    }
    assert_eq!((raw.number(CONTENTS).await, raw.number(REFERENCES).await), (1, 2), "both are the same bytes");
    remove_what_has_ended(&store).await;
    assert_eq!((raw.number(CONTENTS).await, raw.number(REFERENCES).await), (0, 0));
}

/// Repeats a change that failed for now, as the callers of a store do.
macro_rules! made {
    ($change:expr) => {
        loop {
            match $change.await {
                Err(StoreError::Unavailable(_) | StoreError::Busy(_)) => {}
                done => break done.expect("made"),
            }
        }
    };
}

/// Three notes at a time share a content. It comes and goes with them, while requests are given up and sessions break.
pub async fn interrupted_changes_leave_neither_audio_without_a_note_nor_a_note_without_audio(
    store: Any,
    raw: Raw,
) {
    const NOTES: u8 = 120;
    let mut tasks = JoinSet::new();
    for number in 0..NOTES {
        let store = store.clone();
        tasks.spawn(async move {
            let bytes = audio(number / 3);
            let new = NewNote {
                source: Some(bytes.clone().into()),
                ..new_note("t", "c", &number.to_string(), start())
            };
            let id = new.note.id;
            let life = async {
                made!(store.accept(&new));
                let canceled = Note { status: Status::Canceled, ..new.note.clone() };
                made!(store.cancel(&canceled, false));
                let erased = canceled.erased();
                // Of every other content one note stays.
                match number % 6 {
                    0 | 3 => made!(store.audio_removed(id)),
                    1 | 4 | 5 => _ = made!(store.erase(&erased, &[])),
                    _ => {}
                }
            };
            // Some are given up in the middle.
            let patience = if number % 7 == 0 { Duration::from_millis(number.into()) } else { Duration::MAX };
            let _ = tokio::time::timeout(patience, life).await;
            (id, bytes)
        });
        if number % 15 == 14 {
            raw.end_busy_sessions().await;
        }
    }
    let ids = tasks.join_all().await;
    // The database may still commit a change that was given up.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut kept = Vec::new();
    for (id, bytes) in ids {
        let found = store.source(id).await.expect("read");
        match store.note(id, None).await.expect("read") {
            None => assert_eq!(found, None),
            Some(note) if note.audio_expired || note.erased => assert_eq!(found, None),
            Some(_) => {}
        }
        if let Some(found) = found {
            assert_eq!(found, bytes);
            kept.push(bytes);
        }
    }
    assert!(kept.len() >= 15, "{} notes still have their audio", kept.len());
    assert_eq!(raw.number(REFERENCES).await, kept.len() as i64);
    kept.sort_unstable();
    kept.dedup();
    assert_eq!((raw.number(CONTENTS).await, raw.number(UNUSED).await), (kept.len() as i64, 0));
}

/// Audio that an earlier version stored beside its note is found after the update.
#[tokio::test]
async fn audio_of_an_earlier_version_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("voicegate.db");
    let new = new_note("t", "c", "r", start());
    let id = new.note.id;
    {
        let url = format!("sqlite://{}?mode=rwc", path.display());
        let raw = sqlx::SqlitePool::connect(&url).await.expect("a database");
        let mut all = Migrator::new(Path::new("src/store/migrations/sqlite")).await.expect("migrations");
        all.migrations = all.iter().filter(|one| one.version <= 10).cloned().collect::<Vec<_>>().into();
        all.run(&raw).await.expect("made");
        sqlx::query(
            "INSERT INTO notes (id, tenant, status, created_at, doc) VALUES ($1, 't', 'failed', 0, $2)",
        )
        .bind(id.to_string())
        .bind(serde_json::to_string(&new.note).expect("a document"))
        .execute(&raw)
        .await
        .expect("a note");
        sqlx::query("INSERT INTO sources (note_id, bytes) VALUES ($1, $2)")
            .bind(id.to_string())
            .bind(&audio(1)[..])
            .execute(&raw)
            .await
            .expect("a source");
        raw.close().await;
    }
    let store = SqliteStore::open(&path).await.expect("a store");
    assert_eq!(store.source(id).await.expect("read"), Some(audio(1)));
    store.audio_removed(id).await.expect("removed");
    assert_eq!(store.source(id).await.expect("read"), None);
    let raw = Raw::Sqlite(
        sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await.expect("a pool"),
    );
    assert_eq!(raw.number(CONTENTS).await, 0);
}
