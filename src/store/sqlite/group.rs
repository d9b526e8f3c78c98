//! Group commit: changes that arrive while the disk is busy share its next flush.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Acquire, Connection, Sqlite, SqliteConnection, Transaction};
use tokio::sync::{mpsc, oneshot};

use super::{
    accept::{Depths, accept},
    plain,
    proof::Proof,
    receipts, write,
    writer::{BEGIN, Writer},
};
use crate::{
    store::{
        Acceptance, Change, Claim, JobEnd, JobLease, NewNote, ReceiptBatch, ReceiptOutcome, StoreError,
        Stored, document::Document, plain_write::PlainWrite,
    },
    telemetry::metrics,
};

/// Maximum number of changes in one transaction. A flush costs milliseconds and a change tens of microseconds, so more
/// would only delay the first one.
const MOST: usize = 128;

/// Environment variable that replaces this number for measurements (`make bench`): 1 means one commit for each change.
const MOST_FOR_MEASURING: &str = "VOICEGATE_BENCH_BATCH";

/// Number of changes that may be queued; further callers wait to join.
const WAITING: usize = 1024;

/// Maximum number of accepts in a transaction that also has changes of notes in flight. Accepts carry audio, so more of
/// them would delay the deliveries.
const ACCEPTS_BESIDE: usize = 16;

/// Pause between two tries of a failed batch.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// Interval at which a failing database is tried without any request. The first successful write also overwrites the
/// remains of a failed commit in the journal.
const PROBING: Duration = Duration::from_secs(1);

/// Interval at which the log says that the database still fails.
const REMINDER: Duration = Duration::from_secs(30);

/// Timeout for a probe of whether the database takes writes.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);

/// Passes changes to the task that writes them.
#[derive(Clone, Debug)]
pub struct Group {
    /// Changes of notes in flight.
    queue: mpsc::Sender<Request>,
    /// New notes.
    accepts: mpsc::Sender<Request>,
    patience: Duration,
}

#[derive(Debug)]
enum Op {
    Accept(Box<NewNote>, Document),
    Write(Box<Claim>, Box<Change>),
    Finish(Box<JobLease>, Box<JobEnd>),
    Receive(Box<ReceiptBatch>),
    /// Checks writes with a row of its own.
    Probe,
}

#[derive(Clone, Debug)]
enum Done {
    Accepted(Acceptance),
    Received(ReceiptOutcome),
    Written(Stored),
    /// A job has ended, or a write was checked.
    Finished,
}

#[derive(Debug)]
struct Request {
    op: Op,
    answer: oneshot::Sender<Result<Done, StoreError>>,
    /// The request is refused if the database still fails at this time.
    until: Instant,
}

impl Group {
    /// Starts the task, which ends when the last group is dropped.
    pub fn start(writer: Arc<Writer>) -> Self {
        let (queue, requests) = mpsc::channel(WAITING);
        let (accepts, new) = mpsc::channel(WAITING);
        let measured = std::env::var(MOST_FOR_MEASURING).ok().and_then(|most| most.parse().ok());
        let patience = writer.timeouts.change;
        let most = measured.unwrap_or(MOST);
        tokio::spawn(Task { writer, requests, accepts: new, most, failing: None }.run());
        Self { queue, accepts, patience }
    }

    pub async fn accept(&self, new: &NewNote) -> Result<Acceptance, StoreError> {
        // The document is made here, so that one that cannot be stored affects no other request.
        let doc = Document::of(&new.note)?;
        match self.ask(Op::Accept(Box::new(new.clone()), doc), self.patience).await? {
            Done::Accepted(acceptance) => Ok(acceptance),
            _ => Err(gone()),
        }
    }

    pub async fn receive(&self, received: &ReceiptBatch) -> Result<ReceiptOutcome, StoreError> {
        match self.ask(Op::Receive(Box::new(received.clone())), self.patience).await? {
            Done::Received(reception) => Ok(reception),
            _ => Err(gone()),
        }
    }

    pub async fn finish(&self, lease: &JobLease, end: &JobEnd) -> Result<(), StoreError> {
        let op = Op::Finish(Box::new(lease.clone()), Box::new(end.clone()));
        self.ask(op, self.patience).await.map(drop)
    }

    pub async fn write(&self, claim: &Claim, change: &Change) -> Result<Stored, StoreError> {
        let op = Op::Write(Box::new(claim.clone()), Box::new(change.clone()));
        match self.ask(op, self.patience).await? {
            Done::Written(stored) => Ok(stored),
            _ => Err(gone()),
        }
    }

