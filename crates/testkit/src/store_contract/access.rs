//! Repositories, credentials, VMAs and API tokens.

use crate::Whole as _;
use anyhow::ensure;
use hub_domain::access::{ApiToken, Credential, VmaNode};
use hub_domain::compression::{Compression, ZstdLevel};
use hub_domain::ids::ApiTokenId;
use hub_domain::limits::{ByteRate, CopyCount, VmaLimits};
use hub_domain::reader_choice::SourceName;
use hub_domain::repository::RepositorySettings;
use hub_ports::{Store, StoreError};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::samples::at;
use super::{Outcome, ensure_refused};
use crate::fixtures;

fn same_credential(one: &Credential, other: &Credential) -> bool {
    one.password.expose_secret() == other.password.expose_secret()
        && format!("{one:?}") == format!("{other:?}")
}

fn same_node(one: &VmaNode, other: &VmaNode) -> bool {
    one.token.expose_secret() == other.token.expose_secret()
        && format!("{one:?}") == format!("{other:?}")
}

/// Secrets and everything beside them survive, changes included.
pub async fn secrets_come_back_as_they_went_in(store: &dyn Store) -> Outcome {
    let mut credential = fixtures::credential(1, "login");
    credential.password = SecretString::from("pässword'; -- ✓");
    let mut node = fixtures::vma_node(2, "vma");
    let repository = fixtures::repository(3, "repository");
    let mut work = store.begin().await?;
    work.insert_credential(&credential).await?;
    work.insert_vma_node(&node).await?;
    work.insert_repository(&repository).await?;
    work.commit().await?;
    let mut view = store.view().await?;
    let stored = view.credential(credential.id).await?;
    ensure!(stored.is_some_and(|stored| same_credential(&stored, &credential)));
    let stored = view.vma_node(node.id).await?;
    ensure!(stored.is_some_and(|stored| same_node(&stored, &node)));
    ensure!(view.repository(repository.id).await? == Some(repository));
    drop(view);
    credential.password = SecretString::from("changed");
    credential.datacenter = Some("DC2".to_owned());
    credential.copies = CopyCount::new(3).ok();
    credential.updated_at = at(9);
    node.token = SecretString::from("rotated");
    node.url = "https://elsewhere:8443".to_owned();
    node.source = SourceName { host: Some("vc.example.local".to_owned()), uuid: None };
    node.limits = VmaLimits { copies: CopyCount::new(2).ok(), rate: ByteRate::new(1 << 33).ok() };
    let mut work = store.begin().await?;
    work.update_credential(&credential).await?;
    work.update_vma_node(&node).await?;
    work.commit().await?;
    let mut view = store.view().await?;
    let stored = view.credentials().await?.whole()?;
    ensure!(stored.len() == 1 && same_credential(&stored[0], &credential));
    let stored = view.vma_nodes().await?.whole()?;
    ensure!(stored.len() == 1 && same_node(&stored[0], &node));
    Ok(())
}

/// The settings of a repository are changed as a whole, and taken back as well.
pub async fn repository_settings_are_kept(store: &dyn Store) -> Outcome {
    let mut repository = fixtures::repository(1, "repository");
    repository.settings.copies = CopyCount::new(CopyCount::MAX).ok();
    let mut work = store.begin().await?;
    work.insert_repository(&repository).await?;
    work.insert_repository(&fixtures::repository(2, "other")).await?;
    work.commit().await?;
    let level = ZstdLevel::new(ZstdLevel::MAX.into())?;
    let compressed = RepositorySettings { copies: None, compression: Compression::Zstd(level) };
    for settings in [compressed, RepositorySettings::default()] {
        repository.settings = settings;
        let mut work = store.begin().await?;
        work.update_repository(&repository).await?;
        work.commit().await?;
        let stored = store.view().await?.repository(repository.id).await?;
        ensure!(stored.as_ref() == Some(&repository), "{stored:?}");
    }
    repository.name = "other".to_owned();
    let mut work = store.begin().await?;
    ensure_refused!(work.update_repository(&repository).await, StoreError::Refused(_));
    drop(work);
    let mut work = store.begin().await?;
    let absent = fixtures::repository(3, "absent");
    ensure_refused!(work.update_repository(&absent).await, StoreError::Missing(_));
    Ok(())
}

