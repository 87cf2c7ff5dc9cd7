//! Buffers for encoding and for requests that cannot go to the vector's own pages.
//!
//! The store makes a fixed number of sets at its start, because saving happens when memory is short
//! and must not ask for more. The pages of a set become resident as they are used; saving a block
//! of 64 KiB touches no more than that. Wiping a set touches no page that was never used.
//!
//! A thread that finds no set waits for one. A thread that has a set does its I/O and returns the
//! set, so no threads wait in a circle. Several stores may share their sets.

use crate::backend::AlignedBytes;
use crate::frame::FRAME_ALIGN_BYTES;
use plimsoll_arena::sync::Stock;
use std::sync::Arc;
use zeroize::Zeroize;

/// Raw bytes of a vector that make one frame, at most, where they go through a buffer.
pub(crate) const FRAME_RAW_BYTES: usize = 512 << 10;

/// What an encoder may write beyond its input before it gives up.
const ENCODE_SLACK_BYTES: usize = 64 << 10;

/// Bytes of a set.
pub(crate) const SET_BYTES: usize =
    2 * FRAME_RAW_BYTES + 3 * FRAME_ALIGN_BYTES + ENCODE_SLACK_BYTES;

/// A buffer for whole frames, which knows how much of it was ever lent.
pub(crate) struct FrameBuffer {
    bytes: AlignedBytes,
    lent_bytes: usize,
}

impl FrameBuffer {
    /// Lends the first `len` bytes.
    pub(crate) fn first(&mut self, len: usize) -> &mut [u8] {
        self.lent_bytes = self.lent_bytes.max(len);
        &mut self.bytes[..len]
    }
}

impl Drop for FrameBuffer {
    /// Wipes what may be a witness.
    fn drop(&mut self) {
        self.bytes[..self.lent_bytes].zeroize();
    }
}

/// A buffer for an encoder, which knows whether it was ever lent.
pub(crate) struct EncodeBuffer {
    bytes: Vec<u8>,
    is_lent: bool,
}

impl EncodeBuffer {
    /// Lends the buffer.
    pub(crate) fn lend(&mut self) -> &mut Vec<u8> {
        self.is_lent = true;
        &mut self.bytes
    }
}

impl Drop for EncodeBuffer {
    /// Wipes what may be a witness.
    fn drop(&mut self) {
        if self.is_lent {
            self.bytes.zeroize();
        }
    }
}

/// One set of buffers.
pub(crate) struct Scratch {
    /// A header in a block of its own.
    pub(crate) head: AlignedBytes,
    /// A whole frame.
    pub(crate) frame: FrameBuffer,
    /// What an encoder writes.
    pub(crate) encoded: EncodeBuffer,
}

impl Scratch {
    fn new() -> Self {
        let frame = AlignedBytes::zeroed(FRAME_RAW_BYTES + 2 * FRAME_ALIGN_BYTES);
        let encoded = Vec::with_capacity(FRAME_RAW_BYTES + ENCODE_SLACK_BYTES);
        Self {
            head: AlignedBytes::zeroed(FRAME_ALIGN_BYTES),
            frame: FrameBuffer { bytes: frame, lent_bytes: 0 },
            encoded: EncodeBuffer { bytes: encoded, is_lent: false },
        }
    }
}

/// Makes the sets of one store, or of several that share them; at least one.
pub(crate) fn sets(count: usize) -> Arc<Stock<Scratch>> {
    Arc::new(Stock::new((0..count.max(1)).map(|_| Scratch::new()).collect()))
}
