//! Limits and compression between the columns and the domain.

use hub_domain::compression::{Compression, ZstdLevel};
use hub_domain::limits::{ByteRate, CopyCount};
use hub_ports::StoreError;
use hub_vm_disk_repo::column;

/// Reads how many copies may be at work.
pub(crate) fn copies(stored: Option<i32>) -> Result<Option<CopyCount>, StoreError> {
    let read = |number: i32| {
        let wrong = || column::corrupt("max_concurrent_copies", number);
        CopyCount::new(u32::try_from(number).map_err(|_| wrong())?).map_err(|_| wrong())
    };
    stored.map(read).transpose()
}

/// Writes how many copies may be at work; the domain's bound lies far below the column's.
pub(crate) fn copies_column(copies: CopyCount) -> i32 {
    i32::try_from(copies.get()).unwrap_or(i32::MAX)
}

/// Reads what may be sent per second.
pub(crate) fn rate(stored: Option<i64>) -> Result<Option<ByteRate>, StoreError> {
    let read = |number: i64| {
        let wrong = || column::corrupt("max_bytes_per_second", number);
        ByteRate::new(u64::try_from(number).map_err(|_| wrong())?).map_err(|_| wrong())
    };
    stored.map(read).transpose()
}

/// Writes what may be sent per second; the domain's bound lies far below the column's.
pub(crate) fn rate_column(rate: ByteRate) -> i64 {
    i64::try_from(rate.bytes_per_second()).unwrap_or(i64::MAX)
}

/// Reads how an image is stored.
pub(crate) fn compression(word: &str, level: Option<i32>) -> Result<Compression, StoreError> {
    let known = level.map(|level| ZstdLevel::new(level.into())).transpose();
    let level = known.map_err(|error| column::corrupt("compression_level", error.given))?;
    column::word("compression", word, |word| Compression::from_parts(word, level))
}

/// Writes how hard compression tries.
pub(crate) fn level_column(compression: Compression) -> Option<i32> {
    compression.level().map(|level| level.get().into())
}
