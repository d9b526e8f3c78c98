//! Sends many notes again that did not arrive. The order is a task in the database; each step looks at one page of notes.
//!
//! Every resend claims an idempotency key that belongs to its original, in the transaction that accepts the new note. So
//! no two recoveries send a note again, whatever crashes in between, for as long as the new note exists. The fingerprint
//! of the claim names the task, by which a step that is taken again recognises what it has already done.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;

use super::{
    accept::{KEY_TTL, QueuePart},
    resend,
};
use crate::{
    config::Tenant,
    gateway::Gateway,
    model::{
        code::{Code, Stage},
        id::{NoteId, TaskId},
        note::Note,
        problem::Problem,
        task::{Order, Recovery, Task},
    },
    store::{Begun, Found, KeyClaim, NewTask, StoreError, Unarrived},
    telemetry::metrics,
};

/// The most notes of one step.
const PAGE: u32 = 200;

/// The number of recipients whose notes are accepted at the same time, so that they share the flushes of the database.
const AT_ONCE: usize = 16;

/// The longest step, apart from the notes that are just being accepted.
const STEP: Duration = Duration::from_secs(5);

/// The pause of a task that has to wait, for example because the queue is full.
const WAIT: Duration = Duration::from_secs(2);

/// How long the claim on a note is kept. It is removed with the new note, so this is longer than any note is kept.
const FOR_EVER: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// The result of an order: its task, and whether it was given before.
#[derive(Debug)]
pub struct Ordered {
    pub task: Task,
    pub replayed: bool,
}

/// Stores the order. When this returns, the task is on disk and goes on by itself.
///
/// # Errors
/// A problem, and nothing is stored.
pub async fn order(
    gateway: &Gateway,
    tenant: &Tenant,
    order: Recovery,
    key: Option<String>,
) -> Result<Ordered, Problem> {
    let order = order.canonical();
    judge(tenant, &order)?;
    let now = gateway.clock.now();
    let task = Task::new(&tenant.name, Order::Recover(order.clone()), 0, now);
    let total = gateway.store.count_unarrived(&wanted(&task, &order), order.limit).await?;
    begin(gateway, Task { total, ..task }, key).await
}

/// Stores a task.
///
/// # Errors
/// A problem, and nothing is stored.
pub(super) async fn begin(gateway: &Gateway, task: Task, key: Option<String>) -> Result<Ordered, Problem> {
    let new = NewTask { key: key.map(|key| (key, task.created_at + KEY_TTL)), task };
    match gateway.store.begin_task(&new).await? {
        Begun::Created => {
            let task = new.task;
            let Task { id, tenant, total, .. } = &task;
            tracing::info!(task.id = %id, tenant, total, "task {id} was ordered");
            gateway.wake_tasks();
            Ok(Ordered { task, replayed: false })
        }
        Begun::Replayed(task) => Ok(Ordered { task: *task, replayed: true }),
        Begun::KeyTaken => {
            let detail = "this Idempotency-Key was used for another request; use a new key";
            Err(Problem::new(Code::IdempotencyKeyReused, detail).stage(Stage::Request))
        }
        Begun::TooMany => Err(Problem::overloaded(
            "this tenant has as many tasks running as it may; try again when one of them is done",
        )),
    }
}

fn judge(tenant: &Tenant, order: &Recovery) -> Result<(), Problem> {
    if order.statuses.is_empty() {
        return Err(Problem::invalid("status", "expected at least one of failed, expired and unknown"));
    }
    if !order.statuses.iter().all(|status| Recovery::STATUSES.contains(status)) {
        return Err(Problem::invalid(
            "status",
            "only notes that failed, expired or are unknown can be recovered",
        ));
    }
    if let (Some(since), Some(until)) = (order.since, order.until)
        && since > until
    {
        return Err(Problem::invalid("until", "expected a time that is not before `since`"));
    }
    if let Some(via) = &order.via
        && !tenant.connections.contains_key(via)
    {
        let detail = "there is no connection of this name";
        return Err(Problem::new(Code::UnknownConnection, detail).stage(Stage::Request).field("via"));
    }
    if !(1..=Recovery::MOST).contains(&order.limit) {
        let detail = format!("expected a number from 1 to {}", Recovery::MOST);
        return Err(Problem::invalid("limit", detail));
    }
    Ok(())
}

fn wanted<'a>(task: &'a Task, order: &'a Recovery) -> Unarrived<'a> {
    Unarrived {
        tenant: &task.tenant,
        statuses: &order.statuses,
        since: order.since,
        // Notes that fail while the task runs are left to the next one.
        until: order.until.map_or(task.created_at, |until| until.min(task.created_at)),
        via: order.via.as_deref(),
        resends_before: task.created_at,
        after: task.after,
        limit: PAGE,
    }
}

/// The result for one note of a page.
enum Handled {
    Resent,
    /// It needs no resend any more, or another task has sent it again.
    Skipped,
    Failed(Box<Problem>),
    /// It could not be accepted for now.
    Later(Box<Problem>),
}

