//! Change ids of a folder: marks that name the exact state of a layer and of everything it stands on.

use blake3::Hasher;

use crate::vmdk::{Chain, FileState, Layer};

/// Tells these marks from those of other sources and of later formats.
const PREFIX: &str = "folder-v1:";

/// What an earlier mark means for the chain as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// The marked state lies this many layers below the one that is read; 0 is the same.
    Below(u32),
    /// It cannot be found, and why.
    Unknown(&'static str),
}

/// The mark of the layer that a chain is read at.
pub(super) fn mark(chain: &Chain) -> Option<String> {
    marks(chain).into_iter().next()
}

/// Finds an earlier mark in a chain.
pub(super) fn since(chain: &Chain, earlier: &str) -> Since {
    if !earlier.starts_with(PREFIX) {
        return Since::Unknown("the change id is not one of a datastore folder");
    }
    let Some(depth) = marks(chain).iter().position(|it| it == earlier) else {
        return Since::Unknown(
            "the layer that was copied last is not in the snapshot chain any more, or was written to since",
        );
    };
    let old = chain.layers().get(depth).map(|it| it.descriptor.capacity());
    if old != Some(chain.capacity()) {
        return Since::Unknown("the size of the disk has changed since the last copy");
    }
    u32::try_from(depth).map_or(Since::Unknown("the chain is too deep"), Since::Below)
}

/// The marks of all layers, newest first; each covers the layers below it too.
fn marks(chain: &Chain) -> Vec<String> {
    let mut below = [0; 32];
    let mut marks: Vec<String> = Vec::with_capacity(chain.layers().len());
    for layer in chain.layers().iter().rev() {
        below = *layer_state(layer).update(&below).finalize().as_bytes();
        marks.push(format!("{PREFIX}{}", hex::encode(below)));
    }
    marks.reverse();
    marks
}

/// Names, content id, lengths, times and inodes of a layer's files, each with its length before it.
fn layer_state(layer: &Layer) -> Hasher {
    let mut hasher = Hasher::new();
    let mut add = |name: &str, state: &FileState| {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&state.len.to_le_bytes());
        hasher.update(&state.modified.0.to_le_bytes());
        hasher.update(&state.modified.1.to_le_bytes());
        hasher.update(&state.changed.0.to_le_bytes());
        hasher.update(&state.changed.1.to_le_bytes());
        hasher.update(&state.inode.to_le_bytes());
    };
    add(&layer.name, &layer.state);
    for extent in &layer.extents {
        add(&extent.name, &extent.state);
    }
    hasher.update(&layer.descriptor.cid.to_le_bytes());
    hasher
}