    /// Checks that writes succeed.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.ask(Op::Probe, PROBE_PATIENCE.min(self.patience)).await.map(drop)
    }

    async fn ask(&self, op: Op, patience: Duration) -> Result<Done, StoreError> {
        let (answer, answered) = oneshot::channel();
        let queue = if matches!(op, Op::Accept(..)) { &self.accepts } else { &self.queue };
        let request = Request { op, answer, until: Instant::now() + patience };
        // Nothing was begun if the queue is full.
        queue.send_timeout(request, 2 * patience).await.map_err(|error| match error {
            mpsc::error::SendTimeoutError::Timeout(_) => sqlx::Error::PoolTimedOut.into(),
            mpsc::error::SendTimeoutError::Closed(_) => gone(),
        })?;
        // The task refuses in time, unless it cannot even find out whether a commit was made.
        let answered = tokio::time::timeout(4 * self.patience, answered).await;
        answered.map_err(|_| StoreError::no_answer())?.map_err(|_| gone())?
    }
}

fn gone() -> StoreError {
    StoreError::Open("the database's writer has stopped".to_owned())
}

/// The state of a failing database.
struct Failing {
    since: Instant,
    told: Instant,
    error: StoreError,
}

struct Task {
    writer: Arc<Writer>,
    requests: mpsc::Receiver<Request>,
    accepts: mpsc::Receiver<Request>,
    most: usize,
    failing: Option<Failing>,
}

impl Task {
    async fn run(mut self) {
        let mut batch = Vec::new();
        while self.fill(&mut batch).await {
            // Requests whose caller is gone are dropped, since nobody learns of their result.
            batch.retain(|request| !request.answer.is_closed());
            if batch.is_empty() {
                continue;
            }
            match attempt(&self.writer, &batch).await {
                Ok(done) => {
                    self.works();
                    for (request, done) in batch.drain(..).zip(done) {
                        let _ = request.answer.send(done);
                    }
                }
                // One of the changes is at fault, which must not affect the others.
                Err(error) if batch.len() > 1 && !error.passes() => self.one_by_one(&mut batch).await,
                Err(error) => self.fails(&mut batch, error).await,
            }
        }
    }

    /// Waits for changes; returns `false` if there will be none. Changes that failed before stay first.
    async fn fill(&mut self, batch: &mut Vec<Request>) -> bool {
        if batch.is_empty() {
            let come = receive(&mut self.requests, &mut self.accepts, batch, self.most);
            return match &self.failing {
                None => come.await,
                Some(_) => match tokio::time::timeout(PROBING, come).await {
                    Ok(come) => come,
                    Err(_) => {
                        self.probe().await;
                        true
                    }
                },
            };
        }
        while batch.len() < self.most
            && let Ok(request) = self.requests.try_recv().or_else(|_| self.accepts.try_recv())
        {
            match &self.failing {
                Some(failing) if request.until <= Instant::now() => {
                    let _ = request.answer.send(Err(failing.error.for_another()));
                }
                _ => batch.push(request),
            }
        }
        true
    }

    /// Tries the database without a request.
    async fn probe(&mut self) {
        let (answer, _answered) = oneshot::channel();
        let mut batch = vec![Request { op: Op::Probe, answer, until: Instant::now() }];
        match attempt(&self.writer, &batch).await {
            Ok(_) => self.works(),
            Err(error) => self.fails(&mut batch, error).await,
        }
    }

    async fn one_by_one(&mut self, batch: &mut Vec<Request>) {
        for request in batch.drain(..) {
            let done = attempt(&self.writer, std::slice::from_ref(&request)).await;
            let done = done.and_then(|mut done| done.pop().unwrap_or_else(|| Err(gone())));
            let _ = request.answer.send(done);
        }
    }

    fn works(&mut self) {
        if let Some(failing) = self.failing.take() {
            let seconds = failing.since.elapsed().as_secs();
            tracing::warn!(seconds, "the database takes writes again, after {seconds} s");
        }
    }

