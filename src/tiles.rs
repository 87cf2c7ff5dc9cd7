//! A vector as a matrix of blocks, each of which may leave memory on its own.
//!
//! A transform out of core walks a large vector once by rows and once by columns, and needs large
//! reads in both walks. A row-major file gives large reads for rows only. Blocks give them for
//! both:
//!
//! ```text
//!            w        w        w                     N = rows * columns, natural order row-major
//!        +--------+--------+--------+
//!      h |   0    |   1    |   2    |  row stripe: h whole rows, a natural range,
//!        +--------+--------+--------+  `columns / w` blocks
//!      h |   3    |   4    |   5    |
//!        +--------+--------+--------+
//!                     column stripe: w whole columns, `rows / h` blocks
//! ```
//!
//! ```
//! use plimsoll::tiles::{Layout, Tiles};
//! use plimsoll::{Runtime, Secrecy};
//!
//! let runtime = Runtime::builder().own_limit().limit_bytes(1 << 30).build()?;
//! let layout = Layout::new(64, 64, 16, 16)?; // 64 rows, 64 columns, blocks of 16 x 16
//! let mut matrix = Tiles::<u64>::zeroed(&runtime, layout, Secrecy::Public);
//! matrix.write_range(130, &[1, 2, 3])?; // row 2, from column 2 on
//! let mut stripe = vec![0; 16 * 64];
//! matrix.load_columns(0, &mut stripe)?; // columns 0 to 15, one after the other
//! assert_eq!(stripe[2 * 64 + 2], 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Every block is a [`Spillable`] of its own, row-major inside. With a scratch of M bytes for a
//! stripe and N bytes in all, a block has M^2/N bytes (J. S. Vitter, "Algorithms and Data
//! Structures for External Memory", 2008, chapter 6).
//!
//! A block is in one of three states:
//!
//! ```text
//!   Zeroes --write, store--> Stored --take--> Taken        reading Taken is an error, not zeroes
//!                              ^-----store------'
//! ```
//!
//! While everything fits under the limit, no block is written anywhere. Must never: hold more
//! memory than the blocks, and one block for each thread during a load or store.

mod blocks;
mod error;
mod layout;
mod moves;
mod ranges;
mod share;
#[cfg(test)]
mod tests;

pub use error::TilesError;
pub use layout::{Layout, LayoutError};
pub use share::Share;

use crate::Runtime;
use crate::spill::{Hint, Lanes, Spillable};
use moves::Side;
use plimsoll_arena::{PoolVec, Secrecy};
use rayon::prelude::*;

/// How a program walks the vector next. It decides which blocks leave memory first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// By row stripes, from the first.
    Rows,
    /// By column stripes, from the first.
    Columns,
}

/// What stored values look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Texture {
    /// Unknown: packing them is worth a try.
    Any,
    /// Like random numbers, as a transform's results do: packing them gains nothing.
    Uniform,
}

/// What the caller knows about the blocks of a stripe that it stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// The next walk over the whole vector.
    pub next: Walk,
    /// What the values look like.
    pub texture: Texture,
}

enum Block<T: Lanes> {
    Zeroes,
    Stored(Spillable<T>),
    Taken,
}

/// A vector of `rows * columns` elements, cut into blocks that may each leave memory.
///
/// Fresh tiles are all zeros and hold no memory. If a call that stores or takes fails, blocks may
/// be missing. Reading these later returns [`TilesError::Taken`], never a wrong value.
pub struct Tiles<T: Lanes> {
    runtime: Runtime,
    layout: Layout,
    secrecy: Secrecy,
    kept_blocks: usize,
    blocks: Vec<Block<T>>,
}

impl<T: Lanes> std::fmt::Debug for Tiles<T> {
    /// Leaves the elements out: they may be a witness.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tiles").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl<T: Lanes> Tiles<T> {
    /// Makes a vector of zeros. It takes no memory until somebody writes to it, and then takes it
    /// from [`Runtime::pool_of`] `secrecy`.
    #[must_use]
    pub fn zeroed(runtime: &Runtime, layout: Layout, secrecy: Secrecy) -> Self {
        let blocks = (0..layout.blocks()).map(|_| Block::Zeroes).collect();
        Self { runtime: runtime.clone(), layout, secrecy, kept_blocks: 0, blocks }
    }

    /// Returns the shape of the matrix and of its blocks.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Returns the number of elements, which is never zero.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a layout is never empty")]
    pub fn len(&self) -> usize {
        self.layout.len()
    }

    /// Returns the secrecy of the pool that the blocks come from.
    #[must_use]
    pub fn secrecy(&self) -> Secrecy {
        self.secrecy
    }

    /// Says whether no block was ever written: then all elements are zero.
    #[cfg(feature = "ark")]
    pub(crate) fn is_unwritten(&self) -> bool {
        self.blocks.iter().all(|block| matches!(block, Block::Zeroes))
    }

