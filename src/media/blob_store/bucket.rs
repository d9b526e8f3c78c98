//! Stores audio in a bucket of S3 or of a compatible server.

use std::{collections::BTreeMap, fmt, io, str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey},
    path::Path,
};
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
};

use super::{AudioFile, BlobName, BlobStore, bucket_error};
use crate::{
    media::AudioVariant,
    model::id::{NoteId, ReceivedId, UploadId},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit of one request, which uploads one part or downloads one file.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Time after which a request is no longer repeated, because a caller waits for an answer, and the worker tries again
/// later.
const RETRY_FOR: Duration = Duration::from_secs(10);
const RETRIES: usize = 3;

/// Time limit of the readiness check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// Size of a part, in bytes: larger files are uploaded in parts of the smallest size that S3 accepts.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
const PART: u64 = 5 << 20;

/// Limit on the memory of all concurrent uploads, in KiB.
const ROOM: usize = 64 << 10;

/// A bucket with a prefix that belongs to the gateways on one database.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<AmazonS3>,
    prefix: Path,
    room: Arc<Semaphore>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").finish_non_exhaustive()
    }
}

impl Bucket {
    /// Prepares the client without sending a request. Endpoint, region and credentials come from the `AWS_` variables
    /// in `environment`.
    ///
    /// # Errors
    /// The variables are invalid.
    pub fn open(bucket: &str, prefix: &str, environment: &BTreeMap<String, String>) -> io::Result<Self> {
        let backoff = BackoffConfig { max_backoff: Duration::from_secs(1), ..BackoffConfig::default() };
        let retry = RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_FOR };
        let client = ClientOptions::new().with_connect_timeout(CONNECT_TIMEOUT).with_timeout(TIMEOUT);
        let mut builder = AmazonS3Builder::new().with_client_options(client);
        for (name, value) in environment.iter().filter(|(name, _)| name.starts_with("AWS_")) {
            // Other variables are meant for other programs.
            if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        let store = builder.with_retry(retry).with_bucket_name(bucket).build().map_err(bucket_error::from)?;
        let prefix = Path::parse(prefix).map_err(|error| bucket_error::from(error.into()))?;
        Ok(Self { store: Arc::new(store), prefix, room: Arc::new(Semaphore::new(ROOM)) })
    }

    fn path(&self, name: BlobName) -> Path {
        self.folder(&name.to_string())
    }

