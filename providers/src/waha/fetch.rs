//! The audio of received notes: <https://waha.devlike.pro/docs/how-to/receive-messages/#files>.
//!
//! A file lies at the server, or in a bucket behind a signed link, for three minutes. After that, and where the server
//! downloads no media by itself, the message is asked for once more with its file:
//! <https://waha.devlike.pro/docs/how-to/chats/#get-message-by-id>.

use reqwest::{Method, Request, StatusCode};
use url::Url;

use super::{Waha, errors::Refusal};
use crate::{
    Context, Fetched, SendError, SendErrorKind, inbound,
    whatsapp_web::{File, own_address},
    wire::{self, Downloaded, NoAnswer, Out, Step},
};

impl Waha {
    pub(super) async fn file_of(
        &self,
        cx: &Context,
        file: &File,
        out: &mut Out<'_>,
    ) -> Result<Fetched, SendError> {
        if let Some(url) = &file.url {
            match self.file_at(cx, url, file.in_bucket, out).await? {
                Downloaded::Refused(answer) if is_gone(answer.status) => {}
                downloaded => return self.whole(cx, file.in_bucket, downloaded),
            }
        }
        let again = self.message(cx, file).await?;
        let Some(url) = &again.url else {
            let detail =
                "the provider has no file for this message; it must download media (WHATSAPP_DOWNLOAD_MEDIA)";
            return Err(SendError::new(SendErrorKind::Rejected, detail));
        };
        let downloaded = self.file_at(cx, url, again.in_bucket, out).await?;
        self.whole(cx, again.in_bucket, downloaded)
    }

    async fn file_at(
        &self,
        cx: &Context,
        told: &str,
        in_bucket: bool,
        out: &mut Out<'_>,
    ) -> Result<Downloaded, SendError> {
        if in_bucket
            && let Ok(url) = Url::parse(told)
            && url.origin() != self.api.origin()
        {
            return wire::download_guarded(cx, url, out).await;
        }
        let url = own_address(&self.api, told).ok_or_else(inbound::gone)?;
        let mut request = Request::new(Method::GET, url);
        request.headers_mut().insert("x-api-key", self.key_header.clone());
        wire::download(cx, request, out).await
    }

    /// The server's own refusals have a table; those of a bucket have not.
    fn whole(&self, cx: &Context, in_bucket: bool, downloaded: Downloaded) -> Result<Fetched, SendError> {
        match downloaded {
            Downloaded::Refused(answer) if !in_bucket => {
                Err(Refusal::read(&answer, cx.now, &self.secrets(&[])).into_error(Step::Fetch))
            }
            downloaded => downloaded.whole(cx),
        }
    }

    /// Has the server download the message's file once more.
    async fn message(&self, cx: &Context, file: &File) -> Result<File, SendError> {
        let path = ["api", &self.session, "chats", &file.chat, "messages", &file.message];
        let mut request = self.request(Method::GET, &path, None);
        request.url_mut().query_pairs_mut().append_pair("downloadMedia", "true");
        let answer = wire::call(cx, request).await.map_err(NoAnswer::in_fetch)?;
        if !answer.status.is_success() {
            return Err(Refusal::read(&answer, cx.now, &self.secrets(&[])).into_error(Step::Fetch));
        }
        Ok(File::of(&answer.json(), &file.message, &file.chat))
    }
}

/// 403 is what S3 says about a link that has expired.
fn is_gone(status: StatusCode) -> bool {
    matches!(status.as_u16(), 403 | 404 | 410)
}
