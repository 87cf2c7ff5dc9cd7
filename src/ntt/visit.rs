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
//!   enters   what was never written, as zeroes    leaves  Dropped      nothing is stored
//!            a vector, as it is                           Stored       as it is
//!            a shift, by its third pass                   Toward(form) first pass of a transform
//! ```
//!
//! Invariants: every stripe enters once and leaves once, in order; a vector is whole, or a
//! [`Pending`] that knows what is left to do, or lost to an error. `combine` never sees an order
//! other than the natural one.
//!
//! It must never hold more than one stripe of each vector; the plan counts as many.

use super::NttError;
use super::out_of_core::{OutOfCore, OutOfCoreError, for_each_lane};
use super::pending::{Pending, Rest};
use super::transform::{Form, Transform};
use crate::spill::Lanes;
use crate::tiles::{Layout, Outlook, Texture, Tiles, Walk};
use ark_ff::FftField;
use plimsoll_arena::PoolVec;

/// How a column stripe goes out of a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave<F> {
    /// Not at all: the vector is used up, and each block of it reads as taken.
    Dropped,
    /// As it is: natural order.
    Stored,
    /// As the first pass of a transform, which [`Pending::finish`] completes.
    Toward(Form<F>),
}

/// A vector that goes into a visit, and what happens to its stripes after they are combined.
#[derive(Debug)]
pub struct Visit<F: FftField + Lanes> {
    vector: Pending<F>,
    leave: Leave<F>,
}

impl<F: FftField + Lanes> Visit<F> {
    /// Lets a vector, or a transform that was begun, into a visit. What is left of the transform is
    /// done first, or as the stripes enter.
    pub fn new(vector: impl Into<Pending<F>>, leave: Leave<F>) -> Self {
        Self { vector: vector.into(), leave }
    }
}

/// How a column stripe comes into a visit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Enter {
    /// As zeroes: nothing is read.
    Zeroes,
    /// As it is stored: natural order.
    Stored,
    /// As the last pass of a shift: values on the coset.
    Shifted,
}

/// A vector in a visit, with the memory of one stripe.
pub(super) struct Visitor<F: FftField + Lanes> {
    tiles: Tiles<F>,
    enter: Enter,
    leave: Leave<F>,
    scratch: PoolVec<F>,
}

impl<F: FftField + Lanes> Visitor<F> {
    pub(super) fn new(
        Pending { tiles, rest }: Pending<F>,
        leave: Leave<F>,
        scratch: PoolVec<F>,
    ) -> Self {
        let enter = match rest {
            Rest::Columns => Enter::Shifted,
            _ if tiles.is_unwritten() => Enter::Zeroes,
            _ => Enter::Stored,
        };
        Self { tiles, enter, leave, scratch }
    }

    fn prefetch(&self, stripe: usize) {
        if self.enter != Enter::Zeroes {
            self.tiles.prefetch_columns(stripe);
        }
    }

    /// The vector after its last stripe.
    fn end(mut self) -> Pending<F> {
        let rest = match self.leave {
            Leave::Toward(form) => Rest::Rows(form),
            Leave::Stored => Rest::Nothing,
            Leave::Dropped => {
                drop(self.tiles.detach());
                Rest::Nothing
            }
        };
        Pending { tiles: self.tiles, rest }
    }
}

impl<F: FftField + Lanes> OutOfCore<F> {
    /// Walks column stripe by column stripe over several vectors of one layout at once.
    ///
    /// For each stripe the vectors enter one after the other, `combine` gets the index of the
    /// stripe and one slice for each vector, and they leave. A slice holds whole columns: element
    /// `i` of stripe `s` is column `s * block_columns + i / rows`, row `i % rows`, and with natural
    /// order entry `row * columns + column` of the vector. A rank visits its own columns, which it
    /// counts from its first.
    ///
    /// # Errors
    /// What `combine` says, and [`OutOfCoreError`]. All vectors are then lost.
    pub fn visit_columns<const N: usize, E: From<OutOfCoreError>>(
        &self,
        visits: [Visit<F>; N],
        combine: impl FnMut(usize, [&mut [F]; N]) -> Result<(), E>,
    ) -> Result<[Pending<F>; N], E> {
        let visitors = visits.into_iter().map(|Visit { vector, leave }| {
            let vector = vector.rows(self)?;
            let scratch = self.admit(&vector.tiles, leave)?;
            Ok(Visitor::new(vector, leave, scratch))
        });
        let visitors = visitors.collect::<Result<Vec<_>, OutOfCoreError>>()?;
        let Ok(visitors) = visitors.try_into() else {
            unreachable!("as many as there are visits");
        };
        self.walk(visitors, combine)
    }

    /// Does the first pass of a transform of one vector.
    ///
    /// # Errors
    /// [`OutOfCoreError`]. The vector is then lost.
    pub fn begin(
        &self,
        vector: impl Into<Pending<F>>,
        form: Form<F>,
    ) -> Result<Pending<F>, OutOfCoreError> {
        let visit = Visit::new(vector, Leave::Toward(form));
        let [pending] = self.visit_columns([visit], |_, _| Ok::<(), OutOfCoreError>(()))?;
        Ok(pending)
    }

