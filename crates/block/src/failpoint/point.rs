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

    /// A raw file is about to be written.
    RawWrite = "raw.write",
    /// A raw file is about to be synced.
    RawSync = "raw.sync",

    /// A digest table is about to be written.
    TableWrite = "table.write",
    /// A manifest exists, without a header.
    ManifestCreated = "manifest.created",
    /// The table of a manifest is durable, and its header is not written.
    ManifestTableSynced = "manifest.table-synced",
    /// The header of a manifest is written, and not yet durable.
    ManifestHeaderWritten = "manifest.header-written",
    /// A manifest is durable, under its partial name.
    ManifestSealed = "manifest.sealed",

    /// A directory exists, and its name is not yet durable.
    DirectoryMade = "directory.made",
    /// The names in a directory are about to be made durable.
    DirectorySync = "directory.sync",
    /// The names in a directory are durable.
    DirectorySynced = "directory.synced",
    /// A small file is written and synced, its name is not.
    FileWritten = "file.written",
    /// A file is about to get its name.
    FileNaming = "file.naming",
    /// A file has its name, which is not yet durable.
    FileNamed = "file.named",
    /// A file is about to be removed.
    FileRemoving = "file.removing",
    /// A file is gone, which is not yet durable.
    FileRemoved = "file.removed",

    /// Image and manifest of a restore point exist under their partial names.
    TargetCreated = "target.created",
    /// Both ends of a backup have agreed on the digest of all digests.
    SealProven = "seal.proven",
    /// The image of a restore point is complete, its manifest is not.
    SealImageFinished = "seal.image-finished",
    /// Image and manifest of a restore point have their names, durably; the catalogue knows nothing of it.
    SealDurable = "seal.durable",

    /// A replica has no manifest any more, durably, and is not yet open.
    ReplicaOutdated = "replica.outdated",
    /// A replica is open for writing.
    ReplicaOpened = "replica.opened",
    /// The image of a replica is complete, its manifest is not.
    ReplicaFinished = "replica.finished",
    /// A replica is complete, durably; the catalogue knows nothing of it.
    ReplicaDurable = "replica.durable",

    /// The file of a restore exists, under its partial name.
    RestoreCreated = "restore.created",
    /// Every byte of a restore is compared with the manifest.
    RestoreProven = "restore.proven",
    /// The file of a restore is complete, under its partial name.
    RestoreFinished = "restore.finished",
    /// All files of a restore have their names, durably; the catalogue knows nothing of it.
    RestoreDurable = "restore.durable",

    /// A unit of work is about to be committed.
    CatalogueCommit = "catalogue.commit",
    /// A unit of work is committed, and who waits for it does not know; an error here is a lost answer.
    CatalogueCommitted = "catalogue.committed",

    /// The catalogue has its schema, and may have no key for its secrets yet.
    StartSchema = "start.schema",
    /// A private file is written under its partial name.
    PrivateWritten = "private.written",
    /// A private file has its name, which is not yet durable.
    PrivateNamed = "private.named",
    /// The first repository has a directory, and the catalogue does not know it.
    StartRepositoryMade = "start.repository-made",
    /// The first token is in its file, and the catalogue does not know it.
    StartTokenWritten = "start.token-written",
    /// What an earlier hub left is in order.
    StartRecovered = "start.recovered",

    /// A VMA has a token under its partial name.
    AgentTokenWritten = "agent.token-written",
    /// A VMA's token has its name, which is not yet durable.
    AgentTokenNamed = "agent.token-named",
    /// A VMA has opened the disks of a job.
    AgentOpened = "agent.opened",
    /// A VMA is connected to the target of a disk.
    AgentConnected = "agent.connected",
    /// A VMA has written and flushed a whole disk.
    AgentCopied = "agent.copied",
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
