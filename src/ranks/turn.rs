//! A vector whose rows are shared out becomes one whose columns are, and back.
//!
//! ```text
//!            rank 0's columns   rank 1's
//!          +------------------+----------+
//!   rank 0 |  stays           |  0 <- 1  |      columns to rows: rank q gets of each rank the
//!   's rows+------------------+----------+      blocks that lie in q's rows, and keeps its own
//!   rank 1 |  1 <- 0          |  stays   |
//!          +------------------+----------+
//! ```
//!
//! A tile is a block of [`Tiles`]: it leaves the one vector and arrives in the other, both of which
//! may be mostly on disk. What stays on its rank changes hands without being looked at. So a turn
//! holds two tiles beside what it moves.
//!
//! Invariants: every block is moved once; after a turn that failed no block of the vector is left.
//!
//! It must never mix two states of a vector: the old one is used up as the new one is made.

use super::error::{ExchangeError, Refusal, RefusalKind};
use super::exchange::{Exchange, Transposition};
use crate::Runtime;
use crate::spill::Lanes;
use crate::tiles::{Layout, Outlook, Share, Texture, Tiles, TilesError, Walk};
use plimsoll_arena::{PoolVec, bytes_of, bytes_of_mut};
use std::ops::Range;

/// Which part of a matrix a rank has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareOf {
    /// Some whole rows.
    Rows,
    /// Some whole columns.
    Columns,
}

impl ShareOf {
    fn other(self) -> Self {
        match self {
            ShareOf::Rows => ShareOf::Columns,
            ShareOf::Columns => ShareOf::Rows,
        }
    }
}

/// A turn of one matrix from one side to the other: arithmetic only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareTurn {
    /// The layout of the whole matrix.
    pub whole: Layout,
    /// Which part of it a rank has before. It has the other afterwards.
    pub from: ShareOf,
}

/// Row stripes and column stripes whose blocks go from one rank to another.
type Rectangle = (Range<usize>, Range<usize>);

impl ShareTurn {
    /// The blocks that go from `from` to `to`.
    fn rectangle(&self, from: Share, to: Share) -> Rectangle {
        let (rows, columns) = (self.whole.row_stripes(), self.whole.column_stripes());
        match self.from {
            ShareOf::Columns => (to.range(rows), from.range(columns)),
            ShareOf::Rows => (from.range(rows), to.range(columns)),
        }
    }

    /// Blocks that go from `from` to `to`.
    fn count(&self, from: Share, to: Share) -> usize {
        let (rows, columns) = self.rectangle(from, to);
        rows.len() * columns.len()
    }

    /// Blocks that the rank `share` sends to all others.
    #[must_use]
    pub fn sent_blocks(&self, share: Share) -> usize {
        share.all().filter(|to| *to != share).map(|to| self.count(share, to)).sum()
    }

    /// The index that a block of the whole matrix has in the part that a rank has on `side`.
    fn index(&self, side: ShareOf, share: Share, (row, column): (usize, usize)) -> usize {
        let (rows, columns) = (self.whole.row_stripes(), self.whole.column_stripes());
        match side {
            ShareOf::Rows => (row - share.range(rows).start) * columns + column,
            ShareOf::Columns => {
                let own = share.range(columns);
                row * own.len() + column - own.start
            }
        }
    }

    /// Makes the turn of a vector: `tiles` is this rank's part on the one side, and what comes back
    /// is its part on the other. Alone it is the vector itself.
    ///
    /// # Errors
    ///
    /// [`ExchangeError`], on all ranks.
    pub fn make<T: Lanes>(
        self,
        runtime: &Runtime,
        tiles: Tiles<T>,
        texture: Texture,
        exchange: &mut dyn Exchange,
    ) -> Result<Tiles<T>, ExchangeError> {
        let (rank, ranks) = (exchange.rank(), exchange.ranks());
        let Some(share) = Share::new(rank, ranks) else {
            return Err(ExchangeError::NoSuchRank { rank, ranks });
        };
        if ranks == 1 {
            return Ok(tiles);
        }
        let started = TurnUnderWay::new(runtime, self, share, tiles, texture);
        match started.map_err(|error| refusal(rank, &error)) {
            Ok(mut moving) => {
                exchange.agree(Ok(()))?;
                exchange.transpose(&mut moving)?;
                Ok(moving.back)
            }
            Err(refusal) => {
                let why = refusal.clone();
                exchange.agree(Err(refusal))?;
                Err(why.into())
            }
        }
    }
}

