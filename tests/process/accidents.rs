//! Accidents of a machine and its neighbours: writes fail, ffmpeg dies, the clock is set, and webhooks hang.

use std::{
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::{Mutex, MutexGuard},
};
use tokio_util::sync::CancellationToken;

use crate::faults::{EIO, ENOSPC, Faults};

/// A wrapper of the system's ffmpeg, whose runs fail while a file says so.
const FFMPEG: &str = r#"#!/bin/sh
read -r end < "${0%/bin/*}/lib/end"
case $end in
killed) kill -9 $$ ;;
quiet) exit 1 ;;
empty) exit 0 ;;
esac
exec ffmpeg "$@"
"#;

/// Steps of the clock: minutes and hours, forward and back.
const JUMPS: [i64; 4] = [-3600, -90, 90, 3600];

pub struct Accidents {
    /// Failing files and a moved clock need a preloaded library, which is built for Linux only. Elsewhere ffmpeg dies
    /// instead.
    faults: Option<Faults>,
    ffmpeg: tempfile::TempDir,
    webhook: Webhook,
    /// A lock that is held while processes start, because a start needs a working machine.
    calm: Mutex<()>,
    counts: [AtomicUsize; 4],
}

#[derive(Clone, Copy, Debug)]
enum Accident {
    Write,
    Ffmpeg,
    Clock,
    Webhook,
}

impl Accidents {
    pub async fn new() -> Self {
        let ffmpeg = tempfile::tempdir().expect("a folder");
        for folder in ["bin", "lib"] {
            std::fs::create_dir(ffmpeg.path().join(folder)).expect("a folder");
        }
        let script = ffmpeg.path().join("bin/ffmpeg");
        std::fs::write(&script, FFMPEG).expect("written");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("executable");
        let faults = cfg!(target_os = "linux").then(Faults::build);
        let accidents = Self {
            faults,
            ffmpeg,
            webhook: Webhook::start().await,
            calm: Mutex::new(()),
            counts: Default::default(),
        };
        accidents.mend();
        accidents
    }

    pub fn environment(&self) -> std::collections::BTreeMap<String, String> {
        self.faults.as_ref().map(Faults::environment).unwrap_or_default()
    }

    /// Returns the configuration of a gateway that every accident can affect.
    pub fn configure(&self, config: &str) -> String {
        let script = self.ffmpeg.path().join("bin/ffmpeg");
        let hook = format!(
            "webhook = {{ url = \"{}\", secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"] }}\n",
            self.webhook.url
        );
        format!(
            "{}\n[audio]\nffmpeg = \"{}\"\n[fetch]\nallow_http = true\nallow_networks = [\"127.0.0.0/8\"]\n",
            config.replace("[tenants.a]\n", &format!("[tenants.a]\n{hook}")),
            script.display(),
        )
    }

    /// Returns the number of accidents of each kind.
    pub fn counts(&self) -> serde_json::Value {
        let [writes, ffmpeg, clock, webhook] =
            self.counts.each_ref().map(|count| count.load(Ordering::SeqCst));
        serde_json::json!({ "writes": writes, "ffmpeg": ffmpeg, "clock": clock, "webhook": webhook })
    }

    /// Checks that every kind of accident has happened, since the run would otherwise prove nothing.
    pub fn assert_all_happened(&self) {
        assert!(self.counts.iter().all(|count| count.load(Ordering::SeqCst) > 0), "{}", self.counts());
    }

    /// Suspends accidents until the guard is dropped.
    pub async fn calm(&self) -> MutexGuard<'_, ()> {
        let guard = self.calm.lock().await;
        self.mend();
        guard
    }

    /// Causes one accident after the other until told to stop, each kind equally often.
    pub async fn happen(&self, mut random: StdRng, stop: CancellationToken) {
        let kinds = [Accident::Clock, Accident::Write, Accident::Ffmpeg, Accident::Webhook];
        for accident in kinds.into_iter().cycle() {
            let pause = Duration::from_millis(random.random_range(200..1000));
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            {
                let _calm = self.calm.lock().await;
                self.begin(accident, &mut random);
            }
            let lasts = Duration::from_millis(random.random_range(100..1500));
            tokio::time::sleep(lasts).await;
            self.mend();
        }
    }

    fn begin(&self, accident: Accident, random: &mut StdRng) {
        self.counts[accident as usize].fetch_add(1, Ordering::SeqCst);
        match (accident, &self.faults) {
            (Accident::Write, Some(faults)) => {
                let (operation, errno) = match random.random_range(0..3) {
                    0 => ("write", ENOSPC),
                    1 => ("write", EIO),
                    _ => ("flush", EIO),
                };
                faults.begin(operation, errno, "-wal");
            }
            (Accident::Clock, Some(faults)) => faults.set_clock(JUMPS[random.random_range(0..JUMPS.len())]),
            (Accident::Webhook, _) => self.webhook.hangs.store(true, Ordering::SeqCst),
            _ => self.end_ffmpeg_by(["killed", "quiet", "empty"][random.random_range(0..3)]),
        }
    }

    fn mend(&self) {
        if let Some(faults) = &self.faults {
            faults.end_any();
            faults.set_clock(0);
        }
        self.webhook.hangs.store(false, Ordering::SeqCst);
        self.end_ffmpeg_by("well");
    }

    /// The file is replaced at once, since a run may just be reading it.
    fn end_ffmpeg_by(&self, end: &str) {
        let [draft, file]: [PathBuf; 2] = ["lib/draft", "lib/end"].map(|name| self.ffmpeg.path().join(name));
        std::fs::write(&draft, format!("{end}\n")).expect("written");
        std::fs::rename(draft, file).expect("renamed");
    }
}

/// A tenant's server, which accepts events, or keeps every connection open without an answer.
struct Webhook {
    url: String,
    hangs: Arc<AtomicBool>,
}

impl Webhook {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let hangs = Arc::new(AtomicBool::new(false));
        let hanging = hangs.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let hanging = hanging.clone();
                tokio::spawn(async move {
                    let _ = client.read(&mut [0; 16 * 1024]).await;
                    if hanging.load(Ordering::SeqCst) {
                        // The connection stays open until the other side closes it.
                        let _ = client.read(&mut [0; 1]).await;
                        return;
                    }
                    let _ = client.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
                });
            }
        });
        Self { url, hangs }
    }
}
