//! The contract of both kinds of storage. Each test runs against a folder and a bucket.

use std::{io::Write, sync::Arc};

use bytes::Bytes;
use futures_util::TryStreamExt;
use tempfile::TempDir;

use super::{AudioFile, Bucket};
use crate::{
    media::{AudioVariant, MediaStore},
    model::id::{NoteId, UploadId},
};

#[path = "../../../tests/support/s3.rs"]
#[expect(dead_code, reason = "shared with tests that look closer")]
mod s3;

struct Fixture {
    media: MediaStore,
    folder: TempDir,
    bucket: Option<s3::Server>,
}

impl Fixture {
    async fn both() -> [Self; 2] {
        let folder = tempfile::tempdir().expect("a folder");
        let media = MediaStore::open(folder.path()).expect("a store");
        let in_folder = Self { media, folder, bucket: None };
        let server = s3::Server::start().await;
        let folder = tempfile::tempdir().expect("a folder");
        let bucket = Bucket::open(s3::BUCKET, "a/b", &server.environment()).expect("a bucket");
        let media = MediaStore::new(Arc::new(bucket), folder.path()).expect("a store");
        [in_folder, Self { media, folder, bucket: Some(server) }]
    }

    fn file(&self, bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = self.media.incoming_file().expect("a file");
        file.write_all(bytes).expect("written");
        file
    }

    async fn read(&self, note: NoteId, variant: AudioVariant) -> Option<Bytes> {
        let file = self.media.get(note, variant).await.expect("an answer")?;
        Some(std::fs::read(file.path()).expect("read").into())
    }

    /// Copies and incomplete files.
    fn strays(&self) -> Vec<String> {
        let incoming = self.folder.path().join("incoming");
        let names =
            std::fs::read_dir(incoming).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        names.map(|name| name.to_string_lossy().into_owned()).collect()
    }
}

#[tokio::test]
async fn stored_file_exists_until_it_is_removed() {
    for fixture in Fixture::both().await {
        let media = &fixture.media;
        let (note, other) = (NoteId::new(), NoteId::new());
        assert_eq!(fixture.read(note, AudioVariant::Source).await, None);
        // One file for a single request, and one for several parts.
        let large: Vec<u8> = (0..12_000_000_u32).map(|n| (n % 251) as u8).collect();
        let kept = media.keep(fixture.file(b"source"), note, AudioVariant::Source).await.expect("kept");
        assert_eq!(std::fs::read(kept.path()).expect("read"), b"source");
        drop(kept);
        drop(media.keep(fixture.file(&large), note, AudioVariant::Sent).await.expect("kept"));
        drop(media.keep(fixture.file(b""), other, AudioVariant::Source).await.expect("kept"));
        assert_eq!(fixture.read(note, AudioVariant::Source).await.as_deref(), Some(&b"source"[..]));
        assert!(fixture.read(note, AudioVariant::Sent).await.as_deref() == Some(&large[..]), "byte by byte");
        assert_eq!(fixture.read(other, AudioVariant::Source).await.as_deref(), Some(&b""[..]));

        let mut notes: Vec<NoteId> = media.list().await.expect("a list").try_collect().await.expect("read");
        let mut expected = vec![note, other];
        notes.sort_by_key(ToString::to_string);
        expected.sort_by_key(ToString::to_string);
        assert_eq!(notes, expected, "each once");
        media.remove(note).await.expect("removed");
        media.remove(note).await.expect("gone already");
        assert_eq!(fixture.read(note, AudioVariant::Source).await, None);
        assert_eq!(fixture.read(note, AudioVariant::Sent).await, None);
        let notes: Vec<NoteId> = media.list().await.expect("a list").try_collect().await.expect("read");
        assert_eq!(notes, [other]);
        assert_eq!(fixture.strays(), [""; 0]);
        media.answers().await.expect("well");
        media.check().await.expect("well");
    }
}

#[tokio::test]
async fn copy_outlives_its_original() {
    for fixture in Fixture::both().await {
        let media = &fixture.media;
        let (upload, first, second) = (UploadId::new(), NoteId::new(), NoteId::new());
        let missing = media.use_upload(upload, first).await.expect_err("there is none");
        assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
        media.keep_upload(fixture.file(b"uploaded"), upload).await.expect("kept");
        let uploads: Vec<UploadId> =
            media.list_uploads().await.expect("a list").try_collect().await.expect("read");
        assert_eq!(uploads, [upload]);
        media.use_upload(upload, first).await.expect("copied");
        media.remove_upload(upload).await.expect("removed");
        media.remove_upload(upload).await.expect("gone already");
        media.use_source(first, second).await.expect("copied");
        media.remove(first).await.expect("removed");
        let missing = media.use_source(first, NoteId::new()).await.expect_err("gone");
        assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
        assert_eq!(fixture.read(second, AudioVariant::Source).await.as_deref(), Some(&b"uploaded"[..]));
        let notes: Vec<NoteId> = media.list().await.expect("a list").try_collect().await.expect("read");
        assert_eq!(notes, [second]);
        assert_eq!(fixture.strays(), [""; 0]);
        if let Some(bucket) = &fixture.bucket {
            let read = media.get(second, AudioVariant::Source).await.expect("an answer");
            assert!(matches!(read, Some(AudioFile::Fetched(..))));
            assert_eq!(bucket.keys(), [format!("a/b/notes/{second}/source")], "below the prefix alone");
        }
    }
}