fn refusal(rank: usize, error: &TilesError) -> Refusal {
    let short = matches!(error, TilesError::Runtime(error) if error.is_short_of_memory());
    let kind = if short { RefusalKind::Memory } else { RefusalKind::Input };
    Refusal { rank, kind, why: error.to_string() }
}

/// A turn under way.
struct TurnUnderWay<T: Lanes> {
    turn: ShareTurn,
    share: Share,
    outlook: Outlook,
    /// What is left of the old side.
    out: Tiles<T>,
    /// What has come of the new one.
    back: Tiles<T>,
    leaving: PoolVec<T>,
    arriving: PoolVec<T>,
}

impl<T: Lanes> TurnUnderWay<T> {
    fn new(
        runtime: &Runtime,
        turn: ShareTurn,
        share: Share,
        mut out: Tiles<T>,
        texture: Texture,
    ) -> Result<Self, TilesError> {
        let whole = turn.whole;
        let (layout, next) = match turn.from {
            ShareOf::Rows => (share.columns(whole), Walk::Columns),
            ShareOf::Columns => (share.rows(whole), Walk::Rows),
        };
        let empty = |_| TilesError::Outside { what: "rank", found: share.rank(), end: 1 };
        let mut back = out.like(layout.map_err(empty)?);
        let outlook = Outlook { next, texture };
        for place in places(turn.rectangle(share, share)) {
            let index = turn.index(turn.from, share, place);
            let there = turn.index(turn.from.other(), share, place);
            out.hand_block(index, &mut back, there, outlook)?;
        }
        let buffer = || {
            let zeroed = runtime.pool_of(out.secrecy()).try_zeroed::<T>(whole.block_len());
            zeroed.map_err(|error| runtime.explain("exchange", error))
        };
        let (leaving, arriving) = (buffer()?, buffer()?);
        Ok(Self { turn, share, outlook, out, back, leaving, arriving })
    }

    fn rank(&self, rank: usize) -> Share {
        Share::new(rank, self.share.ranks()).unwrap_or(self.share)
    }
}

/// The blocks of a rectangle, row after row.
fn places((rows, columns): Rectangle) -> impl Iterator<Item = (usize, usize)> {
    rows.flat_map(move |row| columns.clone().map(move |column| (row, column)))
}

fn place((rows, columns): &Rectangle, tile: usize) -> (usize, usize) {
    (rows.start + tile / columns.len().max(1), columns.start + tile % columns.len().max(1))
}

impl<T: Lanes> Transposition for TurnUnderWay<T> {
    fn tiles_to(&self, to: usize) -> usize {
        self.turn.count(self.share, self.rank(to))
    }

    fn tiles_from(&self, from: usize) -> usize {
        self.turn.count(self.rank(from), self.share)
    }

    fn tiles_most(&self) -> usize {
        let ranks = self.share.ranks();
        self.turn.whole.row_stripes().div_ceil(ranks)
            * self.turn.whole.column_stripes().div_ceil(ranks)
    }

    fn pack(&mut self, to: usize, tile: usize) -> Result<(), Refusal> {
        let rectangle = self.turn.rectangle(self.share, self.rank(to));
        let index = |tile| self.turn.index(self.turn.from, self.share, place(&rectangle, tile));
        if tile + 1 < rectangle.0.len() * rectangle.1.len() {
            self.out.prefetch_block(index(tile + 1));
        }
        let taken = self.out.take_block(index(tile), &mut self.leaving);
        taken.map_err(|error| refusal(self.share.rank(), &error))
    }

    fn unpack(&mut self, from: usize, tile: usize) -> Result<(), Refusal> {
        let rectangle = self.turn.rectangle(self.rank(from), self.share);
        let there = self.turn.from.other();
        let index = self.turn.index(there, self.share, place(&rectangle, tile));
        let stored = self.back.store_block(index, &self.arriving, self.outlook);
        stored.map_err(|error| refusal(self.share.rank(), &error))
    }

    fn buffers(&mut self) -> (&[u8], &mut [u8]) {
        (bytes_of(&self.leaving), bytes_of_mut(&mut self.arriving))
    }
}
