//! A server with one scripted answer for every request.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

#[derive(Clone, Debug, Default)]
pub struct Fixture {
    settings: BTreeMap<String, String>,
    head: String,
    body: Vec<u8>,
}

impl Fixture {
    pub fn read(file: &Path) -> Self {
        Self::parse(&std::fs::read_to_string(file).expect("a fixture"))
    }

    pub fn parse(text: &str) -> Self {
        let (settings, rest): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("# "));
        let settings = settings.iter().filter_map(|line| line[2..].split_once(": "));
        let rest = rest.join("\n");
        let (head, body) = rest.split_once("\n\n").unwrap_or((&rest, ""));
        Self {
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            head: head.trim().replace('\n', "\r\n"),
            body: bytes(body),
        }
    }

    pub fn get(&self, setting: &str) -> Option<&str> {
        self.settings.get(setting).map(String::as_str)
    }
}

fn bytes(body: &str) -> Vec<u8> {
    let Some(order) = body.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")) else {
        return body.as_bytes().to_vec();
    };
    let number = |text: &str| text.parse::<usize>().expect("a number");
    match order.split(' ').collect::<Vec<_>>().as_slice() {
        ["wav", stated, size] => wav(u32::try_from(number(stated)).expect("32 bits"), number(size)),
        ["pcm", size] => vec![7; number(size)],
        ["file", name, how @ ..] => {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/audio").join(name);
            let mut bytes = std::fs::read(file).expect("a recording");
            if how == ["half"] {
                bytes.truncate(bytes.len() / 2);
            }
            bytes
        }
        other => panic!("there is no such body: {other:?}"),
    }
}

/// A WAV file of 24 kHz that states a number of bytes and has another.
fn wav(stated: u32, size: usize) -> Vec<u8> {
    let mut file = b"RIFF".to_vec();
    file.extend(stated.saturating_add(36).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(24_000_u32.to_le_bytes());
    file.extend(48_000_u32.to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend(stated.to_le_bytes());
    file.resize(file.len() + size, 7);
    file
}

/// A request: its head and its body.
pub type Asked = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

pub struct Stub {
    port: u16,
    asked: Asked,
    server: JoinHandle<()>,
}

impl Stub {
    pub async fn start(fixture: &Fixture) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (fixture, asked) = (fixture.clone(), Asked::default());
        let log = asked.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that hangs up early is part of the game.
                let _ = answer(stream, &fixture, &log).await;
            }
        });
        Self { port, asked, server }
    }

    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/base", self.port)
    }

    pub fn asked(&self) -> Vec<(String, Vec<u8>)> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(mut stream: TcpStream, fixture: &Fixture, log: &Asked) -> io::Result<()> {
    let request = read(&mut stream).await?;
    log.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    let (head, body) = (&fixture.head, &fixture.body);
    match fixture.get("transport") {
        Some("close") => return Ok(()),
        Some("stall") => return std::future::pending().await,
        Some(chunked @ ("chunked" | "chunked-broken")) => {
            stream.write_all(format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes()).await?;
            for chunk in body.chunks(1000) {
                stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
                stream.write_all(chunk).await?;
                stream.write_all(b"\r\n").await?;
            }
            if chunked == "chunked" {
                stream.write_all(b"0\r\n\r\n").await?;
            }
        }
        broken => {
            let length = body.len() + if broken == Some("broken") { 1000 } else { 0 };
            let head = format!("{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body).await?;
        }
    }
    stream.shutdown().await
}

async fn read(stream: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).await?;
        bytes.extend_from_slice(&piece[..count]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        let body = bytes.split_off(end + 4);
        if body.len() >= length.unwrap_or_default() {
            return Ok((head, body));
        }
        bytes.extend(body);
    }
}
