//! `voicegate callbacks`: registers the callback address at a provider, and shows whether callbacks arrive.

use std::{path::Path, process::ExitCode, sync::Arc};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use sqlx::{ConnectOptions, Connection as _, sqlite::SqliteConnectOptions};
use url::Url;
use voicegate_providers::{Context, Registration};

use super::out;
use crate::{
    config::{self, Connection, Database, Layers, Tenant, postgres_options},
    gateway::Live,
    model::clock::{Clock, SystemClock, rfc3339_millis},
    store::connection_key,
};

#[derive(clap::Args)]
pub struct CallbacksArgs {
    /// A connection, or TENANT/CONNECTION if several tenants have one of that name.
    connection: String,
}

/// Registers the callback address at the provider, and prints the secret that it chose.
pub async fn register(layers: &Layers, args: &CallbacksArgs) -> anyhow::Result<ExitCode> {
    let (live, now) = live(layers)?;
    let (tenant, connection) = find(&live, &args.connection)?;
    let registration = ask(&live, now, tenant, connection).await?;
    out::line(&registration.summary)?;
    if let Some((key, secret)) = registration.secret {
        out::line(format_args!(
            "\nThe provider shows its secret only once. In [tenants.{}.connections.{}]:\n",
            tenant.name, connection.name
        ))?;
        out::line(format_args!("{key} = \"{}\"\n", secret.expose_secret()))?;
        out::line("Then reload the configuration (SIGHUP): without it no receipt is accepted.")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what is registered at the provider, and when its last callback arrived.
pub async fn status(layers: &Layers, args: &CallbacksArgs) -> anyhow::Result<ExitCode> {
    let (live, now) = live(layers)?;
    let (tenant, connection) = find(&live, &args.connection)?;
    let mut sound = true;
    if connection.provider.capabilities().receipts.is_empty() {
        out::line(
            "configuration: there is no secret for callbacks, so none is accepted; run `voicegate callbacks register`",
        )?;
        sound = false;
    }
    match connection
        .provider
        .callback_status(&context(&live, now, connection), &url(&live, tenant, connection)?)
        .await
    {
        Ok(line) => out::line(format_args!("provider: {line}"))?,
        Err(error) => {
            out::line(format_args!("provider: {error}"))?;
            sound = false;
        }
    }
    match last_callback(&live.config.storage.database, &connection_key(&tenant.name, &connection.name)).await
    {
        Ok(Some(at)) => {
            out::line(format_args!("arrived: the last genuine one at {}", rfc3339_millis::text(at)))?
        }
        Ok(None) => out::line("arrived: none yet")?,
        Err(error) => {
            out::line(format_args!("arrived: not known, since the database cannot be read ({error:#})"))?;
        }
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Registers the callback address of this gateway at the provider of a connection.
///
/// # Errors
/// Fails with the provider's error, and what to do about it.
pub async fn ask(
    live: &Live,
    now: Timestamp,
    tenant: &Tenant,
    connection: &Connection,
) -> anyhow::Result<Registration> {
    let url = url(live, tenant, connection)?;
    let registered = connection.provider.register_callbacks(&context(live, now, connection), &url).await;
    registered.map_err(|error| anyhow::anyhow!("{}: {error}", connection.name))
}

fn live(layers: &Layers) -> anyhow::Result<(Live, Timestamp)> {
    let (config, tenants) = config::load(layers, None)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    Ok((Live::new(config, tenants, &clock)?, clock.now()))
}

fn find<'a>(live: &'a Live, name: &str) -> anyhow::Result<(&'a Tenant, &'a Connection)> {
    let (tenant, name) = name.split_once('/').map_or((None, name), |(tenant, name)| (Some(tenant), name));
    let tenants =
        live.tenants.iter().filter(|candidate| tenant.is_none_or(|tenant| candidate.name == tenant));
    let mut found = tenants.filter_map(|tenant| Some((tenant.as_ref(), tenant.connections.get(name)?)));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => bail!("several tenants have a connection \"{name}\"; write TENANT/{name}"),
        (None, _) => bail!("there is no connection \"{name}\" in the configuration"),
    }
}

fn context(live: &Live, now: Timestamp, connection: &Connection) -> Context {
    live.context(now, connection.timeout)
}

/// The address at which the provider of a connection calls the gateway.
fn url(live: &Live, tenant: &Tenant, connection: &Connection) -> anyhow::Result<Url> {
    let mut url = live.config.server.public_url.clone();
    url.path_segments_mut()
        .map_err(|()| anyhow::anyhow!("server.public_url cannot have a path"))?
        .pop_if_empty()
        .extend(["callbacks", &tenant.name, &connection.name]);
    Ok(url)
}

/// The time of the last genuine callback, from the database. The gateway may be running.
async fn last_callback(database: &Database, connection: &str) -> anyhow::Result<Option<Timestamp>> {
    const LAST: &str = "SELECT callback_at FROM connections WHERE connection = $1";
    let at: Option<Option<i64>> = match database {
        Database::Sqlite(path) => {
            if !Path::new(path).exists() {
                return Ok(None);
            }
            let options = SqliteConnectOptions::new().filename(path).read_only(true);
            let mut database = options.connect().await.context("opening it")?;
            let found = sqlx::query_scalar(LAST).bind(connection).fetch_optional(&mut database).await?;
            database.close().await?;
            found
        }
        Database::Postgres(url) => {
            let options = postgres_options(url).map_err(anyhow::Error::msg)?;
            let mut database = options.connect().await.context("opening it")?;
            let found = sqlx::query_scalar(LAST).bind(connection).fetch_optional(&mut database).await?;
            database.close().await?;
            found
        }
    };
    Ok(at.flatten().and_then(|at| Timestamp::from_millisecond(at).ok()))
}
