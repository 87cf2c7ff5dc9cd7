//! xxh3, which finds accidents and not forgery: 64 bits for frames, 128 where a hash tells that
//! contents are the same.
//!
//! From twox-hash, which takes the widest vectors that the processor has. Nothing here allocates:
//! the pager and the reclaim ladder must not. (Its `Hasher` of parts does, its `RawHasher` not.)
//!
//! Source: xxhash.com, the specification of XXH3.

use std::hash::Hasher as _;
use twox_hash::xxhash3_64::{DEFAULT_SECRET_LENGTH, RawHasher, SecretBuffer};
use twox_hash::{XxHash3_64, XxHash3_128};

/// The checksum of a frame, or of a part of a file: XXH3, 64 bits, seed 0.
pub fn checksum(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// The checksum of parts, one after the other: that of all of them in one.
pub(crate) struct Parts(RawHasher<&'static [u8; DEFAULT_SECRET_LENGTH]>);

impl Parts {
    pub(crate) fn new() -> Self {
        Self(RawHasher::new(SecretBuffer::default()))
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    pub(crate) fn checksum(&self) -> u64 {
        self.0.finish()
    }
}

/// A keyed hash: without `seed` nobody can prepare two contents with the same hash.
pub(crate) fn seeded_hash(seed: u64, bytes: &[u8]) -> u128 {
    XxHash3_128::oneshot_with_seed(seed, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_around_every_boundary_give_what_another_implementation_says() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        for len in [0, 1, 16, 128, 240, 241, 1024, 4096, 65_537, bytes.len()] {
            let expected = xxhash_rust::xxh3::xxh3_64(&bytes[..len]);
            assert_eq!(checksum(&bytes[..len]), expected, "{len} bytes");
            for part in [1, 64, 256, 1000, 4096] {
                let mut parts = Parts::new();
                bytes[..len].chunks(part).for_each(|part| parts.add(part));
                assert_eq!(parts.checksum(), expected, "{len} bytes in parts of {part}");
            }
            let expected = xxhash_rust::xxh3::xxh3_128_with_seed(&bytes[..len], 77);
            assert_eq!(seeded_hash(77, &bytes[..len]), expected, "{len} bytes, seeded");
        }
    }
}
