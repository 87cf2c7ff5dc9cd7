//! A transform out of core that was begun: what is left of it, and the row passes that come next.
//!
//! ```text
//!   Tiles --begin, visit--> Rows(form) --rows--> Columns (a shift) --visit--> Tiles
//!                                |                                              ^
//!                                '---------------rows (any other form)----------'
//! ```
//!
//! Between two passes the blocks hold neither coefficients nor values, so nobody may read them. A
//! [`Pending`] keeps them, together with the form and its offset: they cannot be forgotten, nor
//! given wrongly for the second pass.
//!
//! Invariant: tiles that anybody else can reach are whole, or each of their blocks reads as taken.

use super::NttError;
use super::out_of_core::{OutOfCore, OutOfCoreError, for_each_lane};
use super::transform::Form;
use crate::spill::Lanes;
use crate::tiles::{Layout, Outlook, Texture, Tiles, Walk};
use ark_ff::FftField;

/// What is left of a transform.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rest<F> {
    /// It is over, or was never begun.
    Nothing,
    /// The rows, and for a shift the columns after them.
    Rows(Form<F>),
    /// The columns of a shift.
    Columns,
}

/// A vector in the midst of a transform. [`Pending::finish`] is the only way to its values, but for
/// a visit that goes on with them ([`super::Visit`]).
///
/// ```compile_fail,E0599
/// # use ark_bn254::Fr;
/// # use plimsoll::ntt::{Form, OutOfCore, Plan};
/// # use plimsoll::{Runtime, Secrecy};
/// # let runtime = Runtime::builder().build().unwrap();
/// # let transform =
/// #     OutOfCore::<Fr>::new(&runtime, Plan::new(12, 32, 256 << 10).unwrap()).unwrap();
/// let vector = transform.vector(Secrecy::Secret);
/// let half_done = transform.begin(vector, Form::Forward(Fr::from(5))).unwrap();
/// half_done.read_range(0, &mut [Fr::from(0)]).unwrap(); // `half_done.finish(&transform)?` first
/// ```
#[must_use = "a transform that is half done: `finish` it"]
pub struct Pending<F: FftField + Lanes> {
    pub(super) tiles: Tiles<F>,
    pub(super) rest: Rest<F>,
}

impl<F: FftField + Lanes> std::fmt::Debug for Pending<F> {
    /// Leaves the elements out: they may be a witness.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("tiles", &self.tiles).finish_non_exhaustive()
    }
}

impl<F: FftField + Lanes> From<Tiles<F>> for Pending<F> {
    /// A vector with nothing left to do.
    fn from(tiles: Tiles<F>) -> Self {
        Self { tiles, rest: Rest::Nothing }
    }
}

impl<F: FftField + Lanes> Pending<F> {
    /// The matrix and its blocks; transposed by the rows of every form but a shift.
    pub fn layout(&self) -> Layout {
        self.tiles.layout()
    }

    /// Gives the blocks to `turn`, which returns those that are here next: of other rows, or of
    /// other columns, of the same vector.
    #[cfg(feature = "groth16")]
    pub(crate) fn try_turn<E>(
        self,
        turn: impl FnOnce(Tiles<F>) -> Result<Tiles<F>, E>,
    ) -> Result<Self, E> {
        Ok(Self { tiles: turn(self.tiles)?, rest: self.rest })
    }

    /// Does the rows now, where they come next: what a visit or [`Pending::finish`] would do first.
    ///
    /// # Errors
    /// [`OutOfCoreError`]; the vector is then lost.
    pub fn rows(self, by: &OutOfCore<F>) -> Result<Self, OutOfCoreError> {
        let Rest::Rows(form) = self.rest else { return Ok(self) };
        let tiles = self.tiles;
        match form {
            Form::Forward(offset) => by.rows_forward(tiles, offset).map(Self::from),
            Form::Inverse(offset) => by.rows_inverse(tiles, offset).map(Self::from),
            Form::Shift(offset) => {
                Ok(Self { tiles: by.rows_shift(tiles, offset)?, rest: Rest::Columns })
            }
        }
    }
}

impl<F: FftField + Lanes> OutOfCore<F> {
    /// The second pass of [`Form::Forward`]: values on the coset, in natural order.
    fn rows_forward(&self, tiles: Tiles<F>, offset: F) -> Result<Tiles<F>, OutOfCoreError> {
        self.rows_transposed(tiles, |row, values| {
            let offset = offset * self.root.pow([row as u64]);
            self.kernel(values.len()).coset_fft(values, offset)
        })
    }

    /// The second pass of [`Form::Inverse`]: coefficients in natural order.
    fn rows_inverse(&self, tiles: Tiles<F>, offset: F) -> Result<Tiles<F>, OutOfCoreError> {
        let offset = offset.pow([self.whole_of_rows(tiles.layout())?.0.rows() as u64]);
        self.rows_transposed(tiles, |_, values| {
            self.kernel(values.len()).coset_ifft(values, offset)
        })
    }

    /// The second of the three passes of [`Form::Shift`], in place.
    fn rows_shift(&self, mut tiles: Tiles<F>, offset: F) -> Result<Tiles<F>, OutOfCoreError> {
        let layout = tiles.layout();
        let offset = offset.pow([self.whole_of_rows(layout)?.0.rows() as u64]);
        let mut scratch = self.scratch(tiles.secrecy(), layout.row_stripe_len())?;
        tiles.prefetch_rows(0);
        for stripe in 0..layout.row_stripes() {
            tiles.prefetch_rows(stripe + 1);
            tiles.take_rows(stripe, &mut scratch)?;
            self.count_read(&scratch);
            let kernel = self.kernel(layout.columns());
            for_each_lane(&mut scratch, layout.columns(), |_, row| {
                kernel.shift_to_coset(row, offset)
            })?;
            let outlook = Outlook { next: Walk::Columns, texture: Texture::Uniform };
            tiles.store_rows(stripe, &scratch, outlook)?;
            self.count_written(&scratch);
        }
        Ok(tiles)
    }

    fn rows_transposed(
        &self,
        mut source: Tiles<F>,
        transform: impl Fn(usize, &mut [F]) -> Result<(), NttError> + Sync,
    ) -> Result<Tiles<F>, OutOfCoreError> {
        let layout = source.layout();
        let (_, first_row) = self.whole_of_rows(layout)?;
        let mut scratch = self.scratch(source.secrecy(), layout.row_stripe_len())?;
        let mut target = source.like(layout.transposed());
        source.prefetch_rows(0);
        for stripe in 0..layout.row_stripes() {
            source.prefetch_rows(stripe + 1);
            source.take_rows(stripe, &mut scratch)?;
            self.count_read(&scratch);
            let first = first_row + stripe * layout.block_rows();
            for_each_lane(&mut scratch, layout.columns(), |k, row| transform(first + k, row))?;
            let outlook = Outlook { next: Walk::Rows, texture: Texture::Uniform };
            target.store_columns(stripe, &scratch, outlook)?;
            self.count_written(&scratch);
        }
        Ok(target)
    }
}
