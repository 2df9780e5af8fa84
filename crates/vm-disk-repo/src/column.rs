//! Between the columns that every database has and the values of the domain.

use std::fmt::Display;
use std::str::FromStr;

use hub_ports::StoreError;

/// How many rows one INSERT carries, and how many ids one IN: few enough for every database's limit of bindings.
pub const CHUNK: usize = 500;

/// Reads an id.
pub fn id<T: FromStr>(column: &'static str, text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| corrupt(column, text))
}

/// Reads an id that may be absent.
pub fn optional_id<T: FromStr>(
    column: &'static str,
    text: Option<&str>,
) -> Result<Option<T>, StoreError> {
    text.map(|text| id(column, text)).transpose()
}

/// Reads a word with the function of its type.
pub fn word<T>(
    column: &'static str,
    text: &str,
    from_word: impl Fn(&str) -> Option<T>,
) -> Result<T, StoreError> {
    from_word(text).ok_or_else(|| corrupt(column, text))
}

/// Reads a number into a narrower or unsigned type.
pub fn number<T: TryFrom<i64>>(column: &'static str, value: i64) -> Result<T, StoreError> {
    T::try_from(value).map_err(|_| corrupt(column, value))
}

/// Writes a number as the signed one that every database has.
pub fn signed(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Refused("a number is beyond what a column holds"))
}

/// Writes a small number, such as an ordinal.
pub fn small(value: u32) -> Result<i32, StoreError> {
    i32::try_from(value).map_err(|_| StoreError::Refused("a number is beyond what a column holds"))
}

/// The error for a column that holds something that no version of ours writes.
pub fn corrupt(column: &'static str, value: impl Display) -> StoreError {
    StoreError::Corrupt(format!("{column} = {value}"))
}
