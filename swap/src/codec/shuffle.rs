//! Byte shuffle and LZ4, for bytes that repeat without being small numbers.
//!
//! ```text
//!   lanes      a0 a1 a2 a3 | b0 b1 b2 b3 | ...       (stride 4)
//!   shuffled   a0 b0 ... | a1 b1 ... | a2 b2 ... | a3 b3 ...   then LZ4
//!
//!   payload    stride u8 | block | block | ...
//!   block      stored u32 | stored bytes        64 KiB of raw bytes each, the last may be shorter
//! ```
//!
//! A block whose `stored` equals its raw length is verbatim and not shuffled. Bytes after the last
//! whole lane of a block are kept in place. Stride 1 is LZ4 alone. Blocks are 64 KiB because LZ4
//! looks no further back, and because the decoder then needs no more scratch than that.
//!
//! Invariant: `unshuffle(shuffle(x)) = x`; a block's stored bytes <= its raw bytes.
//!
//! Must never: allocate by a length that was read; the scratch is one block, and it is wiped, for
//! the bytes may be a witness.
//!
//! Source: the LZ4 block format, github.com/lz4/lz4, doc/lz4_Block_format.md; the shuffle is
//! Blosc's idea (F. Alted, "Why Modern CPUs Are Starving", CiSE 2010).

use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};

use zeroize::Zeroizing;

use super::lane::word;
use super::unpack::take;
use crate::Error;
use crate::error::corrupt;

/// Raw bytes of a block.
const BLOCK_BYTES: usize = 64 << 10;

/// Strides a payload may have.
pub(crate) const STRIDES: [usize; 5] = [1, 2, 4, 8, 32];

const STORED_BYTES: usize = 4;
const _: () = assert!(BLOCK_BYTES <= u32::MAX as usize);

/// Appends the payload.
///
/// `false`: it would pass `bytes_max`; what was appended is of no use.
pub(crate) fn pack(stride: usize, input: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> bool {
    let mut table = CompressTable::default();
    let block_bytes = BLOCK_BYTES.min(input.len());
    let mut shuffled = Zeroizing::new(vec![0; block_bytes]);
    let mut compressed = Zeroizing::new(vec![0; get_maximum_output_size(block_bytes)]);
    out.push(stride as u8);
    input.chunks(BLOCK_BYTES).all(|block| {
        let shuffled = &mut shuffled[..block.len()];
        shuffle(stride, block, shuffled);
        let stored = match compress_into_with_table(shuffled, &mut compressed, &mut table) {
            Ok(bytes) if bytes < block.len() => &compressed[..bytes],
            _ => block,
        };
        out.extend_from_slice(&(stored.len() as u32).to_le_bytes());
        out.extend_from_slice(stored);
        out.len() <= bytes_max
    })
}

/// Fills `out` from a payload; the payload must end with it.
///
/// # Errors
///
/// [`Error::Corrupt`] if a stride, a length or an LZ4 block is not valid.
pub(crate) fn unpack(mut input: &[u8], out: &mut [u8]) -> Result<(), Error> {
    let stride = usize::from(take(&mut input, 1)?[0]);
    if !STRIDES.contains(&stride) {
        return corrupt("the shuffle's stride is unknown");
    }
    let mut shuffled = Zeroizing::new(vec![0; BLOCK_BYTES.min(out.len())]);
    for block in out.chunks_mut(BLOCK_BYTES) {
        let stored_bytes = word(take(&mut input, STORED_BYTES)?) as usize;
        let stored = take(&mut input, stored_bytes)?;
        if stored_bytes == block.len() {
            block.copy_from_slice(stored);
            continue;
        }
        let shuffled = &mut shuffled[..block.len()];
        match decompress_into(stored, shuffled) {
            Ok(bytes) if bytes == block.len() => unshuffle(stride, shuffled, block),
            Ok(_) => return corrupt("an LZ4 block is shorter than its raw bytes"),
            Err(_) => return corrupt("an LZ4 block is not valid"),
        }
    }
    if input.is_empty() { Ok(()) } else { corrupt("bytes follow the last LZ4 block") }
}

/// Bytes of one small sample after shuffle and LZ4.
pub(crate) fn estimate(stride: usize, sample: &[u8]) -> usize {
    let mut payload = Vec::new();
    pack(stride, sample, usize::MAX, &mut payload);
    payload.len()
}

fn shuffle(stride: usize, from: &[u8], to: &mut [u8]) {
    let lanes = from.len() / stride;
    let whole = lanes * stride;
    for (plane_index, plane) in to[..whole].chunks_exact_mut(lanes.max(1)).enumerate() {
        for (slot, lane) in plane.iter_mut().zip(from.chunks_exact(stride)) {
            *slot = lane[plane_index];
        }
    }
    to[whole..].copy_from_slice(&from[whole..]);
}

fn unshuffle(stride: usize, from: &[u8], to: &mut [u8]) {
    let lanes = from.len() / stride;
    let whole = lanes * stride;
    for (plane_index, plane) in from[..whole].chunks_exact(lanes.max(1)).enumerate() {
        for (&byte, lane) in plane.iter().zip(to.chunks_exact_mut(stride)) {
            lane[plane_index] = byte;
        }
    }
    to[whole..].copy_from_slice(&from[whole..]);
}
