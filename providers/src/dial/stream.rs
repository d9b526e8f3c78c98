//! A TCP stream that knows whether a byte of the request went out.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Counts the bytes of one request that were handed to the kernel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Arc<AtomicUsize>);

impl Sent {
    /// Proof that no byte of the request left this machine.
    pub fn is_nothing(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }

    /// The counter of a request whose bytes somebody else writes and nobody counts.
    pub fn assume_something(&self) {
        self.add(1);
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::AcqRel);
    }
}

/// Tells a stream, from outside the layers above it, that the request begins. Bytes before that belong to TLS.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<OnceLock<Sent>>);

impl Gate {
    pub fn open(&self, sent: Sent) {
        // A stream carries one request, so there is nothing to be replaced.
        let _ = self.0.set(sent);
    }
}

/// Below TLS, so that what it counts is what the kernel was given.
#[derive(Debug)]
pub(super) struct Gated {
    stream: TcpStream,
    gate: Gate,
}

impl Gated {
    pub fn new(stream: TcpStream, gate: Gate) -> Self {
        Self { stream, gate }
    }

    /// Whether the request begins with the next byte, on a connection that the server has closed already. Asked of
    /// the kernel right before that byte, since tokio hears of a closed connection only when it next waits for news.
    fn is_too_late(&self) -> bool {
        self.gate.0.get().is_some_and(Sent::is_nothing) && has_hung_up(&self.stream)
    }

    fn count(&self, written: usize) {
        if let Some(sent) = self.gate.0.get() {
            sent.add(written);
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn has_hung_up(stream: &TcpStream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    let mut asked = [PollFd::new(stream, gone)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&at_once)).is_ok_and(|_| asked[0].revents().intersects(gone))
}

/// Other kernels do not tell a closed connection from one with bytes to read. There the write itself has to fail.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn has_hung_up(_: &TcpStream) -> bool {
    false
}

fn too_late() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the server hung up before the request began")
}

impl AsyncRead for Gated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Gated {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_too_late() {
            return Poll::Ready(Err(too_late()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.count(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_too_late() {
            return Poll::Ready(Err(too_late()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.count(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn pair() -> (Gated, Gate, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
        let gate = Gate::default();
        (Gated::new(client, gate.clone()), gate, listener.accept().await.expect("accepted").0)
    }

    #[tokio::test]
    async fn bytes_of_the_tls_handshake_do_not_count_as_the_request() {
        let (mut client, gate, mut server) = pair().await;
        let sent = Sent::default();
        client.write_all(b"hello").await.expect("written");
        gate.open(sent.clone());
        assert!(sent.is_nothing());
        client.write_all(b"POST").await.expect("written");
        assert!(!sent.is_nothing());
        let mut all = [0; 9];
        server.read_exact(&mut all).await.expect("read");
    }

    /// Without asking the kernel, the first write to a closed connection succeeds, and only a later one fails.
    #[tokio::test]
    async fn nothing_is_written_to_a_connection_that_the_server_closed() {
        for unread in [false, true] {
            let (mut client, gate, mut server) = pair().await;
            if unread {
                server.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.expect("written");
            }
            drop(server);
            // The close travels through the kernel; nothing else is waited for.
            while !has_hung_up(&client.stream) {
                tokio::task::yield_now().await;
            }
            let sent = Sent::default();
            gate.open(sent.clone());
            let error = client.write_all(b"POST").await.expect_err("refused");
            assert_eq!(
                (error.kind(), sent.is_nothing()),
                (io::ErrorKind::ConnectionAborted, true),
                "{unread}"
            );
        }
    }
}
