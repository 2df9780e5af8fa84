//! A disk with its snapshots: layers from the newest to the base, each standing on the next.

use super::{Directory, Layer, VmdkError};

/// The most layers that a chain may have; the hypervisor makes no more.
pub const MAX_CHAIN: usize = 32;

/// The layers of a disk, newest first; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    layers: Vec<Layer>,
}

impl Chain {
    /// Reads the chain that ends in a file, and checks that every layer still stands on the parent it was made for.
    pub fn read(directory: &Directory, name: &str) -> Result<Self, VmdkError> {
        let mut layers = vec![Layer::read(directory, name)?];
        while let Some(child) = layers.last()
            && let Some(parent_name) = &child.descriptor.parent_hint
        {
            let seen = layers.iter().any(|it| it.name == *parent_name);
            if layers.len() >= MAX_CHAIN || seen {
                return Err(VmdkError::TooDeep);
            }
            let parent = Layer::read(directory, parent_name)?;
            let expected = child.descriptor.parent_cid.unwrap_or(u32::MAX);
            if expected != parent.descriptor.cid {
                return Err(VmdkError::StaleParent {
                    child: child.name.clone(),
                    parent: parent.name,
                    expected,
                    found: parent.descriptor.cid,
                });
            }
            layers.push(parent);
        }
        Ok(Self { layers })
    }

    /// The layers, newest first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The layer that the VM writes to.
    pub fn top(&self) -> Option<&Layer> {
        self.layers.first()
    }

    /// The layer that everything stands on.
    pub fn base(&self) -> Option<&Layer> {
        self.layers.last()
    }

    /// The same disk as it was when its newest snapshot was taken; nothing when it has none.
    pub fn frozen(&self) -> Option<Self> {
        let (_, below) = self.layers.split_first()?;
        (!below.is_empty()).then(|| Self { layers: below.to_vec() })
    }

    /// The size in bytes.
    pub fn capacity(&self) -> u64 {
        self.top().map_or(0, |it| it.descriptor.capacity())
    }
}
