//! Targets that go on: what an earlier attempt at an image has brought is offered again, with digests that prove it.

use hub_domain::capacity::Capacity;
use hub_domain::source::PreparedTarget;
use hub_ports::{StorageError, told};

use crate::failure::unusable;
use crate::hub_storage::HubStorage;
use crate::layout::ImageFiles;
use crate::target::{self, NewTarget, OpenTarget, Parent};

/// Takes what this process still has open of an image, or says why it cannot go on with it.
///
/// The earlier attempt's exports are closed first and its writes awaited, so that nothing of an older instant can
/// arrive any more. Nothing is believed of what it sent: the digests offered are those of what the image holds, and
/// every block is compared with the new source.
pub(crate) async fn take_up(
    storage: &HubStorage,
    files: &ImageFiles,
    relative: &str,
    capacity: Capacity,
) -> Option<PreparedTarget> {
    let open = storage.release_image(&files.image)?;
    match offer_again(storage, relative, capacity, open).await {
        Ok(target) => Some(target),
        Err(error) => {
            tracing::warn!(
                image = %files.image.display(), error = %told(&error),
                "an unfinished image cannot be gone on with and begins anew"
            );
            None
        }
    }
}

async fn offer_again(
    storage: &HubStorage,
    relative: &str,
    capacity: Capacity,
    open: OpenTarget,
) -> Result<PreparedTarget, StorageError> {
    let settled = open.settle().await?;
    let table = settled.manifest.table();
    if table.capacity() != capacity.bytes() {
        return Err(unusable(&settled.files.image, "the disk has another size now"));
    }
    let block_size = table.block_size();
    let new = NewTarget {
        parent: Some(Parent { table, root: settled.root, capacity }),
        parent_root: settled.parent_root,
        kept: Some(settled.brought),
        files: settled.files,
        image: settled.image,
        manifest: settled.manifest,
        unfinished: settled.unfinished,
        reservation: settled.reservation,
    };
    target::open(storage, new, relative.to_owned(), block_size, None)
}
