//! Lists in pages: `limit` items after the item with the id `after`.
//!
//! A row that cannot be read takes its place among them, so that it hides no other and the next page begins behind it.

use hub_ports::store::{Row, Unreadable};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Items of a page when nothing is asked for.
const DEFAULT_LIMIT: u32 = 100;

/// Most items of a page.
const MAX_LIMIT: u32 = 500;

/// Which page of a list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// Most items to answer.
    #[serde(default, deserialize_with = "limit")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 100)]
    pub(crate) limit: Limit,
    /// Only items after the one with this id: the `next` of the page before.
    #[param(value_type = Option<String>)]
    pub(crate) after: Option<After>,
}

/// The id, as it is stored, behind which a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct After(String);

/// Stands before an id that is no UUID, so that a misspelled one is still refused.
const STORED: &str = "stored:";

impl After {
    /// The id.
    pub(crate) fn id(&self) -> &str {
        &self.0
    }

    /// How the `next` of a page spells an id.
    fn spelled(id: String) -> String {
        if id.parse::<Uuid>().is_ok_and(|uuid| uuid.to_string() == id) {
            return id;
        }
        format!("{STORED}{id}")
    }
}

impl<'de> Deserialize<'de> for After {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Some(id) = text.strip_prefix(STORED) {
            return Ok(Self(id.to_owned()));
        }
        let uuid = text.parse::<Uuid>().map_err(|error| {
            serde::de::Error::custom(format!("after is the next of another page: {error}"))
        })?;
        Ok(Self(uuid.to_string()))
    }
}

/// A number of items between 1 and the greatest allowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit(u32);

impl Default for Limit {
    fn default() -> Self {
        Self(DEFAULT_LIMIT)
    }
}

impl Limit {
    /// One more than asked for, so that it shows whether another page follows.
    pub(crate) fn with_one_more(self) -> u32 {
        self.0 + 1
    }
}

/// Reads a limit from a query, where every value is a text.
pub(crate) fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Limit, D::Error> {
    let text = String::deserialize(deserializer)?;
    whole(&text)
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| (1..=MAX_LIMIT).contains(number))
        .map(Limit)
        .ok_or_else(|| serde::de::Error::custom("limit is a whole number between 1 and 500"))
}

/// A whole number in a text; `3.0` is one for JSON, so it is one here.
pub(crate) fn whole(text: &str) -> Option<u64> {
    let (number, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|digit| digit == b'0') || !number.bytes().all(|it| it.is_ascii_digit())
    {
        return None;
    }
    number.parse().ok()
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// The items, in the order of their ids.
    pub(crate) items: Vec<T>,
    /// What stands among them in the catalogue and cannot be read.
    pub(crate) unreadable: Vec<UnreadableView>,
    /// What to give as `after` for the page that follows; null on the last one.
    pub(crate) next: Option<String>,
}

impl<T> Page<T> {
    /// A page of rows that were asked for with [`Limit::with_one_more`].
    pub(crate) fn of<R>(
        mut rows: Vec<Row<R>>,
        limit: Limit,
        id: impl Fn(&R) -> String,
        item: impl FnMut(R) -> T,
    ) -> Self {
        let most = usize::try_from(limit.0).unwrap_or(usize::MAX);
        let follows = rows.len() > most;
        rows.truncate(most);
        let id = |row: &Row<R>| row.as_ref().map_or_else(|row| row.id.clone(), &id);
        // Behind one whose very id cannot be read nothing can begin.
        let last = rows.iter().rev().map(id).find(|id| !id.is_empty());
        let next = last.filter(|_| follows).map(After::spelled);
        let (rows, unreadable) = apart(rows);
        Self { items: rows.into_iter().map(item).collect(), unreadable, next }
    }

    /// A page of a list that the catalogue gives whole.
    pub(crate) fn of_all<R>(
        mut rows: Vec<Row<R>>,
        query: &PageQuery,
        id: impl Fn(&R) -> Uuid,
        item: impl FnMut(R) -> T,
    ) -> Self {
        let key = |row: &Row<R>| match row {
            Ok(row) => id(row).to_string(),
            Err(row) => row.id.clone(),
        };
        rows.sort_by_key(key);
        rows.retain(|row| query.after.as_ref().is_none_or(|after| key(row).as_str() > after.id()));
        rows.truncate(usize::try_from(query.limit.with_one_more()).unwrap_or(usize::MAX));
        Self::of(rows, query.limit, |row| id(row).to_string(), item)
    }
}

