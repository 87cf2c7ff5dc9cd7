//! The quotient over tiles: the same sums in the same field, a stripe at a time.
//!
//! ```text
//!   pieces of rows    for each window of the assignment: a, b, c += matrix * window
//!                     a o b = c checked (arkworks) or c = a o b (circom); stored as row stripes
//!   each of a, b, c   columns, rows: toward the coset
//!   columns of all    arrive on the coset; a <- (a o b - c) / Z, or a o b - c; b and c are gone
//!                     arkworks: the same stripe starts back toward coefficients
//!   rows of a         arkworks: arrive as coefficients
//! ```
//!
//! A window is a segment of the assignment: a proof that has room for one segment and three stripes
//! sweeps the assignment once for each piece of rows. The first sweep learns which stretches of the
//! matrices read which parts of the assignment; from then on only those meet.
//!
//! Never: a whole vector of n in memory because the code asks for it; only because there is room.

use super::circom_rows::CircomRows;
use super::{Advance, Source, Steps, odd_offset, pointwise, vanishing_inverse};
use crate::groth16::assignment::Assignment;
use crate::groth16::error::ProveError;
use crate::groth16::r1cs::{BLOCK_ROWS, Matrix, MatrixFile};
use crate::ntt::{Form, Leave, OutOfCore, OutOfCoreError, Plan, Visit};
use crate::runtime::Runtime;
use crate::tiles::{Outlook, Texture, Tiles, Walk};
use ark_bn254::Fr;
use ark_ff::FftField;
use plimsoll_arena::{PoolVec, Secrecy, fill_with_zero};
use rayon::prelude::*;

/// Rows that are made at a time: a row stripe, or a block of the matrix file if that is more.
pub(crate) fn piece_len(split: &Plan) -> usize {
    split.layout().row_stripe_len().max(BLOCK_ROWS).min(split.layout().len())
}

/// Returns the scalars of the H query in tiles, in natural order. `advance` hears of pieces and
/// stripes.
///
/// # Errors
///
/// [`ProveError::Unsatisfied`] when a constraint does not hold (a zkey does not tell), and whatever
/// memory, disk or files say.
pub(crate) fn out_of_core(
    runtime: &Runtime,
    source: Source<'_>,
    split: Plan,
    assignment: &Assignment,
    advance: Advance<'_>,
) -> Result<Tiles<Fr>, ProveError> {
    let transform = OutOfCore::<Fr>::new(runtime, split)?;
    let n = split.layout().len();
    let (offset, scale, back) = match source {
        Source::Matrices(_) => {
            let offset = Fr::GENERATOR;
            (offset, Some(vanishing_inverse(n)?), Leave::Toward(Form::Inverse(offset)))
        }
        Source::Zkey(_) => (odd_offset(n)?, None, Leave::Stored),
    };
    // Pieces of rows, a pass over each of three vectors, and stripes of columns of all three.
    let (pieces, stripes) = (n.div_ceil(piece_len(&split)), split.layout().column_stripes());
    let mut steps = Steps::new(advance, pieces + 4 * stripes);
    let [a, b, c] = make_rows(runtime, source, &transform, assignment, &mut steps)?;
    assignment.set_aside();
    let mut shifted = |tiles: Tiles<Fr>| {
        let tiles = transform.begin(tiles, Form::Shift(offset))?.rows(&transform);
        steps.done(stripes);
        tiles
    };
    let visits = [
        Visit::new(shifted(a)?, back),
        Visit::new(shifted(b)?, Leave::Dropped),
        Visit::new(shifted(c)?, Leave::Dropped),
    ];
    let [a, ..] = transform.visit_columns(visits, |_, [a, b, c]| {
        pointwise(a, b, |a, b| *a *= b);
        match scale {
            Some(scale) => pointwise(a, c, |a, c| *a = (*a - c) * scale),
            None => pointwise(a, c, |a, c| *a -= c),
        }
        steps.done(1);
        Ok::<(), OutOfCoreError>(())
    })?;
    Ok(a.finish(&transform)?)
}

