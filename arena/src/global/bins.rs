//! Which free extent fits a request: lists by size, eight a doubling, and a bitmap over them.
//!
//! ```text
//!   units   1 2 3 ... 7 | 8  9 10 ... 15 | 16-17 18-19 ... 30-31 | 32-35 ...
//!   bin     1 2 3 ... 7 | 8  9 10 ... 15 | 16    17    ... 23    | 24   ...
//! ```
//!
//! A bin holds extents from its own size to just below the next bin's. So the bin of a request may
//! hold some that are too small, and up to a bound they are compared for the best fit. Every extent
//! of a later bin fits. The links are in the extent table, which this module does not own.
//!
//! Invariants: bit `b` is set iff list `b` is not empty; `bin_of` is monotone.
//!
//! Source: M. Masmano et al., "TLSF: a new dynamic memory allocator for real-time systems", 2004.

/// Number of bins: sizes up to 2^30 units.
pub(super) const BIN_COUNT: usize = 256;

/// Returns the bin of extents of `units`, which is above zero.
#[inline]
pub(super) const fn bin_of(units: u32) -> usize {
    if units < 8 {
        return units as usize;
    }
    let log2 = units.ilog2() as usize;
    (log2 - 2) * 8 + ((units >> (log2 - 3)) & 7) as usize
}

const _: () = assert!(bin_of(u32::MAX) < BIN_COUNT, "every size has a bin");
const _: () = assert!(bin_of(7) == 7 && bin_of(8) == 8 && bin_of(16) == 16);

/// Heads of the lists: index of the first unit plus one, or zero.
#[derive(Debug)]
pub(super) struct Bins {
    pub(super) heads: [u32; BIN_COUNT],
    bitmap: [u64; BIN_COUNT / 64],
}

impl Bins {
    pub(super) const fn new() -> Self {
        Self { heads: [0; BIN_COUNT], bitmap: [0; BIN_COUNT / 64] }
    }

    /// Sets the head of list `bin`.
    #[inline]
    pub(super) fn set_head(&mut self, bin: usize, head: u32) {
        self.heads[bin] = head;
        let bit = 1u64 << (bin % 64);
        if head == 0 {
            self.bitmap[bin / 64] &= !bit;
        } else {
            self.bitmap[bin / 64] |= bit;
        }
    }

    /// Returns the first list at or after `bin` that is not empty.
    #[inline]
    pub(super) fn first_from(&self, bin: usize) -> Option<usize> {
        let mut word = bin / 64;
        let mut bits = *self.bitmap.get(word)? & (u64::MAX << (bin % 64));
        while bits == 0 {
            word += 1;
            bits = *self.bitmap.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    /// Returns the last list that is not empty.
    pub(super) fn last(&self) -> Option<usize> {
        let word = self.bitmap.iter().rposition(|bits| *bits != 0)?;
        Some(word * 64 + 63 - self.bitmap[word].leading_zeros() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_monotone_and_an_eighth_wide() {
        for units in 1..100_000u32 {
            assert!(bin_of(units) <= bin_of(units + 1));
            // Every extent of the next bin fits.
            let wider = units + units.div_ceil(8);
            assert!(bin_of(wider) > bin_of(units), "{units}");
        }
    }

    #[test]
    fn the_bitmap_follows_the_heads() {
        let mut bins = Bins::new();
        assert_eq!((bins.first_from(0), bins.last()), (None, None));
        for bin in [3, 64, 255] {
            bins.set_head(bin, 1);
        }
        assert_eq!(bins.first_from(0), Some(3));
        assert_eq!(bins.first_from(4), Some(64));
        assert_eq!(bins.first_from(65), Some(255));
        assert_eq!(bins.last(), Some(255));
        bins.set_head(255, 0);
        assert_eq!(bins.first_from(65), None);
        assert_eq!(bins.last(), Some(64));
    }
}
