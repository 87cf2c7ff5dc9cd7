//! Which part of a matrix is whose, where several ranks hold one vector: pure arithmetic.
//!
//! ```text
//!   rank 0   | row stripes 0, 1, 2    |           | column   | column   | column   |
//!   rank 1   | row stripes 3, 4       |     or    | stripes  | stripes  | stripes  |
//!   rank 2   | row stripes 5, 6, 7    |           | 0, 1     | 2, 3, 4  | 5, 6, 7  |
//! ```
//!
//! A rank has whole stripes, so a block has one owner in either cut, and nothing is cut in two when
//! rows become columns.
//!
//! Invariants: the ranges of all ranks follow each other and cover `0..count`; two of them differ
//! in length by one at most; `rank < ranks`.

use super::layout::{Layout, LayoutError};
use std::ops::Range;

/// The place of a rank among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    rank: usize,
    ranks: usize,
}

impl Share {
    /// Everything, where there is one rank.
    pub const WHOLE: Share = Share { rank: 0, ranks: 1 };

    /// The place of rank `rank` of `ranks`; `None` unless `rank < ranks`.
    #[must_use]
    pub fn new(rank: usize, ranks: usize) -> Option<Self> {
        (rank < ranks).then_some(Self { rank, ranks })
    }

    /// The number of this rank, from zero.
    #[must_use]
    pub fn rank(self) -> usize {
        self.rank
    }

    /// How many ranks there are.
    #[must_use]
    pub fn ranks(self) -> usize {
        self.ranks
    }

    /// The place of the first of `ranks` ranks, or of the only one.
    #[must_use]
    pub fn first_of(ranks: usize) -> Self {
        Self { rank: 0, ranks: ranks.max(1) }
    }

    /// The places of all ranks, in order.
    pub fn all(self) -> impl Iterator<Item = Share> {
        (0..self.ranks).map(move |rank| Share { rank, ..self })
    }

    /// This rank's part of `count` things in a row.
    #[must_use]
    pub fn range(self, count: usize) -> Range<usize> {
        let start = |rank: usize| (count as u128 * rank as u128 / self.ranks as u128) as usize;
        start(self.rank)..start(self.rank + 1)
    }

    /// The layout of this rank's rows of a matrix.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] when there are more ranks than row stripes.
    pub fn rows(self, whole: Layout) -> Result<Layout, LayoutError> {
        let rows = self.range(whole.row_stripes()).len() * whole.block_rows();
        Layout::new(rows, whole.columns(), whole.block_rows(), whole.block_columns())
    }

    /// The layout of this rank's columns of a matrix.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] when there are more ranks than column stripes.
    pub fn columns(self, whole: Layout) -> Result<Layout, LayoutError> {
        let columns = self.range(whole.column_stripes()).len() * whole.block_columns();
        Layout::new(whole.rows(), columns, whole.block_rows(), whole.block_columns())
    }

    /// The first of this rank's rows.
    #[must_use]
    pub fn first_row(self, whole: Layout) -> usize {
        self.range(whole.row_stripes()).start * whole.block_rows()
    }

    /// The first of this rank's columns.
    #[must_use]
    pub fn first_column(self, whole: Layout) -> usize {
        self.range(whole.column_stripes()).start * whole.block_columns()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_each_other_and_differ_by_one_at_most() {
        for ranks in 1..=9 {
            for count in 0..40 {
                let ranges: Vec<_> =
                    (0..ranks).map(|r| Share::new(r, ranks).unwrap().range(count)).collect();
                assert_eq!((ranges[0].start, ranges[ranks - 1].end), (0, count));
                assert!(ranges.windows(2).all(|two| two[0].end == two[1].start), "{ranges:?}");
                let lengths = || ranges.iter().map(ExactSizeIterator::len);
                assert!(lengths().max().unwrap() - lengths().min().unwrap() <= 1, "{ranges:?}");
            }
        }
        assert_eq!(Share::new(2, 2), None);
        assert_eq!(Share::WHOLE.range(7), 0..7);
    }
}
