//! Copy orders to the wire, copy reports from it; nothing of a report is believed that is out of bounds.

use std::collections::BTreeSet;
use std::time::Duration;

use hub_domain::audit::{Audited, Lie};
use hub_domain::disk::DiskKey;
use hub_domain::fault::Fault;
use hub_domain::limits::ByteRate;
use hub_domain::source::{
    CopyBytes, CopyMethod, CopyPhase, CopyStatus, DiskCopyStatus, NbdAddress, ParentTable,
    Quiescence, ReadBy,
};
use hub_ports::CopyOrder;
use hub_vma_api as wire;

use crate::inventory::credentials_to_wire;
use crate::transport::shortened;

/// Most disks that one report may name; vSphere allows a VM 256.
const MAX_DISKS: usize = 1024;

/// Largest counter that is believed, so that sums over a job stay inside a signed 64-bit integer.
const MAX_COUNTER: u64 = 1 << 52;

/// Characters in a change mark, as many as a text of the catalogue has; ours are some hundred.
const MAX_CHANGE_ID: usize = 255;

/// A copy order as it travels.
pub(crate) fn order_to_wire(order: &CopyOrder) -> wire::CopyRequest {
    let disks = order.disks.iter().map(|disk| wire::CopyDisk {
        key: disk.key.as_str().to_owned(),
        capacity_bytes: disk.capacity.bytes(),
        backing_uuid: disk.backing_uuid.clone(),
        target: target(&disk.target.address),
        method: match &disk.method {
            CopyMethod::Full => wire::CopyMethod::Full,
            CopyMethod::ChangedSince { change_id } => {
                wire::CopyMethod::ChangedSince { change_id: change_id.clone() }
            }
            CopyMethod::ByDigest => wire::CopyMethod::ByDigest,
        },
        block_size: disk.target.block_size,
        parent: disk.target.parent.as_ref().map(|it| manifest(it, disk.target.block_size)),
        audit: disk
            .audit
            .map(|audit| wire::AuditOrder { runs: audit.runs.get(), from: audit.from }),
        chain_audit: disk.chain_audit.as_ref().map(|audit| wire::ChainAudit {
            change_id: audit.change_id.clone(),
            point: manifest(&audit.table, disk.target.block_size),
            from: audit.from,
        }),
    });
    wire::CopyRequest {
        job_id: order.job.clone(),
        vm_id: order.vm.clone(),
        vcenter_uuid: order.vcenter_uuid.clone(),
        credentials: order.credential.as_ref().map(credentials_to_wire),
        disks: disks.collect(),
        quiesce: order.quiesce,
        rates: wire::CopyRates {
            job: order.rates.job.map(ByteRate::bytes_per_second),
            vma: order.rates.vma.map(ByteRate::bytes_per_second),
            read: Some(wire::RateReading {
                epoch: order.rates.read.epoch,
                number: order.rates.read.number,
            }),
        },
    }
}

/// A report as the hub believes it, or what is wrong with it.
pub(crate) fn status_from_wire(report: wire::CopyReport) -> Result<CopyStatus, String> {
    if report.disks.len() > MAX_DISKS {
        return Err(format!("its report names more than {MAX_DISKS} disks"));
    }
    let mut keys = BTreeSet::new();
    let mut disks = Vec::with_capacity(report.disks.len());
    for disk in report.disks {
        let disk = disk_from_wire(disk)?;
        if !keys.insert(disk.key.clone()) {
            return Err(format!("its report names disk {} twice", disk.key));
        }
        disks.push(disk);
    }
    let phase = phase(report.state);
    let left = report.snapshot.as_ref().map(|it| it.state.as_str());
    Ok(CopyStatus {
        phase,
        waiting: report.waiting.as_deref().filter(|_| !phase.is_terminal()).map(shortened),
        disks,
        fault: report.error.map(fault),
        quiescence: report.snapshot.as_ref().and_then(quiescence),
        // Without a word about it there may be one; a word that is new to this hub says nothing, either.
        snapshot_is_gone: phase.is_terminal() && matches!(left, Some("none" | "removed")),
    })
}

