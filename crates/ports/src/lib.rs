#![doc = include_str!("../README.md")]

mod clock;
mod error;
mod owed;
mod progress;
mod rate_readings;
mod refusal;
mod retry;
mod source_node;
mod source_waits;
mod storage;
pub mod store;
mod watch;

pub use clock::{Clock, IdGen};
pub use error::{Classify, ErrorClass, StoreError, told};
pub use owed::{OwedCleanups, OwedOptions, OwedRound, StrikeOffError, StruckOff, VmaRecord, owe};
pub use progress::{NoProgress, ProgressSink};
pub use rate_readings::RateReadings;
pub use retry::{RetryConflicts, retry_conflicts, retry_patiently};
pub use source_node::{
    CleanupOrder, CopyKind, CopyOrder, InventoryQuery, NodeIdentity, SourceError, SourceNode,
};
pub use source_waits::{SourceWait, SourceWaits, WaitListener};
pub use storage::{
    BackupStorage, ExportedPoint, ParentImage, PointIdentity, PointLocation, PrepareImage,
    PrepareReplica, ReplicaStorage, RepositoryProbe, RestoreOutput, RestoredFile, SealImage,
    SealedImage, StorageError,
};
pub use store::{Catalogue, Store, UnitOfWork};
pub use watch::{CopyWatch, WatchOptions, stop_copy};
