//! The list of all points, so that a campaign can show that it came to each of them.

macro_rules! points {
    ($($(#[$doc:meta])+ $point:ident = $name:literal,)+) => {
        /// A step of the product that has just been done, or an operation that is about to be.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Point { $($(#[$doc])+ $point,)+ }

        impl Point {
            /// Every point.
            pub const ALL: &[Self] = &[$(Self::$point,)+];

            /// Its name in orders and records.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$point => $name,)+ }
            }
        }
    };
}

points! {
    /// A qcow2 file is about to be read.
    ImageRead = "image.read",
    /// A qcow2 file is about to be written, data or tables.
    ImageWrite = "image.write",
    /// A qcow2 file is about to get another length.
    ImageResize = "image.resize",
    /// A qcow2 file is about to be synced.
    ImageSync = "image.sync",
    /// All tables of an image are written, and not yet durable.
    ImageTablesWritten = "image.tables-written",
    /// All tables of an image are durable, and no header points to them.
    ImageTablesSynced = "image.tables-synced",
    /// The header of an image is written, and not yet durable.
    ImageHeaderWritten = "image.header-written",
    /// The header of an image is durable.
    ImageHeaderSynced = "image.header-synced",
}

impl Point {
    /// The point of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|point| point.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_one_point_and_fits_into_an_order() {
        let names: BTreeSet<_> = Point::ALL.iter().map(|it| it.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
        for point in Point::ALL {
            let plain = |it: char| it.is_ascii_lowercase() || matches!(it, '.' | '-');
            assert!(point.name().chars().all(plain), "{}", point.name());
            assert_eq!(Point::named(point.name()), Some(*point));
        }
    }
}
