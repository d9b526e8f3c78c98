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
    let unknown = told.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
    match (unknown, told.split_once(": ")) {
        (Some((field, _)), _) => {
            let meant =
                unknown_name(told, &[]).map_or(String::new(), |meant| format!("; did you mean `{meant}`?"));
            Problem::invalid(field, format!("there is no such parameter{meant}"))
        }
        (None, Some((field, why))) => Problem::invalid(field, why),
        (None, None) => Problem::invalid("query", told),
    }
}
