//! How a repository is used, changed while points lie in it.

use actix_web::web;
use serde::Deserialize;
use utoipa::ToSchema;

use super::repositories::{RepositoryView, find, view};
use super::setting::{Whole, compression, copies, given, never_null};
use crate::answer::{Answer, State};
use crate::words::Compression;

/// What shall change; what is left out stays, and null takes a limit away.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangedRepository {
    /// Copies to it at a time.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    max_concurrent_copies: Option<Option<Whole>>,
    /// How points are stored that are made from now on; those that are there stay as they are.
    #[serde(default, deserialize_with = "never_null")]
    #[schema(nullable = false)]
    compression: Option<Compression>,
    /// How hard `zstd` tries; 3 when compression begins without one.
    #[serde(default, deserialize_with = "never_null")]
    #[schema(value_type = Option<u32>, nullable = false, minimum = 1, maximum = 19)]
    compression_level: Option<Whole>,
}

/// Changes the settings of a repository; copies at work go on as they began.
#[utoipa::path(patch, path = "/api/v1/repositories/{id}", tag = "repositories",
    params(("id" = Uuid, Path)), request_body = ChangedRepository,
    responses((status = 200, body = RepositoryView)))]
pub(crate) async fn adjust(
    state: State,
    of: web::Path<String>,
    changed: web::Json<ChangedRepository>,
) -> Answer<RepositoryView> {
    let changed = changed.into_inner();
    let stored = state.carry_out(|hub| async move {
        let _alone = hub.supervisor.copies().settings().await;
        let mut work = hub.store.begin().await?;
        let mut repository = find(work.as_mut(), &of).await?;
        let settings = &mut repository.settings;
        if let Some(given) = changed.max_concurrent_copies {
            settings.copies = copies(given)?;
        }
        if changed.compression.is_some() || changed.compression_level.is_some() {
            let kind = changed.compression.unwrap_or_else(|| settings.compression.into());
            let stays = settings.compression.level().filter(|_| kind == Compression::Zstd);
            let level = changed.compression_level.or(stays.map(|it| Whole(it.get().into())));
            settings.compression = compression(kind, level)?;
        }
        work.update_repository(&repository).await?;
        work.commit().await?;
        hub.supervisor.copies().set_repository(&repository);
        Ok(view(&repository, None))
    });
    stored.await.map(web::Json)
}
