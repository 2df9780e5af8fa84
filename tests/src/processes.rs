//! The built programs as processes: started on free loopback ports, stopped in order or killed.

mod binary;
mod hub;
mod program;
mod vma;

pub use binary::binary;
pub use hub::{Hub, HubOptions};
pub use program::{Lifetime, Program};
pub use vma::{Vma, VmaOptions};
