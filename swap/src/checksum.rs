//! xxh3, which finds accidents and not forgery: 64 bits for frames, 128 where a hash tells that
//! contents are the same.
//!
//! From twox-hash, which takes the widest vectors that the processor has. In one call, which does
//! not allocate; its hasher of parts does, and the pager and the reclaim ladder must not.
//!
//! Source: xxhash.com, the specification of XXH3.

use twox_hash::{XxHash3_64, XxHash3_128};

/// The checksum of a frame, or of a part of it.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// A hash that nobody can prepare two contents for who does not know `seed`.
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
            let expected = xxhash_rust::xxh3::xxh3_128_with_seed(&bytes[..len], 77);
            assert_eq!(seeded_hash(77, &bytes[..len]), expected, "{len} bytes, seeded");
        }
    }
}
