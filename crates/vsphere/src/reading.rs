//! Any bytes, read as the answer to every question that is asked; what fuzzers and property tests call.

use roxmltree::Document;

use crate::about::ServiceContent;
use crate::areas::AreaPlanner;
use crate::inventory;
use crate::property::{Object, decode_batch};
use crate::soap::{self, NoResult};
use crate::{snapshot, task};

/// Reads bytes as every kind of answer, and says how many of the kinds they are.
///
/// Capacities at the edges of what a planner computes with are planned with, too.
pub fn answers_in(bytes: &[u8]) -> usize {
    let Ok(text) = std::str::from_utf8(bytes) else { return 0 };
    let Ok(document) = soap::parse(text) else { return 0 };
    [
        response(&document, "RetrieveServiceContent", |it| ServiceContent::decode(it).map(drop)),
        response(&document, "CreateSnapshot_Task", |it| task::begun(it).map(drop)),
        response(&document, "QueryChangedDiskAreas", |it| {
            let page = snapshot::decode_page(it)?;
            let told = u64::try_from(page.length).unwrap_or_default();
            for capacity in [told, 1, 512, 1 << 40, u64::MAX] {
                let mut planner = AreaPlanner::new(capacity);
                let taken = planner.take(&page);
                // What is told at the end lies in order within the disk, whatever was said before.
                if let (Ok(_), Ok(areas)) = (taken, planner.finish()) {
                    let ordered = areas.is_sorted_by(|one, next| one.end < next.start);
                    let inside = areas.iter().all(|it| it.start < it.end && it.end <= capacity);
                    assert!(ordered && inside, "{areas:?} of {capacity}");
                }
            }
            Ok(())
        }),
        objects(&document, |it| {
            inventory::read(it);
            Ok(())
        }),
        objects(&document, |it| task::decode(it).map(drop)),
        objects(&document, |it| snapshot::decode_disks(it).map(drop)),
    ]
    .into_iter()
    .filter(|it| *it)
    .count()
}

fn response(
    document: &Document<'_>,
    method: &str,
    decode: impl Fn(roxmltree::Node<'_, '_>) -> Result<(), NoResult>,
) -> bool {
    soap::response(document, method).and_then(decode).is_ok()
}

fn objects(
    document: &Document<'_>,
    decode: impl Fn(&Object<'_, '_>) -> Result<(), NoResult>,
) -> bool {
    response(document, "RetrievePropertiesEx", |it| decode_batch(it, &decode).map(drop))
}
