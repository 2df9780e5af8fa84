//! The node agent.

pub mod vmdk;
pub mod vmx;
