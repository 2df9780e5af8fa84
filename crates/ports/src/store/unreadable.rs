//! Rows that this version cannot read: in a list each has its place, so that one of them hides no other.

use crate::StoreError;

/// A row of a list: what it says, or why it cannot be read.
pub type Row<T> = Result<T, Unreadable>;

/// A row that makes no sense to this version: it was changed by hand, garbled, or written by another release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its table.
    pub table: &'static str,
    /// Its primary key as it is spelled, the parts of a composed one joined by slashes; empty where not even that can be
    /// read.
    pub id: String,
    /// What it belongs to, as it is spelled: the VM of a disk, the point of a restore or verification.
    pub of: Option<String>,
    /// What is wrong, in at most [`PROBLEM`] characters and without secrets.
    pub problem: String,
}

/// Most characters of [`Unreadable::problem`]: what is wrong may quote a value, and a value may be any length.
pub const PROBLEM: usize = 300;

impl Unreadable {
    /// A row with what is wrong with it, cut where that is long.
    pub fn new(table: &'static str, id: String, of: Option<String>, problem: &str) -> Self {
        Self { table, id, of, problem: problem.chars().take(PROBLEM).collect() }
    }

    /// Whether it may belong to what has this id: it says so, or does not say what it belongs to.
    pub fn may_be_of<T: std::str::FromStr + PartialEq>(&self, id: &T) -> bool {
        let of = self.of.as_deref().and_then(|of| of.parse::<T>().ok());
        of.is_none_or(|of| of == *id)
    }
}

impl From<Unreadable> for StoreError {
    fn from(row: Unreadable) -> Self {
        let Unreadable { table, id, problem, .. } = row;
        Self::Corrupt(format!("{table} {id}: {problem}"))
    }
}

/// Every row of a list, or the error of one that cannot be read: for whoever decides by what is not in the list, too.
pub fn all_readable<T>(rows: Vec<Row<T>>) -> Result<Vec<T>, StoreError> {
    Ok(rows.into_iter().collect::<Result<_, Unreadable>>()?)
}

/// The rows that can be read: for whoever goes on with each of them by itself. The catalogue has logged the others.
pub fn readable<T>(rows: Vec<Row<T>>) -> Vec<T> {
    rows.into_iter().flatten().collect()
}

/// Goes past what a row that cannot be read stands in the way of: nothing then, with a log line. Every other error stays.
pub fn unless_unreadable<T>(
    read: Result<T, StoreError>,
    stands_in_the_way: &str,
) -> Result<Option<T>, StoreError> {
    match read {
        Err(StoreError::Corrupt(detail)) => {
            tracing::error!(%detail, "{stands_in_the_way}");
            Ok(None)
        }
        read => read.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use hub_domain::ids::BackupJobId;

    use super::*;

    fn row(of: Option<&str>) -> Unreadable {
        Unreadable::new("table", "id".to_owned(), of.map(str::to_owned), &"x".repeat(1_000))
    }

    #[test]
    fn one_row_hides_no_other_and_is_not_taken_for_absent() {
        let rows = || vec![Ok(1), Err(row(None)), Ok(3)];
        assert_eq!(readable(rows()), [1, 3]);
        let refused = all_readable(rows());
        assert!(
            matches!(refused, Err(StoreError::Corrupt(detail)) if detail.starts_with("table id: xxx"))
        );
        assert_eq!(all_readable(vec![Row::Ok(1)]).unwrap(), [1]);
        assert_eq!(row(None).problem.len(), PROBLEM);
    }

    #[test]
    fn a_row_that_does_not_say_what_it_belongs_to_may_belong_to_anything() {
        let one = "00000000-0000-0000-0000-000000000001";
        let (id, other): (BackupJobId, BackupJobId) =
            (one.parse().unwrap(), "00000000-0000-0000-0000-000000000002".parse().unwrap());
        assert!(row(Some(one)).may_be_of(&id) && !row(Some(one)).may_be_of(&other));
        assert!(row(None).may_be_of(&id) && row(Some("garbled")).may_be_of(&id));
    }

    #[test]
    fn only_what_cannot_be_read_is_gone_past() {
        assert_eq!(unless_unreadable(Ok(1), "").unwrap(), Some(1));
        assert_eq!(unless_unreadable::<u8>(Err(row(None).into()), "").unwrap(), None);
        let away = unless_unreadable::<u8>(Err(StoreError::Conflict), "");
        assert!(matches!(away, Err(StoreError::Conflict)));
    }
}
