//! Passwords and tokens at rest: AES-256-GCM, each bound to the row and column it was written for.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hub_ports::StoreError;
use secrecy::{ExposeSecret as _, SecretString};

/// Bytes of a nonce; a random one per secret is safe for far more secrets than a catalogue ever holds.
const NONCE: usize = 12;

/// Bytes that prove a secret to be whole.
const TAG: usize = 16;

/// Marks the format, so that another one can follow.
const PREFIX: &str = "v1:";

/// Seals and opens secrets with the caller's key.
pub(crate) struct Sealer {
    cipher: Aes256Gcm,
}

impl Sealer {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self { cipher: Aes256Gcm::new(key.into()) }
    }

    /// Seals a secret for one column of one row; it opens nowhere else.
    pub(crate) fn seal(
        &self,
        secret: &SecretString,
        column: &str,
        row: &str,
    ) -> Result<String, StoreError> {
        let nonce: [u8; NONCE] = rand::random();
        let aad = binding(column, row);
        let payload = Payload { msg: secret.expose_secret().as_bytes(), aad: aad.as_bytes() };
        let sealed = self
            .cipher
            .encrypt(Nonce::from_slice(&nonce), payload)
            .map_err(|_| StoreError::Refused("a secret is too long to be sealed"))?;
        Ok(format!("{PREFIX}{}{}", hex::encode(nonce), hex::encode(sealed)))
    }

    /// Opens what [`seal`](Self::seal) made for the same column and row with the same key.
    pub(crate) fn open(
        &self,
        sealed: &str,
        column: &str,
        row: &str,
    ) -> Result<SecretString, StoreError> {
        let unreadable = || {
            StoreError::Corrupt(format!(
                "{column} of {row} does not open: the hub's secret key is not the one it was sealed with, \
                 or the row was changed by hand"
            ))
        };
        let bytes = unwrapped(sealed).ok_or_else(unreadable)?;
        let (nonce, body) = bytes.split_at_checked(NONCE).ok_or_else(unreadable)?;
        let aad = binding(column, row);
        let payload = Payload { msg: body, aad: aad.as_bytes() };
        let opened =
            self.cipher.decrypt(Nonce::from_slice(nonce), payload).map_err(|_| unreadable())?;
        String::from_utf8(opened).map(SecretString::from).map_err(|_| unreadable())
    }
}

/// Whether it looks like what [`seal`](Sealer::seal) makes, with whatever key.
pub(crate) fn is_sealed(sealed: &str) -> bool {
    unwrapped(sealed).is_some_and(|bytes| bytes.len() >= NONCE + TAG)
}

fn unwrapped(sealed: &str) -> Option<Vec<u8>> {
    sealed.strip_prefix(PREFIX).and_then(|text| hex::decode(text).ok())
}

fn binding(column: &str, row: &str) -> String {
    format!("{column}/{row}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_only_where_it_was_sealed() {
        let sealer = Sealer::new(&[1; 32]);
        let secret = SecretString::from("pässword");
        let sealed = sealer.seal(&secret, "table.column", "row").unwrap();
        let opened = sealer.open(&sealed, "table.column", "row").unwrap();
        assert_eq!(opened.expose_secret(), "pässword");
        for (column, row) in [("table.other", "row"), ("table.column", "another")] {
            assert!(sealer.open(&sealed, column, row).is_err(), "{column} {row}");
        }
        assert!(Sealer::new(&[2; 32]).open(&sealed, "table.column", "row").is_err());
    }

    #[test]
    fn the_same_secret_never_looks_the_same_and_never_shows() {
        let sealer = Sealer::new(&[1; 32]);
        let secret = SecretString::from("password");
        let one = sealer.seal(&secret, "c", "r").unwrap();
        let other = sealer.seal(&secret, "c", "r").unwrap();
        assert_ne!(one, other);
        assert!(!one.contains("password") && !one.contains(&hex::encode("password")));
    }

    #[test]
    fn rubbish_is_an_error() {
        let sealer = Sealer::new(&[1; 32]);
        for rubbish in ["", "v1:", "v1:00", "v1:zz", "password", &format!("v1:{}", "00".repeat(40))]
        {
            assert!(sealer.open(rubbish, "c", "r").is_err(), "{rubbish}");
        }
    }
}
