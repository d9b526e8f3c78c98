//! What processes tell each other: that something may be due, and which notes changed.
//!
//! Notices are sent after the commit, many at once, over transactions of their own. A NOTIFY inside a transaction
//! would make every commit of the database wait for the one before, flush included:
//! <https://github.com/postgres/postgres/blob/REL_15_STABLE/src/backend/commands/async.c> (`PreCommit_Notify`).
//! One that gets lost costs seconds and nothing else: workers and waiters look again by themselves.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::postgres::PgListener;
use tokio::{
    sync::{Notify, broadcast},
    task::JoinSet,
};

use super::Pool;
use crate::note::NoteId;

/// Every process on this database listens here.
const CHANNEL: &str = "voicegate";

/// Between two rounds, so that many changes share one.
const PAUSE: Duration = Duration::from_millis(10);

/// Until the database is asked for a new connection, after one broke.
const RECONNECT: Duration = Duration::from_millis(500);

/// Ids in one notice; a payload may have 8000 bytes. <https://www.postgresql.org/docs/current/sql-notify.html>
const IDS: usize = 150;

/// Ids that wait to be told. Who waits for one beyond that looks again by itself.
const MOST_IDS: usize = 20 * IDS;

/// What another process changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// A claim may find more than before.
    pub due: bool,
    pub notes: Vec<NoteId>,
}

/// Tells and listens until it is dropped.
#[derive(Debug)]
pub struct Notices {
    outgoing: Arc<Outgoing>,
    incoming: broadcast::Sender<Notice>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Outgoing {
    waiting: Mutex<Notice>,
    some: Notify,
}

impl Notices {
    /// `listening` is a pool of one: the connection over which notices come.
    pub fn start(pool: Pool, listening: Pool) -> Self {
        let outgoing = Arc::new(Outgoing::default());
        let incoming = broadcast::channel(1024).0;
        // A process does not listen to itself: it knows already.
        let own: u64 = rand::random();
        let own = format!("{own:016x}");
        let mut tasks = JoinSet::new();
        tasks.spawn(tell(pool, outgoing.clone(), own.clone()));
        tasks.spawn(listen(listening, incoming.clone(), own));
        Self { outgoing, incoming, _tasks: tasks }
    }

    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.incoming.subscribe()
    }

    /// Something may be due, and this note changed. Takes no time; call it after the commit.
    pub fn tell(&self, due: bool, notes: impl IntoIterator<Item = NoteId>) {
        {
            let mut waiting = self.outgoing.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.due |= due;
            let room = MOST_IDS.saturating_sub(waiting.notes.len());
            waiting.notes.extend(notes.into_iter().take(room));
        }
        self.outgoing.some.notify_one();
    }
}

async fn tell(pool: Pool, outgoing: Arc<Outgoing>, own: String) {
    loop {
        outgoing.some.notified().await;
        let notice = mem::take(&mut *outgoing.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        // There is nothing that a power cut could lose, so nothing is waited for.
        let told = sqlx::query(
            "SELECT set_config('synchronous_commit', 'off', TRUE), pg_notify($1, payload) FROM unnest($2) AS payload",
        )
        .bind(CHANNEL)
        .bind(payloads(&own, &notice))
        .execute(&pool)
        .await;
        if let Err(error) = told {
            tracing::debug!(%error, "other processes could not be told of a change; they look by themselves");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn listen(pool: Pool, incoming: broadcast::Sender<Notice>, own: String) {
    loop {
        match PgListener::connect_with(&pool).await {
            Ok(mut listener) => {
                // Reconnecting is this loop's: sqlx gives up on some ways to break.
                listener.eager_reconnect(false);
                if let Err(error) = hear(&mut listener, &incoming, &own).await {
                    tracing::debug!(%error, "the connection for notices broke");
                }
                tracing::warn!("the database's connection for notices is gone; making a new one");
            }
            Err(error) => tracing::warn!(%error, "the database cannot be reached for notices"),
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Passes notices on until the connection breaks.
async fn hear(
    listener: &mut PgListener,
    incoming: &broadcast::Sender<Notice>,
    own: &str,
) -> Result<(), sqlx::Error> {
    listener.listen(CHANNEL).await?;
    // What was told before is missed. An error means that nobody listens here.
    let _ = incoming.send(Notice { due: true, notes: Vec::new() });
    while let Some(told) = listener.try_recv().await? {
        if let Some(notice) = parse(told.payload(), own) {
            let _ = incoming.send(notice);
        }
    }
    Ok(())
}

/// `PROCESS DUE NOTE NOTE ...`, as many as it takes.
fn payloads(own: &str, notice: &Notice) -> Vec<String> {
    let due = if notice.due { "due" } else { "-" };
    let line =
        |notes: &[NoteId]| notes.iter().fold(format!("{own} {due}"), |line, note| format!("{line} {note}"));
    if notice.notes.is_empty() { vec![line(&[])] } else { notice.notes.chunks(IDS).map(line).collect() }
}

/// `None` for one's own. What a newer version adds is passed over.
fn parse(payload: &str, own: &str) -> Option<Notice> {
    let mut words = payload.split(' ');
    if words.next()? == own {
        return None;
    }
    Some(Notice { due: words.next()? == "due", notes: words.filter_map(|word| word.parse().ok()).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_read_as_it_was_told_by_others_alone() {
        let notice = Notice { due: true, notes: (0..400).map(|_| NoteId::new()).collect() };
        let payloads = payloads("me", &notice);
        assert!(payloads.len() > 1 && payloads.iter().all(|payload| payload.len() < 8000));
        let heard: Vec<Notice> = payloads.iter().filter_map(|payload| parse(payload, "you")).collect();
        assert!(heard.iter().all(|notice| notice.due));
        assert_eq!(heard.into_iter().flat_map(|notice| notice.notes).collect::<Vec<_>>(), notice.notes);
        assert_eq!(payloads.iter().filter_map(|payload| parse(payload, "me")).count(), 0);
        assert_eq!(parse("you - newer=1", "me"), Some(Notice::default()));
    }
}
