//! Notices between processes: a delivery may be due, and these notes changed.
//!
//! Notices are sent after the commit, many at once, in transactions of their own. A NOTIFY inside a transaction would
//! make every commit of the database wait for the one before, flush included:
//! <https://github.com/postgres/postgres/blob/REL_15_STABLE/src/backend/commands/async.c> (`PreCommit_Notify`). A lost
//! notice costs seconds and nothing else, because workers and waiters also poll.

use std::{
    collections::BTreeSet,
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::postgres::PgListener;
use tokio::{
    sync::{Notify, broadcast},
    task::JoinSet,
};

use super::{Pool, owners};
use crate::model::note::NoteId;

/// Name of the channel on which every process of this database listens.
const CHANNEL: &str = "voicegate";

/// Pause between two rounds, so that many changes share one.
const PAUSE: Duration = Duration::from_millis(10);

/// Pause before a broken connection is replaced.
const RECONNECT: Duration = Duration::from_millis(500);

/// Maximum number of bytes of one notice; a payload may have 8000.
/// <https://www.postgresql.org/docs/current/sql-notify.html>
const MOST_BYTES: usize = 7000;

/// Maximum number of ids that wait to be sent. Beyond it, the notice says that anything may have changed.
const MOST_IDS: usize = 3000;

/// Prefix of a tenant's name, which contains no blank.
const TENANT: &str = "tenant=";

const ANYTHING: &str = "anything";

/// Marker of notices that name tenants. Older versions ignore this word.
const VERSION: &str = "v2";

/// The changes of another process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// Whether a claim may find more than before.
    pub due: bool,
    pub notes: Vec<NoteId>,
    /// Tenants of these notes.
    pub tenants: BTreeSet<String>,
    /// Whether notices may have been missed, so that anything may have changed.
    pub anything: bool,
}

impl Notice {
    pub fn of_anything() -> Self {
        Self { due: true, anything: true, ..Self::default() }
    }
}

/// Sends and receives notices until it is dropped.
#[derive(Debug)]
pub struct Notices {
    outgoing: Arc<Outgoing>,
    incoming: broadcast::Sender<Notice>,
    /// Whether there may be other processes. Without any, nothing is sent.
    are_others: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Outgoing {
    waiting: Mutex<Notice>,
    some: Notify,
}

impl Notices {
    /// `listening` is a pool of one connection, which receives the notices.
    ///
    /// `owner` is the number of this process, by whose lock on this connection other processes see that it is alive.
    pub fn start(pool: Pool, listening: Pool, owner: i32) -> Self {
        let outgoing = Arc::new(Outgoing::default());
        let incoming = broadcast::channel(1024).0;
        // A process ignores its own notices.
        let own: u64 = rand::random();
        let own = format!("{own:016x}");
        let are_others = Arc::new(AtomicBool::new(true));
        let ear = Ear { incoming: incoming.clone(), are_others: are_others.clone(), own: own.clone(), owner };
        let mut tasks = JoinSet::new();
        tasks.spawn(publish(pool, outgoing.clone(), own));
        tasks.spawn(listen(listening, ear));
        Self { outgoing, incoming, are_others, _tasks: tasks }
    }

    /// Sender by which other parts of this process can pass a notice on.
    pub fn sender(&self) -> broadcast::Sender<Notice> {
        self.incoming.clone()
    }

    /// The flag by which another part of this process says whether there are other processes.
    pub fn are_others(&self) -> Arc<AtomicBool> {
        self.are_others.clone()
    }

    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.incoming.subscribe()
    }

    /// Announces that something of a tenant changed that is no note of its own. Returns at once; call it after the commit.
    pub fn publish_tenant(&self, tenant: &str) {
        if !self.are_others.load(Ordering::Relaxed) {
            return;
        }
        {
            let mut waiting = self.outgoing.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.due = true;
            waiting.tenants.insert(tenant.to_owned());
        }
        self.outgoing.some.notify_one();
    }

    /// Announces that a delivery may be due and that these notes of a tenant changed. Returns at once; call it after
    /// the commit.
    pub fn publish(&self, due: bool, tenant: &str, notes: impl IntoIterator<Item = NoteId>) {
        if !self.are_others.load(Ordering::Relaxed) {
            return;
        }
        {
            let mut waiting = self.outgoing.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let before = waiting.notes.len();
            waiting.due |= due;
            waiting.notes.extend(notes);
            if waiting.notes.len() > before && !waiting.tenants.contains(tenant) {
                waiting.tenants.insert(tenant.to_owned());
            }
            if waiting.notes.len() > MOST_IDS {
                waiting.notes.truncate(MOST_IDS);
                waiting.anything = true;
            }
        }
        self.outgoing.some.notify_one();
    }
}

