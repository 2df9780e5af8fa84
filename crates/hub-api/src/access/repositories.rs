//! Repositories: directories that are really tried before they are believed (trap C15).

use std::path::{Component, Path, PathBuf};

use actix_web::web;
use chrono::{DateTime, Utc};
use hub_domain::compression::ZstdLevel;
use hub_domain::ids::RepositoryId;
use hub_domain::limits::CopyCount;
use hub_domain::repository::{Repository, RepositorySettings};
use hub_domain::text::{self, MAX_PATH};
use hub_ports::store::all_readable;
use hub_ports::{Catalogue, ErrorClass, RepositoryProbe};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::credentials::required;
use super::setting::{Whole, compression, copies};
use crate::answer::{Answer, Response, State, bytes, created, gone, id};
use crate::page::{Page, PageQuery};
use crate::problem::Problem;
use crate::words::{Compression, RepositoryKind};

/// A repository.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Repository)]
pub(crate) struct RepositoryView {
    id: Uuid,
    name: String,
    kind: RepositoryKind,
    /// Absolute, on the hub.
    path: String,
    /// Copies to it at a time; null where only the hub's own limit holds.
    max_concurrent_copies: Option<u32>,
    /// How points are stored that are made from now on.
    compression: Compression,
    /// How hard it tries; null where nothing is compressed.
    compression_level: Option<u8>,
    created_at: DateTime<Utc>,
    /// Bytes free for the hub, where it was tried just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    free_bytes: Option<i64>,
    /// Bytes of the file system, where it was tried just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_bytes: Option<i64>,
}

/// A new repository.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRepository {
    /// A name of your own, not used yet.
    name: String,
    #[serde(default = "local")]
    kind: RepositoryKind,
    /// An absolute path on the hub; the directory is made when it is not there.
    path: String,
    /// Copies to it at a time; without limit unless given.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    max_concurrent_copies: Option<Whole>,
    #[serde(default = "none")]
    #[schema(default = "none")]
    compression: Compression,
    /// How hard `zstd` tries.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 19, default = 3)]
    compression_level: Option<Whole>,
}

/// The repository works.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RepositoryWorks {
    ok: bool,
    free_bytes: i64,
    total_bytes: i64,
}

/// All repositories.
#[utoipa::path(get, path = "/api/v1/repositories", tag = "repositories", params(PageQuery),
    responses((status = 200, body = Page<RepositoryView>)))]
pub(crate) async fn list(
    state: State,
    query: web::Query<PageQuery>,
) -> Answer<Page<RepositoryView>> {
    let all = state.ask(|hub| async move { Ok(hub.store.view().await?.repositories().await?) });
    let page = Page::of_all(all.await?, &query, |it| it.id.as_uuid(), |it| view(&it, None));
    Ok(web::Json(page))
}

/// Adds a repository after writing, syncing and removing a file in it.
#[utoipa::path(post, path = "/api/v1/repositories", tag = "repositories",
    request_body = NewRepository, responses((status = 201, body = RepositoryView)))]
pub(crate) async fn add(state: State, new: web::Json<NewRepository>) -> Response {
    let new = new.into_inner();
    let made = state.carry_out(|hub| async move {
        let repository = Repository {
            id: RepositoryId::from_uuid(hub.ids.new_id()),
            name: required("name", &new.name)?,
            kind: new.kind.into(),
            path: absolute(&new.path)?,
            settings: RepositorySettings {
                copies: copies(new.max_concurrent_copies)?,
                compression: compression(new.compression, new.compression_level)?,
            },
            created_at: hub.clock.now(),
        };
        let probe = hub.storage.probe(&repository).await?;
        let mut work = hub.store.begin().await?;
        // One that cannot be read may lie where this one would.
        let others = all_readable(work.repositories().await?)?;
        if let Some(other) = others.iter().find(|it| overlaps(&it.path, &repository.path)) {
            let detail = format!("{} overlaps repository {}", repository.path, other.name);
            return Err(Problem::new(ErrorClass::Conflict, "repository/path-taken", detail));
        }
        work.insert_repository(&repository).await?;
        work.commit().await?;
        Ok(view(&repository, Some(probe)))
    });
    let made = made.await?;
    Ok(created(&format!("/api/v1/repositories/{}", made.id), &made))
}

