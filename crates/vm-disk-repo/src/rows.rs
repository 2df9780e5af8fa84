//! Rows as a database gives them at the least cost.

use hub_domain::time::Timestamp;
use hub_ports::StoreError;
use sea_orm::prelude::DateTime;
use sea_orm::sea_query::{Expr, Func, SimpleExpr};
use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, Iterable as _, QuerySelect as _, Select};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use crate::column;
use crate::failure::store_error;

/// All rows of a query of whole rows.
///
/// The driver of SQLite copies each value of a row by itself, into memory of its own, which costs more than finding the
/// row. A row is asked for as one JSON array there; `cargo xtask bench catalogue` shows what that is worth.
pub(crate) async fn all<E>(
    db: &impl ConnectionTrait,
    query: Select<E>,
) -> Result<Vec<E::Model>, StoreError>
where
    E: EntityTrait,
    E::Model: DeserializeOwned,
{
    if db.get_database_backend() != DbBackend::Sqlite {
        return query.all(db).await.map_err(store_error);
    }
    let columns =
        E::Column::iter().map(|column| SimpleExpr::from(Expr::col((E::default(), column))));
    let row = Func::cust("json_array").args(columns);
    let rows: Vec<String> =
        query.select_only().expr(row).into_tuple().all(db).await.map_err(store_error)?;
    let read = |row: &String| {
        // Serde takes an array for a struct: its fields in their order, which is that of the columns.
        serde_json::from_str(row).map_err(|error| column::corrupt("a row", error))
    };
    rows.iter().map(read).collect()
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
