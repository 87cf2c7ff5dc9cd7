//! The shape of a tiled vector: pure arithmetic, no memory.
//!
//! ```text
//!   element i = row i / columns, column i % columns         (natural order is row-major)
//!   block   b = (row / block_rows) * blocks_across + column / block_columns
//!   inside a block row-major again
//! ```
//!
//! Invariants: `block_rows` divides `rows`, `block_columns` divides `columns`, none is zero,
//! `rows * columns` fits `usize`. So every index below the length has one block and one place in
//! it, and `transposed` of `transposed` is the layout itself.
//!
//! It must never allocate or know what an element is.

use std::fmt;

/// A layout whose blocks do not divide the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a vector of {layout} is not whole: choose blocks, at least 1 x 1, that divide the matrix, and \
     a length that fits the address space"
)]
pub struct LayoutError {
    /// What was asked for.
    pub layout: Layout,
}

/// How a vector of `rows * columns` elements is cut into blocks, and where each element lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    rows: usize,
    columns: usize,
    block_rows: usize,
    block_columns: usize,
}

impl Layout {
    /// A matrix of `rows` by `columns` elements, in blocks of `block_rows` by `block_columns`.
    ///
    /// # Errors
    /// [`LayoutError`] when a number is zero, a block does not divide the matrix, or the
    /// length is beyond `usize`.
    pub fn new(
        rows: usize,
        columns: usize,
        block_rows: usize,
        block_columns: usize,
    ) -> Result<Self, LayoutError> {
        let layout = Self { rows, columns, block_rows, block_columns };
        let whole = [rows, columns, block_rows, block_columns].iter().all(|number| *number > 0)
            && rows.is_multiple_of(block_rows)
            && columns.is_multiple_of(block_columns)
            && rows.checked_mul(columns).is_some();
        if whole { Ok(layout) } else { Err(LayoutError { layout }) }
    }

    /// Rows of the matrix.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the matrix, the elements of a row.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Rows of a block.
    #[must_use]
    pub fn block_rows(&self) -> usize {
        self.block_rows
    }

    /// Columns of a block, the elements of its row.
    #[must_use]
    pub fn block_columns(&self) -> usize {
        self.block_columns
    }

    /// Elements of the vector.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a layout is never empty")]
    pub fn len(&self) -> usize {
        self.rows * self.columns
    }

    /// Elements of a block.
    #[must_use]
    pub fn block_len(&self) -> usize {
        self.block_rows * self.block_columns
    }

    /// Blocks of the vector.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.row_stripes() * self.column_stripes()
    }

    /// Row stripes, `block_rows` rows each; also the blocks of a column stripe.
    #[must_use]
    pub fn row_stripes(&self) -> usize {
        self.rows / self.block_rows
    }

    /// Column stripes, `block_columns` columns each; also the blocks of a row stripe.
    #[must_use]
    pub fn column_stripes(&self) -> usize {
        self.columns / self.block_columns
    }

    /// Elements of a row stripe. Stripe `s` holds the natural range
    /// `s * row_stripe_len .. (s + 1) * row_stripe_len`.
    #[must_use]
    pub fn row_stripe_len(&self) -> usize {
        self.block_rows * self.columns
    }

    /// Elements of a column stripe.
    #[must_use]
    pub fn column_stripe_len(&self) -> usize {
        self.rows * self.block_columns
    }

    /// The layout of the transposed matrix, whose blocks are the transposed blocks.
    #[must_use]
    pub fn transposed(&self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            block_rows: self.block_columns,
            block_columns: self.block_rows,
        }
    }

    /// The index of the block at `row_stripe` and `column_stripe`.
    #[must_use]
    pub fn block_index(&self, row_stripe: usize, column_stripe: usize) -> usize {
        row_stripe * self.column_stripes() + column_stripe
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} x {} in blocks of {} x {}",
            self.rows, self.columns, self.block_rows, self.block_columns
        )
    }
}
