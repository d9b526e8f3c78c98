//! Closing connections that are idle, as servers and load balancers do.

use std::time::Duration;

use tokio::sync::watch;

/// How long connections may be idle; `None` is for ever.
pub(crate) type Limit = Option<Duration>;

/// The requests under way on one connection.
#[derive(Clone)]
pub(crate) struct Busy(watch::Sender<usize>);

/// A request under way, until it is let go of.
pub(crate) struct Request(watch::Sender<usize>);

impl Busy {
    pub fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    pub fn begin(&self) -> Request {
        self.0.send_modify(|count| *count += 1);
        Request(self.0.clone())
    }

    /// Ends when the connection has been idle for as long as it may.
    pub async fn idle_for_too_long(&self, mut limit: watch::Receiver<Limit>) {
        let mut busy = self.0.subscribe();
        loop {
            let (is_idle, allowed) = (*busy.borrow_and_update() == 0, *limit.borrow_and_update());
            let too_long = async {
                match allowed.filter(|_| is_idle) {
                    Some(time) => tokio::time::sleep(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = too_long => return,
                _ = busy.changed() => {}
                _ = limit.changed() => {}
            }
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
