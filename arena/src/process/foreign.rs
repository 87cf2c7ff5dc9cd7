//! The foreign bytes (those of no owner), as the youngest look found them.
//!
//! ```text
//!   one word:  | number of the look, 16 bits | bytes, 48 bits with a sign |
//! ```
//!
//! Threads look at the same time, and a delayed thread may arrive with an old finding. Each look
//! therefore takes a number first, and a finding is kept unless a younger one is there already.
//!
//! The bytes are below zero where an owner reserves more than it touches; see the account.
//!
//! Must never: allocate, lock, or wait.

use crate::sync::{AtomicU64, AtomicUsize, Ordering, const_fn};

/// 2^47 bytes either way: 128 TiB, all that a process can address.
const BYTES_BITS: u32 = 48;

fn pack(number: usize, bytes: i64) -> u64 {
    (number as u64) << BYTES_BITS | (bytes as u64 & ((1 << BYTES_BITS) - 1))
}

/// Says whether `number` is younger than the one of `found`; numbers come round again.
fn is_younger(number: usize, found: u64) -> bool {
    let ahead = (number as u16).wrapping_sub((found >> BYTES_BITS) as u16);
    ahead != 0 && ahead < 1 << 15
}

/// The foreign bytes that the youngest look found.
pub(super) struct Foreign {
    found: AtomicU64,
    looks: AtomicUsize,
}

impl Foreign {
    const_fn! {
        pub(super) fn new() -> Self {
            Self { found: AtomicU64::new(0), looks: AtomicUsize::new(0) }
        }
    }

    /// Takes the number of a look that begins now.
    pub(super) fn begin(&self) -> usize {
        // Relaxed, here and below: numbers that stand for nothing but themselves.
        self.looks.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// Notes what the look of this number found, in bytes.
    pub(super) fn note(&self, number: usize, bytes: i64) {
        let newer = |found: u64| is_younger(number, found).then(|| pack(number, bytes));
        let _ = self.found.fetch_update(Ordering::Relaxed, Ordering::Relaxed, newer);
    }

    /// Returns what was found, in bytes and with its sign.
    #[inline]
    pub(super) fn bytes(&self) -> i64 {
        let found = self.found.load(Ordering::Relaxed);
        ((found << (64 - BYTES_BITS)) as i64) >> (64 - BYTES_BITS)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_their_sign() {
        let foreign = Foreign::new();
        for bytes in [0, 1, -1, (1 << 47) - 1, -(1 << 47)] {
            foreign.note(foreign.begin(), bytes);
            assert_eq!(foreign.bytes(), bytes);
        }
    }

    #[test]
    fn an_older_look_does_not_take_the_place_of_a_younger_one() {
        let foreign = Foreign::new();
        // Over the point where sixteen bits begin anew.
        for round in 0..1 << 17 {
            let (older, younger) = (foreign.begin(), foreign.begin());
            foreign.note(younger, round);
            foreign.note(older, -7);
            assert_eq!(foreign.bytes(), round, "look {younger}");
        }
    }
}