    /// Moves all blocks out and leaves `self` with every block taken. A caller that fails half-way
    /// then loses the vector, instead of mixing two states of it.
    #[must_use]
    pub fn detach(&mut self) -> Self {
        let taken = (0..self.blocks.len()).map(|_| Block::Taken).collect();
        let blocks = std::mem::replace(&mut self.blocks, taken);
        Self { blocks, ..self.like(self.layout) }
    }

    /// Makes a vector of zeros in `layout`, with the runtime and the settings of this one.
    #[must_use]
    pub fn like(&self, layout: Layout) -> Self {
        let mut tiles = Self::zeroed(&self.runtime, layout, self.secrecy);
        tiles.keep(self.kept_blocks);
        tiles
    }

    /// Sets how many blocks should stay in memory between two walks; without this call none is
    /// chosen to stay. The chosen blocks are spread evenly over the next walk. The others begin to
    /// leave as soon as they are stored and room is short.
    pub fn keep(&mut self, blocks: usize) {
        self.kept_blocks = blocks;
    }

    /// Copies row stripe `stripe`, a natural range, into `scratch`.
    ///
    /// # Errors
    /// [`TilesError`]: wrong length or stripe, a block that was taken, memory, the disk.
    pub fn load_rows(&self, stripe: usize, scratch: &mut [T]) -> Result<(), TilesError> {
        self.load(Side::Rows, stripe, scratch)
    }

    /// Copies column stripe `stripe` into `scratch`, column after column.
    ///
    /// # Errors
    /// As [`Tiles::load_rows`].
    pub fn load_columns(&self, stripe: usize, scratch: &mut [T]) -> Result<(), TilesError> {
        self.load(Side::Columns, stripe, scratch)
    }

    /// As [`Tiles::load_rows`], for the last time: frees the memory of the blocks.
    ///
    /// # Errors
    /// As [`Tiles::load_rows`]; blocks of the stripe are then taken.
    pub fn take_rows(&mut self, stripe: usize, scratch: &mut [T]) -> Result<(), TilesError> {
        self.take(Side::Rows, stripe, scratch)
    }

    /// As [`Tiles::load_columns`], for the last time: frees the memory of the blocks.
    ///
    /// # Errors
    /// As [`Tiles::load_rows`]; blocks of the stripe are then taken.
    pub fn take_columns(&mut self, stripe: usize, scratch: &mut [T]) -> Result<(), TilesError> {
        self.take(Side::Columns, stripe, scratch)
    }

    /// Replaces the blocks of row stripe `stripe` by new ones with the elements of `scratch`.
    ///
    /// # Errors
    /// As [`Tiles::load_rows`]; the stripe's blocks are then what they were.
    pub fn store_rows(
        &mut self,
        stripe: usize,
        scratch: &[T],
        outlook: Outlook,
    ) -> Result<(), TilesError> {
        self.store(Side::Rows, stripe, scratch, outlook)
    }

    /// Replaces the blocks of column stripe `stripe`; `scratch` holds column after column.
    ///
    /// # Errors
    /// As [`Tiles::load_rows`]; the stripe's blocks are then what they were.
    pub fn store_columns(
        &mut self,
        stripe: usize,
        scratch: &[T],
        outlook: Outlook,
    ) -> Result<(), TilesError> {
        self.store(Side::Columns, stripe, scratch, outlook)
    }

    /// Starts to read row stripe `stripe` in, as far as there is room. Past the end: nothing.
    pub fn prefetch_rows(&self, stripe: usize) {
        self.prefetch(Side::Rows, stripe);
    }

    /// Starts to read column stripe `stripe` in, as far as there is room. Past the end: nothing.
    pub fn prefetch_columns(&self, stripe: usize) {
        self.prefetch(Side::Columns, stripe);
    }

    fn prefetch(&self, side: Side, stripe: usize) {
        if stripe < self.stripes(side) {
            for index in self.stripe_blocks(side, stripe) {
                if let Block::Stored(block) = &self.blocks[index] {
                    block.prefetch();
                }
            }
        }
    }

    fn stripes(&self, side: Side) -> usize {
        match side {
            Side::Rows => self.layout.row_stripes(),
            Side::Columns => self.layout.column_stripes(),
        }
    }

    /// The indices of a stripe's blocks, in the order of its lanes.
    fn stripe_blocks(&self, side: Side, stripe: usize) -> impl Iterator<Item = usize> + use<T> {
        let (first, step, count) = match side {
            Side::Rows => (self.layout.block_index(stripe, 0), 1, self.layout.column_stripes()),
            Side::Columns => (stripe, self.layout.column_stripes(), self.layout.row_stripes()),
        };
        (0..count).map(move |k| first + k * step)
    }