/// Looks at the next page, and returns the time of the next step.
///
/// # Errors
/// The database failed; the step is taken again.
pub async fn step(gateway: &Gateway, task: &mut Task, order: &Recovery) -> Result<Timestamp, StoreError> {
    let page = gateway.store.unarrived(&wanted(task, order)).await?;
    let left = order.limit.saturating_sub(task.done);
    let results = if gateway.live().tenants.get(&task.tenant).is_some() {
        take(gateway, task, order, &page, left).await
    } else {
        let detail = "this tenant is no longer in the configuration";
        let now = gateway.clock.now();
        task.end(Some(Problem::new(Code::NotFound, detail)), now);
        return Ok(now);
    };
    let now = gateway.clock.now();
    let mut waiting = None;
    let mut seen = 0;
    // Only what lies before the first note that has to wait is counted; what is behind it is recognised later.
    for (found, result) in page.iter().zip(results) {
        match result {
            Some(Handled::Resent) => {
                task.done += 1;
                metrics::recovered(&task.tenant, "resent");
            }
            Some(Handled::Skipped) => {}
            Some(Handled::Failed(problem)) => {
                task.fail(&problem);
                metrics::recovered(&task.tenant, "failed");
            }
            Some(Handled::Later(problem)) => {
                waiting = Some(*problem);
                break;
            }
            None => break,
        }
        (task.after, seen) = (Some(found.place), seen + 1);
    }
    task.total = task.total.max(task.handled());
    task.updated_at = now;
    task.waiting = waiting;
    let was_last = seen == page.len() && page.len() < PAGE as usize;
    if was_last || task.done >= order.limit {
        task.end(None, now);
        let Task { id, total, done, failed, skipped, .. } = &task;
        tracing::info!(task.id = %id, total, done, failed, skipped, "recovery {id} is done");
    } else if let Some(problem) = &task.waiting {
        tracing::debug!(task.id = %task.id, %problem, "recovery {} waits", task.id);
    }
    let pause = if task.waiting.is_some() { WAIT } else { Duration::ZERO };
    Ok(now + pause)
}

/// Sends the notes of a page again, at most `most` of them. The notes of one recipient keep their order. A note without a
/// result was not looked at.
async fn take(
    gateway: &Gateway,
    task: &Task,
    order: &Recovery,
    page: &[Found],
    most: u64,
) -> Vec<Option<Handled>> {
    let mut results: Vec<Option<Handled>> = page.iter().map(|_| None).collect();
    let mut recipients: BTreeMap<String, Vec<(usize, Note)>> = BTreeMap::new();
    let mut chosen = 0;
    for (index, found) in page.iter().enumerate() {
        if chosen >= most {
            break;
        }
        match look(gateway, task, order, found).await {
            Look::Resend(note) => {
                chosen += 1;
                recipients.entry(note.to.clone()).or_default().push((index, *note));
            }
            Look::Already(handled) => {
                chosen += u64::from(matches!(handled, Handled::Resent));
                results[index] = Some(handled);
            }
        }
    }
    let (begun, must_wait) = (Instant::now(), AtomicBool::new(false));
    let resent = stream::iter(recipients.into_values())
        .map(async |notes| {
            let mut handled = Vec::with_capacity(notes.len());
            for (index, note) in notes {
                let stops = gateway.stop.is_cancelled() || begun.elapsed() > STEP;
                if stops || must_wait.load(Ordering::Relaxed) {
                    break;
                }
                let result = resend(gateway, task.id, note).await;
                must_wait.fetch_or(matches!(result, Handled::Later(_)), Ordering::Relaxed);
                handled.push((index, result));
            }
            handled
        })
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    for (index, result) in resent.into_iter().flatten() {
        results[index] = Some(result);
    }
    results
}

/// The decision about a note that was found.
enum Look {
    Resend(Box<Note>),
    Already(Handled),
}

async fn look(gateway: &Gateway, task: &Task, order: &Recovery, found: &Found) -> Look {
    let id = found.place.id;
    if !found.fits {
        return Look::Already(Handled::Skipped);
    }
    if found.resent {
        let now = gateway.clock.now();
        return Look::Already(match gateway.store.idempotency(&task.tenant, &key(id), now).await {
            Ok(Some(holder)) if holder.fingerprint == fingerprint(task.id, id) => Handled::Resent,
            Ok(_) => Handled::Skipped,
            Err(error) => Handled::Later(later(error)),
        });
    }
    match gateway.store.note(id, Some(&task.tenant)).await {
        Ok(Some(note)) if order.statuses.contains(&note.status) => match resend::judge(&note) {
            Ok(()) => Look::Resend(Box::new(note)),
            Err(problem) => Look::Already(Handled::Failed(Box::new(problem))),
        },
        // It has arrived after all, or was removed.
        Ok(_) => Look::Already(Handled::Skipped),
        Err(StoreError::Corrupt(_)) => Look::Already(Handled::Failed(Box::new(Problem::unreadable()))),
        Err(error) => Look::Already(Handled::Later(later(error))),
    }
}

fn later(error: StoreError) -> Box<Problem> {
    Box::new(error.into())
}

async fn resend(gateway: &Gateway, task: TaskId, original: Note) -> Handled {
    let id = original.id;
    let claim = KeyClaim {
        key: key(id),
        fingerprint: fingerprint(task, id),
        expires_at: gateway.clock.now() + FOR_EVER,
    };
    match resend::again(gateway, original, Some(claim), QueuePart::MostOfIt).await {
        Ok(_) => Handled::Resent,
        // Another task was faster.
        Err(problem) if problem.code == Code::IdempotencyKeyReused => Handled::Skipped,
        Err(problem) if problem.status >= 500 && problem.code != Code::Internal => {
            Handled::Later(Box::new(problem))
        }
        Err(problem) => Handled::Failed(Box::new(problem)),
    }
}

/// The idempotency key of a recovered note. No caller can send one with a control character.
fn key(original: NoteId) -> String {
    format!("\u{1f}recover\u{1f}{original}")
}

fn fingerprint(task: TaskId, original: NoteId) -> String {
    format!("{task} recovers {original}")
}
