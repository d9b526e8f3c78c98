//! What leasing 32 notes costs, from a short queue and from a long one.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use jiff::Timestamp;
use serde_json::json;
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
use voicegate::{
    model::note::{Note, NoteId},
    store::{Bounds, Change, ClaimRequest, NewNote, SlotsByClass, SqliteStore, Step, Store},
};

use crate::report::{Report, quantile};

const SHORT: u64 = 1_000;
const LEASED: usize = 32;
const ROUNDS: usize = 41;

/// A shape of the queue, in SQL over the number `i` of the row: its lane, its connection, when it is due.
struct Shape {
    name: &'static str,
    lane: &'static str,
    connection: &'static str,
    due: &'static str,
    head: &'static str,
    paused: bool,
}

const SHAPES: [Shape; 4] = [
    Shape { name: "one lane", lane: "0", connection: "'c'", due: "0", head: "i = 0", paused: false },
    Shape {
        name: "100,000 lanes",
        lane: "i % 100000",
        connection: "'c'",
        due: "0",
        head: "i < 100000",
        paused: false,
    },
    Shape {
        name: "100,000 lanes, all heads in backoff",
        lane: "i % 100000",
        connection: "'c'",
        due: "CASE WHEN i < 100000 THEN 3600000 ELSE 0 END",
        head: "i < 100000",
        paused: false,
    },
    Shape {
        name: "100,000 lanes, a paused connection has 90 %",
        lane: "i % 100000",
        connection: "CASE WHEN i % 10 = 0 THEN 'c' ELSE 'paused' END",
        due: "0",
        head: "i < 100000",
        paused: true,
    },
];

pub async fn measure(backlog: u64, report: &mut Report) -> anyhow::Result<()> {
    report.part(&format!("claim: leasing up to {LEASED}, median of {ROUNDS}"));
    for shape in &SHAPES {
        #[expect(clippy::disallowed_methods, reason = "this measures real time")]
        let now = Timestamp::now();
        let folder = tempfile::tempdir()?;
        let mut queues = Vec::new();
        for queued in [SHORT, backlog] {
            let path = folder.path().join(format!("{queued}.db"));
            fill(&path, shape, queued, now).await?;
            queues.push(Queue {
                queued,
                store: SqliteStore::open(&path).await?,
                took: Vec::new(),
                leased: 0,
            });
        }
        // In turns, so that whatever else the machine does meets both, and each as often after the other as before it. The
        // first round fills caches.
        for round in 0..=ROUNDS {
            queues.reverse();
            for queue in &mut queues {
                let (took, leased) = claim(&queue.store, now).await?;
                if round > 0 {
                    queue.took.push(took);
                    queue.leased += leased;
                }
            }
        }
        queues.sort_by_key(|queue| queue.queued);
        let mut medians = Vec::new();
        for queue in &mut queues {
            let leased = queue.leased / ROUNDS;
            medians.push(quantile(&mut queue.took, 0.5));
            let name = format!("{}, {} queued ({leased} each)", shape.name, queue.queued);
            report.figure("claim", &name, *medians.last().context("a median")?, "ms");
        }
        report.figure("claim", "  ratio", medians[1] / medians[0], "times");
    }
    Ok(())
}

struct Queue {
    queued: u64,
    store: SqliteStore,
    /// Milliseconds of each claim.
    took: Vec<f64>,
    leased: usize,
}

/// How long a claim took, and how much it leased.
async fn claim(store: &SqliteStore, now: Timestamp) -> anyhow::Result<(f64, usize)> {
    let room = Bounds::of(usize::MAX >> 1, None);
    let request = ClaimRequest {
        now,
        lease_until: now + Duration::from_secs(600),
        slots: SlotsByClass::each(LEASED, 0),
        held: &[],
        bounds: &|_| room,
    };
    let begun = Instant::now();
    let claims = store.claim(&request).await?.notes;
    let took = begun.elapsed().as_secs_f64() * 1000.0;
    let leased = claims.len();
    for claim in claims {
        // Back into the queue, so that it is as long for the next one.
        let again = Step::Retry { at: now, pause_connection_until: None };
        store.write(&claim, &Change::new(claim.note.clone(), again)).await?;
    }
    Ok((took, leased))
}

