//! The column passes of a transform out of core, open to whoever combines vectors.
//!
//! A column pass holds whole columns of the natural order of what goes in or comes out. So the
//! pointwise work of a prover needs no pass of its own: it is done while a stripe of each vector is
//! in memory anyway.
//!
//! ```text
//!   stripe s:    a  --enter--> [ columns of a ] --.                 .-- [ .. ] --leave--> a
//!                b  --enter--> [ columns of b ] --+-- combine(s) ---+-- [ .. ] --leave--> b
//!                c  --enter--> [ columns of c ] --'                 '-- [ .. ] --leave--> c
//!
//!   enter   Zeroes    nothing is read            leave   Dropped      nothing is stored
//!           Stored    as it is                           Stored       as it is
//!           Shifted   third pass of a shift              Toward(form) first pass of a transform
//! ```
//!
//! Invariants: every stripe enters once and leaves once, in order; a vector is either whole, or
//! lost to an error. `combine` never sees an order other than the natural one.
//!
//! It must never hold more than one stripe of each vector; the plan counts as many.

use super::NttError;
use super::out_of_core::{OutOfCore, OutOfCoreError, for_each_lane};
use super::transform::Form;
use crate::spill::Lanes;
use crate::tiles::{Layout, Outlook, Texture, Tiles, Walk};
use ark_ff::FftField;

/// How a column stripe comes into a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enter {
    /// As zeroes; what the vector was is dropped.
    Zeroes,
    /// As it is stored: natural order.
    Stored,
    /// As the last pass of a shift, after [`OutOfCore::rows_shift`]: values on the coset.
    Shifted,
}

/// How a column stripe goes out of a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave<F> {
    /// Not at all: the vector is used up.
    Dropped,
    /// As it is: natural order.
    Stored,
    /// As the first pass of a transform; the second is [`OutOfCore::rows_forward`] for
    /// [`Form::Forward`], [`OutOfCore::rows_inverse`] for [`Form::Inverse`] and
    /// [`OutOfCore::rows_shift`] for [`Form::Shift`], with the same offset.
    Toward(Form<F>),
}

/// A vector in a visit, and what happens to its stripes before and after they are combined.
#[derive(Debug)]
pub struct Visit<'a, F: FftField + Lanes> {
    /// The vector.
    pub tiles: &'a mut Tiles<F>,
    /// How its stripes come in.
    pub enter: Enter,
    /// How they go out.
    pub leave: Leave<F>,
}

impl<F: FftField + Lanes> Visit<'_, F> {
    /// The vector's blocks for one visit; what it was is let go where nobody reads it.
    fn detach(&mut self) -> Tiles<F> {
        let owned = self.tiles.detach();
        match self.enter {
            Enter::Zeroes => owned.like(owned.layout()),
            Enter::Stored | Enter::Shifted => owned,
        }
    }
}