    /// Checks what can be checked before a vector is touched, and takes the memory of a stripe.
    pub(super) fn admit(
        &self,
        tiles: &Tiles<F>,
        leave: Leave<F>,
    ) -> Result<PoolVec<F>, OutOfCoreError> {
        if let Leave::Toward(form) = leave {
            check_offset(form)?;
        }
        self.whole_of_columns(tiles.layout())?;
        self.scratch(tiles.secrecy(), tiles.layout().column_stripe_len())
    }

    pub(super) fn walk<const N: usize, E: From<OutOfCoreError>>(
        &self,
        mut visitors: [Visitor<F>; N],
        mut combine: impl FnMut(usize, [&mut [F]; N]) -> Result<(), E>,
    ) -> Result<[Pending<F>; N], E> {
        let mut layouts = visitors.iter().map(|visitor| visitor.tiles.layout());
        let planned = layouts.next().unwrap_or(self.plan().layout());
        if let Some(found) = layouts.find(|layout| *layout != planned) {
            return Err(OutOfCoreError::Layout { planned, found }.into());
        }
        drop(layouts);
        visitors.iter().for_each(|visitor| visitor.prefetch(0));
        for stripe in 0..planned.column_stripes() {
            visitors.iter().for_each(|visitor| visitor.prefetch(stripe + 1));
            for visitor in &mut visitors {
                self.enter(visitor, stripe)?;
            }
            combine(stripe, visitors.each_mut().map(|visitor| &mut visitor.scratch[..]))?;
            for visitor in &mut visitors {
                self.leave(visitor, stripe)?;
            }
        }
        Ok(visitors.map(Visitor::end))
    }

    fn enter(&self, visitor: &mut Visitor<F>, stripe: usize) -> Result<(), OutOfCoreError> {
        let Visitor { tiles, enter, scratch, .. } = visitor;
        if *enter == Enter::Zeroes {
            plimsoll_arena::fill_with_zero(scratch);
            return Ok(());
        }
        tiles.take_columns(stripe, scratch)?;
        self.count_read(scratch);
        if *enter == Enter::Shifted {
            let (whole, first) = self.whole_of_columns(tiles.layout())?;
            let first = first + stripe * whole.block_columns();
            let kernel = self.kernel(whole.rows());
            for_each_lane(scratch, kernel.size(), |k, column| {
                kernel.scaled_up(column, self.root.pow([(first + k) as u64]))
            })?;
        }
        Ok(())
    }

    fn leave(&self, visitor: &mut Visitor<F>, stripe: usize) -> Result<(), OutOfCoreError> {
        let Visitor { tiles, enter, leave, scratch } = visitor;
        let (next, texture) = match *leave {
            Leave::Dropped => return Ok(()),
            Leave::Stored if *enter == Enter::Shifted => (Walk::Rows, Texture::Uniform),
            Leave::Stored => (Walk::Columns, Texture::Any),
            Leave::Toward(form) => {
                self.first_pass(form, tiles.layout(), stripe, scratch)?;
                (Walk::Rows, Texture::Uniform)
            }
        };
        tiles.store_columns(stripe, scratch, Outlook { next, texture })?;
        self.count_written(scratch);
        Ok(())
    }

    /// The columns of one stripe, by the table in the header of `out_of_core.rs`.
    fn first_pass(
        &self,
        form: Form<F>,
        layout: Layout,
        stripe: usize,
        scratch: &mut [F],
    ) -> Result<(), OutOfCoreError> {
        let (whole, first) = self.whole_of_columns(layout)?;
        let first = first + stripe * whole.block_columns();
        let kernel = self.kernel(whole.rows());
        let power = |k: usize| self.root.pow([(first + k) as u64]);
        let done = match form {
            Form::Forward(offset) => {
                let offset = offset.pow([whole.columns() as u64]);
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
}

impl<F: FftField + Lanes> Transform<F> for OutOfCore<F> {
    type Values = Tiles<F>;
    type Error = OutOfCoreError;

    /// As [`Transform::transform`]. Forward and inverse hand the vector back in the transposed
    /// layout.
    fn transform(&self, values: &mut Tiles<F>, form: Form<F>) -> Result<(), OutOfCoreError> {
        let leave = Leave::Toward(form);
        // What fails here leaves the vector as it was.
        let scratch = self.admit(values, leave)?;
        let visitor = Visitor::new(values.detach().into(), leave, scratch);
        let [pending] = self.walk([visitor], |_, _| Ok::<(), OutOfCoreError>(()))?;
        *values = pending.finish(self)?;
        Ok(())
    }
}

impl<F: FftField + Lanes> Pending<F> {
    /// Does all that is left, and gives the vector, in natural order.
    ///
    /// # Errors
    /// [`OutOfCoreError`]; the vector is then lost.
    pub fn finish(self, by: &OutOfCore<F>) -> Result<Tiles<F>, OutOfCoreError> {
        let pending = self.rows(by)?;
        if let Rest::Nothing = pending.rest {
            return Ok(pending.tiles);
        }
        let visit = Visit::new(pending, Leave::Stored);
        let [pending] = by.visit_columns([visit], |_, _| Ok::<(), OutOfCoreError>(()))?;
        Ok(pending.tiles)
    }
}

fn check_offset<F: FftField>(form: Form<F>) -> Result<(), NttError> {
    let (Form::Forward(offset) | Form::Inverse(offset) | Form::Shift(offset)) = form;
    if offset.is_zero() { Err(NttError::ZeroOffset) } else { Ok(()) }
}
