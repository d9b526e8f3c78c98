//! Fields of other gateways' requests. Their servers and clients are lenient about types, and so is this: a number may be
//! a text and the other way round, and an object may be a text that is JSON, as in a form.

use std::{borrow::Cow, time::Duration};

use serde_json::{Map, Value};

use crate::model::problem::Problem;

#[derive(Debug, Default)]
pub struct Fields(pub Map<String, Value>);

impl Fields {
    /// The value at a path of members.
    pub fn at(&self, path: &[&str]) -> Option<Cow<'_, Value>> {
        let (first, rest) = path.split_first()?;
        let mut value = Cow::Borrowed(self.0.get(*first)?);
        for name in rest {
            value = match value {
                Cow::Borrowed(Value::Object(map)) => Cow::Borrowed(map.get(*name)?),
                Cow::Owned(Value::Object(mut map)) => Cow::Owned(map.remove(*name)?),
                other => {
                    let text = other.as_str().filter(|text| text.trim_start().starts_with('{'))?;
                    let mut map: Map<String, Value> = serde_json::from_str(text).ok()?;
                    Cow::Owned(map.remove(*name)?)
                }
            };
        }
        (!value.is_null()).then_some(value)
    }

    /// A text that is not empty.
    pub fn text(&self, path: &[&str]) -> Option<String> {
        let text = match &*self.at(path)? {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        // Forms have no other way to leave a field out.
        (!matches!(text.as_str(), "" | "null" | "undefined" | "None")).then_some(text)
    }

    /// The first text at one of the paths.
    pub fn first(&self, paths: &[&[&str]]) -> Option<String> {
        paths.iter().find_map(|path| self.text(path))
    }

    /// A number of milliseconds.
    ///
    /// # Errors
    /// It is no whole number.
    pub fn millis(&self, path: &[&str]) -> Result<Option<Duration>, Problem> {
        let Some(text) = self.text(path) else { return Ok(None) };
        let millis = text.parse().map(Duration::from_millis).ok();
        let wrong = || Problem::invalid(path.join("."), "expected a whole number of milliseconds");
        millis.map(Some).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        Fields(value.as_object().expect("an object").clone())
    }

    #[test]
    fn field_is_read_whatever_its_type() {
        let fields = fields(json!({
            "number": 15_551_234_567_u64, "empty": " ", "nothing": null, "none": "null",
            "delay": "1200", "quoted": { "key": { "id": "A" } }, "form": "{\"key\": {\"id\": \"B\"}}", "list": [1],
        }));
        assert_eq!(fields.text(&["number"]).as_deref(), Some("15551234567"));
        assert_eq!(fields.text(&["quoted", "key", "id"]).as_deref(), Some("A"));
        assert_eq!(fields.text(&["form", "key", "id"]).as_deref(), Some("B"));
        assert_eq!(fields.millis(&["delay"]).expect("a number"), Some(Duration::from_millis(1200)));
        for path in [
            &["empty"][..],
            &["nothing"],
            &["none"],
            &["list"],
            &["number", "x"],
            &["list", "x"],
            &["missing"],
            &[],
        ] {
            assert_eq!(fields.text(path), None, "{path:?}");
        }
        assert!(fields.millis(&["number"]).is_ok());
        let fields = Fields(json!({ "delay": -1, "other": 1.5 }).as_object().expect("an object").clone());
        assert!(fields.millis(&["delay"]).is_err() && fields.millis(&["other"]).is_err());
    }
}
