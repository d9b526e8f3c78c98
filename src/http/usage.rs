//! `GET /usage`: how many notes a tenant sent in a period, and how much audio and work they were.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use jiff::{Span, Timestamp, civil::Date, tz::TimeZone};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{auth::Caller, query::unfit};
use crate::{
    gateway::Gateway,
    model::{
        problem::Problem,
        usage::{Days, UsageBy},
    },
    store::UsageQuery,
    view::UsageList,
};

/// The longest period, in days.
const MOST_DAYS: i64 = 366;

/// The period without `from`, in days.
const USUAL_DAYS: i64 = 30;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Period {
    /// The first day, as a date or a time (RFC 3339) on it. Days are those of UTC. Default: 29 days before the last one.
    #[param(example = "2026-11-01")]
    from: Option<String>,
    /// The last day, included. A time at the very beginning of a day stands for the day before. Default: today.
    #[param(example = "2026-11-30")]
    to: Option<String>,
    /// Grouping: each item is about one day, connection or status. Default: `day`.
    #[param(inline)]
    by: Option<UsageBy>,
}

impl Period {
    fn days(&self, today: Date) -> Result<Days, Problem> {
        let last = self.to.as_deref().map_or(Ok(today), |text| day("to", text, End::Last))?;
        let first = match self.from.as_deref() {
            Some(text) => day("from", text, End::First)?,
            None => last.checked_sub(Span::new().days(USUAL_DAYS - 1)).unwrap_or(Date::MIN),
        };
        let days = Days { first, last };
        if days.count() < 1 {
            return Err(Problem::invalid("from", "expected a day that is not after `to`"));
        }
        if days.count() > MOST_DAYS {
            let detail = format!("expected at most {MOST_DAYS} days between `from` and `to`");
            return Err(Problem::invalid("from", detail));
        }
        Ok(days)
    }
}

#[derive(Clone, Copy)]
enum End {
    First,
    Last,
}

/// Reads a date, or a time on that day.
fn day(field: &'static str, text: &str, end: End) -> Result<Date, Problem> {
    if text.len() == "2026-01-01".len()
        && let Ok(date) = text.parse::<Date>()
    {
        return Ok(date);
    }
    let wrong = || {
        Problem::invalid(field, "expected a date such as 2026-11-30, or a time such as 2026-11-30T12:00:00Z")
    };
    let time: Timestamp = text.parse().map_err(|_| wrong())?;
    let time = match end {
        End::First => time,
        End::Last => time.checked_sub(Span::new().nanoseconds(1)).map_err(|_| wrong())?,
    };
    Ok(time.to_zoned(TimeZone::UTC).date())
}

/// Count usage
///
/// How many notes were accepted in a period, the length and size of their audio, and how often sending was tried. Each
/// note counts once, on the day on which it was accepted (UTC), with the status that it has now, and stays counted when
/// it is erased or its record is removed.
#[utoipa::path(
    get, path = "/usage", tag = "Voice notes", operation_id = "getUsage",
    params(Period),
    responses((status = 200, description = "The usage of this tenant.", body = UsageList)),
)]
pub async fn show(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    period: Result<Query<Period>, QueryRejection>,
) -> Result<Json<UsageList>, Problem> {
    let Query(period) = period.map_err(|error| unfit(&error.body_text()))?;
    let days = period.days(gateway.clock.now().to_zoned(TimeZone::UTC).date())?;
    let by = period.by.unwrap_or_default();
    let wanted = UsageQuery { tenant: &tenant.name, days, by };
    let groups = gateway.store.usage(&wanted).await?;
    Ok(Json(UsageList::new(days, by, groups)))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn days(from: Option<&str>, to: Option<&str>) -> Result<Days, Problem> {
        let period = Period { from: from.map(str::to_owned), to: to.map(str::to_owned), by: None };
        period.days(date(2026, 11, 30))
    }

    #[test]
    fn period_is_made_of_whole_days() {
        let november = Days { first: date(2026, 11, 1), last: date(2026, 11, 30) };
        for (from, to) in [
            (None, None),
            (Some("2026-11-01"), None),
            (Some("2026-11-01"), Some("2026-11-30")),
            (Some("2026-11-01T10:00:00Z"), Some("2026-11-30T00:00:01Z")),
            (Some("2026-11-01T00:00:00Z"), Some("2026-12-01T00:00:00Z")),
            (Some("2026-10-31T23:00:00-02:00"), Some("2026-12-01T02:00:00+02:00")),
        ] {
            assert_eq!(days(from, to).ok(), Some(november), "{from:?} {to:?}");
        }
        assert!(days(Some("2025-11-30"), Some("2026-11-30")).is_ok(), "366 days");
    }

    #[test]
    fn wrong_period_names_its_field() {
        for (from, to, field) in [
            (Some("2026-11-31"), None, "from"),
            (Some("yesterday"), None, "from"),
            (Some(""), None, "from"),
            (None, Some("2026-11-30T25:00:00Z"), "to"),
            (None, Some("30.11.2026"), "to"),
            (Some("2026-12-01"), None, "from"),
            (Some("2025-11-29"), None, "from"),
            (Some("-009999-01-01"), None, "from"),
        ] {
            let problem = days(from, to).expect_err("refused");
            assert_eq!(problem.field.as_deref(), Some(field), "{from:?} {to:?}");
        }
    }
}
