//! Whether a key is the one that the catalogue's secrets were sealed with.

use hub_ports::StoreError;
use hub_vm_disk_repo::store_error;
use sea_orm::{ConnectionTrait, EntityTrait, QuerySelect as _, Select};

use super::rows::{PASSWORD, TOKEN};
use crate::entity::{credential, vma_node};
use crate::secret::{Sealer, is_sealed};

/// What became of the stored secrets with one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// They open.
    pub opened: usize,
    /// They look sealed, and do not open.
    pub refused: usize,
}

/// Tries every secret of the catalogue.
pub(crate) async fn secrets(
    db: &impl ConnectionTrait,
    sealer: &Sealer,
) -> Result<Secrets, StoreError> {
    use {credential::Column as Login, vma_node::Column as Vma};
    let logins = credential::Entity::find().select_only();
    let logins = logins.columns([Login::Id, Login::PasswordEncrypted]);
    let vmas = vma_node::Entity::find().select_only().columns([Vma::Id, Vma::TokenEncrypted]);
    let mut found = Secrets::default();
    for (column, sealed) in [(PASSWORD, of(db, logins).await?), (TOKEN, of(db, vmas).await?)] {
        for (row, secret) in sealed {
            match sealer.open(&secret, column, &row) {
                Ok(_) => found.opened += 1,
                Err(_) if is_sealed(&secret) => found.refused += 1,
                Err(_) => (),
            }
        }
    }
    Ok(found)
}

/// The keys and secrets of a table; what is no text is no secret.
async fn of<E: EntityTrait>(
    db: &impl ConnectionTrait,
    query: Select<E>,
) -> Result<Vec<(String, String)>, StoreError> {
    let rows = db.query_all(sea_orm::QueryTrait::as_query(&query)).await.map_err(store_error)?;
    let texts = rows
        .iter()
        .map(|row| Ok::<_, sea_orm::DbErr>((row.try_get_by_index(0)?, row.try_get_by_index(1)?)));
    Ok(texts.flatten().collect())
}
