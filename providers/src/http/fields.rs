//! The fields of a request: tables and lists of templates. A field whose value is not there is left out.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use super::template::{Name, Template, Values};

/// A field, or a table or list of them.
pub(super) enum Node {
    Text(Template),
    /// A number or a boolean.
    Fixed(Value),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
}

impl Default for Node {
    fn default() -> Self {
        Self::Table(Vec::new())
    }
}

impl Node {
    /// The fields, where it is a table.
    pub fn fields(&self) -> &[(String, Self)] {
        if let Self::Table(fields) = self { fields } else { &[] }
    }

    /// The value without the fields whose values are not there, and without tables and lists of which nothing is left.
    pub fn value(&self, values: &Values) -> Option<Value> {
        match self {
            Self::Text(template) => template.value(values),
            Self::Fixed(value) => Some(value.clone()),
            Self::List(items) => {
                let list: Vec<Value> = items.iter().filter_map(|item| item.value(values)).collect();
                (items.is_empty() || !list.is_empty()).then_some(Value::Array(list))
            }
            Self::Table(fields) => {
                let field = |(name, node): &(String, Self)| Some((name.clone(), node.value(values)?));
                let table: Map<String, Value> = fields.iter().filter_map(field).collect();
                (fields.is_empty() || !table.is_empty()).then_some(Value::Object(table))
            }
        }
    }

    /// Every text in it, with its path.
    pub fn each<'a>(&'a self, path: &str, seen: &mut dyn FnMut(&str, &'a Template)) {
        match self {
            Self::Text(template) => seen(path, template),
            Self::Fixed(_) => {}
            Self::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.each(&format!("{path}[{index}]"), seen);
                }
            }
            Self::Table(fields) => {
                for (name, node) in fields {
                    node.each(&format!("{path}.{name}"), seen);
                }
            }
        }
    }

    pub fn uses(&self, name: &Name) -> bool {
        let mut found = false;
        self.each("", &mut |_, template| found |= template.uses(name));
        found
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false, a list or a table")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Node, E> {
                Template::parse(text).map(Node::Text).map_err(E::custom)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Fixed(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Fixed(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Fixed(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Fixed(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Node::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
                let mut table = Vec::new();
                while let Some(name) = fields.next_key::<String>()? {
                    let node: Node = fields.next_value()?;
                    table.push((name, node));
                }
                // The shape of a secret that is kept elsewhere. A part of a form may well be named `file`.
                if let [(name, Node::Text(text))] = table.as_slice()
                    && matches!(name.as_str(), "env" | "file")
                    && text.names().next().is_none()
                {
                    return Err(A::Error::custom(
                        "secrets stand in the connection, as `token` or in `settings`, and here as {{token}} or \
                         {{settings.NAME}}",
                    ));
                }
                Ok(Node::Table(table))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_without_a_value_is_left_out_and_types_are_kept() {
        let node: Node = serde_json::from_value(json!({
            "to": "whatsapp:{{to}}", "ms": "{{duration}}", "text": "{{duration}} ms", "ptt": true, "n": 3,
            "quoted": {"id": "{{reply_to}}"}, "list": ["{{reply_to}}"], "empty": {},
            "messages": [{"type": "audio", "reply": "{{reply_to}}"}],
        }))
        .expect("fields");
        let expected = json!({
            "to": "whatsapp:+15550001111", "ms": 2000, "text": "2000 ms", "ptt": true, "n": 3, "empty": {},
            "messages": [{"type": "audio"}],
        });
        let mut values = Values::default();
        values.insert(Name::To, "+15550001111");
        values.insert(Name::Duration, 2000);
        assert_eq!(node.value(&values), Some(expected));
    }
}
