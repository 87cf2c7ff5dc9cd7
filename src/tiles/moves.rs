//! Copies between blocks and stripes: the loops, and how they are shared out to the cores.
//!
//! A stripe lies in a contiguous scratch as *lanes*: the rows of a row stripe, or the columns of a
//! column stripe, one after the other.
//!
//! ```text
//!   row stripe      lane r = row r         block row r is a run of lane r: plain copies
//!   column stripe   lane c = column c      block column c is a run of lane c: a transposition
//!
//!   transposition, 8 lanes at a time:   block row  .. [ 8 elements ] ..   one run read,
//!                                                       | | | | | |       8 lanes written,
//!                                                       v v v v v v       each front to back
//! ```
//!
//! Lanes may lie a power of two apart and meet in one set of the first cache, so 8 are what its
//! ways hold. One task a block, so blocks that have to be read in are read side by side.
//!
//! It must never allocate more than the fat pointers of one stripe's lanes.

use super::TilesError;
use plimsoll_arena::{Plain, fill_with_zero};

/// Lanes that a transposition writes or reads at once: the ways of a first-level cache set.
const GROUP: usize = 8;

/// Which lanes a stripe has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Rows,
    Columns,
}

/// Hands to `each` block of a stripe the runs of the lanes that belong to it, `run` elements each,
/// in parallel.
pub(super) fn share_out<T: Plain, B: Send>(
    mut lanes: Vec<&mut [T]>,
    run: usize,
    mut blocks: Vec<B>,
    each: &(impl Fn(&mut [&mut [T]], B) -> Result<(), TilesError> + Sync),
) -> Result<(), TilesError> {
    if blocks.len() > 1 {
        let right_blocks = blocks.split_off(blocks.len() / 2);
        let middle = blocks.len() * run;
        let mut right_lanes = Vec::with_capacity(lanes.len());
        for lane in &mut lanes {
            let (left, right) = std::mem::take(lane).split_at_mut(middle);
            *lane = left;
            right_lanes.push(right);
        }
        let (left, right) = rayon::join(
            || share_out(lanes, run, blocks, each),
            || share_out(right_lanes, run, right_blocks, each),
        );
        return left.and(right);
    }
    blocks.pop().map_or(Ok(()), |block| each(&mut lanes, block))
}

/// Copies a block into its runs of the lanes.
pub(super) fn unpack<T: Plain>(side: Side, block: &[T], lanes: &mut [&mut [T]]) {
    let width = match side {
        Side::Rows => block.len() / lanes.len(),
        Side::Columns => lanes.len(),
    };
    match side {
        Side::Rows => {
            for (lane, row) in lanes.iter_mut().zip(block.chunks_exact(width)) {
                lane.copy_from_slice(row);
            }
        }
        Side::Columns => {
            for (group, lanes) in lanes.chunks_mut(GROUP).enumerate() {
                for (r, row) in block.chunks_exact(width).enumerate() {
                    for (lane, value) in lanes.iter_mut().zip(&row[group * GROUP..]) {
                        lane[r] = *value;
                    }
                }
            }
        }
    }
}

/// Writes zeroes into the runs of a block that was never written.
pub(super) fn clear<T: Plain>(lanes: &mut [&mut [T]]) {
    lanes.iter_mut().for_each(|lane| fill_with_zero(lane));
}

/// Fills a block of rows of `width` from a stripe whose lanes are `lane_len` long; the block's run
/// in each lane begins at `start`.
pub(super) fn pack<T: Plain>(
    side: Side,
    stripe: &[T],
    lane_len: usize,
    start: usize,
    block: &mut [T],
    width: usize,
) {
    match side {
        Side::Rows => {
            for (row, lane) in block.chunks_exact_mut(width).zip(stripe.chunks_exact(lane_len)) {
                row.copy_from_slice(&lane[start..start + width]);
            }
        }
        Side::Columns => {
            for (group, lanes) in stripe.chunks(GROUP * lane_len).enumerate() {
                for (r, row) in block.chunks_exact_mut(width).enumerate() {
                    let values = lanes.iter().skip(start + r).step_by(lane_len);
                    for (place, value) in row[group * GROUP..].iter_mut().zip(values) {
                        *place = *value;
                    }
                }
            }
        }
    }
}
