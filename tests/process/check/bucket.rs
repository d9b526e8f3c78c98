//! Tests of the check of a bucket.

use super::{NOWHERE, World};
use crate::s3::{BUCKET, Server};

/// Returns the line about the bucket, with these variables in addition to valid ones.
async fn said(world: &World, server: &Server, arguments: &[&str], more: &[(&str, &str)]) -> String {
    let media = format!("s3://{BUCKET}/notes");
    let mut environment = server.environment();
    environment.insert("VOICEGATE__STORAGE__MEDIA".to_owned(), media);
    environment.insert("VOICEGATE__STORAGE__SCRATCH".to_owned(), world.folder.path().display().to_string());
    environment.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let answer = world.check_with(arguments, &environment, "", "").await;
    assert_eq!(answer.about("storage.scratch"), ["ok    storage.scratch: DIR, ROOM free"]);
    answer.about("storage.media").join("\n").replace(&server.url, "SERVER")
}

#[tokio::test]
async fn bucket_is_checked_online() {
    let (world, server) = (World::new().await, Server::start().await);
    let settings =
        "ok    storage.media: s3://voice-notes/notes at SERVER has valid settings; --online tests it";
    assert_eq!(said(&world, &server, &[], &[]).await, settings);
    assert_eq!(
        said(&world, &server, &["--online"], &[]).await,
        format!(
            "{settings}\nok    storage.media: s3://voice-notes/notes at SERVER: an object could be put, read and removed"
        )
    );
    assert_eq!(server.keys(), [""; 0]);
    for (more, expected) in [
        (("AWS_SECRET_ACCESS_KEY", "S3CRET-and-wrong"), "correct AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"),
        (("AWS_ENDPOINT_URL", NOWHERE), "does not answer; look at the network and at AWS_ENDPOINT_URL"),
        (("AWS_ALLOW_HTTP", "false"), "set AWS_ALLOW_HTTP=true"),
        (("VOICEGATE__STORAGE__MEDIA", "s3://no-such-bucket"), "does not exist at this endpoint; make it"),
    ] {
        let said = said(&world, &server, &["--online"], &[more]).await;
        assert!(said.contains("\nFAIL  storage.media: ") && said.contains(expected), "{said}");
    }
}
