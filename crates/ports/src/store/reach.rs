//! Which VMA reads a VM, by what the catalogue says of both; and what a VMA was found to read.

use hub_domain::access::VmaNode;
use hub_domain::ids::VmaNodeId;
use hub_domain::reader_choice::{NoReader, SourceName, choose_reader};
use hub_domain::vm::VmContext;

use crate::{Catalogue, Store, StoreError, retry_conflicts};

/// The VMA that a VM is read through now, as [`choose_reader`] says.
pub async fn reader(
    catalogue: &mut dyn Catalogue,
    vm: &VmContext,
) -> Result<Result<VmaNode, NoReader>, StoreError> {
    let nodes = catalogue.vma_nodes().await?;
    Ok(choose_reader(vm, &nodes).cloned())
}

/// Keeps in mind what a VMA was found to read; writes nothing where that is known already.
pub async fn note_source(
    store: &dyn Store,
    node: VmaNodeId,
    found: &SourceName,
) -> Result<(), StoreError> {
    let noted = |known: &SourceName| {
        let known = known.clone().at(found.host.clone());
        SourceName { uuid: found.uuid.clone().or(known.uuid), host: known.host }
    };
    let known = store.view().await?.vma_node(node).await?;
    if known.is_none_or(|it| noted(&it.source) == it.source) {
        return Ok(());
    }
    retry_conflicts(|| async {
        let mut work = store.begin().await?;
        let Some(known) = work.vma_node(node).await? else { return Ok(()) };
        work.note_vma_source(node, &noted(&known.source)).await?;
        work.commit().await
    })
    .await
}
