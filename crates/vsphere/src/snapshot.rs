//! Snapshots and change tracking.

use roxmltree::Node;

use crate::areas::{AreaPage, AreaPlanner, BadAreas};
use crate::client::Client;
use crate::element::Element as _;
use crate::error::VsphereError;
use crate::inventory::{Disk, disks_of};
use crate::moref::MoRef;
use crate::property::{Object, references};
use crate::soap::{NoResult, Request};
use crate::task::{QuiesceFailed, begun};

/// Recent tasks of one VM; a server keeps a few.
const MAX_TASKS: usize = 1000;

impl Client {
    /// Takes a snapshot without memory, and answers its reference.
    ///
    /// Sent once: when the answer is lost, a snapshot of that name may exist all the same.
    pub async fn create_snapshot(
        &self,
        vm: &MoRef,
        name: &str,
        description: &str,
        quiesce: bool,
    ) -> Result<MoRef, VsphereError> {
        let method = "CreateSnapshot_Task";
        let request = Request::once(method, vm)
            .text("name", name)
            .text("description", description)
            .text("memory", "false")
            .text("quiesce", if quiesce { "true" } else { "false" });
        let task = self.call(&request, begun).await?;
        let snapshot = self.await_task(&task, method).await?;
        let detail = "the task names no snapshot".to_owned();
        snapshot.ok_or(VsphereError::Garbled { method, detail })
    }

    /// Takes a quiesced snapshot, or one of the running guest where the guest does not come to rest.
    pub async fn create_quiesced_snapshot(
        &self,
        vm: &MoRef,
        name: &str,
        description: &str,
    ) -> Result<(MoRef, Option<QuiesceFailed>), VsphereError> {
        match self.create_snapshot(vm, name, description, true).await {
            Err(VsphereError::Fault { fault, .. }) if fault.is_quiesce() => {
                let why = QuiesceFailed(fault.to_string());
                let taken = self.create_snapshot(vm, name, description, false).await?;
                Ok((taken, Some(why)))
            }
            taken => taken.map(|it| (it, None)),
        }
    }

    /// Removes one snapshot, keeps what stands on it, and waits until the disks are consolidated.
    ///
    /// A snapshot that does not exist is removed already.
    pub async fn remove_snapshot(&self, snapshot: &MoRef) -> Result<(), VsphereError> {
        let method = "RemoveSnapshot_Task";
        let request = Request::once(method, snapshot)
            .text("removeChildren", "false")
            .text("consolidate", "true");
        let removed = match self.call(&request, begun).await {
            Ok(task) => self.await_task(&task, method).await.map(drop),
            Err(error) => Err(error),
        };
        match removed {
            // It may be the task that is not known any more, after a restart of the server.
            Err(VsphereError::NotFound(gone)) if self.is_there(snapshot).await? => {
                Err(VsphereError::NotFound(gone))
            }
            Err(VsphereError::NotFound(_)) => Ok(()),
            ended => ended,
        }
    }

    async fn is_there(&self, snapshot: &MoRef) -> Result<bool, VsphereError> {
        self.properties_of(snapshot, &["vm"], |_| Ok(())).await.map(|it| it.is_some())
    }

    /// Whether a snapshot of a VM is being taken at this moment, by whomever.
    pub async fn is_taking_snapshot(&self, vm: &MoRef) -> Result<bool, VsphereError> {
        let tasks = self.properties_of(vm, &["recentTask"], |it| {
            it.readable()?;
            references(it.value("recentTask"), MAX_TASKS)
        });
        let tasks = tasks.await?.unwrap_or_default();
        let busy = self.properties("Task", &tasks, &["info.descriptionId", "info.state"], |it| {
            it.readable()?;
            let kind = it.text("info.descriptionId").unwrap_or_default();
            let ended = matches!(it.text("info.state").as_deref(), Some("success" | "error"));
            Ok(kind.ends_with(".createSnapshot") && !ended)
        });
        Ok(busy.await?.into_iter().any(|it| it))
    }

    /// Switches change tracking on; it takes effect at the next snapshot, power-on or migration.
    pub async fn enable_change_tracking(&self, vm: &MoRef) -> Result<(), VsphereError> {
        self.track_changes(vm, true).await
    }

    /// Switches change tracking off; every change id of the VM is worth nothing then.
    pub async fn disable_change_tracking(&self, vm: &MoRef) -> Result<(), VsphereError> {
        self.track_changes(vm, false).await
    }

    async fn track_changes(&self, vm: &MoRef, wanted: bool) -> Result<(), VsphereError> {
        let method = "ReconfigVM_Task";
        let spec = format!("<spec><changeTrackingEnabled>{wanted}</changeTrackingEnabled></spec>");
        let task = self.call(&Request::once(method, vm).xml(&spec), begun).await?;
        self.await_task(&task, method).await.map(drop)
    }

    /// The disks of a snapshot, with the change ids that count for it; none where it is gone.
    pub async fn snapshot_disks(
        &self,
        snapshot: &MoRef,
    ) -> Result<Option<Vec<Disk>>, VsphereError> {
        self.properties_of(snapshot, &["config.hardware.device"], decode_disks).await
    }

