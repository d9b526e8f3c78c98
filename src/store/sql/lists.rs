//! Lists of notes. Every query reads only the ends of ranges of one index, so that its cost depends on the size of the
//! page and not on the number of notes. This file is compiled once for each database.

use sqlx::{QueryBuilder, Row};

use super::{
    dialect::{BY_IDS, Db, Pool, Tx, prepare_ranges, push_range},
    read::doc,
};
use crate::{
    model::note::{Note, NoteId, Status},
    store::{NoteQuery, Page, StoreError, types::Range},
};

/// Maximum number of ranges in one statement. SQLite accepts 500.
const MOST: usize = 240;

/// Sorts after every id.
const END: &str = "vn_~";

/// See [`crate::store::Store::notes`].
pub async fn notes(pool: &Pool, wanted: &NoteQuery<'_>) -> Result<Page, StoreError> {
    let mut tx = pool.begin().await?;
    prepare_ranges(&mut tx).await?;
    let vias = vias(&mut tx, wanted).await?;
    let before = wanted.before.map_or_else(|| END.to_owned(), |id| id.to_string());
    let mut rows = Vec::new();
    for ranges in ranges_of(wanted, &vias, &before).chunks(MOST) {
        for row in page("", ranges).build().fetch_all(&mut *tx).await? {
            let id: String = row.try_get("id")?;
            rows.extend(id.parse::<NoteId>().ok().map(|id| (id, row)));
        }
    }
    tx.commit().await?;
    rows.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
    let most = wanted.limit as usize;
    let next = (rows.len() > most).then(|| rows.get(most.saturating_sub(1)).map(|(id, _)| *id)).flatten();
    rows.truncate(most);
    let readable = |(id, row): &(NoteId, _)| match doc::<Note>(row, "note") {
        Ok(note) => Some(note),
        Err(error) => {
            tracing::error!(note.id = %id, %error, "note {id} cannot be read and is left out of a list");
            None
        }
    };
    Ok(Page { notes: rows.iter().filter_map(readable).collect(), next })
}

/// The database's query plan for a list, for tests.
#[cfg(debug_assertions)]
pub async fn explain(pool: &Pool, wanted: &NoteQuery<'_>) -> Result<Vec<String>, StoreError> {
    let (statement, column) = super::dialect::EXPLAIN;
    let before = wanted.before.map_or_else(|| END.to_owned(), |id| id.to_string());
    let vias = ["c".to_owned(), "d".to_owned()];
    let mut tx = pool.begin().await?;
    prepare_ranges(&mut tx).await?;
    let mut lines = Vec::new();
    let ranges = ranges_of(wanted, &vias, &before);
    for mut query in [page(statement, &ranges), each_via(statement, wanted)] {
        for row in query.build().fetch_all(&mut *tx).await? {
            lines.push(row.try_get(column)?);
        }
    }
    Ok(lines)
}

/// Finds the connections used for a recipient, with one index seek for each.
async fn vias(tx: &mut Tx<'_>, wanted: &NoteQuery<'_>) -> Result<Vec<String>, StoreError> {
    match (wanted.to, wanted.via) {
        (Some(_), None) => Ok(each_via("", wanted).build_query_scalar().fetch_all(&mut **tx).await?),
        (_, via) => Ok(via.map(str::to_owned).into_iter().collect()),
    }
}

fn each_via(before: &str, wanted: &NoteQuery<'_>) -> QueryBuilder<Db> {
    let first = |query: &mut QueryBuilder<Db>| {
        query.push("SELECT MIN(via) FROM notes WHERE tenant = ").push_bind(wanted.tenant.to_owned());
        query.push(" AND recipient = ").push_bind(wanted.to.unwrap_or_default().to_owned());
    };
    let mut query = QueryBuilder::new(format!("{before}WITH RECURSIVE each (via) AS ("));
    first(&mut query);
    query.push(" UNION ALL SELECT (");
    first(&mut query);
    query.push(
        " AND via > each.via) FROM each WHERE each.via IS NOT NULL)
         SELECT via FROM each WHERE via IS NOT NULL",
    );
    query
}

/// The ranges that contain exactly the requested notes.
fn ranges_of<'a>(wanted: &NoteQuery<'a>, vias: &'a [String], before: &'a str) -> Vec<Range<'a>> {
    let limit = i64::from(wanted.limit) + 1;
    let status = wanted.status.map(Status::as_str);
    let range = |index, equal| Range { index, equal, before, limit };
    let tenant = ("tenant", wanted.tenant);
    if wanted.to.is_none() && wanted.via.is_none() {
        return match status {
            None => vec![range("notes_listed", vec![tenant])],
            Some(status) => vec![range("notes_listed_by_status", vec![tenant, ("status", status)])],
        };
    }
    let statuses = status.map_or_else(|| Status::ALL.map(Status::as_str).to_vec(), |status| vec![status]);
    let each = |via: &'a str| {
        let statuses = statuses.clone();
        statuses.into_iter().map(move |status| match wanted.to {
            Some(to) => range(
                "notes_listed_by_recipient",
                vec![tenant, ("recipient", to), ("via", via), ("status", status)],
            ),
            None => range("notes_listed_by_via", vec![tenant, ("via", via), ("status", status)]),
        })
    };
    vias.iter().flat_map(|via| each(via)).collect()
}

/// Builds the statement that selects the newest notes of all ranges.
fn page(before: &str, ranges: &[Range<'_>]) -> QueryBuilder<Db> {
    let (open, close) = BY_IDS;
    let select = format!("{before}SELECT id, doc FROM notes WHERE {open}SELECT id FROM (");
    let mut query = QueryBuilder::new(select);
    for (number, range) in ranges.iter().enumerate() {
        if number > 0 {
            query.push(" UNION ALL ");
        }
        push_range(&mut query, range);
    }
    let limit = ranges.first().map_or(0, |range| range.limit);
    query.push(") AS newest ORDER BY id DESC LIMIT ").push_bind(limit).push(close).push(" ORDER BY id DESC");
    query
}