impl<F: FftField + Lanes> OutOfCore<F> {
    /// Walks column stripe by column stripe over several vectors of one layout at once.
    ///
    /// For each stripe the vectors `enter` one after the other, `combine` gets the index of the
    /// stripe and one slice for each vector, and they `leave`. A slice holds whole columns: element
    /// `i` of stripe `s` is column `s * block_columns + i / rows`, row `i % rows`, and with natural
    /// order entry `row * columns + column` of the vector.
    ///
    /// # Errors
    /// What `combine` says, and [`OutOfCoreError`]. All vectors are then lost.
    pub fn visit_columns<E: From<OutOfCoreError>>(
        &self,
        vectors: &mut [Visit<'_, F>],
        mut combine: impl FnMut(usize, &mut [&mut [F]]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(layout) = vectors.first().map(|visit| visit.tiles.layout()) else {
            return Ok(());
        };
        for visit in vectors.iter() {
            self.check_visit(visit, layout)?;
        }
        let mut scratch = Vec::with_capacity(vectors.len());
        for visit in vectors.iter() {
            scratch.push(self.scratch(visit.tiles.secrecy(), layout.column_stripe_len())?);
        }
        let mut owned: Vec<Tiles<F>> = vectors.iter_mut().map(Visit::detach).collect();
        prefetch_columns(vectors, &owned, 0);
        for stripe in 0..layout.column_stripes() {
            prefetch_columns(vectors, &owned, stripe + 1);
            for ((visit, tiles), scratch) in vectors.iter().zip(&mut owned).zip(&mut scratch) {
                self.enter(visit.enter, tiles, stripe, scratch)?;
            }
            let mut slices: Vec<&mut [F]> = scratch.iter_mut().map(|s| &mut s[..]).collect();
            combine(stripe, &mut slices)?;
            for ((visit, tiles), scratch) in vectors.iter().zip(&mut owned).zip(&mut scratch) {
                self.leave(visit, tiles, stripe, scratch)?;
            }
        }
        for (visit, tiles) in vectors.iter_mut().zip(owned) {
            *visit.tiles = tiles;
        }
        Ok(())
    }

    fn enter(
        &self,
        enter: Enter,
        tiles: &mut Tiles<F>,
        stripe: usize,
        scratch: &mut [F],
    ) -> Result<(), OutOfCoreError> {
        if enter == Enter::Zeroes {
            plimsoll_arena::fill_with_zero(scratch);
            return Ok(());
        }
        tiles.take_columns(stripe, scratch)?;
        self.count_read(scratch);
        if enter == Enter::Shifted {
            let first = stripe * tiles.layout().block_columns();
            let kernel = self.kernel(tiles.layout().rows());
            for_each_lane(scratch, kernel.size(), |k, column| {
                kernel.scaled_up(column, self.root.pow([(first + k) as u64]))
            })?;
        }
        Ok(())
    }

    fn leave(
        &self,
        visit: &Visit<'_, F>,
        tiles: &mut Tiles<F>,
        stripe: usize,
        scratch: &mut [F],
    ) -> Result<(), OutOfCoreError> {
        let layout = tiles.layout();
        let (next, texture) = match visit.leave {
            Leave::Dropped => return Ok(()),
            Leave::Stored if visit.enter == Enter::Shifted => (Walk::Rows, Texture::Uniform),
            Leave::Stored => (Walk::Columns, Texture::Any),
            Leave::Toward(form) => {
                self.first_pass(form, layout, stripe, scratch)?;
                (Walk::Rows, Texture::Uniform)
            }
        };
        tiles.store_columns(stripe, scratch, Outlook { next, texture })?;
        self.count_written(scratch);
        Ok(())
    }

    /// The columns of one stripe, by the table in the module's header.
    fn first_pass(
        &self,
        form: Form<F>,
        layout: Layout,
        stripe: usize,
        scratch: &mut [F],
    ) -> Result<(), OutOfCoreError> {
        let first = stripe * layout.block_columns();
        let kernel = self.kernel(layout.rows());
        let power = |k: usize| self.root.pow([(first + k) as u64]);
        let done = match form {
            Form::Forward(offset) => {
                let offset = offset.pow([layout.columns() as u64]);
                for_each_lane(scratch, kernel.size(), |_, lane| kernel.coset_fft(lane, offset))
            }
            Form::Inverse(offset) => for_each_lane(scratch, kernel.size(), |k, lane| {
                kernel.coset_ifft(lane, offset * power(k))
            }),
            Form::Shift(offset) => {
                let root_inverse = self.root.inverse().ok_or(NttError::ZeroOffset)?;
                for_each_lane(scratch, kernel.size(), |k, lane| {
                    let base = offset * root_inverse.pow([(first + k) as u64]);
                    kernel.down_inverse_scaled(lane, base)
                })
            }
        };
        Ok(done?)
    }

    fn check_visit(&self, visit: &Visit<'_, F>, first: Layout) -> Result<(), OutOfCoreError> {
        let found = visit.tiles.layout();
        self.check(found)?;
        if found != first {
            return Err(OutOfCoreError::Layout { planned: first, found });
        }
        match visit.leave {
            Leave::Toward(form) => Ok(check_offset(form)?),
            Leave::Dropped | Leave::Stored => Ok(()),
        }
    }
}

fn check_offset<F: FftField>(form: Form<F>) -> Result<(), NttError> {
    let (Form::Forward(offset) | Form::Inverse(offset) | Form::Shift(offset)) = form;
    if offset.is_zero() { Err(NttError::ZeroOffset) } else { Ok(()) }
}

fn prefetch_columns<F: FftField + Lanes>(
    vectors: &[Visit<'_, F>],
    owned: &[Tiles<F>],
    stripe: usize,
) {
    for (visit, tiles) in vectors.iter().zip(owned) {
        if visit.enter != Enter::Zeroes {
            tiles.prefetch_columns(stripe);
        }
    }
}
