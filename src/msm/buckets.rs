//! Affine points added in batches that share one inversion.
//!
//! A sum of two affine points needs a slope, and a slope a division: over 200 multiplications
//! where all else takes three. Montgomery's trick divides `n` times with one inversion and
//! `3(n - 1)` multiplications, so an addition in a batch costs about six against ten or more in
//! coordinates without division (P. Montgomery, Speeding the Pollard and elliptic curve methods
//! of factorization, Math. Comp. 48, 1987, section 10.3.1).
//!
//! A [`RunBlock`] holds *runs*: points of one bucket side by side, the bucket's own first. A round
//! halves every run where it lies, all runs of the block in one batch:
//!
//! ```text
//! points   | B a b c | C d | D e f |     B, C, D: what the buckets hold so far
//! round 1  | Ba  bc  | Cd  | De  f |     pairs that are one apart
//! round 2  | Babc    |     | Def   |     two apart; the first of each run goes to its bucket
//! ```
//!
//! Where the processor can add eight pairs at a time (`plimsoll_ifma`), a batch is added so; the
//! sums are the same.
//!
//! Invariants: every run in a block has at least two points; a target is in one run at most;
//! the points, and the targets without a run, keep their sum in the group from round to round. A
//! run of one point goes straight to its target. Equal points (tangent), opposite points and
//! infinity are all handled; nothing is assumed of the inputs but that they are on the curve.

use ark_ec::AffineRepr;
use ark_ec::CurveConfig;
use ark_ec::short_weierstrass::{Affine, SWCurveConfig};
use ark_ff::{AdditiveGroup, Field, Zero};
use plimsoll_arena::{Pool, PoolVec};
use plimsoll_ifma::{Adder, GROUP, Sum};

use super::digits::entry;

/// An affine point in two coordinates; infinity is a pair that is not on the curve.
pub(super) type Point<P> = plimsoll_ifma::Point<<P as CurveConfig>::BaseField>;

/// `(0, y)` is on the curve when `y^2 = b`: 0 will do unless `b = 0`, and then 1 does.
pub(super) fn infinity<P: SWCurveConfig>() -> Point<P> {
    let b_is_zero = P::COEFF_B.is_zero();
    let y = if b_is_zero { P::BaseField::ONE } else { P::BaseField::ZERO };
    Point::<P> { x: P::BaseField::ZERO, y }
}

#[inline]
pub(super) fn is_infinity<P: SWCurveConfig>(point: &Point<P>) -> bool {
    point.x.is_zero() && point.y == infinity::<P>().y
}

#[inline]
fn loaded<P: SWCurveConfig>(base: &Affine<P>, negative: bool) -> Point<P> {
    match base.xy() {
        None => infinity::<P>(),
        // A sign is a coin toss: picking by index is cheaper than guessing a branch.
        Some((x, y)) => Point::<P> { x, y: [y, -y][usize::from(negative)] },
    }
}

/// How `left + right` is found.
#[inline(always)]
fn sum<P: SWCurveConfig>(left: &Point<P>, right: &Point<P>) -> Sum<P::BaseField> {
    let run = right.x - left.x;
    // Infinity has abscissa 0, so most points are cleared by the first comparison.
    if run.is_zero() || is_infinity::<P>(left) || is_infinity::<P>(right) {
        return sum_rare::<P>(left, right);
    }
    Sum::Slope { rise: right.y - left.y, run }
}

#[cold]
#[inline(never)]
fn sum_rare<P: SWCurveConfig>(left: &Point<P>, right: &Point<P>) -> Sum<P::BaseField> {
    match (is_infinity::<P>(left), is_infinity::<P>(right)) {
        (true, _) => Sum::Point(*right),
        (false, true) => Sum::Point(*left),
        (false, false) if left.y == right.y && !left.y.is_zero() => {
            let square = left.x.square();
            Sum::Slope { rise: square.double() + square + P::COEFF_A, run: left.y.double() }
        }
        (false, false) => Sum::Point(infinity::<P>()),
    }
}