/// A row that this hub cannot read: it was changed by hand, garbled, or written by another release.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UnreadableRow)]
pub(crate) struct UnreadableView {
    /// Its table in the catalogue.
    table: &'static str,
    /// Its key there, as it is spelled; empty where not even that can be read.
    id: String,
    /// The id of what it belongs to, as it is spelled: the VM of a disk or job, the point of a restore or verification.
    of: Option<String>,
    /// What is wrong.
    problem: String,
}

impl From<Unreadable> for UnreadableView {
    fn from(row: Unreadable) -> Self {
        let Unreadable { table, id, of, problem } = row;
        Self { table, id, of, problem }
    }
}

/// What of a list can be read, and what cannot.
pub(crate) fn apart<R>(rows: Vec<Row<R>>) -> (Vec<R>, Vec<UnreadableView>) {
    let (mut read, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        match row {
            Ok(row) => read.push(row),
            Err(row) => unreadable.push(row.into()),
        }
    }
    (read, unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_however_json_spells_them() {
        assert_eq!(whole("3"), Some(3));
        assert_eq!(whole("3.0"), Some(3));
        for bad in ["", "-1", "3.5", "x", "1e3", "+1", "99999999999999999999999"] {
            assert_eq!(whole(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_page_says_whether_another_follows() {
        let ids: Vec<Uuid> = (1..=5).map(Uuid::from_u128).collect();
        let query = PageQuery { limit: Limit(2), after: None };
        let rows = || ids.iter().copied().map(Ok).collect::<Vec<_>>();
        let first = Page::of_all(rows(), &query, |id| *id, |id| id);
        assert_eq!(first.items, ids[..2]);
        assert_eq!(first.next, Some(ids[1].to_string()));
        let query = PageQuery { limit: Limit(3), after: Some(After(ids[1].to_string())) };
        let last = Page::of_all(rows(), &query, |id| *id, |id| id);
        assert_eq!(last.items, ids[2..]);
        assert_eq!(last.next, None);
    }

    fn garbled(id: &str) -> Row<Uuid> {
        Err(Unreadable::new("table", id.to_owned(), None, "a problem"))
    }

    /// Walks a list page by page as a client does.
    fn walk(rows: &[Row<Uuid>], limit: u32) -> (usize, usize) {
        let (mut after, mut items, mut unreadable) = (None, 0, 0);
        loop {
            let query = PageQuery { limit: Limit(limit), after };
            let page = Page::of_all(rows.to_vec(), &query, |id| *id, |id| id);
            (items, unreadable) = (items + page.items.len(), unreadable + page.unreadable.len());
            let Some(next) = page.next else { return (items, unreadable) };
            let next = serde_json::to_string(&next).unwrap();
            after = Some(serde_json::from_str(&next).unwrap());
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_is_listed_and_gone_past() {
        let mut rows: Vec<Row<Uuid>> = (1..=5).map(|id| Ok(Uuid::from_u128(id))).collect();
        rows.extend([garbled(&Uuid::from_u128(9).to_string()), garbled("00000000-garbled")]);
        for limit in 1..=8 {
            assert_eq!(walk(&rows, limit), (5, 2), "{limit}");
        }
    }

    #[test]
    fn what_follows_a_page_is_its_next_or_refused() {
        for bad in ["\"garbled\"", "\"\"", "3"] {
            assert!(serde_json::from_str::<After>(bad).is_err(), "{bad}");
        }
        let upper = "\"00000000-0000-0000-0000-0000000000AB\"";
        let after: After = serde_json::from_str(upper).unwrap();
        assert_eq!(after.id(), "00000000-0000-0000-0000-0000000000ab");
        assert_eq!(After::spelled("GARBLED".to_owned()), "stored:GARBLED");
    }
}
