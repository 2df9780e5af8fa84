//! What a hub needs before anybody can use it: a repository, and a token.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use hub_api::NewToken;
use hub_block::failpoint::{self, Point};
use hub_domain::ids::RepositoryId;
use hub_domain::repository::{Repository, RepositoryKind};
use hub_ports::store::Row;
use hub_ports::{BackupStorage, Store};
use secrecy::ExposeSecret;

use crate::assembly::HubServer;
use crate::data_dir::write_private;
use crate::say;
use crate::settings::Settings;

/// The repository that is there from the beginning.
const REPOSITORY: &str = "default";

/// Makes both where no token exists yet; the token comes last, so that a crash before it is a first start again.
pub(crate) async fn prepare(
    hub: &HubServer,
    settings: &Settings,
    token_file: Option<&Path>,
) -> Result<()> {
    let store: &dyn Store = &hub.store;
    let mut view = store.view().await?;
    if view.api_token_count().await? > 0 {
        return Ok(());
    }
    // One that cannot be read may have the name.
    let is_it = |row: &Row<Repository>| row.as_ref().map_or(true, |it| it.name == REPOSITORY);
    let has_repository = view.repositories().await?.iter().any(is_it);
    drop(view);
    if !has_repository {
        add_repository(hub, &settings.repository_dir()).await?;
    }
    let token = NewToken::make("initial");
    if let Some(path) = token_file {
        write_private(path, token.text.expose_secret())
            .with_context(|| format!("the token cannot be written to {}", path.display()))?;
    }
    failpoint::reach(Point::StartTokenWritten)?;
    say(&format!("API token (shown once): {}", token.text.expose_secret()));
    token.store(store, hub.clock.as_ref(), hub.ids.as_ref()).await?;
    Ok(())
}

async fn add_repository(hub: &HubServer, directory: &Path) -> Result<()> {
    let path = directory.to_str().context("the repository's path is not text in UTF-8")?;
    fs::create_dir_all(directory)
        .with_context(|| format!("the repository {path} cannot be made"))?;
    let repository = Repository {
        id: RepositoryId::from_uuid(hub.ids.new_id()),
        name: REPOSITORY.to_owned(),
        kind: RepositoryKind::Local,
        path: path.to_owned(),
        settings: Default::default(),
        created_at: hub.clock.now(),
    };
    hub.storage.probe(&repository).await?;
    failpoint::reach(Point::StartRepositoryMade)?;
    let mut work = hub.store.begin().await?;
    work.insert_repository(&repository).await?;
    Ok(work.commit().await?)
}