/// The third point of the line through both, mirrored.
#[inline(always)]
fn third<F: Field>(
    left: &plimsoll_ifma::Point<F>,
    right: &plimsoll_ifma::Point<F>,
    slope: F,
) -> plimsoll_ifma::Point<F> {
    let mut third = plimsoll_ifma::Point { x: slope.square(), y: left.x };
    third.x -= &left.x;
    third.x -= &right.x;
    third.y -= &third.x;
    third.y *= &slope;
    third.y -= &left.y;
    third
}

/// `left += right`, with an inversion of its own.
pub(super) fn add_alone<P: SWCurveConfig>(left: &mut Point<P>, right: &Point<P>) {
    *left = match sum::<P>(left, right) {
        // The run is not zero.
        Sum::Slope { rise, run } => {
            third(left, right, rise * run.inverse().unwrap_or(P::BaseField::ONE))
        }
        Sum::Point(point) => point,
    };
}

/// Pairs of points that are added together.
pub(super) struct PairBatch<P: SWCurveConfig> {
    /// Indices of the pairs, the first `len` in use: the sum goes to the left one.
    pub(super) pairs: PoolVec<[u32; 2]>,
    len: usize,
    /// A product for each pair, in whole groups.
    pub(super) products: PoolVec<P::BaseField>,
    /// Adds eight at a time, where that can be.
    pub(super) adder: Option<Adder<P::BaseField>>,
}

impl<P: SWCurveConfig> PairBatch<P> {
    /// Notes `points[left] += points[right]`, to be done now or at the next [`PairBatch::add`].
    /// Until then neither may be in another pair.
    #[inline]
    fn push(&mut self, points: &mut [Point<P>], left: usize, right: usize) {
        if self.len == self.pairs.len() {
            self.add(points);
        }
        self.pairs[self.len] = [left as u32, right as u32];
        self.len += 1;
    }

    /// Adds the pairs; returns whether there were any.
    fn add(&mut self, points: &mut [Point<P>]) -> bool {
        if self.len == 0 {
            return false;
        }
        let pairs = &self.pairs[..std::mem::take(&mut self.len)];
        match &self.adder {
            Some(adder) => adder.add_pairs(points, pairs, &mut self.products, sum::<P>),
            None => add_pairs::<P>(points, pairs, &mut self.products),
        }
        true
    }
}

/// What [`Adder::add_pairs`] does, one pair after the other.
fn add_pairs<P: SWCurveConfig>(
    points: &mut [Point<P>],
    pairs: &[[u32; 2]],
    products: &mut [P::BaseField],
) {
    let sum_of = |points: &[Point<P>], [left, right]: [u32; 2]| {
        sum::<P>(&points[left as usize], &points[right as usize])
    };
    let mut product = P::BaseField::ONE;
    for (pair, before) in pairs.iter().zip(&mut *products) {
        *before = product;
        if let Sum::Slope { run, .. } = sum_of(points, *pair) {
            product *= &run;
        }
    }
    // A product of numbers that are not zero has an inverse.
    let mut inverse = product.inverse().unwrap_or(P::BaseField::ONE);
    for (pair, before) in pairs.iter().zip(products).rev() {
        let [left, right] = pair.map(|index| index as usize);
        points[left] = match sum_of(points, *pair) {
            Sum::Slope { mut rise, run } => {
                rise *= &(inverse * *before);
                inverse *= &run;
                third(&points[left], &points[right], rise)
            }
            Sum::Point(point) => point,
        };
    }
}

/// Neighbouring points of one target.
#[derive(Clone, Copy)]
pub(super) struct PointRun {
    /// Index of the target that gets the sum.
    pub(super) target: u32,
    /// Points, at least two.
    pub(super) len: u32,
}

/// Scratch of one segment: points waiting for their batch. See the module's text.
pub(super) struct RunBlock<P: SWCurveConfig> {
    /// `block_len` points, the first `filled` in use.
    pub(super) points: PoolVec<Point<P>>,
    /// `block_len / 2` runs, the first `open` in use.
    pub(super) runs: PoolVec<PointRun>,
    pub(super) batch: PairBatch<P>,
    filled: usize,
    open: usize,
    /// Sum for the bucket that the segment shares with the one before it, and its index.
    pub(super) carry: Point<P>,
    pub(super) carry_bucket: usize,
}

