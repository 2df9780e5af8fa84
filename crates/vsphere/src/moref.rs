//! References to managed objects.

use std::fmt;

/// Names an object of the server: a kind, and a value that means nothing to us.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MoRef {
    /// `VirtualMachine`, for example.
    pub kind: String,
    /// Opaque: it may hold spaces, slashes and anything else.
    pub value: String,
}

impl MoRef {
    /// A reference from its parts.
    pub fn new(kind: impl Into<String>, value: impl Into<String>) -> Self {
        Self { kind: kind.into(), value: value.into() }
    }

    /// A VM by its id.
    pub fn vm(value: impl Into<String>) -> Self {
        Self::new("VirtualMachine", value)
    }
}

impl fmt::Display for MoRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.kind, self.value)
    }
}
