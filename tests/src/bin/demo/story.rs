//! The acts in their order.

mod inventory;
mod protection;
mod recovery;

pub(crate) use protection::show;

use anyhow::Result;
use serde_json::Value;

use crate::ledger::Ledger;
use crate::screen::Screen;
use crate::stage::Stage;

/// A VM under management.
pub(crate) struct Managed {
    /// Its name.
    pub(crate) name: String,
    /// Its context.
    pub(crate) context_id: String,
    /// Its disk rows as they were when it was added.
    pub(crate) rows: Vec<Value>,
    /// Its restore points, oldest first, each one backup per disk.
    pub(crate) runs: Vec<Vec<Value>>,
}

/// Tells the whole story.
pub(crate) async fn tell(stage: &mut Stage, screen: &mut Screen) -> Result<Ledger> {
    let mut ledger = Ledger::default();
    inventory::register(stage, screen).await?;
    inventory::discover(stage, screen).await?;
    let mut managed = inventory::add(stage, screen).await?;
    protection::replicate(stage, screen, &managed, &mut ledger).await?;
    protection::back_up(stage, screen, &mut managed, "full", &mut ledger).await?;
    let before = recovery::source_digests(stage, screen, "digest")?;
    protection::change(stage, screen)?;
    protection::back_up(stage, screen, &mut managed, "incremental", &mut ledger).await?;
    protection::chains(stage, screen, &managed).await?;
    recovery::verify(stage, screen, &managed, &mut ledger).await?;
    recovery::restore(stage, screen, &managed, &mut ledger).await?;
    let now = recovery::source_digests(stage, screen, "digest again")?;
    recovery::export(stage, screen, &managed, [&before, &now], &mut ledger).await?;
    Ok(ledger)
}
