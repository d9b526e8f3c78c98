//! The number of statements that a note costs on PostgreSQL.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tracing::{Event, Subscriber};
use tracing_subscriber::{Layer, Registry, layer::Context, layer::SubscriberExt};
use voicegate::{
    model::note::Status,
    store::{Change, Health, NewNote, PostgresStore, Step, Time, connection_key},
};

use crate::postgres_server::Database;
use crate::support::{Any, after, claim, new_note, start};

/// Counts the statements that the driver sends, as its log tells them.
#[derive(Clone, Default)]
struct Statements(Arc<AtomicUsize>);

impl<S: Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "sqlx::query" {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends these notes, and returns the number of statements.
async fn sent(store: &Any, statements: &Statements, recipients: std::ops::Range<usize>) -> usize {
    let before = statements.0.load(Ordering::Relaxed);
    for recipient in recipients.clone() {
        let source = Some(Bytes::from(vec![7; 30_000]).into());
        let new = NewNote { source, ..new_note("t", "c", &recipient.to_string(), start()) };
        store.accept(&new).await.expect("accepted");
    }
    let claims = claim(store, start()).await;
    assert_eq!(claims.len(), recipients.len());
    for mut claim in claims {
        claim.audio.sent = Some(Bytes::from(vec![8; 30_000]).into());
        claim.note.status = Status::Sending;
        claim.note.correlation_ids = vec![claim.note.id.to_string()];
        let change = Change::new(claim.note.clone(), Step::Dispatching);
        store.write(&claim, &change).await.expect("written");
        claim.audio.sent = None;
        claim.note.status = Status::Accepted;
        claim.note.provider_message_id = Some(format!("message {}", claim.note.id));
        let health = Some((connection_key("t", "c"), Health::Works));
        let deadline = Some(after(600));
        let change = Change { health, deadline, ..Change::new(claim.note.clone(), Step::Done) };
        store.write(&claim, &change).await.expect("written");
    }
    statements.0.load(Ordering::Relaxed) - before
}

#[tokio::test]
async fn note_costs_at_most_eight_statements_on_postgresql() {
    let Some(database) = Database::make().await else { return };
    let store: Any = Arc::new(PostgresStore::open(&database.url(), Time::Database).await.expect("a store"));
    // By then the store knows that there are no other processes to be told of changes.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let statements = Statements::default();
    let _counting = tracing::subscriber::set_default(Registry::default().with(statements.clone()));
    let mut alone = usize::MAX;
    for number in 0..5 {
        // Once a second the store looks for other processes.
        alone = alone.min(sent(&store, &statements, number..number + 1).await);
    }
    assert!((4..=8).contains(&alone), "{alone} statements for a note alone");
    let together = sent(&store, &statements, 5..25).await;
    assert!(together <= 20 * 4, "{together} statements for twenty notes");
}
