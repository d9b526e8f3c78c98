//! Parameters in the query of a URL: the page of a list, and the problem with what does not fit.

use std::str::FromStr;

use super::body::unknown_name;
use crate::model::problem::Problem;

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;

/// The page of a list that `limit` and `cursor` ask for: its most items, and the item before which it begins.
pub fn page<Id: FromStr>(limit: Option<u32>, cursor: Option<&str>) -> Result<(u32, Option<Id>), Problem> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::invalid("limit", format!("expected a number from 1 to {MAX_LIMIT}")));
    }
    let no_cursor = |_| Problem::invalid("cursor", "expected the next_cursor of an earlier answer");
    let before = cursor.map(str::parse).transpose().map_err(no_cursor)?;
    Ok((limit, before))
}

/// Parses "Failed to deserialize query string: limit: invalid digit found in string".
pub fn unfit(text: &str) -> Problem {
    let told = text.split_once(": ").map_or(text, |(_, told)| told);
    // Before the reason stands the parameter, except where one is missing or given twice.
    let (field, why) = told.split_once(": ").unwrap_or(("query", told));
    let quoted = |before: &str| Some(why.strip_prefix(before)?.strip_prefix('`')?.split_once('`')?.0);
    if let Some(field) = quoted("unknown field ") {
        let meant =
            unknown_name(why, &[]).map_or(String::new(), |meant| format!("; did you mean `{meant}`?"));
        return Problem::invalid(field, format!("there is no such parameter{meant}"));
    }
    if let Some(field) = quoted("duplicate field ") {
        return Problem::invalid(field, "the parameter is given twice");
    }
    let is_number = ["invalid digit", "cannot parse integer", "number too"];
    match field {
        "limit" => Problem::invalid(field, format!("expected a number from 1 to {MAX_LIMIT}")),
        _ if is_number.iter().any(|words| why.contains(words)) => {
            Problem::invalid(field, "expected a whole number")
        }
        _ => Problem::invalid(field, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_framework_become_a_field_and_a_remedy() {
        for (text, field, detail) in [
            ("limit: invalid digit found in string", "limit", "expected a number from 1 to 200"),
            ("limit: number too large to fit in target type", "limit", "expected a number from 1 to 200"),
            ("duplicate field `limit`", "limit", "the parameter is given twice"),
            (
                "staus: unknown field `staus`, expected one of `status`, `to`",
                "staus",
                "there is no such parameter; did you mean `status`?",
            ),
            ("unknown field `x`, expected `source`", "x", "there is no such parameter"),
            ("seq: invalid digit found in string", "seq", "expected a whole number"),
            ("odd", "query", "odd"),
        ] {
            let problem = unfit(&format!("Failed to deserialize query string: {text}"));
            assert_eq!((problem.field.as_deref(), problem.detail.as_str()), (Some(field), detail), "{text}");
        }
    }
}
