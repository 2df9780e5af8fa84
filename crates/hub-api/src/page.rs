//! Lists in pages: `limit` items after the item with the id `after`.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Items of a page when nothing is asked for.
const DEFAULT_LIMIT: u32 = 100;

/// Most items of a page.
const MAX_LIMIT: u32 = 500;

/// Which page of a list.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// Most items to answer.
    #[serde(default, deserialize_with = "limit")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 100)]
    pub(crate) limit: Limit,
    /// Only items after the one with this id: the `next` of the page before.
    pub(crate) after: Option<Uuid>,
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
    /// What to give as `after` for the page that follows; null on the last one.
    pub(crate) next: Option<String>,
}

impl<T> Page<T> {
    /// A page of rows that were asked for with [`Limit::with_one_more`].
    pub(crate) fn of<R>(
        mut rows: Vec<R>,
        limit: Limit,
        id: impl Fn(&R) -> String,
        item: impl FnMut(R) -> T,
    ) -> Self {
        let most = usize::try_from(limit.0).unwrap_or(usize::MAX);
        let follows = rows.len() > most;
        rows.truncate(most);
        let next = rows.last().filter(|_| follows).map(id);
        Self { items: rows.into_iter().map(item).collect(), next }
    }

    /// A page of a list that the catalogue gives whole.
    pub(crate) fn of_all<R>(
        mut rows: Vec<R>,
        query: PageQuery,
        id: impl Fn(&R) -> Uuid,
        item: impl FnMut(R) -> T,
    ) -> Self {
        rows.sort_by_key(&id);
        rows.retain(|row| query.after.is_none_or(|after| id(row) > after));
        rows.truncate(usize::try_from(query.limit.with_one_more()).unwrap_or(usize::MAX));
        Self::of(rows, query.limit, |row| id(row).to_string(), item)
    }
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
        let first = Page::of_all(ids.clone(), query, |id| *id, |id| id);
        assert_eq!(first.items, ids[..2]);
        assert_eq!(first.next, Some(ids[1].to_string()));
        let query = PageQuery { limit: Limit(3), after: Some(ids[1]) };
        let last = Page::of_all(ids.clone(), query, |id| *id, |id| id);
        assert_eq!(last.items, ids[2..]);
        assert_eq!(last.next, None);
    }
}
