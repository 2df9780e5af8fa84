//! Which VMA reads a VM, by what the catalogue says of both; and what a VMA was found to read.

use hub_domain::access::{Credential, VmaNode};
use hub_domain::ids::VmaNodeId;
use hub_domain::reader_choice::{NoReader, SourceName, choose_reader, login_at, readers, stand_in};
use hub_domain::remarks::Warning;
use hub_domain::vm::VmContext;

use super::{Row, Unreadable, all_readable, readable};
use crate::{Catalogue, SourceError, SourceNode, Store, StoreError, retry_conflicts, told};

/// The VMA that a VM is read through now, as [`choose_reader`] says.
pub async fn reader(
    catalogue: &mut dyn Catalogue,
    vm: &VmContext,
) -> Result<Result<VmaNode, NoReader>, StoreError> {
    let nodes = known(catalogue.vma_nodes().await?, [vm.vma_node, None])?;
    Ok(choose_reader(vm, &nodes).cloned())
}

/// A login as a VMA is given it, by what is known of the vCenters and hosts behind their addresses. Where nobody knows
/// them to be one it stays as it is, and the VMA refuses it.
pub async fn login_through(
    catalogue: &mut dyn Catalogue,
    login: Credential,
    node: &VmaNode,
    vm: Option<&VmContext>,
) -> Result<Credential, StoreError> {
    if let Some(same) = login_at(&login, node, &[], None) {
        return Ok(same);
    }
    let nodes = readable(catalogue.vma_nodes().await?);
    Ok(login_at(&login, node, &nodes, vm).unwrap_or(login))
}

/// The VMA that a VM is read through, after those were asked that could be.
#[derive(Clone, Debug)]
pub struct Reader {
    /// Which.
    pub node: VmaNode,
    /// Why it is another one than the VM's own; nothing for an attempt that goes where the one before it went.
    pub stands_in: Option<Warning>,
}

/// The VMA that a VM is read through now: the first of its [`readers`] that answers, and where nobody does, the first of
/// all. Where there is no other to take its place, nobody is asked.
///
/// `ordered` is the VMA that an order of this run may have reached already. Nothing is remembered: whoever orders a copy
/// has to store which VMA it is, before.
pub async fn answering_reader(
    store: &dyn Store,
    source: &dyn SourceNode,
    vm: &VmContext,
    ordered: Option<VmaNodeId>,
) -> Result<Result<Reader, NoReader>, StoreError> {
    let mut view = store.view().await?;
    let nodes = known(view.vma_nodes().await?, [vm.vma_node, ordered])?;
    let login = match vm.credential {
        Some(id) if nodes.len() > 1 => view.credential(id).await?,
        Some(_) | None => None,
    };
    drop(view);
    let readers = match readers(vm, login.as_ref(), &nodes, ordered) {
        Ok(readers) => readers,
        Err(none) => return Ok(Err(none)),
    };
    let (mut chosen, mut silent, mut first_silence) = (None, Vec::new(), None);
    while let Some(node) = readers.next(&silent).filter(|_| readers.is_choice()) {
        match source.answers(node).await {
            Ok(()) => {
                chosen = Some(node);
                break;
            }
            Err(error) => {
                tracing::info!(vma.name = %node.name, error = %told(&error), "a VMA that could read a VM does not answer");
                first_silence.get_or_insert_with(|| in_short(&error));
                silent.push(node.id);
            }
        }
    }
    let node = chosen.unwrap_or_else(|| readers.first());
    let own = vm.vma_node.filter(|own| silent.contains(own));
    let stands_in = if ordered == Some(node.id) {
        None
    } else {
        stand_in(vm, &nodes, node, own.and(first_silence.as_deref())).map(Warning::other_vma)
    };
    Ok(Ok(Reader { node: node.clone(), stands_in }))
}

/// The VMAs that can be read. Where one of those that are needed cannot, nobody takes its place: it is not gone, and what
/// it was ordered is not known to be over.
pub(crate) fn known(
    rows: Vec<Row<VmaNode>>,
    needed: [Option<VmaNodeId>; 2],
) -> Result<Vec<VmaNode>, StoreError> {
    let is_needed = |row: &Unreadable| {
        needed.into_iter().flatten().any(|needed| row.id.is_empty() || row.id == needed.to_string())
    };
    let kept = rows.into_iter().filter(|row| row.as_ref().err().is_none_or(is_needed));
    all_readable(kept.collect())
}

/// What a VMA did instead of answering, without what to do about it.
fn in_short(error: &SourceError) -> String {
    if let SourceError::Unreachable { detail, .. } = error {
        return detail.clone();
    }
    error.to_string()
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
