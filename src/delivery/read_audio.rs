//! Downloads audio from a URL and identifies its format, for every use case that needs it.

use std::{collections::BTreeMap, io};

use tempfile::NamedTempFile;
use url::Url;
use voicegate_audio::{AudioError, Hints, Probed};

use crate::{
    config::Tenant,
    gateway::{Gateway, Live},
    media::{AudioBytes, FetchError, FetchRequest, SpooledAudio},
    model::problem::Problem,
};

/// The reasons why a download failed.
#[derive(Debug)]
pub enum DownloadError {
    /// The gateway's own disk failed before the request was sent.
    Disk(io::Error),
    Fetch(Box<FetchError>),
}

impl From<io::Error> for DownloadError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<FetchError> for DownloadError {
    fn from(error: FetchError) -> Self {
        Self::Fetch(Box::new(error))
    }
}

impl From<DownloadError> for Problem {
    fn from(error: DownloadError) -> Self {
        match error {
            DownloadError::Disk(error) => error.into(),
            DownloadError::Fetch(error) => (*error).into(),
        }
    }
}

/// A private file, and what is known about it besides its bytes.
#[derive(Debug)]
pub struct Downloaded {
    pub file: NamedTempFile,
    mime_type: Option<String>,
    filename: Option<String>,
}

impl Downloaded {
    /// The hints of the caller, and in place of missing ones those of the server. Samples without a header are known by
    /// nothing else.
    pub fn hints(&self, given: &Hints) -> Hints {
        Hints {
            filename: given.filename.clone().or_else(|| self.filename.clone()),
            mime_type: given.mime_type.clone().or_else(|| self.mime_type.clone()),
            format: given.format,
        }
    }
}

/// A name with the extension in a URL. The rest of the path may be a secret.
fn name_in(url: &str) -> Option<String> {
    let url: Url = url.parse().ok()?;
    let (_, extension) = url.path_segments()?.next_back()?.rsplit_once('.')?;
    let is_short = (1..=5).contains(&extension.len()) && extension.chars().all(|c| c.is_ascii_alphanumeric());
    is_short.then(|| format!("download.{extension}"))
}

/// Downloads audio into a private file.
pub async fn download(
    gateway: &Gateway,
    live: &Live,
    url: &str,
    headers: &BTreeMap<String, String>,
) -> Result<Downloaded, DownloadError> {
    let room = gateway.media.room_for(None)?;
    let mut file = gateway.media.incoming_file()?;
    let request = FetchRequest { url, headers, max_bytes: live.config.audio.max_bytes.0 };
    let mime_type = live.fetcher.fetch(&request, &mut file, room).await?;
    Ok(Downloaded { file, mime_type, filename: name_in(url) })
}

/// Checks the URL of a request, and downloads it while the request waits.
pub async fn download_now(
    gateway: &Gateway,
    url: &str,
    headers: &BTreeMap<String, String>,
) -> Result<Downloaded, Problem> {
    let live = gateway.live();
    live.fetcher.check(url)?;
    Ok(download(gateway, &live, url, headers).await?)
}

/// The reasons why received audio could not be identified.
#[derive(Debug)]
pub enum Unread {
    Audio(AudioError),
    Disk(io::Error),
}

impl From<AudioError> for Unread {
    fn from(error: AudioError) -> Self {
        Self::Audio(error)
    }
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<Unread> for Problem {
    fn from(error: Unread) -> Self {
        match error {
            Unread::Audio(error) => error.into(),
            Unread::Disk(error) => error.into(),
        }
    }
}

/// Identifies received audio. It is decoded only if its structure is not sufficient, since decoding takes a hundred
/// times as long.
pub async fn identify(
    gateway: &Gateway,
    tenant: &Tenant,
    received: &SpooledAudio,
    hints: &Hints,
) -> Result<Probed, Unread> {
    let engine = gateway.engine.for_tenant(&tenant.name);
    match &received.bytes {
        AudioBytes::File(file) => Ok(engine.identify(file.path(), hints).await?),
        AudioBytes::Memory(bytes, _) => match engine.recognise(bytes, &received.sha256, hints)? {
            Some(probed) => Ok(probed),
            None => {
                let file = gateway.media.lend(bytes.clone()).await?;
                Ok(engine.probe(file.path(), hints).await?)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_extension_of_a_url_is_kept() {
        assert_eq!(name_in("https://e.com/TOKEN/x.pcm?sig=S#f").as_deref(), Some("download.pcm"));
        for url in
            ["https://e.com/TOKEN", "https://e.com/a.TOKENTOKEN", "https://e.com/a.%2e", "https://e.com"]
        {
            assert_eq!(name_in(url), None, "{url}");
        }
    }
}
