//! A small HTTP proxy on loopback, for plain requests (absolute form) and for tunnels (`CONNECT`).

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

/// The credentials that the proxy asks for, as in a URL and as in a header.
pub const LOGIN: &str = "me:S3CRET";
const AUTHORIZATION: &str = "proxy-authorization: basic bwu6uzndukvu";

#[derive(Clone)]
pub struct LittleProxy {
    /// `HOST:PORT`
    pub address: String,
    /// The first line of each request that was let through.
    lines: Arc<Mutex<Vec<String>>>,
}

impl LittleProxy {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let proxy = Self { address, lines: Arc::default() };
        let serving = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let proxy = serving.clone();
                tokio::spawn(async move { proxy.serve(client).await });
            }
        });
        proxy
    }

    /// The URL with the right credentials.
    pub fn url(&self) -> String {
        format!("http://{LOGIN}@{}", self.address)
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("a plain list").clone()
    }

    /// Takes the lines that were recorded so far.
    #[allow(dead_code, reason = "not every user of this file needs it")]
    pub fn take_lines(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().expect("a plain list"))
    }

    async fn serve(&self, mut client: TcpStream) -> Option<()> {
        let (head, rest) = read_head(&mut client).await?;
        if !head.to_ascii_lowercase().contains(AUTHORIZATION) {
            client
                .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
                .await
                .ok()?;
            return None;
        }
        let line = head.lines().next()?.to_owned();
        self.lines.lock().expect("a plain list").push(line.clone());
        let mut words = line.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        if method == "CONNECT" {
            let mut server = TcpStream::connect(target).await.ok()?;
            client.write_all(b"HTTP/1.1 200 Connection Established\r\n\r\n").await.ok()?;
            server.write_all(&rest).await.ok()?;
            copy_bidirectional(&mut client, &mut server).await.ok()?;
            return Some(());
        }
        let (host, path) = target.strip_prefix("http://")?.split_once('/')?;
        let mut server = TcpStream::connect(host).await.ok()?;
        // One request for each connection, so that every request is recorded.
        let headers = head.split_once("\r\n")?.1;
        let kept = headers.lines().filter(|line| {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            !line.is_empty() && name != "proxy-authorization" && name != "connection"
        });
        let kept: String = kept.map(|line| format!("{line}\r\n")).collect();
        let request = format!("{method} /{path} HTTP/1.1\r\n{kept}connection: close\r\n\r\n");
        server.write_all(request.as_bytes()).await.ok()?;
        server.write_all(&rest).await.ok()?;
        copy_bidirectional(&mut client, &mut server).await.ok()?;
        Some(())
    }
}

/// Reads the head of a request, and what came with it of its body.
async fn read_head(client: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = read.split_off(end + 4);
            return Some((String::from_utf8(read).ok()?, rest));
        }
        let mut piece = [0; 4096];
        let count = client.read(&mut piece).await.ok().filter(|count| *count > 0)?;
        read.extend_from_slice(&piece[..count]);
    }
}
