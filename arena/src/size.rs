//! Size classes: which block a request gets, and how many of its bytes become resident.
//!
//! ```text
//!   bytes   32 KiB  36  40  44  48  52  56  60  64 KiB   72 ...          2 MiB   2.25 MiB ...
//!   class        0   1   2   3   4   5   6   7       8    9                 48         49
//!   stride  64 KiB  64  64  64  64  64  64  64  64 KiB  128           2 MiB      4 MiB
//! ```
//!
//! There are eight classes for each doubling. So a block is at most 12.5 % larger than the request,
//! and a prover's vectors of 2^k bytes fit exactly. A class wastes addresses, never resident bytes:
//! nobody touches pages that nobody asked for, and `committed_bytes` tells how many are touched.
//!
//! Invariants (checked over a grid below):
//!
//! * `class_bytes(class_of(b)) >= b`, and the class below is smaller than `b`;
//! * `class_bytes` grows strictly and is a multiple of [`UNIT_BYTES`];
//! * `b <= committed_bytes(class, b) <= class_bytes(class) <= stride_bytes(class)`.
//!
//! Everything here is arithmetic on numbers: no memory, no state.

/// The step of the address table: an entry for each costs 0.02 % of the memory.
pub const GRANULE_BYTES: usize = 64 << 10;

/// The smallest class. Eight classes below it could not differ by whole pages.
pub const BLOCK_BYTES_MIN: usize = 32 << 10;

/// Vectors from this length on have a block, others live on the ordinary heap. A heap keeps holes
/// where vectors of a few pages were, on each thread, and no limit knows whose they are.
pub const POOLED_BYTES_MIN: usize = 8 << 10;

/// The unit in which touched bytes are recorded: the smallest page of the machines we run on.
pub const UNIT_BYTES: usize = 4 << 10;

/// A huge page. Blocks of at least this size are aligned to it and ask for huge pages.
pub const HUGE_BYTES: usize = 2 << 20;

/// Classes a doubling: 8 keeps the worst rounding at 12.5 %.
const CLASSES_PER_DOUBLING: usize = 8;

const MIN_LOG2: usize = BLOCK_BYTES_MIN.trailing_zeros() as usize;

/// Largest block: 4 TiB. A request above it is an arithmetic mistake in the caller.
pub const BLOCK_BYTES_MAX: usize = 1 << 42;

/// Number of size classes.
pub const CLASS_COUNT: usize =
    (BLOCK_BYTES_MAX.trailing_zeros() as usize - MIN_LOG2) * CLASSES_PER_DOUBLING + 1;

const _: () = assert!(CLASS_COUNT <= u8::MAX as usize, "a class index is stored in a byte");
const _: () = assert!(BLOCK_BYTES_MIN / CLASSES_PER_DOUBLING >= UNIT_BYTES);
const _: () = assert!(BLOCK_BYTES_MIN <= GRANULE_BYTES && POOLED_BYTES_MIN <= BLOCK_BYTES_MIN);
const _: () = assert!(HUGE_BYTES.is_multiple_of(GRANULE_BYTES));
const _: () = assert!(GRANULE_BYTES.is_multiple_of(UNIT_BYTES));

/// Index of a size class, below [`CLASS_COUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class(pub(crate) u8);

/// Returns the class of the smallest block that holds `bytes`, or `None` above
/// [`BLOCK_BYTES_MAX`].
#[inline]
pub(crate) fn class_of(bytes: usize) -> Option<Class> {
    if bytes > BLOCK_BYTES_MAX {
        return None;
    }
    if bytes <= BLOCK_BYTES_MIN {
        return Some(Class(0));
    }
    // bytes is in (2^k, 2^(k+1)]; the step between classes there is 2^k / 8.
    let k = (bytes - 1).ilog2() as usize;
    let step = (1usize << k) / CLASSES_PER_DOUBLING;
    let rank = (bytes - (1 << k)).div_ceil(step);
    Some(Class(((k - MIN_LOG2) * CLASSES_PER_DOUBLING + rank) as u8))
}

