//! Checks a bucket: whether its settings are valid, and online whether it supports the requests that a gateway makes.

use std::{collections::BTreeMap, io};

use url::Url;

use super::{line::Line, reach::origin};
use crate::{
    config::{Media, Storage},
    media::Bucket,
};

/// Prints nothing if audio is kept in a folder.
pub fn check(storage: &Storage, environment: &BTreeMap<String, String>) -> Option<Line> {
    let opened = open(storage, environment)?;
    let say = |what: &str| format!("storage.media: {}{} {what}", storage.media, at(environment));
    Some(match opened {
        Ok(_) => Line::ok(say("has valid settings; --online tests it")),
        Err(error) => Line::fail(say(&format!("cannot be used: {error}"))),
    })
}

/// Writes a small object, reads it and removes it.
pub async fn try_out(storage: &Storage, environment: &BTreeMap<String, String>) -> Option<Line> {
    // Faults of the settings were reported before.
    let bucket = open(storage, environment)?.ok()?;
    let say = |what: &str| format!("storage.media: {}{}: {what}", storage.media, at(environment));
    Some(match bucket.try_out().await {
        Ok(()) => Line::ok(say("an object could be put, read and removed")),
        Err(error) => Line::fail(say(&error.to_string())),
    })
}

fn open(storage: &Storage, environment: &BTreeMap<String, String>) -> Option<io::Result<Bucket>> {
    let Media::Bucket { name, prefix } = &storage.media else { return None };
    Some(Bucket::open(name, prefix, environment))
}

/// The endpoint, unless it is Amazon's own.
fn at(environment: &BTreeMap<String, String>) -> String {
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
    let url = endpoint.iter().find_map(|name| environment.get(*name)?.parse::<Url>().ok());
    url.map_or(String::new(), |url| format!(" at {}", origin(&url)))
}
