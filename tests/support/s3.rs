//! A bucket on an S3 server in this process, which believes nothing without the right signature.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use hyper::{Method, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;

pub const BUCKET: &str = "voice-notes";
pub const SECRET: &str = "S3CRET-of-the-test-server";

pub struct Server {
    pub url: String,
    folder: TempDir,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// How many requests are still answered.
    left: AtomicUsize,
    /// How many requests broke off.
    broken: AtomicUsize,
    /// Method and path of every request that was answered.
    requests: Mutex<Vec<(Method, String)>>,
}

impl Server {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join(BUCKET)).expect("a bucket");
        let mut service = S3ServiceBuilder::new(FileSystem::new(folder.path()).expect("a file system"));
        service.set_auth(SimpleAuth::from_single("test-key", SECRET));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(State { left: AtomicUsize::new(usize::MAX), ..State::default() });
        tokio::spawn(serve(listener, service, state.clone()));
        Self { url, folder, state }
    }

    /// What a gateway needs to know of it.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let variables = [
            ("AWS_ENDPOINT_URL", self.url.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "test-key"),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_REGION", "eu-central-1"),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// From now on every connection breaks off at its first request.
    pub fn set_down(&self, is_down: bool) {
        self.down_after(if is_down { 0 } else { usize::MAX });
    }

    /// The same after so many more requests.
    pub fn down_after(&self, requests: usize) {
        self.state.left.store(requests, Ordering::SeqCst);
    }

    /// Every object by its key, with its bytes.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let root = self.folder.path().join(BUCKET);
        let mut folders = vec![root.clone()];
        let mut objects = BTreeMap::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let key = path.strip_prefix(&root).expect("below").display().to_string();
                    objects.insert(key, std::fs::read(path).expect("read"));
                }
            }
        }
        objects
    }

    pub fn keys(&self) -> Vec<String> {
        self.objects().into_keys().collect()
    }

    /// Where an object is.
    pub fn path(&self, key: &str) -> PathBuf {
        self.folder.path().join(BUCKET).join(key)
    }

    /// How many requests broke off because the server was down.
    pub fn broken(&self) -> usize {
        self.state.broken.load(Ordering::SeqCst)
    }

    /// How many requests of this kind were answered, for paths that contain `part`.
    pub fn answered(&self, method: &Method, part: &str) -> usize {
        let requests = self.state.requests.lock().expect("unpoisoned");
        requests.iter().filter(|(each, path)| each == method && path.contains(part)).count()
    }
}

async fn serve(listener: TcpListener, service: S3Service, state: Arc<State>) {
    while let Ok((socket, _)) = listener.accept().await {
        let (service, state) = (service.clone(), state.clone());
        tokio::spawn(async move {
            let answer = service_fn(move |request: hyper::Request<Incoming>| {
                let (service, state) = (service.clone(), state.clone());
                async move {
                    let one_less = |left: usize| left.checked_sub(1);
                    if state.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_err() {
                        state.broken.fetch_add(1, Ordering::SeqCst);
                        return Err(io::Error::other("down"));
                    }
                    let about = (request.method().clone(), request.uri().to_string());
                    state.requests.lock().expect("unpoisoned").push(about);
                    service.call(request.map(s3s::Body::from)).await.map_err(io::Error::other)
                }
            });
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), answer).await;
        });
    }
}