    /// What changed on a disk between `change_id` and a snapshot: in order, without overlaps.
    ///
    /// Every answer is checked; one that makes no sense is an error, and the caller reads the whole disk.
    /// All answers together have [`ClientOptions::areas`](crate::ClientOptions::areas) to come.
    pub async fn changed_areas(
        &self,
        vm: &MoRef,
        snapshot: &MoRef,
        disk: &Disk,
        change_id: &str,
    ) -> Result<Result<Vec<std::ops::Range<u64>>, BadAreas>, VsphereError> {
        let within = self.options().areas;
        let asked = self.ask_for_areas(vm, snapshot, disk, change_id);
        tokio::time::timeout(within, asked).await.unwrap_or(Ok(Err(BadAreas::TooSlow(within))))
    }

    async fn ask_for_areas(
        &self,
        vm: &MoRef,
        snapshot: &MoRef,
        disk: &Disk,
        change_id: &str,
    ) -> Result<Result<Vec<std::ops::Range<u64>>, BadAreas>, VsphereError> {
        let mut planner = AreaPlanner::new(disk.capacity_bytes);
        while let Some(start) = planner.next_start() {
            let request = Request::read("QueryChangedDiskAreas", vm)
                .moref("snapshot", snapshot)
                .text("deviceKey", &disk.key.to_string())
                .text("startOffset", &start.to_string())
                .text("changeId", change_id);
            let page = self.call(&request, decode_page).await?;
            if let Err(bad) = planner.take(&page) {
                return Ok(Err(bad));
            }
        }
        Ok(planner.finish())
    }
}

/// Decodes the disks among the devices of a snapshot.
pub(crate) fn decode_disks(snapshot: &Object<'_, '_>) -> Result<Vec<Disk>, NoResult> {
    disks_of(snapshot.value("config.hardware.device")).map_err(NoResult::Garbled)
}

/// Decodes a `DiskChangeInfo`; what it says is judged by the planner.
pub(crate) fn decode_page(response: Node<'_, '_>) -> Result<AreaPage, NoResult> {
    let mut said = response.children_named("returnval");
    let info = said.next().ok_or_else(|| NoResult::garbled("it says nothing about changes"))?;
    // What the second one says may be just what the first one leaves out.
    if said.next().is_some() {
        return Err(NoResult::garbled("it says twice what has changed"));
    }
    let number = |node: Node<'_, '_>, name: &str| {
        only_number(node, name).ok_or_else(|| NoResult::Garbled(format!("{name} is no number")))
    };
    let area = |it: Node<'_, '_>| Ok((number(it, "start")?, number(it, "length")?));
    Ok(AreaPage {
        start: number(info, "startOffset")?,
        length: number(info, "length")?,
        areas: info.children_named("changedArea").map(area).collect::<Result<_, NoResult>>()?,
    })
}

/// A number that stands there once and whole: half of one would be a smaller one.
fn only_number(node: Node<'_, '_>, name: &str) -> Option<i64> {
    let mut all = node.children_named(name);
    let (only, second) = (all.next()?, all.next());
    let whole = second.is_none() && only.children().count() == 1;
    only.text().filter(|_| whole)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soap;

    #[test]
    fn an_answer_about_changes_is_decoded_as_it_came() {
        let xml = "<e:Envelope xmlns:e=\"http://schemas.xmlsoap.org/soap/envelope/\"><e:Body><QueryChangedDiskAreasResponse xmlns=\"urn:vim25\"><returnval><startOffset>0</startOffset><length>524288</length><changedArea><start>65536</start><length>131072</length></changedArea><changedArea><start>-1</start><length>9</length></changedArea></returnval></QueryChangedDiskAreasResponse></e:Body></e:Envelope>";
        let document = soap::parse(xml).unwrap();
        let page =
            decode_page(soap::response(&document, "QueryChangedDiskAreas").unwrap()).unwrap();
        let areas = vec![(65536, 131_072), (-1, 9)];
        assert_eq!(page, AreaPage { start: 0, length: 524_288, areas });
        let twice = xml.replace("</returnval>", "</returnval><returnval/>");
        let document = soap::parse(&twice).unwrap();
        assert!(decode_page(soap::response(&document, "QueryChangedDiskAreas").unwrap()).is_err());
        let doubled = "9</length><length>1";
        for bad in ["many", "", "52<!-- -->4288", "5<b/>", "1.5", "99999999999999999999", doubled] {
            let bad = xml.replace("524288", bad);
            let document = soap::parse(&bad).unwrap();
            let response = soap::response(&document, "QueryChangedDiskAreas").unwrap();
            assert!(decode_page(response).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_task_that_cannot_be_read_is_not_one_that_has_ended() {
        let answer = |properties: &str| {
            let xml = format!(
                "<e:Envelope xmlns:e=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\"><e:Body><RetrievePropertiesExResponse xmlns=\"urn:vim25\"><returnval><objects><obj type=\"Task\">task-1</obj>{properties}</objects></returnval></RetrievePropertiesExResponse></e:Body></e:Envelope>"
            );
            let document = soap::parse(&xml).unwrap();
            let response = soap::response(&document, "RetrievePropertiesEx").unwrap();
            crate::property::decode_batch(response, &|it| it.readable()).map(drop)
        };
        answer("").unwrap();
        let refused = "<missingSet><path>info.state</path><fault><fault i:type=\"NoPermission\"/></fault></missingSet>";
        assert!(matches!(answer(refused), Err(NoResult::Fault(_))));
    }
}
