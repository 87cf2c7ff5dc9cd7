//! Who packs: one face for ours and the peers, and the two peers that are libraries.
//!
//! Invariant: `unpack` after `pack` of the same column fills `out` with the column; the caller
//! compares. A peer keeps its buffers from round to round, as ours does.

use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};
use zstd::bulk::{Compressor, Decompressor};

/// Level of the zstd peer: its fastest ordinary one.
const ZSTD_LEVEL: i32 = 1;

/// Something that makes bytes smaller.
pub(crate) trait Packer {
    /// The name in the lines.
    fn name(&self) -> &'static str;

    /// Packs `column` and keeps the outcome.
    fn pack(&mut self, column: &[u8]);

    /// The bytes of what was kept.
    fn stored_bytes(&self) -> usize;

    /// Unpacks what was kept of `column` into `out`.
    fn unpack(&mut self, column: &[u8], out: &mut [u8]);
}

/// lz4_flex, block format.
#[derive(Default)]
pub(crate) struct Lz4 {
    packed: Vec<u8>,
    bytes: usize,
}

impl Packer for Lz4 {
    fn name(&self) -> &'static str {
        "lz4_flex"
    }

    fn pack(&mut self, column: &[u8]) {
        self.packed.resize(get_maximum_output_size(column.len()), 0);
        self.bytes = compress_into(column, &mut self.packed).expect("room for the worst case");
    }

    fn stored_bytes(&self) -> usize {
        self.bytes
    }

    fn unpack(&mut self, _column: &[u8], out: &mut [u8]) {
        decompress_into(&self.packed[..self.bytes], out).expect("its own block");
    }
}

/// zstd, level 1.
pub(crate) struct Zstd {
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
    packed: Vec<u8>,
    bytes: usize,
}

impl Zstd {
    pub(crate) fn new() -> Self {
        Self {
            compressor: Compressor::new(ZSTD_LEVEL).expect("a level of zstd"),
            decompressor: Decompressor::new().expect("memory"),
            packed: Vec::new(),
            bytes: 0,
        }
    }
}

impl Packer for Zstd {
    fn name(&self) -> &'static str {
        "zstd-1"
    }

    fn pack(&mut self, column: &[u8]) {
        self.packed.resize(zstd::zstd_safe::compress_bound(column.len()), 0);
        let bytes = self.compressor.compress_to_buffer(column, &mut self.packed[..]);
        self.bytes = bytes.expect("room for the worst case");
    }

    fn stored_bytes(&self) -> usize {
        self.bytes
    }

    fn unpack(&mut self, _column: &[u8], out: &mut [u8]) {
        let packed = &self.packed[..self.bytes];
        self.decompressor.decompress_to_buffer(packed, out).expect("its own block");
    }
}
