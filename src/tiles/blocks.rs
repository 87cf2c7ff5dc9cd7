//! One block at a time: for who sends blocks away, or is sent some.
//!
//! ```text
//!   take_block    a block -> a slice, and the block is gone
//!   store_block   a slice -> a block
//!   hand_block    a block of one vector -> the same block of another, wherever it is: no copy
//! ```
//!
//! The order of the calls is the caller's; hints are given as for stripes.

use super::{Block, Outlook, Texture, Tiles, TilesError};
use crate::spill::{Hint, Lanes, Spillable};

impl<T: Lanes> Tiles<T> {
    /// Copies block `index`, row-major, into `values`, for the last time: frees its memory.
    ///
    /// # Errors
    /// [`TilesError`]: wrong length or index, a block that was taken, memory, the disk. The block
    /// is then taken.
    pub fn take_block(&mut self, index: usize, values: &mut [T]) -> Result<(), TilesError> {
        self.check_block(index, values.len())?;
        match std::mem::replace(&mut self.blocks[index], Block::Taken) {
            Block::Zeroes => plimsoll_arena::fill_with_zero(values),
            Block::Stored(block) => values.copy_from_slice(&block.take()?),
            Block::Taken => return Err(TilesError::Taken { block: index }),
        }
        Ok(())
    }

    /// Replaces block `index` by a new one with the elements of `values`, row-major.
    ///
    /// # Errors
    /// As [`Tiles::take_block`]; the block is then what it was.
    pub fn store_block(
        &mut self,
        index: usize,
        values: &[T],
        outlook: Outlook,
    ) -> Result<(), TilesError> {
        self.check_block(index, values.len())?;
        let mut block = self.fresh_block()?;
        block.copy_from_slice(values);
        let block = self.runtime.spillable(block);
        self.settle(index, block, outlook);
        Ok(())
    }

    /// Hands block `index` over to block `place` of `to`, whose blocks are as long, without looking
    /// at it.
    ///
    /// # Errors
    /// [`TilesError`]: wrong length or index, a block that was taken.
    pub fn hand_block(
        &mut self,
        index: usize,
        to: &mut Tiles<T>,
        place: usize,
        outlook: Outlook,
    ) -> Result<(), TilesError> {
        self.check_block(index, to.layout.block_len())?;
        to.check_block(place, self.layout.block_len())?;
        match std::mem::replace(&mut self.blocks[index], Block::Taken) {
            Block::Zeroes => to.blocks[place] = Block::Zeroes,
            Block::Stored(block) => to.settle(place, block, outlook),
            Block::Taken => return Err(TilesError::Taken { block: index }),
        }
        Ok(())
    }

    /// Starts to read block `index` in, as far as there is room. Past the end: nothing.
    pub fn prefetch_block(&self, index: usize) {
        if let Some(Block::Stored(block)) = self.blocks.get(index) {
            block.prefetch();
        }
    }

    /// Puts a block in its place, with hints for the walk to come.
    fn settle(&mut self, index: usize, block: Spillable<T>, outlook: Outlook) {
        let order = self.order(index, outlook.next);
        block.hint(Hint::NextUse(2 * order as u64));
        if outlook.texture == Texture::Uniform {
            block.hint(Hint::Uniform);
        }
        if !self.is_kept(order) {
            block.write_back();
        }
        self.blocks[index] = Block::Stored(block);
    }

    fn check_block(&self, index: usize, found: usize) -> Result<(), TilesError> {
        let (end, expected) = (self.blocks.len(), self.layout.block_len());
        if index >= end {
            return Err(TilesError::Outside { what: "block", found: index, end });
        }
        if found != expected {
            return Err(TilesError::ScratchLength { expected, found });
        }
        Ok(())
    }
}