/// Tests more objects than the 1000 of one page.
#[tokio::test]
async fn long_listing_is_complete() {
    for fixture in Fixture::both().await {
        let root =
            fixture.bucket.as_ref().map_or(fixture.folder.path().to_owned(), |bucket| bucket.path("a/b"));
        for _ in 0..600 {
            let folder = root.join("notes").join(NoteId::new().to_string());
            std::fs::create_dir_all(&folder).expect("made");
            std::fs::write(folder.join("source"), "x").expect("written");
            std::fs::write(folder.join("sent"), "x").expect("written");
        }
        std::fs::write(root.join("notes").join("README"), "not ours").expect("written");
        let notes: Vec<NoteId> =
            fixture.media.list().await.expect("a list").try_collect().await.expect("read");
        assert_eq!(notes.len(), 600);
    }
}

#[tokio::test]
async fn bucket_failing_during_upload_stores_nothing() {
    let [_, fixture] = Fixture::both().await;
    let server = fixture.bucket.as_ref().expect("a bucket");
    let large = vec![7; 12_000_000];
    let note = NoteId::new();
    // The bucket fails before the upload, between its parts, and before its completion.
    for answered in 0..5 {
        server.down_after(answered);
        let kept = fixture.media.keep(fixture.file(&large), note, AudioVariant::Sent).await;
        let error = kept.map(drop).expect_err("broken off");
        assert_eq!(error.kind(), std::io::ErrorKind::HostUnreachable, "after {answered}: {error}");
        server.set_down(false);
        assert_eq!(fixture.read(note, AudioVariant::Sent).await, None, "after {answered}");
    }
    drop(fixture.media.keep(fixture.file(&large), note, AudioVariant::Sent).await.expect("kept"));
    // The bucket fails during the download.
    server.set_down(true);
    let error = fixture.media.get(note, AudioVariant::Sent).await.expect_err("no answer");
    assert_eq!(error.kind(), std::io::ErrorKind::HostUnreachable, "{error}");
    server.set_down(false);
    assert_eq!(fixture.read(note, AudioVariant::Sent).await.map(|bytes| bytes.len()), Some(large.len()));
    assert_eq!(fixture.strays(), [""; 0]);
}

#[tokio::test]
async fn unusable_bucket_reports_the_reason() {
    let server = s3::Server::start().await;
    let sound = server.environment();
    let with = |name: &str, value: &str| {
        let mut environment = server.environment();
        environment.insert(name.to_owned(), value.to_owned());
        environment
    };
    let mut without_http = server.environment();
    without_http.remove("AWS_ALLOW_HTTP");
    let open = |environment| Bucket::open(s3::BUCKET, "", environment).expect("sound settings");
    open(&sound).try_out().await.expect("well");
    assert_eq!(server.keys(), [""; 0], "the probe is gone");
    for (bucket, expected) in [
        (open(&with("AWS_SECRET_ACCESS_KEY", "S3CRET-and-wrong")), "AWS_SECRET_ACCESS_KEY"),
        (open(&with("AWS_ACCESS_KEY_ID", "S3CRET")), "AWS_ACCESS_KEY_ID"),
        (open(&with("AWS_ENDPOINT_URL", "http://127.0.0.1:1/S3CRET")), "does not answer"),
        (open(&with("AWS_ENDPOINT_URL", "http://nowhere.invalid/S3CRET")), "does not answer"),
        (open(&without_http), "AWS_ALLOW_HTTP=true"),
        (Bucket::open("no-such-bucket", "", &sound).expect("sound settings"), "does not exist"),
    ] {
        let error = bucket.try_out().await.expect_err(expected);
        assert_eq!(error.kind(), std::io::ErrorKind::HostUnreachable, "{error}");
        let said = error.to_string();
        assert!(said.starts_with("the bucket ") && said.contains(expected), "{said}");
        let place: &dyn super::BlobStore = &bucket;
        let same = place.check().await.expect_err(expected).to_string();
        assert_eq!(same, said);
        assert!(!said.contains("S3CRET") && !said.contains("127.0.0.1"), "{said}");
    }
    let mut half = server.environment();
    half.remove("AWS_SECRET_ACCESS_KEY");
    let error = Bucket::open(s3::BUCKET, "", &half).expect_err("half").to_string();
    assert!(error.contains("set both"), "{error}");
}