/// A database with so many queued notes. Only those that are going to be leased have a note.
async fn fill(path: &Path, shape: &Shape, queued: u64, now: Timestamp) -> anyhow::Result<()> {
    let note: Note = serde_json::from_value(json!({
        "id": NoteId::new(), "tenant": "t", "status": "queued", "to": "+15550001111",
        "route": [{ "connection": "c", "provider": "linq", "to": "+15550001111", "recipient_key": "+15550001111" }],
        "stop": 0, "source": "stored", "hints": {}, "convert": null, "reply_to": null, "text": null, "metadata": {},
        "expires_at": now + Duration::from_secs(86_400), "probed": null, "sent": null, "form": null,
        "provider_message_id": null, "memory": null, "attempts": [], "warnings": [], "error": null,
        "next_attempt_at": null, "created_at": now, "updated_at": now, "accepted_at": null,
    }))?;
    let id = note.id.to_string();
    // The gateway's own way, for the tables and for one row to copy.
    let store = SqliteStore::open(path).await?;
    let new = NewNote {
        note,
        source: None,
        idempotency: None,
        releases: None,
        max_queue: u64::MAX,
        max_queue_per_tenant: u64::MAX,
        share: u64::MAX,
    };
    store.accept(&new).await?;
    drop(store);
    let mut database = SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(false)
        .disable_statement_logging()
        .connect()
        .await?;
    let of_queue = "FROM sqlite_master WHERE tbl_name = 'deliveries' AND type IN ('index', 'trigger') AND sql IS NOT NULL";
    let made: Vec<(String, String, String)> =
        sqlx::query_as(sqlx::AssertSqlSafe(format!("SELECT type, name, sql {of_queue}")))
            .fetch_all(&mut database)
            .await?;
    let numbers = |most: u64| {
        format!("WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {most})")
    };
    let Shape { lane, connection, due, head, .. } = shape;
    let now = now.as_millisecond();
    let mut script = vec!["PRAGMA synchronous = OFF".to_owned(), "BEGIN".to_owned()];
    script.extend(made.iter().map(|(kind, name, _)| format!("DROP {kind} {name}")));
    script.push("DELETE FROM deliveries".to_owned());
    // In one lane every row may come up, one after the other; elsewhere the first heads do.
    let notes = queued.min(20_000);
    let (row, recipient) =
        ("printf('vn_00000000-0000-7000-8000-%012d', i)", format!("printf('%06d', {lane})"));
    // Each is a note of its own, in the lane that its row says: what goes back into the queue goes back there.
    script.push(format!(
        "{} INSERT INTO notes (id, tenant, status, created_at, doc, recipient, via)
         SELECT {row}, tenant, status, created_at,
                json_set(doc, '$.id', {row}, '$.route[0].connection', {connection},
                         '$.route[0].recipient_key', {recipient}), recipient, via
         FROM n, notes WHERE id = '{id}'",
        numbers(notes)
    ));
    script.push(format!(
        "{} INSERT INTO deliveries (note_id, tenant, connection, lane, state, queued_at, due_at, order_at, expires_at, head)
         SELECT {row}, 't', 't/' || {connection}, concat_ws(char(31), 't', {connection}, {recipient}), 'queued',
                {now}, {now} + {due}, {now}, {now} + 86400000, {head} FROM n",
        numbers(queued)
    ));
    script.push(format!("INSERT OR REPLACE INTO queue_depths (tenant, depth) VALUES ('t', {queued})"));
    if shape.paused {
        script.push(format!(
            "INSERT INTO connections (connection, paused_until) VALUES ('t/paused', {now} + 3600000)"
        ));
    }
    script.push(format!("DELETE FROM notes WHERE id = '{id}'"));
    script.extend(made.into_iter().map(|(.., sql)| sql));
    script.push("COMMIT".to_owned());
    for step in script {
        sqlx::query(sqlx::AssertSqlSafe(step.clone())).execute(&mut database).await.context(step)?;
    }
    database.close().await?;
    Ok(())
}
