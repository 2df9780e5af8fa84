//! API tokens: made once, kept as digests only.

use hub_domain::access::ApiToken;
use hub_domain::ids::ApiTokenId;
use hub_ports::{Clock, IdGen, Store, StoreError};
use secrecy::{ExposeSecret, SecretString};

/// A token that is not stored yet: hand the text of the only one over first, so that a crash in between loses no token for good.
pub struct NewToken {
    /// What clients show; nobody can read it again once this is dropped.
    pub text: SecretString,
    name: String,
}

impl NewToken {
    /// Makes a token with 256 random bits.
    pub fn make(name: &str) -> Self {
        let text = format!("hub_{}", hex::encode(rand::random::<[u8; 32]>()));
        Self { text: text.into(), name: name.to_owned() }
    }

    /// Stores its digest; from then on it opens the API.
    pub async fn store(
        &self,
        store: &dyn Store,
        clock: &dyn Clock,
        ids: &dyn IdGen,
    ) -> Result<(), StoreError> {
        let token = self.row(clock, ids);
        let mut work = store.begin().await?;
        work.insert_api_token(&token).await?;
        work.commit().await
    }

    /// Stores its digest in place of every other token; answers how many these were.
    ///
    /// A running hub that has seen one of them lately lets it in for some seconds more.
    pub async fn replace_all(
        &self,
        store: &dyn Store,
        clock: &dyn Clock,
        ids: &dyn IdGen,
    ) -> Result<u64, StoreError> {
        let token = self.row(clock, ids);
        let mut work = store.begin().await?;
        let revoked = work.delete_api_tokens().await?;
        work.insert_api_token(&token).await?;
        work.commit().await?;
        Ok(revoked)
    }

    fn row(&self, clock: &dyn Clock, ids: &dyn IdGen) -> ApiToken {
        ApiToken {
            id: ApiTokenId::from_uuid(ids.new_id()),
            name: self.name.clone(),
            digest: token_digest(self.text.expose_secret()),
            created_at: clock.now(),
        }
    }
}

/// What the catalogue keeps of a token.
pub(crate) fn token_digest(token: &str) -> [u8; 32] {
    blake3::hash(token.as_bytes()).into()
}