/// Names are unique, lists go by them.
pub async fn names_are_taken_once(store: &dyn Store) -> Outcome {
    let mut work = store.begin().await?;
    for (number, name) in [(1, "b"), (2, "B"), (3, "Ж"), (4, "a")] {
        work.insert_repository(&fixtures::repository(number, name)).await?;
        work.insert_credential(&fixtures::credential(number, name)).await?;
        work.insert_vma_node(&fixtures::vma_node(number, name)).await?;
    }
    work.commit().await?;
    let mut view = store.view().await?;
    let by_name = ["B", "a", "b", "Ж"];
    let repositories = view.repositories().await?.whole()?;
    ensure!(repositories.iter().map(|it| it.name.as_str()).eq(by_name), "{repositories:?}");
    let credentials = view.credentials().await?.whole()?;
    ensure!(credentials.iter().map(|it| it.name.as_str()).eq(by_name));
    let nodes = view.vma_nodes().await?.whole()?;
    ensure!(nodes.iter().map(|it| it.name.as_str()).eq(by_name));
    drop(view);
    let mut work = store.begin().await?;
    let again = work.insert_repository(&fixtures::repository(9, "a")).await;
    ensure_refused!(again, StoreError::Refused(_));
    drop(work);
    let mut work = store.begin().await?;
    let again = work.insert_credential(&fixtures::credential(9, "a")).await;
    ensure_refused!(again, StoreError::Refused(_));
    drop(work);
    let mut work = store.begin().await?;
    let again = work.update_credential(&fixtures::credential(1, "a")).await;
    ensure_refused!(again, StoreError::Refused(_));
    drop(work);
    let mut work = store.begin().await?;
    let again = work.insert_vma_node(&fixtures::vma_node(9, "a")).await;
    ensure_refused!(again, StoreError::Refused(_));
    drop(work);
    let mut work = store.begin().await?;
    let again = work.update_vma_node(&fixtures::vma_node(1, "a")).await;
    ensure_refused!(again, StoreError::Refused(_));
    Ok(())
}

/// A token is known by its digest and nothing else.
pub async fn tokens_are_found_by_digest(store: &dyn Store) -> Outcome {
    ensure!(store.view().await?.api_token_count().await? == 0);
    let token = |number: u8| ApiToken {
        id: ApiTokenId::from_uuid(Uuid::from_u128(number.into())),
        name: format!("token-{number}"),
        digest: [number; 32],
        created_at: at(1),
    };
    let mut work = store.begin().await?;
    work.insert_api_token(&token(1)).await?;
    work.insert_api_token(&token(2)).await?;
    work.commit().await?;
    let mut view = store.view().await?;
    ensure!(view.api_token_count().await? == 2);
    ensure!(view.api_token(&[2; 32]).await? == Some(token(2)));
    ensure!(view.api_token(&[3; 32]).await?.is_none());
    drop(view);
    let mut work = store.begin().await?;
    let again = ApiToken { name: token(2).name, ..token(3) };
    ensure_refused!(work.insert_api_token(&again).await, StoreError::Refused(_));
    Ok(())
}

/// All tokens go at once, or none.
pub async fn tokens_are_replaced_in_one_piece(store: &dyn Store) -> Outcome {
    let token = |number: u8| ApiToken {
        id: ApiTokenId::from_uuid(Uuid::from_u128(number.into())),
        name: format!("token-{}", number % 2),
        digest: [number; 32],
        created_at: at(1),
    };
    let mut work = store.begin().await?;
    work.insert_api_token(&token(1)).await?;
    work.insert_api_token(&token(2)).await?;
    work.commit().await?;
    let mut work = store.begin().await?;
    ensure!(work.delete_api_tokens().await? == 2);
    drop(work);
    ensure!(store.view().await?.api_token_count().await? == 2);
    let mut work = store.begin().await?;
    ensure!(work.delete_api_tokens().await? == 2);
    // Its name is free again.
    work.insert_api_token(&token(3)).await?;
    work.commit().await?;
    let mut view = store.view().await?;
    ensure!(view.api_token_count().await? == 1);
    ensure!(view.api_token(&[3; 32]).await?.is_some());
    Ok(())
}

/// Changing or removing what does not exist says so.
pub async fn what_is_absent_is_missing(store: &dyn Store) -> Outcome {
    let (credential, node) = (fixtures::credential(1, "login"), fixtures::vma_node(2, "vma"));
    let mut work = store.begin().await?;
    ensure_refused!(work.update_credential(&credential).await, StoreError::Missing(_));
    ensure_refused!(work.delete_credential(credential.id).await, StoreError::Missing(_));
    ensure_refused!(work.update_vma_node(&node).await, StoreError::Missing(_));
    ensure_refused!(work.delete_vma_node(node.id).await, StoreError::Missing(_));
    let repository = fixtures::repository(3, "repository").id;
    ensure_refused!(work.delete_repository(repository).await, StoreError::Missing(_));
    Ok(())
}

/// What a VMA reads is found out beside changes of its settings, and must not undo them.
pub async fn what_a_vma_reads_is_noted_alone(store: &dyn Store) -> Outcome {
    let (mut node, other) = (fixtures::vma_node(2, "vma"), fixtures::vma_node(3, "other"));
    node.limits.copies = CopyCount::new(2).ok();
    let mut work = store.begin().await?;
    work.insert_vma_node(&node).await?;
    work.insert_vma_node(&other).await?;
    work.commit().await?;
    let found = SourceName { host: Some("vc".to_owned()), uuid: Some("uuid-1".to_owned()) };
    let mut work = store.begin().await?;
    work.note_vma_source(node.id, &found).await?;
    work.note_vma_source(fixtures::vma_node(9, "gone").id, &found).await?;
    work.commit().await?;
    node.source = found;
    let all = store.view().await?.vma_nodes().await?.whole()?;
    ensure!(all.len() == 2 && same_node(&all[0], &other) && same_node(&all[1], &node), "{all:?}");
    Ok(())
}
