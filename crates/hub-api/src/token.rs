//! API tokens: made once, kept as digests only.

use hub_domain::access::ApiToken;
use hub_domain::ids::ApiTokenId;
use hub_ports::{Clock, IdGen, Store, StoreError};
use secrecy::SecretString;

/// An API token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NewTokenError {
    /// The catalogue did not take it.
    #[error("the catalogue did not take the new API token")]
    Store(#[from] StoreError),
}

/// Makes a token with 256 random bits, stores its digest and returns its text, which nobody can read again.
pub async fn create_token(
    store: &dyn Store,
    clock: &dyn Clock,
    ids: &dyn IdGen,
    name: &str,
) -> Result<SecretString, NewTokenError> {
    let text = format!("hub_{}", hex::encode(rand::random::<[u8; 32]>()));
    let token = ApiToken {
        id: ApiTokenId::from_uuid(ids.new_id()),
        name: name.to_owned(),
        digest: token_digest(&text),
        created_at: clock.now(),
    };
    let mut work = store.begin().await?;
    work.insert_api_token(&token).await?;
    work.commit().await?;
    Ok(text.into())
}

/// What the catalogue keeps of a token.
pub fn token_digest(token: &str) -> [u8; 32] {
    blake3::hash(token.as_bytes()).into()
}
