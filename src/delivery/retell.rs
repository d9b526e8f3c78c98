//! Posts events again to a webhook: one of them, or all that it did not take. Also ends the pause of a webhook.

use jiff::Timestamp;

use super::{
    recover::{Ordered, begin},
    webhook::settings,
};
use crate::{
    config::Tenant,
    gateway::Gateway,
    model::{
        code::Code,
        id::EventId,
        problem::Problem,
        task::{Order, Recovery, Retelling, Task},
    },
    store::{self, EventHead, StoreError},
};

/// The most events of one step.
const PAGE: u32 = 200;

/// Posts an event to the webhook again.
///
/// # Errors
/// `not_found` if it is not kept, `wrong_state` if the tenant has no webhook, or the webhook is paused.
pub async fn one(gateway: &Gateway, tenant: &Tenant, id: EventId) -> Result<EventHead, Problem> {
    let absent = || Problem::new(Code::NotFound, "there is no such event, or it is no longer kept");
    let event = gateway.store.event(id, &tenant.name).await?.ok_or_else(absent)?;
    has_webhook(tenant)?;
    let state = gateway.store.webhook(&tenant.name).await?;
    if state.is_some_and(|state| state.paused_at.is_some()) {
        let detail =
            "the webhook is paused because it failed for five days; resume it with POST /webhook/recover";
        return Err(Problem::new(Code::WrongState, detail));
    }
    if !gateway.store.retell(id, &tenant.name, gateway.clock.now()).await? {
        return Err(absent());
    }
    gateway.wake_worker();
    Ok(event)
}

/// Resumes the webhook, and orders that it is told of everything that it did not take.
///
/// # Errors
/// `wrong_state` if the tenant has no webhook.
pub async fn order(gateway: &Gateway, tenant: &Tenant, order: Retelling) -> Result<Ordered, Problem> {
    has_webhook(tenant)?;
    let now = gateway.clock.now();
    if gateway.store.resume_webhook(&tenant.name, now).await? {
        tracing::info!(tenant = tenant.name, "the webhook of {} was resumed", tenant.name);
    }
    gateway.wake_worker();
    let task = Task::new(&tenant.name, Order::Webhook(order.clone()), 0, now);
    let total = gateway.store.count_untold(&wanted(&task, &order, now)).await?;
    begin(gateway, Task { total, ..task }, None).await
}

fn has_webhook(tenant: &Tenant) -> Result<(), Problem> {
    if tenant.webhook.is_some() {
        return Ok(());
    }
    Err(Problem::new(Code::WrongState, "this tenant has no webhook; events can be read from GET /events"))
}

fn wanted<'a>(task: &'a Task, order: &Retelling, now: Timestamp) -> store::Retelling<'a> {
    store::Retelling {
        tenant: &task.tenant,
        since: order.since,
        until: task.created_at,
        after: task.after_event,
        now,
        limit: PAGE,
        most: Recovery::MOST.saturating_sub(task.handled()),
    }
}

/// Looks at the next page, and returns the time of the next step.
///
/// # Errors
/// The database failed; the step is taken again.
pub async fn step(gateway: &Gateway, task: &mut Task, order: &Retelling) -> Result<Timestamp, StoreError> {
    let now = gateway.clock.now();
    let retold = gateway.store.retell_all(&wanted(task, order, now)).await?;
    task.done += retold.queued;
    task.after_event = retold.last.unwrap_or(task.after_event);
    task.updated_at = now;
    if retold.queued > 0 {
        gateway.wake_worker();
    }
    if !retold.more {
        task.end(None, now);
    }
    Ok(now)
}

/// Resumes paused webhooks whose settings have changed since, or that are gone.
///
/// # Errors
/// The database failed.
pub async fn resume_changed(gateway: &Gateway) -> Result<(), StoreError> {
    let live = gateway.live();
    for state in gateway.store.paused_webhooks().await? {
        let webhook = live.tenants.get(&state.tenant).and_then(|tenant| tenant.webhook.as_ref());
        if webhook.is_some_and(|webhook| settings(webhook) == state.settings) {
            continue;
        }
        if gateway.store.resume_webhook(&state.tenant, gateway.clock.now()).await? {
            let tenant = &state.tenant;
            tracing::info!(tenant, "the webhook of {tenant} has other settings now and was resumed");
            gateway.wake_worker();
        }
    }
    Ok(())
}