async fn publish(pool: Pool, outgoing: Arc<Outgoing>, own: String) {
    loop {
        outgoing.some.notified().await;
        let notice = mem::take(&mut *outgoing.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        // A power cut can lose nothing here, so the commit waits for no flush.
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

/// The part that receives notices.
struct Ear {
    incoming: broadcast::Sender<Notice>,
    are_others: Arc<AtomicBool>,
    /// The name by which this process knows its own notices.
    own: String,
    /// The number of this process.
    owner: i32,
}

async fn listen(pool: Pool, ear: Ear) {
    loop {
        match PgListener::connect_with(&pool).await {
            Ok(mut listener) => {
                // This loop reconnects itself, because sqlx gives up after some errors.
                listener.eager_reconnect(false);
                if let Err(error) = forward(&mut listener, &ear).await {
                    tracing::debug!(%error, "the connection for notices broke");
                }
                tracing::warn!("the database's connection for notices is gone; making a new one");
            }
            Err(error) => tracing::warn!(%error, "the database cannot be reached for notices"),
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Forwards notices until the connection breaks.
async fn forward(listener: &mut PgListener, ear: &Ear) -> Result<(), sqlx::Error> {
    owners::acquire_lock(listener, ear.owner).await?;
    listener.listen(CHANNEL).await?;
    // A process that believed to be alone sends notices from now on.
    sqlx::query("SELECT pg_notify($1, payload) FROM unnest($2) AS payload")
        .bind(CHANNEL)
        .bind(payloads(&ear.own, &Notice::default()))
        .execute(&mut *listener)
        .await?;
    // Earlier notices were missed. An error means that nobody listens in this process.
    let _ = ear.incoming.send(Notice::of_anything());
    while let Some(told) = listener.try_recv().await? {
        if let Some(notice) = parse(told.payload(), &ear.own) {
            ear.are_others.store(true, Ordering::Relaxed);
            let _ = ear.incoming.send(notice);
        }
    }
    Ok(())
}

/// Formats payloads as `PROCESS DUE VERSION WORD WORD ...`, as many as are needed. A word is a note, a [`TENANT`] or
/// [`ANYTHING`].
fn payloads(own: &str, notice: &Notice) -> Vec<String> {
    let due = if notice.due { "due" } else { "-" };
    let tenants = notice.tenants.iter().map(|tenant| format!("{TENANT}{tenant}"));
    let words = notice.notes.iter().map(ToString::to_string).chain(tenants);
    let words = words.chain(notice.anything.then(|| ANYTHING.to_owned()));
    let head = format!("{own} {due} {VERSION}");
    let mut lines = Vec::new();
    let mut line = head.clone();
    for word in words {
        if line.len() + word.len() >= MOST_BYTES {
            lines.push(mem::replace(&mut line, head.clone()));
        }
        line = line + " " + &word;
    }
    lines.push(line);
    lines
}

/// Parses a notice; `None` for one's own. Words of newer versions are ignored.
fn parse(payload: &str, own: &str) -> Option<Notice> {
    let mut words = payload.split(' ');
    if words.next()? == own {
        return None;
    }
    let mut notice = Notice { due: words.next()? == "due", ..Notice::default() };
    let mut tells_tenants = false;
    for word in words {
        if word == VERSION {
            tells_tenants = true;
        } else if let Some(tenant) = word.strip_prefix(TENANT) {
            notice.tenants.insert(tenant.to_owned());
        } else if word == ANYTHING {
            notice.anything = true;
        } else {
            notice.notes.extend(word.parse::<NoteId>().ok());
        }
    }
    // An older version names the changed notes, but not their tenants.
    notice.anything |= !tells_tenants && !notice.notes.is_empty();
    Some(notice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_round_trip_and_own_notices_are_ignored() {
        let tenants = (0..300).map(|n| format!("tenant-{n}")).collect();
        let notes = (0..400).map(|_| NoteId::new()).collect();
        let notice = Notice { due: true, notes, tenants, anything: false };
        let all = payloads("me", &Notice::of_anything());
        assert_eq!(parse(&all[0], "you"), Some(Notice::of_anything()));
        let payloads = payloads("me", &notice);
        assert!(payloads.len() > 1 && payloads.iter().all(|payload| payload.len() < 8000));
        let heard: Vec<Notice> = payloads.iter().filter_map(|payload| parse(payload, "you")).collect();
        assert!(heard.iter().all(|notice| notice.due && !notice.anything));
        assert!(heard.iter().flat_map(|notice| &notice.notes).eq(&notice.notes));
        assert!(heard.iter().flat_map(|notice| &notice.tenants).eq(&notice.tenants));
        assert_eq!(payloads.iter().filter_map(|payload| parse(payload, "me")).count(), 0);
        assert_eq!(parse("you - newer=1", "me"), Some(Notice::default()));
        let old = parse(&format!("you - {}", notice.notes[0]), "me").expect("a notice");
        assert!(old.anything && old.notes == notice.notes[..1], "an older version names no tenant");
    }
}
