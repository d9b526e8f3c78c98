//! The beginning of a long JSON answer. Some providers repeat the whole file in the answer to a send that they took; the
//! message's id stands before it.

use serde_json::Value;

/// Reads JSON that was cut off: every member and item that is there whole. `None` where not even the
/// outermost object or array has begun.
pub fn read(head: &[u8]) -> Option<Value> {
    // A character may be cut, too.
    let text = head.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let mut open = Vec::new();
    let mut in_string = false;
    let mut escaped = false;
    // Behind the last value that is whole, and what was open there.
    let mut whole: Option<(usize, Vec<u8>)> = None;
    for (at, byte) in text.bytes().enumerate() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                open.push(byte);
                whole = Some((at + 1, open.clone()));
            }
            b'}' | b']' => {
                open.pop()?;
                whole = Some((at + 1, open.clone()));
            }
            b',' => whole = Some((at, open.clone())),
            _ => {}
        }
    }
    let (end, open) = whole?;
    let closing = open.iter().rev().map(|byte| if *byte == b'{' { '}' } else { ']' });
    let text: String = text[..end].chars().chain(closing).collect();
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_that_are_whole_are_read() {
        for (head, expected) in [
            (
                r#"{"key":{"id":"3EB0"},"message":{"base64":"AAAA"#,
                json!({"key": {"id": "3EB0"}, "message": {}}),
            ),
            (r#"{"key":{"id":"3E"#, json!({"key": {}})),
            (r#"{"a":1,"b":[1,2,3"#, json!({"a": 1, "b": [1, 2]})),
            (r#"{"a":"x\"}","b":"#, json!({"a": "x\"}"})),
            (r#"[{"id":"m1"},{"id""#, json!([{"id": "m1"}, {}])),
            (r#"{"a":1}"#, json!({"a": 1})),
        ] {
            assert_eq!(read(head.as_bytes()), Some(expected), "{head}");
        }
        for nothing in ["", "null", "\"text", "}", "<html>"] {
            assert_eq!(read(nothing.as_bytes()), None, "{nothing}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_cut_anywhere_never_panics_and_never_invents(cut in 0_usize..200, tail in ".{0,20}") {
            let whole = json!({"key": {"id": "3EB0", "n": [1, {"ü": null}]}, "t": tail, "z": true});
            let text = whole.to_string();
            let head = &text.as_bytes()[..cut.min(text.len())];
            if let Some(read) = read(head) {
                let id = read.pointer("/key/id");
                proptest::prop_assert!(id.is_none_or(|id| id == "3EB0"));
            }
        }
    }
}