/// Where the rows of a piece come from.
enum Rows<'a> {
    Matrices(&'a MatrixFile),
    Zkey(CircomRows<'a>),
}

/// Three vectors of a piece of rows.
struct Piece {
    a: PoolVec<Fr>,
    b: PoolVec<Fr>,
    c: PoolVec<Fr>,
}

/// Makes the three vectors on the domain, a piece of rows at a time.
fn make_rows(
    runtime: &Runtime,
    source: Source<'_>,
    transform: &OutOfCore<Fr>,
    assignment: &Assignment,
    steps: &mut Steps<'_>,
) -> Result<[Tiles<Fr>; 3], ProveError> {
    let mut tiles = [(); 3].map(|()| transform.vector(Secrecy::Secret));
    let layout = transform.plan().layout();
    let len = piece_len(transform.plan());
    let vector = || -> Result<PoolVec<Fr>, ProveError> {
        let zeroed = runtime.secret_pool().try_zeroed(len);
        Ok(zeroed.map_err(|error| runtime.explain("quotient", error))?)
    };
    let mut piece = Piece { a: vector()?, b: vector()?, c: vector()? };
    let mut rows = match source {
        Source::Matrices(matrices) => Rows::Matrices(matrices),
        Source::Zkey(key) => Rows::Zkey(CircomRows::new(runtime, key)?),
    };
    for first in (0..layout.len()).step_by(len) {
        match &mut rows {
            Rows::Matrices(matrices) => fill_piece(matrices, assignment, first, &mut piece)?,
            Rows::Zkey(rows) => fill_circom_piece(rows, assignment, first, &mut piece)?,
        }
        let stripe_len = layout.row_stripe_len();
        let outlook = Outlook { next: Walk::Columns, texture: Texture::Any };
        for (tiles, values) in tiles.iter_mut().zip([&piece.a, &piece.b, &piece.c]) {
            for (i, stripe) in values.chunks(stripe_len).enumerate() {
                let stored = tiles.store_rows(first / stripe_len + i, stripe, outlook);
                stored.map_err(OutOfCoreError::from)?;
            }
        }
        steps.done(1);
    }
    Ok(tiles)
}

/// Fills a piece with rows from `first` on, by the reduction of arkworks, and checks them.
fn fill_piece(
    matrices: &MatrixFile,
    assignment: &Assignment,
    first: usize,
    piece: &mut Piece,
) -> Result<(), ProveError> {
    let shape = matrices.shape();
    let rows = first.min(shape.constraints)..(first + piece.a.len()).min(shape.constraints);
    let count = rows.len();
    for values in [&mut piece.a, &mut piece.b, &mut piece.c] {
        fill_with_zero(values);
    }
    if count > 0 {
        let wants = |_: &_, variables| matrices.may_read(&rows, variables);
        assignment.for_each_window(piece, wants, |piece, window| {
            matrices.accumulate(Matrix::A, rows.clone(), window, &mut piece.a[..count])?;
            matrices.accumulate(Matrix::B, rows.clone(), window, &mut piece.b[..count])?;
            matrices.accumulate(Matrix::C, rows.clone(), window, &mut piece.c[..count])
        })?;
    }
    let wrong = (0..count)
        .into_par_iter()
        .with_min_len(1 << 10)
        .find_first(|row| piece.a[*row] * piece.b[*row] != piece.c[*row]);
    if let Some(row) = wrong {
        return Err(ProveError::Unsatisfied { row: first + row });
    }
    // The rows of the public inputs follow those of the constraints, in A only.
    let end = shape.constraints + shape.instance;
    if first + piece.a.len() > shape.constraints && first < end {
        let instance = assignment.first(shape.instance)?;
        for (i, value) in instance.iter().enumerate() {
            let row = shape.constraints + i;
            if let Some(place) = row.checked_sub(first).and_then(|row| piece.a.get_mut(row)) {
                *place = *value;
            }
        }
    }
    Ok(())
}

/// Fills a piece with rows from `first` on, by circom's reduction.
fn fill_circom_piece(
    rows: &mut CircomRows<'_>,
    assignment: &Assignment,
    first: usize,
    piece: &mut Piece,
) -> Result<(), ProveError> {
    let Piece { a, b, c } = piece;
    fill_with_zero(a);
    fill_with_zero(b);
    let own = first..first + a.len();
    let wants = |rows: &CircomRows<'_>, signals| rows.may_read(own.clone(), signals);
    assignment.for_each_window(rows, wants, |rows, window| rows.accumulate(window, first, a, b))?;
    c.copy_from_slice(a);
    pointwise(c, b, |c, b| *c *= b);
    Ok(())
}
