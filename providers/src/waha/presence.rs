//! The sign that a note is being recorded: `POST /api/{session}/presence`.

use reqwest::Method;
use serde_json::json;

use super::Waha;
use crate::{Context, Presence, Recipient, SendError, Stage, whatsapp_web};

impl Waha {
    pub(super) async fn show(&self, cx: &Context, to: &Recipient, sign: Presence) -> Result<(), SendError> {
        let body = json!({"chatId": whatsapp_web::chat_id(to)?, "presence": sign});
        let request = self.request(Method::POST, &["api", &self.session, "presence"], Some(&body));
        self.ask(cx, request).await.map(drop).map_err(|error| error.at(Stage::Check))
    }
}
