//! The parts of received voice notes that all adapters read alike.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{MediaRef, SendError, SendErrorKind, Stage};

/// Longest name of a sender that is kept, in characters.
const LONGEST_NAME: usize = 100;

/// Longest id of a message that is taken, in bytes. With a word before it, it names an event, and such a name may have
/// 255 bytes.
pub(crate) const LONGEST_ID: usize = 240;

/// Longest address of a file that is kept, in bytes. Signed links have about 1000.
pub(crate) const LONGEST_URL: usize = 8 * 1024;

/// The name by which a person calls themselves, on one line. `None` if nothing is left of it.
pub(crate) fn sender_name(told: &Value) -> Option<String> {
    let plain = told.as_str()?.chars().map(|c| if c.is_control() { ' ' } else { c });
    let name: String = plain.take(LONGEST_NAME).collect();
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// An address of a file, if it is short enough to be kept.
pub(crate) fn address(told: &Value) -> Option<String> {
    told.as_str().filter(|url| (1..=LONGEST_URL).contains(&url.len())).map(str::to_owned)
}

/// Writes what an adapter needs for [`crate::Provider::fetch`].
pub(crate) fn reference<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Reads what [`reference()`] wrote.
///
/// # Errors
/// The reference is not this adapter's.
pub(crate) fn referred<T: DeserializeOwned>(media: &MediaRef) -> Result<T, SendError> {
    T::deserialize(&media.value).map_err(|_| {
        let detail = "the stored reference to the audio is not one of this provider's";
        SendError::new(SendErrorKind::Rejected, detail).at(Stage::Fetch)
    })
}

/// The error for audio that the provider does not have, or no longer.
pub(crate) fn gone() -> SendError {
    SendError::new(SendErrorKind::Rejected, GONE).at(Stage::Fetch)
}

pub(crate) const GONE: &str = "the provider no longer has the audio";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_is_one_short_line() {
        for (told, name) in [
            (json!("Ann Lee"), Some("Ann Lee")),
            (json!(" Ann\nLee\u{0} "), Some("Ann Lee")),
            (json!(" \n "), None),
            (json!(""), None),
            (json!(7), None),
            (json!(null), None),
        ] {
            assert_eq!(sender_name(&told).as_deref(), name, "{told}");
        }
        let long = sender_name(&json!("é".repeat(1000))).expect("a name");
        assert_eq!(long.chars().count(), LONGEST_NAME);
    }
}