    /// Refuses the requests that waited long enough, and pauses before the next try.
    async fn fails(&mut self, batch: &mut Vec<Request>, error: StoreError) {
        let now = Instant::now();
        let waits = error.passes();
        let failing = self.failing.get_or_insert_with(|| {
            tracing::error!(%error, "the database takes no writes; requests wait a little and are refused");
            Failing { since: now, told: now, error: error.for_another() }
        });
        if failing.told.elapsed() >= REMINDER {
            let seconds = failing.since.elapsed().as_secs();
            tracing::error!(%error, seconds, "the database takes no writes, for {seconds} s now");
            failing.told = now;
        }
        // If the result of one try is in doubt, so are those of all waiting requests.
        if !failing.error.is_in_doubt() {
            failing.error = error;
        }
        for request in batch.extract_if(.., |request| !waits || request.until <= now) {
            let _ = request.answer.send(Err(failing.error.for_another()));
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
}

/// Waits for changes, and returns `false` if there will be none. Changes of notes in flight come first, and few accepts
/// beside them.
async fn receive(
    requests: &mut mpsc::Receiver<Request>,
    accepts: &mut mpsc::Receiver<Request>,
    batch: &mut Vec<Request>,
    most: usize,
) -> bool {
    let first = tokio::select! {
        biased;
        first = requests.recv() => first,
        first = accepts.recv() => first,
    };
    let Some(first) = first else { return false };
    batch.push(first);
    while batch.len() < most
        && let Ok(request) = requests.try_recv()
    {
        batch.push(request);
    }
    let is_alone = batch.iter().all(|request| matches!(request.op, Op::Accept(..)));
    let most = if is_alone { most } else { most.min(batch.len() + ACCEPTS_BESIDE) };
    while batch.len() < most
        && let Ok(request) = accepts.try_recv()
    {
        batch.push(request);
    }
    true
}

/// Makes all possible changes with one flush. The outer error means that none of them was made.
async fn attempt(writer: &Writer, batch: &[Request]) -> Result<Vec<Result<Done, StoreError>>, StoreError> {
    let begun = Instant::now();
    let mut taken = writer.take().await?;
    let done = match commit(&mut taken.connection, batch).await {
        Ok((done, None)) => {
            taken.put_back();
            done
        }
        Ok((done, Some(error))) => {
            taken.discard(&error).await;
            match proof(batch, &done) {
                Some(proof) if writer.holds(&proof).await => done,
                _ => return Err(error),
            }
        }
        Err(error) => {
            taken.discard(&error).await;
            return Err(error);
        }
    };
    // A write into a file that is no longer the database's is not durable.
    writer.files.check()?;
    metrics::flushed(batch.len(), begun.elapsed());
    Ok(done)
}

/// The results, and the error of the commit if it failed.
type Outcome = (Vec<Result<Done, StoreError>>, Option<StoreError>);

async fn commit(connection: &mut SqliteConnection, batch: &[Request]) -> Result<Outcome, StoreError> {
    let mut tx = connection.begin_with(BEGIN).await?;
    let mut depths = Depths::default();
    let mut done = Vec::with_capacity(batch.len());
    for request in batch {
        done.push(apply(&mut tx, &request.op, &mut depths).await?);
    }
    Ok((done, tx.commit().await.err().map(Into::into)))
}

/// Applies one change. A failing change rolls back only its own steps, unless the database itself fails.
async fn apply(
    tx: &mut Transaction<'_, Sqlite>,
    op: &Op,
    depths: &mut Depths,
) -> Result<Result<Done, StoreError>, StoreError> {
    // These are single statements, with nothing to roll back.
    match op {
        Op::Accept(new, doc) => return Ok(Ok(Done::Accepted(accept(tx, new, doc, depths).await?))),
        Op::Probe => {
            write::probe(&mut **tx).await?;
            return Ok(Ok(Done::Finished));
        }
        Op::Write(claim, change) => match PlainWrite::of(claim, change) {
            Ok(Some(plain)) => {
                return match plain::write_all(tx, &plain, change).await {
                    Err(error) if error.is_of_database() => Err(error),
                    written => Ok(written.map(Done::Written)),
                };
            }
            Ok(None) => {}
            Err(error) => return Ok(Err(error)),
        },
        Op::Finish(..) | Op::Receive(_) => {}
    }
    let mut step = tx.begin().await?;
    let result = match op {
        Op::Accept(..) | Op::Probe => Ok(Done::Finished),
        Op::Write(claim, change) => write::write(&mut step, claim, change).await.map(Done::Written),
        Op::Finish(lease, end) => receipts::finish(&mut step, lease, end).await.map(|()| Done::Finished),
        Op::Receive(received) => receipts::receive(&mut step, received).await.map(Done::Received),
    };
    match result {
        Ok(done) => {
            step.commit().await?;
            Ok(Ok(done))
        }
        // SQLite may have rolled back everything, and then there is no savepoint to return to.
        Err(error) if error.is_of_database() => Err(error),
        Err(error) => {
            step.rollback().await?;
            Ok(Err(error))
        }
    }
}

/// The proof that the batch was committed. It is committed as a whole or not at all, so one change is enough. `None` if
/// nothing was changed, or only changes that are safe to repeat.
fn proof(batch: &[Request], done: &[Result<Done, StoreError>]) -> Option<Proof> {
    batch.iter().zip(done).find_map(|(request, done)| match (&request.op, done) {
        (Op::Accept(new, _), Ok(Done::Accepted(Acceptance::Created))) => Some(Proof::Note(new.note.id)),
        (Op::Write(claim, change), Ok(_)) => Proof::written(claim, change),
        (Op::Finish(lease, _), Ok(_)) => Some(Proof::job_ended(lease)),
        (Op::Receive(received), Ok(Done::Received(reception))) if !reception.duplicate => {
            Proof::received(received, reception)
        }
        _ => None,
    })
}
