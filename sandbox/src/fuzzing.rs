//! The fuzz target of this crate, as `voicegate::fuzzing` describes.

use crate::audio::{describe, is_clean_opus};

/// The name of a target, and its function.
type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[("audio_described", described)];

/// The findings of the inbox about a received file.
fn described(data: &[u8]) {
    let info = describe(data);
    serde_json::to_string(&info).expect("JSON");
    assert!(!info.linq_problems().iter().any(String::is_empty) && !info.short().is_empty());
    if is_clean_opus(&info) {
        assert_eq!((info.channels, info.container), (Some(1), "ogg"));
        assert!(info.duration_ms.is_some() && info.bandwidth.is_some() && info.comments.is_some());
        let cut = describe(&data[..data.len() - 1]);
        assert!(!is_clean_opus(&cut), "the last page is cut and nobody noticed");
    }
}