/// Returns the usable bytes of a block of `class`.
#[inline]
pub(crate) fn class_bytes(class: Class) -> usize {
    let index = class.0 as usize;
    let base = BLOCK_BYTES_MIN << (index / CLASSES_PER_DOUBLING);
    base + (index % CLASSES_PER_DOUBLING) * (base / CLASSES_PER_DOUBLING)
}

/// Returns the addresses a block of `class` takes: whole huge pages from 2 MiB up, whole granules
/// below.
#[inline]
pub(crate) fn stride_bytes(class: Class) -> usize {
    let bytes = class_bytes(class);
    if bytes >= HUGE_BYTES {
        bytes.next_multiple_of(HUGE_BYTES)
    } else {
        bytes.next_multiple_of(GRANULE_BYTES)
    }
}

/// Returns how much of a block of `class` asks for huge pages: its whole huge pages, and not the
/// tail, which would be resident to the end of a huge page for one byte.
#[inline]
pub(crate) fn huge_bytes(class: Class) -> usize {
    class_bytes(class) / HUGE_BYTES * HUGE_BYTES
}

/// Returns how many bytes of a block of `class` may become resident when its first `bytes` are
/// used: whole huge pages where the block asks for them, whole OS pages after.
#[inline]
pub(crate) fn committed_bytes(class: Class, bytes: usize, page_bytes: usize) -> usize {
    debug_assert!(bytes <= class_bytes(class), "the request is larger than its block");
    let huge = huge_bytes(class);
    if bytes <= huge {
        bytes.next_multiple_of(HUGE_BYTES)
    } else {
        bytes.next_multiple_of(page_bytes).min(stride_bytes(class))
    }
}

/// Returns how many bytes a vector of `bytes` may make resident: the block's committed bytes, or
/// `bytes` themselves below [`POOLED_BYTES_MIN`], where the ordinary heap serves. For planning; for
/// an impossible size it returns that size.
#[must_use]
pub fn vector_bytes(bytes: usize) -> usize {
    match class_of(bytes) {
        Some(class) if bytes >= POOLED_BYTES_MIN => committed_bytes(class, bytes, UNIT_BYTES),
        _ => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_invariants(bytes: usize) {
        let class = class_of(bytes).expect("in range");
        assert!(class_bytes(class) >= bytes, "{bytes} does not fit class {class:?}");
        if class.0 > 0 {
            assert!(class_bytes(Class(class.0 - 1)) < bytes, "{bytes} fits a smaller class");
        }
        for page in [4096, 16384] {
            let committed = committed_bytes(class, bytes, page);
            assert!(committed >= bytes && committed <= stride_bytes(class));
        }
        assert!(huge_bytes(class) <= class_bytes(class));
    }

    #[test]
    fn every_class_edge_holds_the_invariants() {
        for index in 0..CLASS_COUNT {
            let bytes = class_bytes(Class(index as u8));
            assert_eq!(bytes % UNIT_BYTES, 0);
            assert_eq!(class_of(bytes), Some(Class(index as u8)));
            assert_invariants(bytes);
            assert_invariants(bytes - 1);
            if index + 1 < CLASS_COUNT {
                assert!(class_bytes(Class(index as u8 + 1)) > bytes);
                assert_invariants(bytes + 1);
            }
        }
        assert_eq!(class_of(BLOCK_BYTES_MAX + 1), None);
        assert_eq!(class_of(usize::MAX), None);
    }

    #[test]
    fn powers_of_two_waste_nothing() {
        for log2 in 16..=42 {
            let class = class_of(1 << log2).expect("in range");
            assert_eq!(class_bytes(class), 1 << log2);
            assert_eq!(stride_bytes(class), 1 << log2);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_size_holds_the_invariants(bytes in 1usize..BLOCK_BYTES_MAX) {
            assert_invariants(bytes);
        }
    }
}
