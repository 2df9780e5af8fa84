//! One backup: shown, and removed with its image.

use actix_web::web;
use hub_domain::backup::BackupJob;
use hub_ports::Catalogue;

use super::view::BackupView;
use crate::answer::{Answer, Response, State, gone, id};
use crate::problem::Problem;
use crate::waiting::Line;

const NOT_FOUND: &str = "backup/not-found";

/// One backup.
#[utoipa::path(get, path = "/api/v1/backups/{id}", tag = "backups",
    params(("id" = Uuid, Path)), responses((status = 200, body = BackupView)))]
pub(crate) async fn show(state: State, of: web::Path<String>) -> Answer<BackupView> {
    let found = state.ask(|hub| async move {
        let job = find(hub.store.view().await?.as_mut(), &of).await?;
        Ok(BackupView::of(&job, &Line::of(&hub)))
    });
    found.await.map(web::Json)
}

/// Removes a backup on which nothing stands, image and manifest first; answers when they are gone.
#[utoipa::path(delete, path = "/api/v1/backups/{id}", tag = "backups",
    params(("id" = Uuid, Path)), responses((status = 204)))]
pub(crate) async fn remove(state: State, of: web::Path<String>) -> Response {
    let removed = state.carry_out(|hub| async move {
        let point = id(&of, NOT_FOUND, "backup")?;
        // Whoever reads it now would be left with files that are gone, and nobody begins to before it is gone.
        let _withheld = hub.restore.withhold_point(point)?;
        Ok(hub.backup.delete(point).await?)
    });
    removed.await.map(|()| gone())
}

/// The backup with this id.
pub(super) async fn find(
    catalogue: &mut (impl Catalogue + ?Sized),
    text: &str,
) -> Result<BackupJob, Problem> {
    let job = catalogue.backup(id(text, NOT_FOUND, "backup")?).await?;
    job.ok_or_else(|| Problem::not_found(NOT_FOUND, "backup", text))
}
