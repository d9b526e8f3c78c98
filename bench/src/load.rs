//! A generator of load that costs little itself: one connection for each request in flight, kept alive, and no more
//! of HTTP than this server needs.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::gateway::{KEY, recipient};

/// What came of a load.
#[derive(Default)]
pub struct Load {
    pub span: Duration,
    /// Of each accepted note, in milliseconds.
    pub latencies: Vec<f64>,
    /// Number of answers that said to come again later.
    pub refused: usize,
}

impl Load {
    pub fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.span.as_secs_f64()
    }
}

/// Sends notes of one kind, to all recipients, until `most` were sent or the time is over.
pub async fn send(
    address: &str,
    query: &str,
    audio: impl Fn(usize) -> Vec<u8> + Clone + Send + 'static,
    concurrency: usize,
    most: usize,
    span: Duration,
) -> anyhow::Result<Load> {
    let query = query.to_owned();
    let path = move |number| format!("/voice?to={}{query}", recipient(number).replace('+', "%2B"));
    post(address, Requests::new(path, audio, 202), concurrency, most, span).await
}

/// What is posted, by its number, and the status that every answer has to have.
#[derive(Clone)]
pub struct Requests<P, A> {
    pub path: P,
    pub audio: A,
    pub expected: u16,
    /// The type of the body.
    pub kind: &'static str,
    /// Further headers, each with its line end.
    pub headers: &'static str,
    /// Time between two requests of one connection; without it, each follows the answer to the one before.
    pub every: Option<Duration>,
    /// Whether an answer may say that the gateway is overloaded.
    pub may_be_refused: bool,
}

impl<P, A> Requests<P, A> {
    pub fn new(path: P, audio: A, expected: u16) -> Self {
        Self { path, audio, expected, kind: "audio/mpeg", headers: "", every: None, may_be_refused: false }
    }
}

/// Posts audio until `most` requests were made or the time is over.
pub async fn post<P, A>(
    address: &str,
    requests: Requests<P, A>,
    concurrency: usize,
    most: usize,
    span: Duration,
) -> anyhow::Result<Load>
where
    P: Fn(usize) -> String + Clone + Send + 'static,
    A: Fn(usize) -> Vec<u8> + Clone + Send + 'static,
{
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..concurrency {
        let (address, requests) = (address.to_owned(), requests.clone());
        let Requests { path, audio, expected, kind, headers, every, may_be_refused } = requests;
        clients.spawn(async move {
            let mut connection = Connection::open(&address).await?;
            let (mut latencies, mut refused) = (Vec::new(), 0);
            let mut turns = every.map(tokio::time::interval);
            if let Some(every) = every {
                // Spread over one interval.
                tokio::time::sleep(every.mul_f64(client as f64 / concurrency as f64)).await;
            }
            for number in (client..most).step_by(concurrency) {
                if let Some(turns) = &mut turns {
                    turns.tick().await;
                }
                if started.elapsed() >= span {
                    break;
                }
                let audio = audio(number);
                let request = format!(
                    "POST {} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {KEY}\r\n\
                     Content-Type: {kind}\r\n{headers}Content-Length: {}\r\n\r\n",
                    path(number),
                    audio.len()
                );
                let begun = Instant::now();
                let (status, body) = connection.exchange(request.as_bytes(), &audio).await?;
                if may_be_refused && status == 503 {
                    refused += 1;
                    continue;
                }
                ensure!(status == expected, "answered with {status}: {}", String::from_utf8_lossy(&body));
                latencies.push(begun.elapsed().as_secs_f64() * 1000.0);
            }
            Ok::<_, anyhow::Error>((latencies, refused))
        });
    }
    let mut load = Load::default();
    while let Some(done) = clients.join_next().await {
        let (latencies, refused) = done??;
        load.latencies.extend(latencies);
        load.refused += refused;
    }
    load.span = started.elapsed();
    Ok(load)
}

/// The status of a plain request.
pub async fn get(address: &str, path: &str) -> anyhow::Result<u16> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    Ok(Connection::open(address).await?.exchange(request.as_bytes(), &[]).await?.0)
}

/// The JSON that a tenant's request is answered with.
pub async fn json(address: &str, key: &str, method: &str, path: &str, body: &[u8]) -> anyhow::Result<Value> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: audio/mpeg\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let (status, answer) = Connection::open(address).await?.exchange(request.as_bytes(), body).await?;
    ensure!((200..300).contains(&status), "answered with {status}: {}", String::from_utf8_lossy(&answer));
    Ok(serde_json::from_slice(&answer)?)
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(8192) })
    }

    async fn exchange(&mut self, head: &[u8], body: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
        self.buffer.clear();
        self.buffer.extend_from_slice(head);
        self.buffer.extend_from_slice(body);
        self.stream.write_all(&self.buffer).await?;
        self.buffer.clear();
        loop {
            if let Some(end) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
                let status = head.get(9..12).and_then(|status| status.parse().ok()).context("no status")?;
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.context("an answer without a length")?.trim().parse()?;
                while self.buffer.len() < end + 4 + length {
                    self.more().await?;
                }
                return Ok((status, self.buffer[end + 4..].to_vec()));
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the gateway hung up");
        }
        Ok(())
    }
}
