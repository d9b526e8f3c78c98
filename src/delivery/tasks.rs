//! Takes the steps of tasks, one at a time. A step is short and saved, so that tenants take turns, and a task goes on
//! after a crash where it was.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use jiff::Timestamp;

use super::{recover, retell};
use crate::{
    gateway::Gateway,
    model::task::Order,
    store::{LeasedTask, StoreError},
};

/// The length of a lease. Where a process dies in the middle of a step, another one takes the step again after this.
const LEASE: Duration = Duration::from_secs(30);

/// The longest sleep, since a notice of another process may get lost.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The pause after the database did not answer.
const BREATH: Duration = Duration::from_secs(1);

/// Takes steps until the gateway stops.
pub async fn run(gateway: Arc<Gateway>) {
    let stop = gateway.stop.clone();
    while !stop.is_cancelled() {
        let taken = AssertUnwindSafe(step(&gateway)).catch_unwind().await;
        match taken.unwrap_or_else(|_| Err(StoreError::Open("the step of a task panicked".to_owned()))) {
            Ok(true) => {}
            Ok(false) => {
                let _ = stop.run_until_cancelled(news(&gateway)).await;
            }
            Err(error) => {
                tracing::error!(%error, "the step of a task failed; it is tried again");
                let _ = stop.run_until_cancelled(tokio::time::sleep(BREATH)).await;
            }
        }
    }
}

/// Takes the next step of a task that is due, if any.
async fn step(gateway: &Gateway) -> Result<bool, StoreError> {
    let now = gateway.clock.now();
    // A look costs next to nothing; a claim is a write.
    if gateway.store.next_task(now).await?.is_none_or(|at| at > now) {
        return Ok(false);
    }
    let Some(LeasedTask { mut task, fence }) = gateway.store.claim_task(now, now + LEASE).await? else {
        return Ok(false);
    };
    let due_at = match task.order.clone() {
        Order::Recover(order) => recover::step(gateway, &mut task, &order).await?,
        Order::Webhook(order) => retell::step(gateway, &mut task, &order).await?,
    };
    match gateway.store.save_task(&LeasedTask { task, fence }, due_at).await {
        // Another process has taken the task over, and takes this step again.
        Err(StoreError::LeaseLost) => Ok(true),
        saved => saved.map(|()| true),
    }
}

/// Waits until a task may be due.
async fn news(gateway: &Gateway) {
    let next: Option<Timestamp> = gateway.store.next_task(gateway.clock.now()).await.ok().flatten();
    let due = async {
        match next {
            Some(at) => gateway.clock.sleep_until(at).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = gateway.tasks_woken() => {}
        () = due => {}
        () = tokio::time::sleep(LOOK_AGAIN) => {}
    }
}
