//! Documents: JSON texts in the database. All are written and read here, so that every stored document can be read
//! back.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::StoreError;
use crate::telemetry::metrics;

/// A text that was verified by a round trip before it is stored.
pub struct Document(String);

impl Document {
    /// # Errors
    /// [`StoreError::Unfit`] with the field that would change in a round trip.
    pub fn of<T: Serialize + DeserializeOwned + PartialEq>(value: &T) -> Result<Self, StoreError> {
        let unfit = |field: String| StoreError::Unfit { field };
        let text = serde_json::to_string(value).map_err(|_| unfit(String::new()))?;
        let again: T = parse(&text).map_err(|error| unfit(first_part(&error.path().to_string())))?;
        if again == *value {
            return Ok(Self(text));
        }
        // Values that differ may still be written alike.
        match serde_json::to_string(&again) {
            Ok(again) if again == text => Ok(Self(text)),
            Ok(again) => match difference(&text, &again) {
                None => Ok(Self(text)),
                Some(field) => Err(unfit(field)),
            },
            Err(_) => Err(unfit(String::new())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text holds data of a tenant, so `Debug` leaves it out.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("bytes", &self.0.len()).finish()
    }
}

/// Reads a stored document. `kind` is for the metric.
///
/// # Errors
/// [`StoreError::Corrupt`], with the position of the error and without the text.
pub fn read<T: DeserializeOwned>(kind: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| corrupt(kind, &error))
}

/// Counts a row that cannot be read, for whatever reason.
pub fn corrupt(kind: &'static str, error: &dyn fmt::Display) -> StoreError {
    metrics::unreadable(kind);
    StoreError::Corrupt(format!("{kind}: {}", voicegate_providers::without_values(&error.to_string())))
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, serde_path_to_error::Error<serde_json::Error>> {
    let plain: Result<T, _> = serde_json::from_str(text);
    // The path costs time, so it is determined only after an error.
    plain.or_else(|_| serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text)))
}

fn first_part(path: &str) -> String {
    path.split(['.', '[']).next().unwrap_or_default().to_owned()
}

/// Finds the first field that differs between two objects. Fractions may differ in their last digit.
fn difference(one: &str, other: &str) -> Option<String> {
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    let (Some(Value::Object(one)), Some(Value::Object(other))) = (read(one), read(other)) else {
        return Some(String::new());
    };
    let names = one.keys().chain(other.keys());
    names
        .into_iter()
        .find(|name| !one.get(*name).zip(other.get(*name)).is_some_and(|(a, b)| same(a, b)))
        .cloned()
}

fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) if one.is_f64() && other.is_f64() => {
            let (one, other) = (one.as_f64().unwrap_or_default(), other.as_f64().unwrap_or_default());
            // The two numbers have the same sign and are at most two steps apart.
            one.to_bits().abs_diff(other.to_bits()) <= 2
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same(a, b))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, a)| other.get(name).is_some_and(|b| same(a, b)))
        }
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::note::{Note, sample};

    /// Nests arrays this deep.
    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!(1), |inner, _| Value::Array(vec![inner]))
    }

    fn with_metadata(value: Value) -> Note {
        let metadata = serde_json::from_value(json!({ "a": value })).expect("an object");
        Note { metadata, ..sample::note(1) }
    }

    #[test]
    fn document_survives_a_round_trip() {
        for value in [nested(15), json!(0.1), json!(u64::MAX), json!("\u{0}\"")] {
            let note = with_metadata(value);
            let document = Document::of(&note).expect("sound");
            assert_eq!(read::<Note>("note", document.as_str()).expect("read"), note);
        }
    }

    #[test]
    fn fraction_may_differ_in_its_last_digit() {
        for number in [
            0.1 + 0.2,
            123_456_789.123_456_79,
            5e-324,
            2.225_073_858_507_201_4e-308,
            9.007_199_254_740_993e22,
        ] {
            Document::of(&with_metadata(json!(number))).expect("sound");
        }
    }

    #[test]
    fn refusal_names_the_field_that_fails_its_round_trip() {
        // This exceeds the nesting limit of the parser, in any field.
        let memory = Note { memory: Some(nested(128)), ..sample::note(1) };
        let Err(StoreError::Unfit { field }) = Document::of(&memory) else { panic!("stored") };
        assert_eq!(field, "memory");
        // `null` is read back as an absent field.
        let note = Note { memory: Some(Value::Null), ..sample::note(1) };
        assert!(Document::of(&note).is_ok(), "it says the same");
        let route = Note { route: Vec::new(), ..sample::note(1) };
        let Err(StoreError::Unfit { field }) = Document::of(&route) else { panic!("stored") };
        assert_eq!(field, "route");
    }

    #[test]
    fn error_does_not_contain_the_document() {
        let error = read::<Note>("note", r#"{"id":"S3CRET"}"#).expect_err("unreadable").to_string();
        assert!(error.contains("note") && !error.contains("S3CRET"), "{error}");
    }
}
