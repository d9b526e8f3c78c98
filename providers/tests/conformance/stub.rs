//! A provider that says what it is told to: a TCP listener on loopback, so that it can also misbehave in ways
//! in which an HTTP library would not.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::fixture::{Answer, Exchange};

/// Path below which every request must stay, because an adapter keeps the path of its `base_url`.
const ROOT: &str = "/base";

/// Size of an endless body, in bytes: more than any adapter reads.
const ENDLESS: usize = 64 * 1024 * 1024;

/// A request as it came in.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    pub method: String,
    /// Path and query below the base URL.
    pub target: String,
    /// Names in lower case, in order, repeated ones included.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

#[derive(Default)]
struct State {
    script: std::vec::IntoIter<Exchange>,
    requests: Vec<Recorded>,
    problems: Vec<String>,
    endless_bytes: usize,
}

pub struct Stub {
    port: u16,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

impl Stub {
    pub async fn start(script: Vec<Exchange>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its own address").port();
        let state = Arc::new(Mutex::new(State { script: script.into_iter(), ..State::default() }));
        let server = tokio::spawn(serve(listener, port, state.clone()));
        Self { port, state, server }
    }

    /// The URL has the trailing slash that operators write.
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}{ROOT}/", self.port)
    }

    /// Replaces the placeholders for this server's addresses.
    pub fn filled(&self, text: &str) -> String {
        fill(text, self.port)
    }

    /// Stops listening, so that connections are refused.
    pub async fn stop(&mut self) {
        self.server.abort();
        let _ = (&mut self.server).await;
    }

    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.state).requests.clone()
    }

    pub fn endless_bytes(&self) -> usize {
        lock(&self.state).endless_bytes
    }

    /// Requests that were not expected, and expected requests that did not come.
    pub fn problems(&self) -> Vec<String> {
        let state = lock(&self.state);
        let missing =
            state.script.as_slice().iter().map(|e| format!("never came: {} {}", e.method, e.target));
        state.problems.iter().cloned().chain(missing).collect()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, port: u16, state: Arc<Mutex<State>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let state = state.clone();
        // A client that hangs up early is part of the game.
        tokio::spawn(async move { converse(stream, port, &state).await.ok() });
    }
}

fn fill(text: &str, port: u16) -> String {
    text.replace("{{base}}", &format!("http://127.0.0.1:{port}{ROOT}"))
        .replace("{{elsewhere}}", &format!("http://localhost:{port}{ROOT}"))
}

async fn converse(mut stream: TcpStream, port: u16, state: &Mutex<State>) -> io::Result<()> {
    let Some(request) = read_request(&mut stream).await? else { return Ok(()) };
    let answer = next_answer(&mut lock(state), request);
    match answer {
        Answer::Whole { head, body } => {
            let (head, body) = (fill(&head.join("\r\n"), port), fill(&body, port));
            let length = body.len();
            let text = format!("{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            stream.write_all(text.as_bytes()).await?;
            stream.shutdown().await
        }
        Answer::Stall => std::future::pending().await,
        Answer::Close => Ok(()),
        Answer::Broken => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"half\":").await?;
            stream.shutdown().await
        }
        Answer::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n").await?;
            let chunk = vec![b' '; 64 * 1024];
            while lock(state).endless_bytes < ENDLESS {
                stream.write_all(&chunk).await?;
                lock(state).endless_bytes += chunk.len();
            }
            Ok(())
        }
    }
}

fn next_answer(state: &mut State, request: Recorded) -> Answer {
    let asked = format!("{} {}", request.method, request.target);
    state.requests.push(request.clone());
    let Some(expected) = state.script.next() else {
        state.problems.push(format!("came unasked: {asked}"));
        return Answer::Close;
    };
    let path = request.target.split('?').next().unwrap_or_default();
    let target = if expected.target.contains('?') { request.target.as_str() } else { path };
    if (request.method.as_str(), target) != (expected.method.as_str(), expected.target.as_str()) {
        state.problems.push(format!("expected {} {}, came {asked}", expected.method, expected.target));
        return Answer::Close;
    }
    expected.answer
}

async fn read_request(stream: &mut TcpStream) -> io::Result<Option<Recorded>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(end + 4);
    while body.len() < length && stream.read_buf(&mut body).await? > 0 {}
    let target =
        target.strip_prefix(ROOT).map_or_else(|| format!("(outside base_url){target}"), str::to_owned);
    Ok(Some(Recorded { method, target, headers, body }))
}
