//! Limits and compression as requests spell them.

use hub_domain::audit::AuditRuns;
use hub_domain::compression::{Compression, ZstdLevel};
use hub_domain::limits::{ByteRate, CopyCount};
use serde::{Deserialize, Deserializer};

use crate::page::whole;
use crate::problem::Problem;
use crate::words;

/// A whole number, which JSON may spell `3` or `3.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole(pub(crate) u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(reader)?;
        let number = whole(&number.to_string()).map(Self);
        number.ok_or_else(|| serde::de::Error::custom("it is a whole number, and not negative"))
    }
}

/// How many copies at a time.
pub(crate) fn copies(given: Option<Whole>) -> Result<Option<CopyCount>, Problem> {
    let wrong = |error| Problem::field("/max_concurrent_copies", error);
    let count = |Whole(given)| CopyCount::new(u32::try_from(given).unwrap_or(u32::MAX));
    given.map(count).transpose().map_err(wrong)
}

/// How many bytes per second.
pub(crate) fn rate(given: Option<Whole>) -> Result<Option<ByteRate>, Problem> {
    let wrong = |error| Problem::field("/max_bytes_per_second", error);
    given.map(|Whole(given)| ByteRate::new(given)).transpose().map_err(wrong)
}

/// Within how many runs every block is audited.
pub(crate) fn audit_runs(given: Option<Whole>) -> Result<Option<AuditRuns>, Problem> {
    let wrong = |error| Problem::field("/audit_runs", error);
    let runs = |Whole(given)| AuditRuns::new(u32::try_from(given).unwrap_or(u32::MAX));
    given.map(runs).transpose().map_err(wrong)
}

/// How images are stored; a level beside `none` is a mistake that is better told than dropped.
pub(crate) fn compression(
    kind: words::Compression,
    level: Option<Whole>,
) -> Result<Compression, Problem> {
    let wrong = |error| Problem::field("/compression_level", error);
    let number = |Whole(given)| ZstdLevel::new(i64::try_from(given).unwrap_or(i64::MAX));
    let level = level.map(number).transpose().map_err(wrong)?;
    let beside_none =
        || Problem::field("/compression_level", "it goes with compression `zstd` only");
    Compression::from_parts(kind.word(), level).ok_or_else(beside_none)
}

/// Tells a field that is null from one that is not there: null takes a limit away, absence leaves it.
pub(super) fn given<'de, D, T>(reader: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<T>::deserialize(reader).map(Some)
}

/// Refuses null for a field that is no limit: it would be taken for absence, and a change would be dropped in silence.
pub(super) fn never_null<'de, D, T>(reader: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(reader).map(Some)
}