    fn folder(&self, name: &str) -> Path {
        name.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// Writes, reads and removes a small object, which are all operations that a gateway needs.
    ///
    /// # Errors
    /// A description of the problem for the operator.
    pub async fn try_out(&self) -> io::Result<()> {
        let path = self.path(BlobName::Upload(UploadId::new()));
        let probe = b"voicegate check";
        self.check().await?;
        self.store.put(&path, probe.as_slice().into()).await.map_err(bucket_error::from)?;
        let got = self
            .store
            .get(&path)
            .await
            .map_err(bucket_error::from)?
            .bytes()
            .await
            .map_err(bucket_error::from)?;
        if got != probe.as_slice() {
            return Err(bucket_error::new("gives back other bytes than it was given"));
        }
        self.remove(vec![path]).await
    }

    async fn upload(&self, file: &NamedTempFile, to: &Path) -> io::Result<()> {
        let mut from = tokio::fs::File::from_std(file.reopen()?);
        let size = from.metadata().await?.len();
        let memory = size.min(PART).div_ceil(1024).try_into().unwrap_or(u32::MAX);
        let _room = self.room.acquire_many(memory).await.map_err(io::Error::other)?;
        if size <= PART {
            let bytes = part(&mut from).await?;
            return self.store.put(to, bytes.into()).await.map(drop).map_err(bucket_error::from);
        }
        let mut upload = self.store.put_multipart(to).await.map_err(bucket_error::from)?;
        let sent = async {
            let mut left = size;
            while left > 0 {
                let bytes = part(&mut from).await?;
                // The file is shorter than before. Nobody else writes to it, so the disk is at fault.
                let count = u64::try_from(bytes.len()).ok().filter(|count| *count > 0);
                left = left.saturating_sub(count.ok_or(io::ErrorKind::UnexpectedEof)?);
                upload.put_part(bytes.into()).await.map_err(bucket_error::from)?;
            }
            upload.complete().await.map(drop).map_err(bucket_error::from)
        };
        let sent = sent.await;
        if sent.is_err() {
            // The remaining parts cost money until the bucket's lifecycle rule removes them.
            let _ = upload.abort().await;
        }
        sent
    }

    async fn remove(&self, paths: Vec<Path>) -> io::Result<()> {
        let mut removed = self.store.delete_stream(stream::iter(paths.into_iter().map(Ok)).boxed());
        while let Some(removed) = removed.next().await {
            match removed {
                Err(error) if !bucket_error::is_absence(&error) => return Err(bucket_error::from(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Lists the ids below a folder. Objects are listed page by page, in the order of their names.
    fn ids<T>(&self, folder: &str) -> BoxStream<'static, io::Result<T>>
    where
        T: FromStr + Copy + PartialEq + Send + Sync + 'static,
    {
        let folder = self.folder(folder);
        let objects = self.store.list(Some(&folder));
        let ids = objects.map_err(bucket_error::from).try_filter_map(move |object| {
            let id = object
                .location
                .prefix_match(&folder)
                .and_then(|mut parts| parts.next()?.as_ref().parse().ok());
            std::future::ready(Ok(id))
        });
        let mut last = None;
        ids.try_filter(move |id| std::future::ready(last.replace(*id) != Some(*id))).boxed()
    }
}

/// Reads the next part of a file.
async fn part(file: &mut tokio::fs::File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(PART).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

#[async_trait]
impl BlobStore for Bucket {
    async fn put(&self, file: NamedTempFile, name: BlobName) -> io::Result<AudioFile> {
        self.upload(&file, &self.path(name)).await?;
        Ok(AudioFile::Temporary(file))
    }

    async fn get(&self, name: BlobName, incoming: &std::path::Path) -> io::Result<Option<AudioFile>> {
        let object = match self.store.get(&self.path(name)).await {
            Err(error) if bucket_error::is_absence(&error) => return Ok(None),
            object => object.map_err(bucket_error::from)?,
        };
        let modified = object.meta.last_modified.into();
        let file = NamedTempFile::new_in(incoming)?;
        let mut out = tokio::fs::File::from_std(file.reopen()?);
        let mut bytes = object.into_stream();
        while let Some(piece) = bytes.try_next().await.map_err(bucket_error::from)? {
            out.write_all(&piece).await?;
        }
        out.flush().await?;
        Ok(Some(AudioFile::Fetched(file, modified)))
    }

    async fn copy(&self, from: BlobName, to: BlobName) -> io::Result<()> {
        self.store.copy(&self.path(from), &self.path(to)).await.map_err(bucket_error::from)
    }

    async fn remove_note(&self, note: NoteId) -> io::Result<()> {
        let files = [AudioVariant::Source, AudioVariant::Sent]
            .map(|variant| self.path(BlobName::Note(note, variant)));
        self.remove(files.to_vec()).await
    }

    async fn remove_upload(&self, upload: UploadId) -> io::Result<()> {
        self.remove(vec![self.path(BlobName::Upload(upload))]).await
    }

    async fn remove_received(&self, received: ReceivedId) -> io::Result<()> {
        // The parts are named by the configuration of their time, so they are listed.
        let folder = self.folder(&format!("received/{received}"));
        let parts: Vec<Path> = self
            .store
            .list(Some(&folder))
            .map_ok(|object| object.location)
            .try_collect()
            .await
            .map_err(bucket_error::from)?;
        self.remove(parts).await
    }

    async fn received(&self) -> io::Result<BoxStream<'static, io::Result<ReceivedId>>> {
        Ok(self.ids("received"))
    }

    async fn notes(&self) -> io::Result<BoxStream<'static, io::Result<NoteId>>> {
        Ok(self.ids("notes"))
    }

    async fn uploads(&self) -> io::Result<BoxStream<'static, io::Result<UploadId>>> {
        Ok(self.ids("uploads"))
    }

    async fn check(&self) -> io::Result<()> {
        // The listing starts after the last possible name, so it is empty. Only a listing reports why a bucket cannot
        // be used.
        let folder = self.folder("uploads");
        let mut page = self.store.list_with_offset(Some(&folder), &self.folder("uploads/~"));
        match tokio::time::timeout(CHECK_TIMEOUT, page.next()).await {
            Ok(None | Some(Ok(_))) => Ok(()),
            Ok(Some(Err(error))) => Err(bucket_error::from(error)),
            Err(_) => Err(bucket_error::new("does not answer; look at the network and at AWS_ENDPOINT_URL")),
        }
    }
}
