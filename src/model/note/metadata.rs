//! The bot's own JSON object, which is returned in every answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

/// A JSON object as compact text. Numbers keep all their digits: parsed into a value, `12345678901234567890123` would
/// be returned as `1.2345678901234568e22`.
#[derive(Clone, Debug)]
pub struct Metadata(Box<RawValue>);

/// A JSON value that preserves numbers as they were written.
enum Exact<'a> {
    Object(BTreeMap<String, Exact<'a>>),
    Array(Vec<Exact<'a>>),
    /// A string, a number or a word.
    Scalar(&'a RawValue),
}

impl Metadata {
    /// Parses an object. If several members have the same name, the last one wins, as in most JSON parsers.
    ///
    /// # Errors
    /// Fails if the text is not a JSON object.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let raw: &RawValue = serde_json::from_str(text)?;
        let Exact::Object(members) = exact(raw)? else {
            return Err(de::Error::custom("expected an object"));
        };
        RawValue::from_string(serde_json::to_string(&Exact::Object(members))?).map(Self)
    }

    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The depth of nested objects and arrays, counting the metadata itself.
    pub fn levels(&self) -> usize {
        let (mut open, mut deepest) = (0_usize, 0);
        let (mut in_text, mut escaped) = (false, false);
        for byte in self.as_str().bytes() {
            if in_text {
                in_text = escaped || byte != b'"';
                escaped = !escaped && byte == b'\\';
                continue;
            }
            match byte {
                b'"' => in_text = true,
                b'{' | b'[' => {
                    open += 1;
                    deepest = deepest.max(open);
                }
                b'}' | b']' => open = open.saturating_sub(1),
                _ => {}
            }
        }
        deepest
    }

    pub fn is_empty(&self) -> bool {
        self.as_str() == "{}"
    }

    /// The canonical form, which is equal for equivalent objects: names are sorted, and objects become arrays of names
    /// and values.
    ///
    /// # Errors
    /// Never fails for a value from [`Self::parse`].
    pub fn canonical(&self) -> Result<Box<RawValue>, serde_json::Error> {
        let mut text = String::new();
        write_canonical(&exact(&self.0)?, &mut text)?;
        RawValue::from_string(text)
    }
}

impl Default for Metadata {
    fn default() -> Self {
        Self(RawValue::from_string("{}".to_owned()).expect("an object"))
    }
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if raw.get().starts_with('{') { Ok(Self(raw)) } else { Err(de::Error::custom("expected an object")) }
    }
}

fn exact(raw: &RawValue) -> Result<Exact<'_>, serde_json::Error> {
    match raw.get().as_bytes().first() {
        Some(b'{') => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get())?;
            let members = members.into_iter().map(|(name, value)| Ok((name, exact(value)?)));
            members.collect::<Result<_, serde_json::Error>>().map(Exact::Object)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(raw.get())?;
            items.into_iter().map(exact).collect::<Result<_, _>>().map(Exact::Array)
        }
        _ => Ok(Exact::Scalar(raw)),
    }
}

impl Serialize for Exact<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Object(members) => serializer.collect_map(members),
            Self::Array(items) => serializer.collect_seq(items),
            Self::Scalar(raw) => raw.serialize(serializer),
        }
    }
}

fn write_canonical(value: &Exact<'_>, out: &mut String) -> Result<(), serde_json::Error> {
    let each = |count: usize, out: &mut String| {
        if count > 0 {
            out.push(',');
        }
    };
    match value {
        Exact::Object(members) => {
            out.push('[');
            for (count, (name, value)) in members.iter().enumerate() {
                each(count, out);
                out.push('[');
                out.push_str(&serde_json::to_string(name)?);
                out.push(',');
                write_canonical(value, out)?;
                out.push(']');
            }
            out.push(']');
        }
        Exact::Array(items) => {
            out.push('[');
            for (count, item) in items.iter().enumerate() {
                each(count, out);
                write_canonical(item, out)?;
            }
            out.push(']');
        }
        // Equal text may be written with different escapes. Numbers are compared by their digits.
        Exact::Scalar(raw) if raw.get().starts_with('"') => {
            out.push_str(&serde_json::to_string(&serde_json::from_str::<String>(raw.get())?)?);
        }
        Exact::Scalar(raw) => out.push_str(raw.get()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn numbers_keep_all_their_digits() {
        let text =
            r#"{"big":12345678901234567890123,"pi":3.14159265358979323846264338327950288,"tiny":-1.50e-7}"#;
        let metadata = Metadata::parse(text).expect("an object");
        assert_eq!(metadata.as_str(), text);
        let stored = serde_json::to_string(&json!({ "n": 1 })).expect("JSON");
        assert_eq!(Metadata::parse(&stored).expect("an object").as_str(), stored);
        let read: Metadata = serde_json::from_str(text).expect("an object");
        assert_eq!(serde_json::to_string(&read).expect("JSON"), text);
    }

    #[test]
    fn duplicate_members_and_white_space_are_removed() {
        let metadata = Metadata::parse("{ \"b\" : [ 1 , { } ] , \"a\": \"x y\", \"b\" : [ 2 , null ] }");
        assert_eq!(metadata.expect("an object").as_str(), r#"{"a":"x y","b":[2,null]}"#);
        for wrong in ["[1]", "7", "null", "{", "\"a\"", ""] {
            assert!(Metadata::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn brackets_inside_strings_do_not_count_as_levels() {
        for (text, levels) in
            [("{}", 1), (r#"{"a":[{}],"b":[]}"#, 3), (r#"{"a":"[[[\"{"}"#, 1), (r#"{"[\\":[1]}"#, 2)]
        {
            assert_eq!(Metadata::parse(text).expect("an object").levels(), levels, "{text}");
        }
    }

    #[test]
    fn metadata_is_deserialised_from_a_json_value() {
        let value: Value = json!({ "a": [1, { "b": null }] });
        let metadata: Metadata = serde_json::from_value(value.clone()).expect("an object");
        assert_eq!(metadata.as_str(), value.to_string());
        assert!(serde_json::from_value::<Metadata>(json!([1])).is_err());
        assert!(Metadata::default().is_empty());
    }

    #[test]
    fn canonical_form_ignores_order_white_space_and_escapes() {
        let canonical = |text: &str| {
            let metadata = Metadata::parse(text).expect("an object");
            metadata.canonical().expect("JSON").get().to_owned()
        };
        assert_eq!(
            canonical(r#"{"b":"\u0041","a":{"d":1,"c":[2]}}"#),
            r#"[["a",[["c",[2]],["d",1]]],["b","A"]]"#
        );
        assert_ne!(
            canonical(r#"{"n":12345678901234567890123}"#),
            canonical(r#"{"n":12345678901234567890124}"#)
        );
    }
}
