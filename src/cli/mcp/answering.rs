//! A transport that ends only when every request was answered.
//!
//! A script writes its calls and closes its end, and then reads the answers. The protocol's library gives calls five
//! seconds after that, and a note may take longer: its answer would be lost although the note was sent.

use std::collections::HashSet;

use rmcp::{
    RoleServer,
    model::{ClientNotification, JsonRpcMessage, RequestId},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::sync::watch;

pub struct Answering<T> {
    transport: T,
    /// Nothing more comes in.
    is_over: bool,
    unanswered: watch::Sender<HashSet<RequestId>>,
}

impl<T> Answering<T> {
    pub fn new(transport: T) -> Self {
        Self { transport, is_over: false, unanswered: watch::Sender::default() }
    }

    fn remember(&self, message: &RxJsonRpcMessage<RoleServer>) {
        match message {
            JsonRpcMessage::Request(request) => {
                self.unanswered.send_modify(|ids| {
                    ids.insert(request.id.clone());
                });
            }
            // Nobody waits for this answer any more, and none may come.
            JsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(canceled) = &notification.notification
                    && let Some(id) = &canceled.params.request_id
                {
                    self.unanswered.send_modify(|ids| {
                        ids.remove(id);
                    });
                }
            }
            _ => {}
        }
    }
}

impl<T: Transport<RoleServer>> Transport<RoleServer> for Answering<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let answered = match &message {
            JsonRpcMessage::Response(response) => Some(response.id.clone()),
            JsonRpcMessage::Error(error) => error.id.clone(),
            _ => None,
        };
        let (unanswered, sending) = (self.unanswered.clone(), self.transport.send(message));
        async move {
            let sent = sending.await;
            if let Some(id) = answered {
                unanswered.send_modify(|ids| {
                    ids.remove(&id);
                });
            }
            sent
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        // The caller may stop waiting at any time and ask again.
        if !self.is_over {
            match self.transport.receive().await {
                Some(message) => {
                    self.remember(&message);
                    return Some(message);
                }
                None => self.is_over = true,
            }
        }
        // The sender is here, so this does not fail.
        let _ = self.unanswered.subscribe().wait_for(HashSet::is_empty).await;
        None
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.transport.close().await
    }
}
