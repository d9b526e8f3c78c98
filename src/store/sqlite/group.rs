//! Group commit: changes that arrive while the disk is busy share its next flush.

use std::time::Instant;

use sqlx::{Acquire, Sqlite, SqlitePool, Transaction};
use tokio::sync::{mpsc, oneshot};

use super::{
    accept::{Depths, accept},
    receipts, write,
};
use crate::{
    metrics,
    store::{Acceptance, Change, Claim, JobEnd, NewNote, Received, Reception, StoreError},
};

/// Changes in one transaction. A flush costs milliseconds and a change tens of microseconds, so more would only make
/// the first one wait.
const MOST: usize = 128;

/// Another number in its place, for measuring only (`make bench`): 1 is one commit for each change.
const MOST_FOR_MEASURING: &str = "VOICEGATE_BENCH_BATCH";

/// Changes that wait for their turn; further callers wait to join.
const WAITING: usize = 1024;

/// Hands changes to the one task that writes them.
#[derive(Clone, Debug)]
pub struct Writer {
    queue: mpsc::Sender<Request>,
}

#[derive(Debug)]
enum Op {
    Accept(Box<NewNote>),
    Write(Box<Claim>, Box<Change>),
    Finish(Box<Claim>, Box<JobEnd>),
    Receive(Box<Received>),
}

#[derive(Clone, Debug)]
enum Done {
    Accepted(Acceptance),
    Received(Reception),
    Written,
}

#[derive(Debug)]
struct Request {
    op: Op,
    answer: oneshot::Sender<Result<Done, StoreError>>,
}

impl Writer {
    /// Starts the task; it ends when the last writer is dropped.
    pub fn start(pool: SqlitePool) -> Self {
        let (queue, requests) = mpsc::channel(WAITING);
        let measured = std::env::var(MOST_FOR_MEASURING).ok().and_then(|most| most.parse().ok());
        tokio::spawn(run(pool, requests, measured.unwrap_or(MOST)));
        Self { queue }
    }

    pub async fn accept(&self, new: &NewNote) -> Result<Acceptance, StoreError> {
        match self.ask(Op::Accept(Box::new(new.clone()))).await? {
            Done::Accepted(acceptance) => Ok(acceptance),
            _ => Err(gone()),
        }
    }

    pub async fn receive(&self, received: &Received) -> Result<Reception, StoreError> {
        match self.ask(Op::Receive(Box::new(received.clone()))).await? {
            Done::Received(reception) => Ok(reception),
            _ => Err(gone()),
        }
    }

    pub async fn finish(&self, claim: &Claim, end: &JobEnd) -> Result<(), StoreError> {
        self.ask(Op::Finish(Box::new(claim.clone()), Box::new(end.clone()))).await.map(drop)
    }

    pub async fn write(&self, claim: &Claim, change: &Change) -> Result<(), StoreError> {
        self.ask(Op::Write(Box::new(claim.clone()), Box::new(change.clone()))).await.map(drop)
    }

    async fn ask(&self, op: Op) -> Result<Done, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(Request { op, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn gone() -> StoreError {
    StoreError::Open("the database's writer has stopped".to_owned())
}

async fn run(pool: SqlitePool, mut requests: mpsc::Receiver<Request>, most: usize) {
    let mut batch = Vec::new();
    while requests.recv_many(&mut batch, most).await > 0 {
        let (answers, ops): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|Request { op, answer }| (answer, op)).unzip();
        let started = Instant::now();
        let done = match commit(&pool, &ops).await {
            Ok(done) => done,
            Err(error) => ops.iter().map(|_| Err(error.for_another())).collect(),
        };
        metrics::flushed(ops.len(), started.elapsed());
        for (answer, done) in answers.into_iter().zip(done) {
            // Whoever asked may have gone away; the change stands.
            let _ = answer.send(done);
        }
    }
}

/// Makes every change that can be made, all with one flush. The outer error concerns all of them.
async fn commit(pool: &SqlitePool, ops: &[Op]) -> Result<Vec<Result<Done, StoreError>>, StoreError> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let mut depths = Depths::default();
    let mut done = Vec::with_capacity(ops.len());
    for op in ops {
        done.push(apply(&mut tx, op, &mut depths).await?);
    }
    tx.commit().await?;
    Ok(done)
}

/// What fails takes back its own steps and nobody else's.
async fn apply(
    tx: &mut Transaction<'_, Sqlite>,
    op: &Op,
    depths: &mut Depths,
) -> Result<Result<Done, StoreError>, StoreError> {
    // One statement, with nothing to take back before it.
    if let Op::Accept(new) = op {
        return Ok(Ok(Done::Accepted(accept(tx, new, depths).await?)));
    }
    let mut step = tx.begin().await?;
    let result = match op {
        Op::Accept(new) => accept(&mut step, new, depths).await.map(Done::Accepted),
        Op::Write(claim, change) => write::write(&mut step, claim, change).await.map(|()| Done::Written),
        Op::Finish(claim, end) => receipts::finish(&mut step, claim, end).await.map(|()| Done::Written),
        Op::Receive(received) => receipts::receive(&mut step, received).await.map(Done::Received),
    };
    match &result {
        Ok(_) => step.commit().await?,
        Err(_) => step.rollback().await?,
    }
    Ok(result)
}
