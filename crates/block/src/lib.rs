#![doc = include_str!("../README.md")]

mod buffer;
pub mod contract;
mod device;
mod direct_file;
mod error;
mod extent;
pub mod failpoint;
mod faulty;
mod memory;
mod new_file;
mod raw_file;
pub mod trail;

pub use buffer::{ALIGNMENT, BufferPool, PooledBuffer};
pub use device::{BlockDevice, BlockingDevice, check_range};
pub use direct_file::DirectFile;
pub use error::BlockError;
pub use extent::{Extent, ExtentKind, merge_extents};
pub use faulty::{FaultPlan, FaultyDevice};
pub use memory::MemoryDevice;
pub use new_file::create_file;
pub use raw_file::{RawFile, file_extents};
