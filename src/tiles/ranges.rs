//! Natural ranges of a tiled vector: any start, any length.
//!
//! A range of the natural order is whole rows with a part of one at either end, so it meets a few
//! row stripes, and of each block some runs:
//!
//! ```text
//!        +-----------+-----------+
//!        |       ....|...........|   run = the elements of one block row that lie in the range
//!        |...........|...........|
//!        +-----------+-----------+
//!        |...........|..         |   every block is pinned once, whatever the runs in it
//!        +-----------+-----------+
//! ```
//!
//! Each element of the range is in exactly one run. Stripes are faster where they fit: they copy on
//! all cores, ranges on one.

use super::moves::Side;
use super::{Block, Tiles, TilesError};
use crate::spill::Lanes;
use std::ops::Range;

impl<T: Lanes> Tiles<T> {
    /// Copies the elements from `start` on, in natural order, into `values`. Starts to read the
    /// elements after them, as far as there is room.
    ///
    /// # Errors
    /// [`TilesError`]: a range outside the vector, a block that was taken, memory, the disk.
    pub fn read_range(&self, start: usize, values: &mut [T]) -> Result<(), TilesError> {
        let range = self.check_range(start, values.len())?;
        for stripe in self.stripes_of(&range) {
            self.prefetch_rows(stripe);
            self.prefetch_rows(stripe + 1);
            for index in self.stripe_blocks(Side::Rows, stripe) {
                let pinned = match &self.blocks[index] {
                    Block::Zeroes => None,
                    Block::Stored(block) => Some(block.read()?),
                    Block::Taken => return Err(TilesError::Taken { block: index }),
                };
                for (from, place) in self.runs(index, &range) {
                    let values = &mut values[place - start..][..from.len()];
                    match &pinned {
                        Some(block) => values.copy_from_slice(&block[from]),
                        None => plimsoll_arena::fill_with_zero(values),
                    }
                }
            }
        }
        Ok(())
    }

    /// As [`Tiles::read_range`], for the last time: frees the memory of every row stripe that ends
    /// in the range, and of those before it. Use it to walk from front to back.
    ///
    /// # Errors
    /// As [`Tiles::read_range`]; nothing is then taken.
    pub fn take_range(&mut self, start: usize, values: &mut [T]) -> Result<(), TilesError> {
        self.read_range(start, values)?;
        let stripes = (start + values.len()) / self.layout.row_stripe_len();
        let done = stripes * self.layout.column_stripes();
        for block in self.blocks[..done].iter_mut().rev() {
            if matches!(block, Block::Taken) {
                break;
            }
            *block = Block::Taken;
        }
        Ok(())
    }

    /// Copies `values` over the elements from `start` on, in natural order.
    ///
    /// # Errors
    /// [`TilesError`]: a range outside the vector, a block that was taken, memory, the disk. Part
    /// of the range may then be written.
    pub fn write_range(&mut self, start: usize, values: &[T]) -> Result<(), TilesError> {
        let range = self.check_range(start, values.len())?;
        for stripe in self.stripes_of(&range) {
            for index in self.stripe_blocks(Side::Rows, stripe) {
                let mut runs = self.runs(index, &range).peekable();
                if runs.peek().is_none() {
                    continue;
                }
                if matches!(self.blocks[index], Block::Zeroes) {
                    let mut block = self.fresh_block()?;
                    copy_runs(&mut block, runs, values, start);
                    let block = self.runtime.spillable(block);
                    self.blocks[index] = Block::Stored(block);
                    continue;
                }
                let Block::Stored(block) = &self.blocks[index] else {
                    return Err(TilesError::Taken { block: index });
                };
                copy_runs(&mut block.write()?, runs, values, start);
            }
        }
        Ok(())
    }

    fn check_range(&self, start: usize, len: usize) -> Result<Range<usize>, TilesError> {
        let end = self.len();
        match start.checked_add(len) {
            Some(stop) if stop <= end => Ok(start..stop),
            _ => Err(TilesError::Outside { what: "element", found: start.max(end), end }),
        }
    }

    /// The row stripes that `range` meets.
    fn stripes_of(&self, range: &Range<usize>) -> Range<usize> {
        let len = self.layout.row_stripe_len();
        range.start / len..range.end.div_ceil(len).max(range.start / len)
    }

    /// The parts of a block that lie in `range`: where in the block, and where in the vector.
    fn runs(
        &self,
        index: usize,
        range: &Range<usize>,
    ) -> impl Iterator<Item = (Range<usize>, usize)> + use<T> {
        let layout = self.layout;
        let range = range.clone();
        let across = layout.column_stripes();
        let first =
            index / across * layout.row_stripe_len() + index % across * layout.block_columns();
        (0..layout.block_rows()).filter_map(move |row| {
            let place = first + row * layout.columns();
            let from = place.max(range.start);
            let to = (place + layout.block_columns()).min(range.end);
            let shift = row * layout.block_columns();
            (from < to).then(|| (from - place + shift..to - place + shift, from))
        })
    }
}

fn copy_runs<T: Copy>(
    block: &mut [T],
    runs: impl Iterator<Item = (Range<usize>, usize)>,
    values: &[T],
    start: usize,
) {
    for (to, place) in runs {
        let len = to.len();
        block[to].copy_from_slice(&values[place - start..][..len]);
    }
}
