//! Columns that say how a source was read: whether its guest was at rest, and by which way.

use hub_domain::source::{Quiescence, ReadBy};

/// A yes or no of a nullable column.
pub(crate) fn flag(stored: i32) -> bool {
    stored != 0
}

/// What was stored of a snapshot.
pub(crate) fn quiescence(quiesced: Option<i32>, reason: Option<String>) -> Option<Quiescence> {
    quiesced.map(|it| Quiescence { quiesced: flag(it), reason })
}

/// The columns `quiesced` and `quiesce_reason`.
pub(crate) fn quiescence_columns(known: Option<&Quiescence>) -> (Option<i32>, Option<String>) {
    (known.map(|it| it.quiesced.into()), known.and_then(|it| it.reason.clone()))
}

/// What was stored of the way to a disk.
pub(crate) fn read_by(reader: Option<String>, reason: Option<String>) -> Option<ReadBy> {
    reader.map(|reader| ReadBy { reader, reason })
}

/// The columns `reader` and `reader_reason`.
pub(crate) fn read_by_columns(known: Option<&ReadBy>) -> (Option<String>, Option<String>) {
    (known.map(|it| it.reader.clone()), known.and_then(|it| it.reason.clone()))
}