/// One repository.
#[utoipa::path(get, path = "/api/v1/repositories/{id}", tag = "repositories",
    params(("id" = Uuid, Path)), responses((status = 200, body = RepositoryView)))]
pub(crate) async fn show(state: State, of: web::Path<String>) -> Answer<RepositoryView> {
    let found = state.ask(|hub| async move {
        Ok(view(&find(hub.store.view().await?.as_mut(), &of).await?, None))
    });
    found.await.map(web::Json)
}

/// Forgets a repository in which no backup lies; its files stay.
#[utoipa::path(delete, path = "/api/v1/repositories/{id}", tag = "repositories",
    params(("id" = Uuid, Path)), responses((status = 204)))]
pub(crate) async fn remove(state: State, of: web::Path<String>) -> Response {
    let removed = state.carry_out(|hub| async move {
        let mut work = hub.store.begin().await?;
        let repository = find(work.as_mut(), &of).await?;
        work.delete_repository(repository.id).await?;
        Ok(work.commit().await?)
    });
    removed.await.map(|()| gone())
}

/// Really tries a repository, and says how much space is left.
#[utoipa::path(post, path = "/api/v1/repositories/{id}/test", tag = "repositories",
    params(("id" = Uuid, Path)), responses((status = 200, body = RepositoryWorks)))]
pub(crate) async fn test(state: State, of: web::Path<String>) -> Answer<RepositoryWorks> {
    let tried = state.ask(|hub| async move {
        let repository = find(hub.store.view().await?.as_mut(), &of).await?;
        let probe = hub.storage.probe(&repository).await?;
        Ok(RepositoryWorks {
            ok: true,
            free_bytes: bytes(probe.free_bytes),
            total_bytes: bytes(probe.total_bytes),
        })
    });
    tried.await.map(web::Json)
}

pub(super) async fn find(
    catalogue: &mut (impl Catalogue + ?Sized),
    text: &str,
) -> Result<Repository, Problem> {
    const CODE: &str = "repository/not-found";
    let repository = catalogue.repository(id(text, CODE, "repository")?).await?;
    repository.ok_or_else(|| Problem::not_found(CODE, "repository", text))
}

pub(super) fn view(repository: &Repository, probe: Option<RepositoryProbe>) -> RepositoryView {
    RepositoryView {
        id: repository.id.as_uuid(),
        name: repository.name.clone(),
        kind: repository.kind.into(),
        path: repository.path.clone(),
        max_concurrent_copies: repository.settings.copies.map(CopyCount::get),
        compression: repository.settings.compression.into(),
        compression_level: repository.settings.compression.level().map(ZstdLevel::get),
        created_at: repository.created_at,
        free_bytes: probe.map(|it| bytes(it.free_bytes)),
        total_bytes: probe.map(|it| bytes(it.total_bytes)),
    }
}

fn none() -> Compression {
    Compression::None
}

fn local() -> RepositoryKind {
    RepositoryKind::Local
}

/// An absolute path without `.`, `..` and doubled slashes, so that one directory has one spelling.
fn absolute(given: &str) -> Result<String, Problem> {
    let text =
        text::required("path", given, MAX_PATH).map_err(|error| Problem::field("/path", error))?;
    let path = Path::new(&text);
    let plain = path.is_absolute()
        && path.components().all(|it| matches!(it, Component::RootDir | Component::Normal(_)));
    let normal: PathBuf = path.components().collect();
    match normal.to_str() {
        Some(normal) if plain && normal != "/" => Ok(normal.to_owned()),
        _ => Err(Problem::field("/path", "it is an absolute path without `..`, and not `/`")),
    }
}

/// Two repositories in one place would delete each other's files.
fn overlaps(one: &str, other: &str) -> bool {
    Path::new(one).starts_with(other) || Path::new(other).starts_with(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_spelling() {
        assert_eq!(absolute("/a//b/./c/").ok().as_deref(), Some("/a/b/c"));
        for bad in ["", "a/b", "/", "/a/../b", "./a", "/a\0b"] {
            assert!(absolute(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn repositories_do_not_lie_in_each_other() {
        assert!(overlaps("/a/b", "/a"));
        assert!(overlaps("/a", "/a"));
        assert!(!overlaps("/a/bc", "/a/b"));
    }
}
