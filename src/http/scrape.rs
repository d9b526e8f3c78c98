//! The answer to somebody who asks: what was counted, and what can be read now.

use std::collections::BTreeMap;

use jiff::Timestamp;
use prometheus_client::registry::Registry;

use super::readiness::Probe;
use crate::{
    gateway::Gateway,
    store::{ConnectionState, QueueGroup, StoreError, connection_parts},
    telemetry::metrics::{self, names::*},
};

/// Everything there is to see.
pub async fn text(gateway: &Gateway, probe: &Probe) -> String {
    let mut now = Registry::default();
    let stored = read_store(gateway, &mut now).await;
    if let Err(error) = &stored {
        tracing::error!(%error, "the database could not be read for the metrics");
    }
    let writable = probe.ask(&*gateway.store).await.is_ok();
    DATABASE_UP.read(&mut now, [([], number(stored.is_ok() && writable))]);
    DATABASE_OUT_OF_ORDER.read(&mut now, [([], number(gateway.store.out_of_order().is_some()))]);
    let room = gateway.disks.room().into_iter();
    DISK_FREE.read(&mut now, room.filter_map(|(folder, room)| Some(([folder], room? as f64))));
    DISK_MIN_FREE.read(&mut now, [([], gateway.disks.min_free() as f64)]);
    FFMPEG_WORKS.read(&mut now, [([], number(gateway.audio_test.works()))]);
    STOPPING.read(&mut now, [([], number(gateway.stop.is_cancelled()))]);
    metrics::text(now)
}

fn number(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

async fn read_store(gateway: &Gateway, registry: &mut Registry) -> Result<(), StoreError> {
    // One look at a time: who may not be trusted with much may ask, too.
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _turn = TURN.lock().await;
    let now = gateway.clock.now();
    let queue = gateway.store.queue_state(now).await?;
    let kept = gateway.store.kept_audio().await?;
    KEPT_AUDIO.read(registry, kept.iter().map(|(tenant, bytes)| ([tenant.as_str()], *bytes as f64)));
    let tasks = gateway.store.running_tasks().await?;
    TASKS.read(registry, tasks.iter().map(|(tenant, count)| ([tenant.as_str()], *count as f64)));
    let paused = gateway.store.paused_webhooks().await?;
    let live = gateway.live();
    let webhooks = live.tenants.iter().filter(|tenant| tenant.webhook.is_some()).map(|tenant| {
        let is_paused = paused.iter().any(|state| state.tenant == tenant.name);
        ([tenant.name.as_str()], number(is_paused))
    });
    WEBHOOK_PAUSED.read(registry, webhooks);
    let mut connections = Vec::new();
    for tenant in gateway.live().tenants.iter() {
        let states = gateway.store.connections(&tenant.name).await?;
        connections.extend(states.into_iter().map(|state| (tenant.name.clone(), state)));
    }
    read_queue(registry, &queue, now);
    read_connections(registry, &connections, now);
    Ok(())
}

fn read_queue(registry: &mut Registry, queue: &[QueueGroup], now: Timestamp) {
    let groups = queue.iter().map(|group| {
        let (tenant, connection) = connection_parts(&group.connection);
        ([tenant, connection, group.state.as_str()], group.count as f64)
    });
    QUEUE.read(registry, groups);
    let mut oldest: BTreeMap<&str, Timestamp> = BTreeMap::new();
    let waiting = |group: &&QueueGroup| matches!(group.state.as_str(), "queued" | "leased" | "sending");
    for group in queue.iter().filter(waiting) {
        let since = oldest.entry(&group.connection).or_insert(group.since);
        *since = group.since.min(*since);
    }
    let ages = oldest.into_iter().map(|(connection, since)| {
        let (tenant, connection) = connection_parts(connection);
        ([tenant, connection], now.duration_since(since).as_secs_f64().max(0.0))
    });
    QUEUE_OLDEST.read(registry, ages);
}

fn read_connections(registry: &mut Registry, connections: &[(String, ConnectionState)], now: Timestamp) {
    let each = |tell: fn(&ConnectionState, Timestamp) -> bool| {
        connections.iter().map(move |(tenant, state)| {
            ([tenant.as_str(), state.connection.as_str()], number(tell(state, now)))
        })
    };
    PAUSED.read(registry, each(|state, now| state.paused_until.is_some_and(|until| until > now)));
    FAILING.read(registry, each(|state, _| state.failure.is_some()));
}
