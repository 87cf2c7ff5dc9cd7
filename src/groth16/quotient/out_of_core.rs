//! The quotient over tiles: the same sums in the same field, a stripe at a time.
//!
//! ```text
//!   pieces of rows       for each window of the assignment: a, b, c += matrix * window
//!                        a o b = c is checked (arkworks); a and b are stored as row stripes
//!                   turn
//!   columns of all       c <- a o b; all three start toward the coset
//!                   turn
//!   rows of each         on the way
//!                   turn
//!   columns of all       arrive on the coset; a <- (a o b - c) / Z, or a o b - c; b, c are gone
//!                        arkworks: the same stripe starts back toward coefficients
//!                   turn                                                        (arkworks)
//!   rows of a            arkworks: arrive as coefficients
//! ```
//!
//! A window is a segment of the assignment: a proof that has room for one segment and three stripes
//! sweeps the assignment once for each piece of rows. The first sweep learns which stretches of the
//! matrices read which parts of the assignment; from then on only those meet.
//!
//! Several ranks have a share of the rows and of the columns each, and exchange blocks at every
//! turn: 2 + 3 + 3 vectors, and one more for arkworks. Alone, a turn is nothing.
//!
//! Never: a whole vector of n in memory because the code asks for it; only because there is room.

use super::circom_rows::CircomRows;
use super::{Advance, Source, Steps, odd_offset, pointwise, vanishing_inverse};
use crate::groth16::assignment::Assignment;
use crate::groth16::error::ProveError;
use crate::groth16::key::KeyKind;
use crate::groth16::r1cs::{BLOCK_ROWS, Matrix, MatrixFile};
use crate::groth16::together::Together;
use crate::ntt::{Form, Leave, OutOfCore, OutOfCoreError, Pending, Plan, Visit};
use crate::ranks::{ShareOf, ShareTurn};
use crate::runtime::Runtime;
use crate::tiles::{Outlook, Share, Texture, Tiles, Walk};
use ark_bn254::Fr;
use ark_ff::FftField;
use plimsoll_arena::{PoolVec, Secrecy, fill_with_zero};
use rayon::prelude::*;

/// Rows that are made at a time: a row stripe, or a block of the matrix file if that is more.
pub(crate) fn piece_len(split: &Plan) -> usize {
    split.layout().row_stripe_len().max(BLOCK_ROWS).min(split.layout().len())
}

/// Vectors that a turn from rows to columns moves, and one from columns to rows.
pub(crate) fn turned_vectors(kind: KeyKind) -> [(ShareOf, usize); 2] {
    match kind {
        KeyKind::Arkworks => [(ShareOf::Rows, 5), (ShareOf::Columns, 4)],
        KeyKind::Zkey => [(ShareOf::Rows, 5), (ShareOf::Columns, 3)],
    }
}

/// Returns this rank's scalars of the H query in tiles. Of the matrix that the plan lays out a rank
/// has its columns: for a zkey those of the matrix itself, for arkworks those of the transposed
/// one. Alone it has everything, in natural order. `advance` hears of pieces and stripes.
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
    (together, advance): (&Together<'_>, Advance<'_>),
) -> Result<Tiles<Fr>, ProveError> {
    let transform = together
        .all(OutOfCore::of_share(runtime, split, together.share()).map_err(ProveError::from))?;
    let n = split.layout().len();
    let (offset, scale, back) = match source {
        Source::Matrices(_) => {
            let offset = Fr::GENERATOR;
            (offset, Some(vanishing_inverse(n)?), Leave::Toward(Form::Inverse(offset)))
        }
        Source::Zkey(_) => (odd_offset(n)?, None, Leave::Stored),
    };
    // Pieces of rows, stripes of columns of all three, twice, and of rows of each between.
    let stripes = split.layout().column_stripes();
    let mut steps = Steps::new(advance, pieces(&split, together.share()).len() + 5 * stripes);
    let made = make_rows(runtime, source, &transform, assignment, &mut steps);
    let [a, b] = together.all(made)?;
    assignment.set_aside();
    let turn = |from, tiles, texture| {
        let turn = ShareTurn { whole: split.layout(), from };
        together.turn(runtime, turn, tiles, texture)
    };
    let [a, b] = [turn(ShareOf::Rows, a, Texture::Any)?, turn(ShareOf::Rows, b, Texture::Any)?];
    let c = transform.columns_vector(Secrecy::Secret);
    let toward = Leave::Toward(Form::Shift(offset));
    let begun =
        transform.visit_columns([a, b, c].map(|v| Visit::new(v, toward)), |_, [a, b, c]| {
            c.copy_from_slice(a);
            pointwise(c, b, |c, b| *c *= b);
            Ok::<(), OutOfCoreError>(())
        });
    let [a, b, c] = together.all(begun.map_err(ProveError::from))?;
    steps.done(stripes);
    let mut shifted = |begun: Pending<Fr>| {
        let rows = begun.try_turn(|tiles| turn(ShareOf::Columns, tiles, Texture::Uniform))?;
        let done = together.all(rows.rows(&transform).map_err(ProveError::from))?;
        steps.done(stripes);
        done.try_turn(|tiles| turn(ShareOf::Rows, tiles, Texture::Uniform))
    };
    let visits = [
        Visit::new(shifted(a)?, back),
        Visit::new(shifted(b)?, Leave::Dropped),
        Visit::new(shifted(c)?, Leave::Dropped),
    ];
    let done = transform.visit_columns(visits, |_, [a, b, c]| {
        pointwise(a, b, |a, b| *a *= b);
        match scale {
            Some(scale) => pointwise(a, c, |a, c| *a = (*a - c) * scale),
            None => pointwise(a, c, |a, c| *a -= c),
        }
        Ok::<(), OutOfCoreError>(())
    });
    let [a, ..] = together.all(done.map_err(ProveError::from))?;
    let a = match source {
        Source::Matrices(_) => {
            a.try_turn(|tiles| turn(ShareOf::Columns, tiles, Texture::Uniform))?
        }
        Source::Zkey(_) => a,
    };
    let h = together.all(a.finish(&transform).map_err(ProveError::from))?;
    steps.done(stripes);
    Ok(h)
}

