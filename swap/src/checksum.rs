//! xxh3, which finds accidents and not forgery: 64 bits for frames, 128 where a hash tells that
//! contents are the same.
//!
//! From twox-hash, which takes the widest vectors that the processor has: 1.5 times as fast here as
//! what is compiled for every x86-64.
//!
//! Source: xxhash.com, the specification of XXH3.

use std::hash::Hasher;
use twox_hash::{XxHash3_64, XxHash3_128};

/// The checksum of a frame, or of a part of it.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// A checksum of bytes that come in parts.
#[derive(Default)]
pub(crate) struct Summed {
    hasher: XxHash3_64,
    bytes: u64,
}

impl Summed {
    pub(crate) fn add(&mut self, part: &[u8]) {
        self.hasher.write(part);
        self.bytes += part.len() as u64;
    }

    /// How many bytes came, and their [`checksum`].
    pub(crate) fn finish(self) -> (u64, u64) {
        (self.bytes, self.hasher.finish())
    }
}

/// A hash that nobody can prepare two contents for who does not know `seed`.
pub(crate) fn seeded_hash(seed: u64, bytes: &[u8]) -> u128 {
    XxHash3_128::oneshot_with_seed(seed, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_any_length_sum_up_to_what_another_implementation_says() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        for len in [0, 1, 16, 128, 240, 241, 1024, 4096, 65_537, bytes.len()] {
            let expected = xxhash_rust::xxh3::xxh3_64(&bytes[..len]);
            assert_eq!(checksum(&bytes[..len]), expected, "{len} bytes");
            for part in [1000, 4096, 50_000] {
                let mut summed = Summed::default();
                bytes[..len].chunks(part).for_each(|part| summed.add(part));
                assert_eq!(summed.finish(), (len as u64, expected), "{len} by {part}");
            }
            let expected = xxhash_rust::xxh3::xxh3_128_with_seed(&bytes[..len], 77);
            assert_eq!(seeded_hash(77, &bytes[..len]), expected, "{len} bytes, seeded");
        }
    }
}
