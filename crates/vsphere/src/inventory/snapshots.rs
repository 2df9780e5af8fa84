//! Snapshots of a VM.

use roxmltree::Node;

use crate::element::Element as _;
use crate::moref::MoRef;

/// Snapshots may stand on each other 32 deep; more is no tree of a real server.
const MAX_DEPTH: usize = 64;

/// One snapshot, and those that stand on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotNode {
    /// Its reference.
    pub moref: MoRef,
    /// Its name; not unique.
    pub name: String,
    /// When it was taken, as the server spells it (RFC 3339).
    pub created: Option<String>,
    /// Whether the guest was brought to rest.
    pub quiesced: bool,
    /// Those that stand on it.
    pub children: Vec<Self>,
}

impl SnapshotNode {
    /// This snapshot and all that stand on it.
    pub fn all(&self) -> Vec<&Self> {
        let mut all = vec![self];
        let mut next = 0;
        while let Some(node) = all.get(next).copied() {
            all.extend(&node.children);
            next += 1;
        }
        all
    }
}

/// The trees in a VM's `snapshot` property.
pub(super) fn trees_of(snapshot: Option<Node<'_, '_>>) -> Vec<SnapshotNode> {
    let roots = snapshot.into_iter().flat_map(|it| it.children_named("rootSnapshotList"));
    roots.filter_map(|it| decode(it, 0)).collect()
}

fn decode(node: Node<'_, '_>, depth: usize) -> Option<SnapshotNode> {
    if depth > MAX_DEPTH {
        return None;
    }
    let children = node.children_named("childSnapshotList");
    Some(SnapshotNode {
        moref: node.moref_of("snapshot")?,
        name: node.text_of("name").unwrap_or_default(),
        created: node.text_of("createTime"),
        quiesced: node.flag_of("quiesced").unwrap_or(false),
        children: children.filter_map(|it| decode(it, depth + 1)).collect(),
    })
}
