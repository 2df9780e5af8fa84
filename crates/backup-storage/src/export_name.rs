//! Export names: whoever knows one may use it, so nobody can guess one.

use rand::TryRngCore;
use rand::rngs::OsRng;

/// A fresh name of 256 random bits, hexadecimal.
pub(crate) fn unguessable() -> std::io::Result<String> {
    let mut bytes = [0_u8; 32];
    OsRng.try_fill_bytes(&mut bytes).map_err(std::io::Error::other)?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_two_names_are_alike() {
        let name = super::unguessable().unwrap();
        assert_eq!(name.len(), 64);
        assert_ne!(name, super::unguessable().unwrap());
    }
}
