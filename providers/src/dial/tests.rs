use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    Context,
    guard::GuardedClient,
    test_tls::{acceptor, roots},
    trust::Trust,
    wire,
};

/// The way in which a test server treats connections.
#[derive(Clone, Copy, PartialEq)]
enum Habit {
    /// Answers each request, and leaves the connection open.
    Waits,
    /// Answers one request and closes.
    ClosesAfterAnswer,
    /// Answers one request. Hangs up at the second without having read it, as a server does whose time for idle
    /// connections runs out just then.
    ClosesUnderSecond,
    /// Closes without having read anything.
    ClosesAtOnce,
    /// Reads the request and hangs up.
    ReadsAndCloses,
}

/// A server on loopback. The first connection has the first habit, and so on; the last habit stays.
struct Server {
    url: Url,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    async fn start(habits: &'static [Habit]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/v1/send", listener.local_addr().expect("an address"));
        let server =
            Self { url: url.parse().expect("a URL"), connections: Arc::default(), requests: Arc::default() };
        let (connections, requests) = (server.connections.clone(), server.requests.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let habit = habits[number.min(habits.len() - 1)];
                tokio::spawn(serve(stream, habit, requests.clone()));
            }
        });
        server
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn request(&self) -> Request {
        wire::json_request(reqwest::Method::POST, self.url.clone(), Some(&serde_json::json!({"to": "x"})))
    }

    async fn until_connected(&self, times: usize) {
        while self.connections() < times {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn serve(mut stream: TcpStream, habit: Habit, requests: Arc<AtomicUsize>) {
    if habit == Habit::ClosesAtOnce {
        return;
    }
    while read_request(&mut stream).await {
        requests.fetch_add(1, Ordering::SeqCst);
        if habit == Habit::ReadsAndCloses {
            return;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.expect("answered");
        if habit == Habit::ClosesAfterAnswer {
            return;
        }
        if habit == Habit::ClosesUnderSecond {
            let mut next = [0];
            let _ = stream.peek(&mut next).await;
            return;
        }
    }
}

/// Reads a request to the end of its body; `false` where the connection ends before.
async fn read_request(stream: &mut (impl AsyncReadExt + Unpin)) -> bool {
    let mut text = Vec::new();
    while !text.ends_with(b"{\"to\":\"x\"}") {
        let mut piece = [0; 1024];
        match stream.read(&mut piece).await {
            Ok(count @ 1..) => text.extend_from_slice(&piece[..count]),
            _ => return false,
        }
    }
    let text = String::from_utf8(text).expect("text");
    assert!(text.starts_with("POST /v1/send HTTP/1.1\r\n"), "{text}");
    for header in
        ["host: ", "user-agent: voicegate\r\n", "content-length: 10\r\n", "accept: application/json"]
    {
        assert!(text.contains(header), "{header} is missing: {text}");
    }
    true
}

fn nobody() -> Trust {
    Trust::nobody().expect("TLS settings")
}

fn dialer(hold: Duration) -> Dialer {
    Dialer::new(DialOptions { hold, proxy: Proxy::None, ..DialOptions::new(nobody()) }).expect("a dialer")
}

fn context(dialer: &Dialer) -> Context {
    Context {
        http: nobody().client().no_proxy().user_agent("voicegate").build().expect("a client"),
        dial: dialer.dial(),
        guarded: GuardedClient::new(Default::default(), Duration::from_secs(5), &nobody()).expect("a client"),
        now: jiff::Timestamp::UNIX_EPOCH,
        timeout: Duration::from_secs(20),
    }
}

const HOLD: Duration = Duration::from_secs(600);

#[tokio::test]
async fn no_request_goes_over_a_connection_that_another_one_used() {
    let server = Server::start(&[Habit::ClosesUnderSecond]).await;
    let dialer = dialer(HOLD);
    for number in 1..=5 {
        let answer = wire::dispatch(&context(&dialer), server.request()).await.expect("an answer");
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"ok"[..]));
        assert_eq!((server.connections(), server.requests()), (number, number));
    }
    // A pool behaves in this way, and is not used for that reason.
    let cx = context(&dialer);
    wire::call(&cx, server.request()).await.expect("an answer");
    assert_eq!(wire::call(&cx, server.request()).await.expect_err("lost"), NoAnswer::Lost);
}

#[tokio::test]
async fn a_connection_opened_ahead_carries_the_request() {
    let server = Server::start(&[Habit::Waits]).await;
    let dialer = dialer(HOLD);
    dialer.shared.patience.learn(&server.url.origin().ascii_serialization(), true);
    let cx = context(&dialer);
    cx.dial.ahead(&server.url);
    server.until_connected(1).await;
    wire::dispatch(&cx, server.request()).await.expect("an answer");
    assert_eq!((server.connections(), server.requests()), (1, 1));
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_waited_is_replaced() {
    let server = Server::start(&[Habit::ClosesAtOnce, Habit::Waits]).await;
    let dialer = dialer(HOLD);
    let origin = server.url.origin().ascii_serialization();
    dialer.shared.patience.learn(&origin, true);
    let cx = context(&dialer);
    cx.dial.ahead(&server.url);
    server.until_connected(1).await;
    // The close is a matter of the kernel, which on loopback is done with it at once.
    tokio::time::sleep(Duration::from_millis(20)).await;
    wire::dispatch(&cx, server.request()).await.expect("an answer");
    assert_eq!((server.connections(), server.requests()), (2, 1));
    assert!(!dialer.shared.patience.is_known_of(&origin), "it is not waited for again");
}

#[tokio::test]
async fn a_connection_that_waited_too_long_is_not_used() {
    let server = Server::start(&[Habit::Waits]).await;
    let dialer = dialer(Duration::ZERO);
    dialer.shared.patience.learn(&server.url.origin().ascii_serialization(), true);
    let cx = context(&dialer);
    cx.dial.ahead(&server.url);
    server.until_connected(1).await;
    tokio::time::sleep(Duration::from_millis(2)).await;
    wire::dispatch(&cx, server.request()).await.expect("an answer");
    assert_eq!((server.connections(), server.requests()), (2, 1));
}

/// A connection is opened ahead only to a server that was seen to wait, so that a note never costs two.
#[tokio::test]
async fn idle_time_of_a_server_is_learned_from_finished_connections() {
    for (habits, is_patient) in
        [(&[Habit::Waits], true), (&[Habit::ClosesAfterAnswer], false)] as [(&[Habit], bool); 2]
    {
        let server = Server::start(habits).await;
        let dialer = dialer(Duration::from_millis(100));
        let origin = server.url.origin().ascii_serialization();
        let cx = context(&dialer);
        cx.dial.ahead(&server.url);
        wire::dispatch(&cx, server.request()).await.expect("an answer");
        let looked = tokio::time::timeout(Duration::from_secs(1), async {
            while !dialer.shared.patience.is_known_of(&origin) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert_eq!(looked.await.is_ok(), is_patient);
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn request_that_was_read_may_have_taken_effect() {
    let server = Server::start(&[Habit::ReadsAndCloses]).await;
    let answer = wire::dispatch(&context(&dialer(HOLD)), server.request()).await;
    assert_eq!(answer.expect_err("lost"), NoAnswer::Lost);
    assert_eq!(server.requests(), 1, "it is not repeated");
}

#[tokio::test]
async fn a_refused_connection_proves_that_nothing_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address")).parse().expect("a URL");
    drop(listener);
    let request = wire::json_request(reqwest::Method::POST, url, None);
    let answer = wire::dispatch(&context(&dialer(HOLD)), request).await;
    assert_eq!(answer.expect_err("refused"), NoAnswer::NotSent);
}

#[tokio::test]
async fn a_request_goes_over_tls_where_the_certificate_is_trusted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url: Url =
        format!("https://{}/v1/send", listener.local_addr().expect("an address")).parse().expect("a URL");
    let acceptor = acceptor("sound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            if read_request(&mut stream).await {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
        }
    });
    let request =
        || wire::json_request(reqwest::Method::POST, url.clone(), Some(&serde_json::json!({"to": "x"})));
    let trust = Trust::only(roots("sound")).expect("TLS settings");
    let options = DialOptions { proxy: Proxy::None, ..DialOptions::new(trust) };
    let trusting = Dialer::new(options).expect("a dialer");
    let answer = wire::dispatch(&context(&trusting), request()).await.expect("an answer");
    assert_eq!(answer.status.as_u16(), 200);
    let answer = wire::dispatch(&context(&dialer(HOLD)), request()).await;
    assert_eq!(answer.expect_err("not trusted"), NoAnswer::NotSent);
}
