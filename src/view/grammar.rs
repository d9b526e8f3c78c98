//! The grammar of recipients, spans and headers, as patterns.

use serde_json::json;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr, Schema, Type,
        schema::{AdditionalProperties, AnyOfBuilder},
    },
};
use voicegate_providers as providers;

use crate::media::TRANSFER_HEADERS;

/// The recipient of a note.
pub struct Recipient;

impl PartialSchema for Recipient {
    fn schema() -> RefOr<Schema> {
        let native: Vec<_> = providers::native_ids()
            .map(|native| {
                let prefix = format!("{}:", native.prefix);
                let prefix = if native.bare { format!("({prefix})?") } else { prefix };
                format!("{prefix}{}", native.pattern)
            })
            .collect();
        let native = format!("^({})$", native.join("|"));
        let example = providers::native_ids()
            .next()
            .map_or_else(String::new, |native| format!("{}:{}", native.prefix, native.valid[0]));
        let [person, linked, group, channel, hidden] =
            [r"c\.us", r"s\.whatsapp\.net", r"g\.us", "newsletter", "lid"].map(any_case);
        let label = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
        // A + begins a phone number, and WhatsApp ids are not e-mail addresses.
        let email = format!(
            r"^(?!\+)[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@(?=.{{1,253}}$)(?!({person}|{linked}|{group})$)({label}\.)+{label}$"
        );
        let whatsapp =
            format!("^([0-9]{{1,40}}@({person}|{linked}|{channel}|{hidden})|[0-9-]{{1,40}}@{group})$");
        let forms = [
            ("Phone number", r"^\+[ ()-]*[1-9]([ ()-]*[0-9]){6,14}[ ()-]*$", "+15551234567"),
            ("E-mail address", &email, "ann@example.com"),
            ("WhatsApp id", &whatsapp, "120363000000000000@g.us"),
            ("Name of the tenant's configuration", "^alias:.+$", "alias:family"),
            ("Id of a chat at a provider", &native, &example),
        ];
        let form = |(title, pattern, example)| {
            ObjectBuilder::new()
                .schema_type(Type::String)
                .title(Some(title))
                .pattern(Some(pattern))
                .max_length(Some(320))
                .examples([example])
        };
        forms
            .into_iter()
            .fold(AnyOfBuilder::new(), |all, each| all.item(form(each)))
            .description(Some(
                "The recipient of the note. A phone number has + and 7 to 15 digits. Other spellings are made canonical: \
                 spaces, dashes and brackets of a phone number are dropped, letters of an e-mail address become small.",
            ))
            .into()
    }
}

impl ToSchema for Recipient {}

/// A pattern that ignores case.
fn any_case(pattern: &str) -> String {
    let either = |c: char| {
        if c.is_ascii_alphabetic() { format!("[{}{c}]", c.to_ascii_uppercase()) } else { c.to_string() }
    };
    pattern.chars().map(either).collect()
}

/// A duration.
pub struct Span;

impl PartialSchema for Span {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            // At most ten years; the longest that fits here is shorter.
            .pattern(Some(
                "^(?=.*[1-9])([0-9]{1,3}d)?([0-9]{1,4}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?([0-9]{1,9}ms)?$",
            ))
            .description(Some(
                "Whole numbers with units `d`, `h`, `m`, `s` and `ms`, in this order; above zero.",
            ))
            .examples(["10m", "1h30m"])
            .into()
    }
}

impl ToSchema for Span {}

/// Headers for a download.
pub struct FetchHeaders;

impl PartialSchema for FetchHeaders {
    fn schema() -> RefOr<Schema> {
        let not_theirs = TRANSFER_HEADERS.map(any_case).join("|");
        let name = ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(format!("^(?!({not_theirs})$)[!#$%&'*+.^_`|~0-9A-Za-z-]+$")));
        let value =
            ObjectBuilder::new().schema_type(Type::String).pattern(Some(r"^[^\x00-\x08\x0a-\x1f\x7f]*$"));
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .property_names(Some(Schema::Object(name.build())))
            .additional_properties(Some(AdditionalProperties::RefOr(value.build().into())))
            .description(Some("Names and values of HTTP headers."))
            .examples([json!({ "Authorization": "Bearer download-token" })])
            .into()
    }
}

impl ToSchema for FetchHeaders {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Span24;
    use serde::Serialize;

    fn validator(schema: impl Serialize) -> jsonschema::Validator {
        jsonschema::validator_for(&serde_json::to_value(schema).expect("JSON")).expect("a schema")
    }

    /// Surrounding white space is accepted, but not documented.
    #[test]
    fn the_documented_recipients_are_those_that_are_read() {
        let recipient = validator(Recipient::schema());
        for text in [
            "+15551234567",
            "+1 (555) 123-4567",
            "+1234567",
            "+123456",
            "+123456789012345",
            "+1234567890123456",
            "+0123456789",
            "+1555abc4567",
            "+",
            "+1@example.com",
            "15551234567",
            "",
            "bob",
            "a@b",
            "@c.us",
            "Ann.Lee@Example.COM",
            "ann+tag@example.co.uk",
            "a b@example.com",
            "a@-x.com",
            "a@x-.com",
            "a@x..com",
            "ann@c.us",
            "ann@C.US",
            "15551234567@c.us",
            "15551234567@S.WhatsApp.Net",
            "123456789012345@lid",
            "120363000000000000@newsletter",
            "4915112345678-1546300800@g.us",
            "49-15@c.us",
            "abc@lid",
            "f19ee7b8-8533-4c5c-83ec-4ef8d6d1ddbd",
            "F19EE7B8-8533-4C5C-83EC-4EF8D6D1DDBD",
            "linq:f19ee7b8-8533-4c5c-83ec-4ef8d6d1ddbd",
            "linq:17",
            "linq:",
            "telegram:123456789",
            "telegram:-100",
            "telegram:a b",
            "telegram:",
            "wawp:17",
            "nobody:17",
        ] {
            let read = providers::parse_recipient(text).is_ok();
            assert_eq!(recipient.is_valid(&text.into()), read, "{text:?}");
        }
        assert!(recipient.is_valid(&"alias:family".into()) && !recipient.is_valid(&"alias:".into()));
    }

    #[test]
    fn the_documented_spans_are_read() {
        let span = validator(Span::schema());
        for text in ["10m", "1h30m", "500ms", "7d", "999d9999h999999m99999999s999999999ms", "0d1s", "007s"] {
            assert!(span.is_valid(&text.into()) && Span24::parse(text).is_ok(), "{text}");
        }
        for text in ["", "0s", "10", "m", "1.5h", "-1h", "30m1h", "1000d"] {
            assert!(!span.is_valid(&text.into()), "{text}");
        }
    }
}