    /// The length of a lane, and of the run of one block in it.
    fn lane(&self, side: Side) -> (usize, usize) {
        match side {
            Side::Rows => (self.layout.columns(), self.layout.block_columns()),
            Side::Columns => (self.layout.rows(), self.layout.block_rows()),
        }
    }

    fn check_stripe(&self, side: Side, stripe: usize, found: usize) -> Result<(), TilesError> {
        let (what, expected) = match side {
            Side::Rows => ("row stripe", self.layout.row_stripe_len()),
            Side::Columns => ("column stripe", self.layout.column_stripe_len()),
        };
        let end = self.stripes(side);
        if stripe >= end {
            return Err(TilesError::Outside { what, found: stripe, end });
        }
        if found != expected {
            return Err(TilesError::ScratchLength { expected, found });
        }
        Ok(())
    }

    fn load(&self, side: Side, stripe: usize, scratch: &mut [T]) -> Result<(), TilesError> {
        self.check_stripe(side, stripe, scratch.len())?;
        let (lane_len, run) = self.lane(side);
        let lanes = scratch.chunks_exact_mut(lane_len).collect();
        let blocks = self.stripe_blocks(side, stripe).collect();
        moves::share_out(lanes, run, blocks, &|lanes, index: usize| {
            match &self.blocks[index] {
                Block::Zeroes => moves::clear(lanes),
                Block::Stored(block) => moves::unpack(side, &block.read()?, lanes),
                Block::Taken => return Err(TilesError::Taken { block: index }),
            }
            Ok(())
        })
    }

    fn take(&mut self, side: Side, stripe: usize, scratch: &mut [T]) -> Result<(), TilesError> {
        self.check_stripe(side, stripe, scratch.len())?;
        let (lane_len, run) = self.lane(side);
        let lanes = scratch.chunks_exact_mut(lane_len).collect();
        let blocks: Vec<(usize, Block<T>)> = self
            .stripe_blocks(side, stripe)
            .map(|index| (index, std::mem::replace(&mut self.blocks[index], Block::Taken)))
            .collect();
        moves::share_out(lanes, run, blocks, &|lanes, (index, block)| {
            match block {
                Block::Zeroes => moves::clear(lanes),
                Block::Stored(block) => moves::unpack(side, &block.take()?, lanes),
                Block::Taken => return Err(TilesError::Taken { block: index }),
            }
            Ok(())
        })
    }

    fn store(
        &mut self,
        side: Side,
        stripe: usize,
        scratch: &[T],
        outlook: Outlook,
    ) -> Result<(), TilesError> {
        self.check_stripe(side, stripe, scratch.len())?;
        let (lane_len, run) = self.lane(side);
        let indices: Vec<usize> = self.stripe_blocks(side, stripe).collect();
        let made: Result<Vec<Spillable<T>>, TilesError> = indices
            .par_iter()
            .enumerate()
            .with_max_len(1)
            .map(|(k, index)| {
                let mut block = self.fresh_block()?;
                let width = self.layout.block_columns();
                moves::pack(side, scratch, lane_len, k * run, &mut block, width);
                let block = self.runtime.spillable(block);
                let order = self.order(*index, outlook.next);
                block.hint(Hint::NextUse(self.distance(side, stripe, order)));
                if outlook.texture == Texture::Uniform {
                    block.hint(Hint::Uniform);
                }
                if !self.is_kept(order) {
                    block.write_back();
                }
                Ok(block)
            })
            .collect();
        for (index, block) in indices.into_iter().zip(made?) {
            self.blocks[index] = Block::Stored(block);
        }
        Ok(())
    }

    /// The place of block `index` in a walk.
    fn order(&self, index: usize, walk: Walk) -> usize {
        let across = self.layout.column_stripes();
        match walk {
            Walk::Rows => index,
            Walk::Columns => index % across * self.layout.row_stripes() + index / across,
        }
    }

    /// How many blocks are made or brought in between a store in `stripe` and a use at `order` of
    /// the next walk: the rest of this walk, and what comes before in the next. Each block of a
    /// walk counts twice: it is brought in, and made again.
    fn distance(&self, side: Side, stripe: usize, order: usize) -> u64 {
        let blocks = self.blocks.len();
        let rest = blocks - (stripe + 1) * (blocks / self.stripes(side));
        2 * (rest + order) as u64
    }

    /// Whether the block at `order` is one of those to keep: `kept_blocks` of all, evenly spread.
    fn is_kept(&self, order: usize) -> bool {
        let blocks = self.blocks.len();
        let kept = |order: usize| order as u128 * self.kept_blocks.min(blocks) as u128;
        kept(order + 1) / blocks as u128 > kept(order) / blocks as u128
    }

    fn fresh_block(&self) -> Result<PoolVec<T>, TilesError> {
        let pool = self.runtime.pool_of(self.secrecy);
        let block = pool.try_zeroed(self.layout.block_len());
        Ok(block.map_err(|error| self.runtime.explain("tiles", error))?)
    }
}
