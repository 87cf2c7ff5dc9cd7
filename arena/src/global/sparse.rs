//! Large zeroed blocks, of which a program may touch only a few pages.
//!
//! ```text
//!   vec![0; n], n large   OS pages until it is freed: 4 KiB for a word far from the others
//!   everything else       huge pages
//! ```
//!
//! A hash table, or a matrix of which little is filled, starts as zeroes and is far longer than
//! what the program writes to. A huge page at each touch would make 512 times as much resident. If
//! the program fills all of such a block, the first touches take longer, as they do with the C
//! library. A block that is not zeroed keeps huge pages: nobody may read what was never written, so
//! programs fill it in order.

use super::heap::HeapBlock;
use super::inner::InnerPurge;
use super::{Global, PageSource};
use crate::os::physical_bytes;
use crate::page_source::Pages;
use crate::size::HUGE_BYTES;
use std::ptr::NonNull;

/// A zeroed block of this share of the machine's memory may be sparse. A smaller one wastes little
/// enough where it has huge pages and does not fill them.
const SPARSE_DIVISOR: usize = 16;

fn is_large(bytes: usize) -> bool {
    bytes >= HUGE_BYTES && bytes >= physical_bytes() / SPARSE_DIVISOR
}

impl<A: InnerPurge, P: PageSource> Global<A, P> {
    /// Notes that a zeroed block was handed out.
    #[inline]
    pub(super) fn expect_sparse(&self, block: HeapBlock) {
        if is_large(block.bytes) {
            self.pages.advise(block.start, block.bytes, Pages::Small);
        }
    }

    /// Notes that a block of `bytes` is about to be freed, so that the next block at its addresses
    /// has huge pages again.
    #[inline]
    pub(super) fn expect_dense(&self, start: NonNull<u8>, bytes: usize) {
        if is_large(bytes)
            && let Some(bytes) = self.heap_of(start).block_bytes(start)
        {
            self.pages.advise(start, bytes, Pages::Huge);
        }
    }
}
