//! Bytes that look random and are a function of a seed, made faster than a disk takes them.

/// `len` bytes that no compressor shrinks, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    // The extendable output of the digest is optimised in every build; a generator of this build would not be.
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
