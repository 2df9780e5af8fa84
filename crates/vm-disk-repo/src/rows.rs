//! Rows as a database gives them: each by itself, so that one that cannot be read hides no other, and at the least cost.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hub_domain::time::Timestamp;
use hub_ports::StoreError;
use hub_ports::store::{Row, Unreadable};
use sea_orm::prelude::DateTime;
use sea_orm::sea_query::{Expr, Func, SimpleExpr};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, FromQueryResult as _, IdenStatic as _,
    Iterable as _, PrimaryKeyToColumn as _, QueryResult, QuerySelect as _, QueryTrait as _, Select,
};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use crate::column;
use crate::failure::store_error;

/// All rows of a query of whole rows, each read by `value`, or with what is wrong with it; `of` is the column that says
/// what a row belongs to.
///
/// Fails only where the database does.
pub async fn listed<E: EntityTrait, T>(
    db: &impl ConnectionTrait,
    query: Select<E>,
    of: Option<E::Column>,
    value: impl Fn(E::Model) -> Result<T, StoreError>,
) -> Result<Vec<Row<T>>, StoreError> {
    let rows = db.query_all(query.as_query()).await.map_err(store_error)?;
    let read = |row: &QueryResult| model::<E>(row).and_then(&value);
    Ok(rows.iter().map(|row| read(row).map_err(|error| unreadable::<E>(row, of, &error))).collect())
}

/// The one row of a query of whole rows that has at most one, read by `value`; [`StoreError::Corrupt`] where it cannot be.
pub async fn single<E: EntityTrait, T>(
    db: &impl ConnectionTrait,
    query: Select<E>,
    value: impl Fn(E::Model) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    Ok(listed(db, query, None, value).await?.pop().transpose()?)
}

/// The rows behind a key, in the order of the column that has it; the key may be any text.
///
/// PostgreSQL has no text with a NUL and refuses to be asked for one: what sorts behind such a key there sorts behind the
/// part of it before the NUL.
pub fn behind<C: ColumnTrait>(db: &impl ConnectionTrait, column: C, key: &str) -> SimpleExpr {
    let has_nul = db.get_database_backend() != DbBackend::Postgres;
    column.gt(if has_nul { key } else { key.split('\0').next().unwrap_or_default() })
}

/// A row as its columns. The driver of PostgreSQL panics at a time that its calendar does not have, such as `infinity`.
fn model<E: EntityTrait>(row: &QueryResult) -> Result<E::Model, StoreError> {
    let read = catch_unwind(AssertUnwindSafe(|| E::Model::from_query_result(row, "")));
    let read = read.map_err(|_| column::corrupt("a column", "beyond what the driver can hold"))?;
    read.map_err(|error| column::corrupt("a column", error))
}

/// The same as [`listed`], quicker on SQLite.
///
/// The driver of SQLite copies each value of a row by itself, into memory of its own, which costs more than finding the
/// row. A row is asked for as one JSON array there; `cargo xtask bench catalogue` shows what that is worth. Rows of which
/// one cannot be read are asked for again in the ordinary way, which tells which one that is.
pub(crate) async fn quick<E, T>(
    db: &impl ConnectionTrait,
    query: Select<E>,
    of: Option<E::Column>,
    value: impl Fn(E::Model) -> Result<T, StoreError>,
) -> Result<Vec<Row<T>>, StoreError>
where
    E: EntityTrait,
    E::Model: DeserializeOwned,
{
    if db.get_database_backend() == DbBackend::Sqlite
        && let Some(found) = as_json(db, query.clone(), &value).await?
    {
        return Ok(found);
    }
    listed(db, query, of, value).await
}

/// All rows as JSON; nothing where one of them cannot be read.
async fn as_json<E, T>(
    db: &impl ConnectionTrait,
    query: Select<E>,
    value: impl Fn(E::Model) -> Result<T, StoreError>,
) -> Result<Option<Vec<Row<T>>>, StoreError>
where
    E: EntityTrait,
    E::Model: DeserializeOwned,
{
    let columns =
        E::Column::iter().map(|column| SimpleExpr::from(Expr::col((E::default(), column))));
    let row = Func::cust("json_array").args(columns);
    let rows = query.select_only().expr(row).into_tuple::<String>().all(db).await;
    let rows = match rows.map_err(store_error) {
        Ok(rows) => rows,
        // A value that JSON cannot hold, or text that is none.
        Err(StoreError::Internal(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    // Serde takes an array for a struct: its fields in their order, which is that of the columns.
    let read = |row: &String| value(serde_json::from_str(row).ok()?).ok().map(Ok);
    Ok(rows.iter().map(read).collect())
}

/// What is wrong with a row, as far as it can be told which one it is.
fn unreadable<E: EntityTrait>(
    row: &QueryResult,
    of: Option<E::Column>,
    error: &StoreError,
) -> Unreadable {
    let key = E::PrimaryKey::iter().map(|key| spelled(row, key.into_column().as_str()));
    let id = key.collect::<Option<Vec<_>>>().unwrap_or_default().join("/");
    let of = of.and_then(|column| spelled(row, column.as_str()));
    let table = E::default().table_name();
    let problem = if let StoreError::Corrupt(problem) = error {
        problem.clone()
    } else {
        hub_ports::told(error)
    };
    Unreadable::new(table, id, of, &problem)
}

/// A value of a key, whatever it is.
fn spelled(row: &QueryResult, column: &str) -> Option<String> {
    let text = || row.try_get::<String>("", column).ok();
    let number = || row.try_get::<i64>("", column).ok().map(|number| number.to_string());
    let small = || row.try_get::<i32>("", column).ok().map(|number| number.to_string());
    text().or_else(number).or_else(small)
}

/// Reads a time as the driver would: also one without a zone, which is in UTC, as SQL spells it.
pub(crate) fn time<'de, D: Deserializer<'de>>(value: D) -> Result<Timestamp, D::Error> {
    optional_time(value)?.ok_or_else(|| D::Error::custom("a time is missing"))
}

/// The same for a time that may be absent.
pub(crate) fn optional_time<'de, D: Deserializer<'de>>(
    value: D,
) -> Result<Option<Timestamp>, D::Error> {
    let Some(text) = Option::<String>::deserialize(value)? else { return Ok(None) };
    let without_zone = || {
        let spelled = text.replacen('T', " ", 1);
        DateTime::parse_from_str(&spelled, "%F %T%.f").map(|moment| moment.and_utc())
    };
    text.parse().or_else(|_| without_zone()).map(Some).map_err(D::Error::custom)
}