/// The pieces of rows that a share of the row stripes lies in: by their first rows.
fn pieces(split: &Plan, share: Share) -> impl ExactSizeIterator<Item = usize> + use<> {
    let (layout, len) = (split.layout(), piece_len(split));
    let own = share.range(layout.row_stripes());
    let stripes = len / layout.row_stripe_len();
    (own.start / stripes..own.end.div_ceil(stripes)).map(move |piece| piece * len)
}

/// Where the rows of a piece come from.
enum Rows<'a> {
    Matrices(&'a MatrixFile),
    Zkey(CircomRows<'a>),
}

/// The vectors of a piece of rows; the third where it is there to be checked.
struct Piece {
    a: PoolVec<Fr>,
    b: PoolVec<Fr>,
    c: Option<PoolVec<Fr>>,
}

/// Makes this rank's rows of two vectors on the domain, a piece of rows at a time. Pieces lie where
/// the blocks of a matrix file do: a rank whose rows begin within one makes the rest of it for
/// nothing.
fn make_rows(
    runtime: &Runtime,
    source: Source<'_>,
    transform: &OutOfCore<Fr>,
    assignment: &Assignment,
    steps: &mut Steps<'_>,
) -> Result<[Tiles<Fr>; 2], ProveError> {
    let mut tiles = [(); 2].map(|()| transform.vector(Secrecy::Secret));
    let layout = transform.plan().layout();
    let own = transform.share().range(layout.row_stripes());
    let len = piece_len(transform.plan());
    let vector = || -> Result<PoolVec<Fr>, ProveError> {
        let zeroed = runtime.secret_pool().try_zeroed(len);
        Ok(zeroed.map_err(|error| runtime.explain("quotient", error))?)
    };
    let mut piece = Piece { a: vector()?, b: vector()?, c: None };
    let mut rows = match source {
        Source::Matrices(matrices) => {
            piece.c = Some(vector()?);
            Rows::Matrices(matrices)
        }
        Source::Zkey(key) => Rows::Zkey(CircomRows::new(runtime, key)?),
    };
    let stripe_len = layout.row_stripe_len();
    let outlook = Outlook { next: Walk::Columns, texture: Texture::Any };
    for first in pieces(transform.plan(), transform.share()) {
        match &mut rows {
            Rows::Matrices(matrices) => fill_piece(matrices, assignment, first, &mut piece)?,
            Rows::Zkey(rows) => fill_circom_piece(rows, assignment, first, &mut piece)?,
        }
        for (tiles, values) in tiles.iter_mut().zip([&piece.a, &piece.b]) {
            for (i, stripe) in values.chunks(stripe_len).enumerate() {
                let place = first / stripe_len + i;
                if own.contains(&place) {
                    let stored = tiles.store_rows(place - own.start, stripe, outlook);
                    stored.map_err(OutOfCoreError::from)?;
                }
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
    let len = piece.a.len();
    let rows = first.min(shape.constraints)..(first + len).min(shape.constraints);
    let count = rows.len();
    let Piece { a, b, c: Some(c) } = piece else { return Err(ProveError::NoMatrices) };
    for values in [&mut *a, &mut *b, &mut *c] {
        fill_with_zero(values);
    }
    if count > 0 {
        let wants = |_: &_, variables| matrices.may_read(&rows, variables);
        assignment.for_each_window(&mut (), wants, |(), window| {
            matrices.accumulate(Matrix::A, rows.clone(), window, &mut a[..count])?;
            matrices.accumulate(Matrix::B, rows.clone(), window, &mut b[..count])?;
            matrices.accumulate(Matrix::C, rows.clone(), window, &mut c[..count])
        })?;
    }
    let wrong = (0..count)
        .into_par_iter()
        .with_min_len(1 << 10)
        .find_first(|row| a[*row] * b[*row] != c[*row]);
    if let Some(row) = wrong {
        return Err(ProveError::Unsatisfied { row: first + row });
    }
    // The rows of the public inputs follow those of the constraints, in A only.
    let end = shape.constraints + shape.instance;
    if first + a.len() > shape.constraints && first < end {
        let instance = assignment.first(shape.instance)?;
        for (i, value) in instance.iter().enumerate() {
            let row = shape.constraints + i;
            if let Some(place) = row.checked_sub(first).and_then(|row| a.get_mut(row)) {
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
    let Piece { a, b, .. } = piece;
    fill_with_zero(a);
    fill_with_zero(b);
    let own = first..first + a.len();
    let wants = |rows: &CircomRows<'_>, signals| rows.may_read(own.clone(), signals);
    assignment.for_each_window(rows, wants, |rows, window| rows.accumulate(window, first, a, b))
}
