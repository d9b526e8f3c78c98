//! Closing connections that are idle, as servers and load balancers do.

use std::time::Duration;

use tokio::sync::watch;

/// Time for which connections may be idle; `None` means for ever.
pub(crate) type Limit = Option<Duration>;

/// The requests in flight on one connection.
#[derive(Clone)]
pub(crate) struct Busy(watch::Sender<usize>);

/// A guard that counts a request as in flight until it is dropped.
pub(crate) struct Request(watch::Sender<usize>);

impl Busy {
    pub fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    pub fn begin(&self) -> Request {
        self.0.send_modify(|count| *count += 1);
        Request(self.0.clone())
    }

    /// Returns when the connection has been idle for the allowed time.
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