impl<P: SWCurveConfig> RunBlock<P> {
    pub(super) fn new(block_len: usize, pool: &Pool) -> Result<Self, plimsoll_arena::Error> {
        let pairs = block_len / 2;
        Ok(Self {
            points: pool.try_filled(block_len, infinity::<P>())?,
            runs: pool.try_filled(pairs, PointRun { target: 0, len: 0 })?,
            batch: PairBatch {
                pairs: pool.try_filled(pairs, [0; 2])?,
                len: 0,
                products: pool.try_filled(pairs.next_multiple_of(GROUP), P::BaseField::ONE)?,
                adder: Adder::detect(),
            },
            filled: 0,
            open: 0,
            carry: infinity::<P>(),
            carry_bucket: 0,
        })
    }

    /// Adds the points of `order` to `targets[target]`, now or at the next [`RunBlock::flush`].
    #[inline]
    pub(super) fn push(
        &mut self,
        bases: &[Affine<P>],
        mut order: &[u32],
        targets: &mut [Point<P>],
        target: usize,
    ) {
        let point = |order: u32| {
            let (index, negative) = entry(order);
            loaded(&bases[index], negative)
        };
        while let Some((first, rest)) = order.split_first() {
            if self.filled + 2 > self.points.len() || self.open == self.runs.len() {
                self.flush(targets);
            }
            let held = targets[target];
            let start = self.filled;
            if !is_infinity::<P>(&held) {
                self.points[self.filled] = held;
                self.filled += 1;
            } else if rest.is_empty() {
                targets[target] = point(*first);
                return;
            }
            let taken = order.len().min(self.points.len() - self.filled);
            for (slot, order) in self.points[self.filled..].iter_mut().zip(&order[..taken]) {
                *slot = point(*order);
            }
            self.filled += taken;
            self.runs[self.open] =
                PointRun { target: target as u32, len: (self.filled - start) as u32 };
            self.open += 1;
            order = &order[taken..];
            if !order.is_empty() {
                self.flush(targets);
            }
        }
    }

    /// Sums every run into its target; the block is empty afterwards.
    pub(super) fn flush(&mut self, targets: &mut [Point<P>]) {
        let runs = &self.runs[..self.open];
        for apart in (0..usize::BITS).map(|round| 1_usize << round) {
            let mut start = 0;
            for run in runs {
                let end = start + run.len as usize;
                for left in (start..end.saturating_sub(apart)).step_by(2 * apart) {
                    self.batch.push(&mut self.points, left, left + apart);
                }
                start = end;
            }
            if !self.batch.add(&mut self.points) {
                break;
            }
        }
        let mut start = 0;
        for run in runs {
            targets[run.target as usize] = self.points[start];
            start += run.len as usize;
        }
        (self.filled, self.open) = (0, 0);
    }

    /// Sums the buckets of whole windows, `window_buckets` each, by the bits of their indices:
    /// afterwards the first bucket of a window holds the sum of all, and bucket `2^l` the sum of
    /// those whose index has bit `l`.
    ///
    /// ```text
    ///   first    0+1 1 2+3 3 4+5 5 6+7 7      bit 0 is in  1 3 5 7
    ///            03  1 23  3 47  5 67  7      bit 1 is in  23 67
    ///            07  1 23  3 47  5 67  7      bit 2 is in  47
    ///   then     those of one bit, halved again and again
    /// ```
    ///
    /// That makes two additions a bucket, all of them in large batches.
    pub(super) fn sum_by_bits(&mut self, windows: &mut [Point<P>], window_buckets: usize) {
        let starts = (0..windows.len()).step_by(window_buckets);
        let bits = window_buckets.ilog2();
        for apart in (0..bits).map(|bit| 1 << bit) {
            for start in starts.clone() {
                for left in (start..start + window_buckets).step_by(2 * apart) {
                    self.batch.push(windows, left, left + apart);
                }
            }
            self.batch.add(windows);
        }
        for round in 1..bits {
            for start in starts.clone() {
                for first in (0..bits - round).map(|bit| 1 << bit) {
                    let apart = first << round;
                    for left in (start + first..start + window_buckets).step_by(2 * apart) {
                        self.batch.push(windows, left, left + apart);
                    }
                }
            }
            self.batch.add(windows);
        }
    }
}
