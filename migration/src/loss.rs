//! What a way down cannot keep, counted before the first step of it runs.

use std::fmt;

use sea_orm_migration::sea_orm::{ConnectionTrait, DbErr};

use crate::ddl::{has_table, number};

/// Rows, or what they say, that the older schema cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// How many.
    pub rows: i64,
    /// Of what, and what becomes of them.
    pub what: &'static str,
}

impl fmt::Display for Loss {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.rows, self.what)
    }
}

/// How a step counts what it would lose on the way down.
pub(crate) struct Risk {
    /// The table that is asked; where it does not exist, nothing is lost.
    pub(crate) table: &'static str,
    /// Which rows; empty for all.
    pub(crate) condition: &'static str,
    /// See [`Loss::what`].
    pub(crate) what: &'static str,
}

/// Counts what the given steps would lose; nothing for what is not there.
pub(crate) async fn count(
    db: &impl ConnectionTrait,
    risks: impl IntoIterator<Item = &'static Risk>,
) -> Result<Vec<Loss>, DbErr> {
    let mut losses = Vec::new();
    for Risk { table, condition, what } in risks {
        if !has_table(db, table).await? {
            continue;
        }
        let filter =
            if condition.is_empty() { String::new() } else { format!(" WHERE {condition}") };
        let rows = number(db, &format!("SELECT COUNT(*) FROM {table}{filter}")).await?;
        if rows > 0 {
            losses.push(Loss { rows, what });
        }
    }
    Ok(losses)
}
