//! Large zeroed blocks, which may be touched here and there.
//!
//! ```text
//!   vec![0; n], n large   OS pages until it is freed: 4 KiB for a word far from the others
//!   everything else       huge pages
//! ```
//!
//! A table by hash, or a matrix of which little is filled, is zeroed and far longer than what is
//! written to. A huge page at each touch would make 512 times as much resident. Where a program
//! fills all of such a block, its first touch takes longer, as with the C library; blocks that are
//! not zeroed are filled in order, as nobody may read what was never written.

use super::heap::HeapBlock;
use super::inner::InnerPurge;
use super::{Global, PageSource};
use crate::os::physical_bytes;
use crate::page_source::Pages;
use crate::size::HUGE_BYTES;
use std::ptr::NonNull;

/// A zeroed block of this share of the machine's memory may be sparse: what a smaller one has in
/// huge pages and never touches can be borne.
const SPARSE_DIVISOR: usize = 16;

fn is_large(bytes: usize) -> bool {
    bytes >= HUGE_BYTES && bytes >= physical_bytes() / SPARSE_DIVISOR
}

impl<A: InnerPurge, P: PageSource> Global<A, P> {
    /// A zeroed block was handed out.
    #[inline]
    pub(super) fn expect_sparse(&self, block: HeapBlock) {
        if is_large(block.bytes) {
            self.pages.advise(block.start, block.bytes, Pages::Small);
        }
    }

    /// A block of `bytes` is about to come home: whoever gets its addresses has huge pages again.
    #[inline]
    pub(super) fn expect_dense(&self, start: NonNull<u8>, bytes: usize) {
        if is_large(bytes)
            && let Some(bytes) = self.heap_of(start).block_bytes(start)
        {
            self.pages.advise(start, bytes, Pages::Huge);
        }
    }
}
