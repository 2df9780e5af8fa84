//! Another API token, for whoever has lost the first one: made on the hub's machine, beside the hub if it runs.

use anyhow::{Context, Result, ensure};
use hub_api::NewToken;
use hub_ports::{Store, StoreError};
use hub_store::{SeaStore, StoreOptions};
use secrecy::ExposeSecret;

use crate::clock::{SystemClock, UuidV7};
use crate::data_dir::SecretKey;
use crate::say;
use crate::settings::Settings;

/// Longest name of a token, in bytes: what the catalogue has room for.
const MAX_NAME: usize = 255;

/// Stores a token of this name and prints it; `alone` removes all others with the same stroke.
///
/// It neither migrates the schema nor makes a key, because a hub may be running on both.
pub(crate) async fn make(settings: &Settings, name: &str, alone: bool) -> Result<()> {
    let named = !name.trim().is_empty() && name.len() <= MAX_NAME;
    ensure!(named, "a token's name has 1 to {MAX_NAME} bytes and is not blank");
    let store = open(settings).await?;
    let made = add(&store, name, alone).await;
    store.close().await;
    say(&made?);
    Ok(())
}

async fn open(settings: &Settings) -> Result<SeaStore> {
    let key = SecretKey::read(&settings.server.data_dir)?;
    let url = settings.database_url()?;
    let steps = hub_migration::status(&url).await.context("the catalogue cannot be read")?;
    let behind = steps.iter().filter(|it| !it.applied).count();
    ensure!(behind == 0, "the catalogue is of an older hub; start this one once, which updates it");
    Ok(SeaStore::open(StoreOptions::new(url, key.bytes).connections(2)).await?)
}

async fn add(store: &dyn Store, name: &str, alone: bool) -> Result<String> {
    // The first token is the last thing that a first start makes, so without one the hub is not set up.
    let tokens = store.view().await?.api_token_count().await?;
    ensure!(tokens > 0, "this hub has no token yet; its first start makes one and prints it");
    let token = NewToken::make(name);
    let revoked = if alone {
        token.replace_all(store, &SystemClock, &UuidV7).await
    } else {
        token.store(store, &SystemClock, &UuidV7).await.map(|()| 0)
    };
    let revoked = match revoked {
        Err(StoreError::Refused(_)) => {
            anyhow::bail!("there is a token `{name}` already; choose another name")
        }
        other => other.context("the token cannot be stored")?,
    };
    let shown = format!("API token (shown once): {}", token.text.expose_secret());
    Ok(if alone { format!("{shown}\nrevoked: {revoked}") } else { shown })
}
