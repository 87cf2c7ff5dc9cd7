//! Buffers for encoding and for requests that cannot go to the vector's own pages.
//!
//! The store makes a fixed number of sets at its start, because saving happens when memory is short
//! and must not ask for more. The pages of a set become resident as they are used; saving a block
//! of 64 KiB touches no more than that.
//!
//! A thread that finds no set waits for one. A thread that has a set does its I/O and returns the
//! set, so no threads wait in a circle.

use crate::backend::AlignedBytes;
use crate::frame::FRAME_ALIGN_BYTES;
use plimsoll_arena::sync::Stock;
use zeroize::Zeroize;

/// Raw bytes of a vector that make one frame, at most, where they go through a buffer.
pub(crate) const FRAME_RAW_BYTES: usize = 512 << 10;

/// What an encoder may write beyond its input before it gives up.
const ENCODE_SLACK_BYTES: usize = 64 << 10;

/// Bytes of a set.
pub(crate) const SET_BYTES: usize =
    2 * FRAME_RAW_BYTES + 3 * FRAME_ALIGN_BYTES + ENCODE_SLACK_BYTES;

/// One set of buffers.
pub(crate) struct Scratch {
    /// A header in a block of its own.
    pub(crate) head: AlignedBytes,
    /// A whole frame.
    pub(crate) frame: AlignedBytes,
    /// What an encoder writes.
    pub(crate) encoded: Vec<u8>,
}

impl Scratch {
    fn new() -> Self {
        Self {
            head: AlignedBytes::zeroed(FRAME_ALIGN_BYTES),
            frame: AlignedBytes::zeroed(FRAME_RAW_BYTES + 2 * FRAME_ALIGN_BYTES),
            encoded: Vec::with_capacity(FRAME_RAW_BYTES + ENCODE_SLACK_BYTES),
        }
    }
}

/// Makes the sets of one store; at least one.
pub(crate) fn sets(count: usize) -> Stock<Scratch> {
    Stock::new((0..count.max(1)).map(|_| Scratch::new()).collect())
}

impl Drop for Scratch {
    /// Wipes what may be a witness.
    fn drop(&mut self) {
        self.frame.zeroize();
        self.encoded.zeroize();
    }
}
