//! A PostgreSQL server for one test, which may be stopped and started without disturbing others.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// The ways to stop a server. <https://www.postgresql.org/docs/current/app-pg-ctl.html>
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// Ends every session and rolls back uncommitted changes.
    Fast,
    /// Stops like a crash: every connection breaks, and the next start recovers from the log.
    Immediate,
}

pub struct Server {
    child: Child,
    pub url: String,
    /// The command that controls it.
    control: String,
}

impl Server {
    /// Starts a server; `None` if that is impossible here.
    pub fn start() -> Option<Self> {
        std::env::var_os("VOICEGATE_TEST_POSTGRES")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/with-postgres.sh");
        // The server runs until its command has read the end of its input.
        let mut child = Command::new(script)
            .args(["sh", "-c", "echo \"$VOICEGATE_TEST_POSTGRES\"; echo \"$VOICEGATE_TEST_PG_CTL\"; cat"])
            .env_remove("VOICEGATE_TEST_POSTGRES")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the script");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut line = || lines.next()?.ok();
        let Some((url, control)) = line().zip(line()) else {
            child.wait().expect("reaped");
            println!("skipped: no PostgreSQL can be started here");
            return None;
        };
        Some(Self { child, url, control })
    }

    /// Stops the server in this way and starts it again; returns when it answers.
    pub async fn restart(&self, stop: Stop) {
        let mode = match stop {
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        };
        self.run(&format!("-m {mode} -w restart")).await;
    }

    /// Stops the server, as an operator does.
    pub async fn stop(&self) {
        self.run("-m fast -w stop").await;
    }

    /// Starts the server again; returns when it answers.
    pub async fn begin(&self) {
        // `start` would not know with which options it was started before.
        self.run("-w restart").await;
    }

    async fn run(&self, arguments: &str) {
        let command = format!("cd / && {} {arguments} >/dev/null 2>&1", self.control);
        let done = tokio::process::Command::new("sh").args(["-c", &command]).status().await;
        assert!(done.expect("a shell").success(), "{arguments}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