fn disk_from_wire(disk: wire::DiskReport) -> Result<DiskCopyStatus, String> {
    let key = DiskKey::new(&disk.key).map_err(|error| format!("its report: {error}"))?;
    let counters = [
        disk.bytes_total,
        disk.bytes_done,
        disk.bytes_read,
        disk.bytes_sent,
        disk.bytes_sent_again,
        disk.reconnects,
    ];
    if counters.into_iter().any(|counter| counter > MAX_COUNTER) {
        return Err(format!("the counters of disk {key} are beyond reason"));
    }
    if disk.source_root.as_deref().is_some_and(|root| !is_digest(root)) {
        return Err(format!("the root digest of disk {key} is no digest"));
    }
    if !["full", "changed_since", "by_digest"].contains(&disk.method.as_str()) {
        return Err(format!("the method of disk {key} is unknown to this hub"));
    }
    let audit = disk.audit.map(|it| audit(&key, it)).transpose()?;
    let phase = phase(disk.state);
    let lied = matches!(&audit, Some((_, Some(_))));
    if phase == CopyPhase::Succeeded && lied && disk.method == CopyMethod::CHANGED_SINCE {
        return Err(format!("disk {key} relies on what it has found to be untrue"));
    }
    if phase == CopyPhase::Succeeded && disk.source_root.is_none() {
        return Err(format!("disk {key} succeeded without a root digest"));
    }
    Ok(DiskCopyStatus {
        key,
        phase,
        method: disk.method,
        method_reason: disk.method_reason.as_deref().map(shortened),
        read_by: disk.reader.filter(|it| !it.is_empty()).map(|reader| ReadBy {
            reader: word(&reader),
            reason: disk.reader_reason.as_deref().map(shortened),
        }),
        bytes: CopyBytes {
            total: disk.bytes_total,
            done: disk.bytes_done,
            read: disk.bytes_read,
            sent: disk.bytes_sent,
            again: disk.bytes_sent_again,
            reconnects: disk.reconnects,
        },
        held_back: Duration::from_millis(disk.held_back_ms.min(MAX_COUNTER)),
        audit,
        // Without a mark that can be stored the next copy compares by digest; this one is good all the same.
        change_id: disk.change_id.filter(|it| is_storable(it)),
        source_root: disk.source_root,
        fault: disk.error.map(fault),
    })
}

/// Whether a change mark can be kept as it is.
fn is_storable(mark: &str) -> bool {
    mark.chars().count() <= MAX_CHANGE_ID && !mark.contains('\0')
}

/// What an audit has found; kept short, since it is stored with every point of a chain.
fn audit(key: &DiskKey, report: wire::AuditReport) -> Result<(Audited, Option<Lie>), String> {
    let wire::AuditReport { blocks, bytes, next, lie } = report;
    let places = lie.as_ref().map_or([0, 1], |lie| [lie.offset, lie.blocks]);
    if [blocks, bytes, next].into_iter().chain(places).any(|counter| counter > MAX_COUNTER) {
        return Err(format!("the audit of disk {key} is beyond reason"));
    }
    if lie.iter().any(|it| it.blocks == 0 || !is_digest(&it.expected) || !is_digest(&it.found)) {
        return Err(format!("what the audit of disk {key} has found is no change"));
    }
    let lie = lie.map(|wire::Lie { offset, blocks, expected, found }| Lie {
        offset,
        blocks,
        expected,
        found,
    });
    Ok((Audited { blocks, bytes, next }, lie))
}

/// Whether the guest came to rest; a reason beside a guest that did is none.
fn quiescence(snapshot: &wire::SnapshotReport) -> Option<Quiescence> {
    let quiesced = snapshot.quiesced?;
    let reason = snapshot.quiesce_reason.as_deref().filter(|_| !quiesced).map(shortened);
    Some(Quiescence { quiesced, reason })
}

fn phase(state: wire::CopyState) -> CopyPhase {
    match state {
        wire::CopyState::Queued => CopyPhase::Queued,
        wire::CopyState::Running => CopyPhase::Running,
        wire::CopyState::Succeeded => CopyPhase::Succeeded,
        wire::CopyState::Failed => CopyPhase::Failed,
        wire::CopyState::Cancelled => CopyPhase::Cancelled,
    }
}

pub(crate) fn fault(fault: wire::Fault) -> Fault {
    Fault::new(word(&fault.code), shortened(&fault.detail))
}

/// A word of somebody else's, as much of it as is kept.
fn word(text: &str) -> String {
    shortened(text).chars().take(100).collect()
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

fn manifest(table: &ParentTable, block_size: u32) -> wire::ParentManifest {
    wire::ParentManifest {
        target: target(&table.address),
        block_size,
        capacity_bytes: table.capacity.bytes(),
        root: table.root.clone(),
    }
}

fn target(address: &NbdAddress) -> wire::NbdTarget {
    wire::NbdTarget {
        host: address.host.clone(),
        port: address.port,
        export: address.export.clone(),
        tls: address.tls.as_ref().map(|tls| wire::NbdTls {
            server_name: tls.server_name.clone(),
            authority: tls.authority.clone(),
        }),
    }
}

#[cfg(test)]
mod tests;
