//! A PostgreSQL of this program's own, from `scripts/with-postgres.sh`, or the one that
//! `VOICEGATE_TEST_POSTGRES` names.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::Context;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use url::Url;

pub struct Server {
    child: Child,
    url: Url,
}

impl Server {
    /// `None` where there is none. `durable`: a commit waits for the disk, as it does out there.
    pub fn start(durable: bool) -> anyhow::Result<Option<Self>> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/with-postgres.sh");
        // It lives until its command has read the end of its input.
        let mut child = Command::new(script)
            .args(["sh", "-c", "echo \"$VOICEGATE_TEST_POSTGRES\"; cat"])
            .env("VOICEGATE_TEST_PG_FSYNC", if durable { "on" } else { "off" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("scripts/with-postgres.sh")?;
        let said = BufReader::new(child.stdout.take().context("its output")?).lines().next();
        let Some(url) = said.transpose()? else {
            child.wait()?;
            return Ok(None);
        };
        Ok(Some(Self { child, url: url.parse().context("the URL of the database")? }))
    }

    /// The URL of an empty database. What it held before is gone.
    pub async fn fresh(&self) -> anyhow::Result<String> {
        const NAME: &str = "voicegate_bench";
        let mut server = PgConnection::connect(self.url.as_str()).await?;
        for step in
            [format!("DROP DATABASE IF EXISTS {NAME} WITH (FORCE)"), format!("CREATE DATABASE {NAME}")]
        {
            sqlx::raw_sql(AssertSqlSafe(step)).execute(&mut server).await?;
        }
        let mut url = self.url.clone();
        url.set_path(NAME);
        Ok(url.to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
