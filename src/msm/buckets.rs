//! Affine points added in batches that share one inversion.
//!
//! A sum of two affine points needs a slope, and a slope a division: over 200 multiplications
//! where all else takes three. Montgomery's trick divides `n` times with one inversion and
//! `3(n - 1)` multiplications, so an addition in a batch costs about six against ten or more in
//! coordinates without division (P. Montgomery, Speeding the Pollard and elliptic curve methods
//! of factorization, Math. Comp. 48, 1987, section 10.3.1).
//!
//! A [`Block`] holds *runs*: points of one bucket side by side, the bucket's own first. A round
//! halves every run, all runs of the block in one batch:
//!
//! ```text
//! points  | B a b c | C d | D e f |     B, C, D: what the buckets hold so far
//! round 1 | Ba  bc  | De  f |           Cd is done: back to its bucket
//! round 2 | Babc -> bucket B | Def -> bucket D
//! ```
//!
//! Invariants: every run in a block has at least two points; a target is in one run at most;
//! the points, and the targets without a run, keep their sum in the group from round to round. A
//! run of one point goes straight to its target. Equal points (tangent), opposite points and
//! infinity are all handled; nothing is assumed of the inputs but that they are on the curve.

use ark_ec::AffineRepr;
use ark_ec::short_weierstrass::{Affine, Bucket, Projective, SWCurveConfig};
use ark_ff::{AdditiveGroup, Field, Zero};
use plimsoll_arena::PoolVec;

use super::digits::entry;

/// An affine point in two coordinates; infinity is a pair that is not on the curve.
pub(super) struct Point<P: SWCurveConfig> {
    x: P::BaseField,
    y: P::BaseField,
}

impl<P: SWCurveConfig> Clone for Point<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: SWCurveConfig> Copy for Point<P> {}

impl<P: SWCurveConfig> Point<P> {
    /// `(0, y)` is on the curve when `y^2 = b`: 0 will do unless `b = 0`, and then 1 does.
    pub(super) fn infinity() -> Self {
        let b_is_zero = P::COEFF_B.is_zero();
        let y = if b_is_zero { P::BaseField::ONE } else { P::BaseField::ZERO };
        Self { x: P::BaseField::ZERO, y }
    }

    #[inline]
    pub(super) fn is_infinity(&self) -> bool {
        self.x.is_zero() && self.y == Self::infinity().y
    }

    #[inline]
    fn load(base: &Affine<P>, negative: bool) -> Self {
        match base.xy() {
            None => Self::infinity(),
            // A sign is a coin toss: picking by index is cheaper than guessing a branch.
            Some((x, y)) => Self { x, y: [y, -y][usize::from(negative)] },
        }
    }

    /// How `self + other` is found.
    #[inline(always)]
    fn slope(&self, other: &Self) -> Slope<P::BaseField> {
        let across = other.x - self.x;
        // Infinity has abscissa 0, so most points are cleared by the first comparison.
        if across.is_zero() || self.is_infinity() || other.is_infinity() {
            return self.slope_rare(other);
        }
        Slope::Chord(across)
    }

    #[cold]
    #[inline(never)]
    fn slope_rare(&self, other: &Self) -> Slope<P::BaseField> {
        match (self.is_infinity(), other.is_infinity()) {
            (true, _) => Slope::Right,
            (false, true) => Slope::Left,
            (false, false) if self.y == other.y && !self.y.is_zero() => {
                Slope::Tangent(self.y.double())
            }
            (false, false) => Slope::Opposite,
        }
    }

    /// `self + other`, given how and one over the slope's denominator.
    #[inline(always)]
    fn join(&self, other: &Self, slope: &Slope<P::BaseField>, inverse: &P::BaseField) -> Self {
        let rise = match slope {
            Slope::Chord(_) => other.y - self.y,
            Slope::Tangent(_) => self.tangent_rise(),
            Slope::Left => return *self,
            Slope::Right => return *other,
            Slope::Opposite => return Self::infinity(),
        };
        let mut slope = rise;
        slope *= inverse;
        let mut sum = Self { x: slope.square(), y: self.x };
        sum.x -= &self.x;
        sum.x -= &other.x;
        sum.y -= &sum.x;
        sum.y *= &slope;
        sum.y -= &self.y;
        sum
    }

    #[cold]
    #[inline(never)]
    fn tangent_rise(&self) -> P::BaseField {
        let square = self.x.square();
        square.double() + square + P::COEFF_A
    }

    /// `self += other`, with an inversion of its own.
    pub(super) fn add_alone(&mut self, other: &Self) {
        let slope = self.slope(other);
        // Zero where there is no denominator, and then `join` does not use it.
        let inverse = slope.denominator().and_then(Field::inverse).unwrap_or_default();
        *self = self.join(other, &slope, &inverse);
    }
}

/// How two points are added; a denominator is never zero.
enum Slope<F> {
    /// Abscissas differ; their difference.
    Chord(F),
    /// The same point twice; twice its ordinate.
    Tangent(F),
    /// The right one is infinity: the sum is the left one.
    Left,
    /// The left one is infinity: the sum is the right one.
    Right,
    /// They cancel: the sum is infinity.
    Opposite,
}

impl<F> Slope<F> {
    #[inline(always)]
    fn denominator(&self) -> Option<&F> {
        match self {
            Self::Chord(denominator) | Self::Tangent(denominator) => Some(denominator),
            Self::Left | Self::Right | Self::Opposite => None,
        }
    }
}

/// Neighbouring points of one target.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// Index of the target that gets the sum.
    pub(super) target: u32,
    /// Points, at least two.
    pub(super) len: u32,
}

/// Scratch of one segment: points waiting for their batch. See the module's text.
pub(super) struct Block<P: SWCurveConfig> {
    /// `block_len` points, the first `filled` in use.
    pub(super) points: PoolVec<Point<P>>,
    /// `block_len / 2` products of denominators.
    pub(super) products: PoolVec<P::BaseField>,
    /// `block_len / 2` runs, the first `open` in use.
    pub(super) runs: PoolVec<Run>,
    pub(super) filled: usize,
    pub(super) open: usize,
    /// Sum for the bucket that the segment shares with the one before it, and its index.
    pub(super) carry: Point<P>,
    pub(super) carry_bucket: usize,
}

impl<P: SWCurveConfig> Block<P> {
    /// Adds the points of `order` to `targets[target]`, now or at the next [`Block::flush`].
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
            Point::load(&bases[index], negative)
        };
        while let Some((first, rest)) = order.split_first() {
            if self.filled + 2 > self.points.len() || self.open == self.runs.len() {
                self.flush(targets);
            }
            let held = targets[target];
            let start = self.filled;
            if !held.is_infinity() {
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
            self.runs[self.open] = Run { target: target as u32, len: (self.filled - start) as u32 };
            self.open += 1;
            order = &order[taken..];
            if !order.is_empty() {
                self.flush(targets);
            }
        }
    }

    /// Sums every run into its target; the block is empty afterwards.
    pub(super) fn flush(&mut self, targets: &mut [Point<P>]) {
        while self.open > 0 {
            let (pairs, product) = self.multiply_denominators();
            // A product of numbers that are not zero has an inverse.
            let inverse = product.inverse().unwrap_or(P::BaseField::ONE);
            self.halve_runs(targets, pairs, inverse);
        }
    }

    /// From the last pair to the first: how many pairs there are, and the product of their
    /// denominators; `products[i]` is the product before the `i`-th.
    fn multiply_denominators(&mut self) -> (usize, P::BaseField) {
        let (mut pairs, mut product, mut end) = (0, P::BaseField::ONE, self.filled);
        for run in self.runs[..self.open].iter().rev() {
            let start = end - run.len as usize;
            for pair in self.points[start..end].chunks_exact(2).rev() {
                self.products[pairs] = product;
                if let Some(denominator) = pair[0].slope(&pair[1]).denominator() {
                    product *= denominator;
                }
                pairs += 1;
            }
            end = start;
        }
        (pairs, product)
    }

    /// From the first pair to the last, which lets sums move down over points already read.
    fn halve_runs(
        &mut self,
        targets: &mut [Point<P>],
        mut pairs: usize,
        mut inverse: P::BaseField,
    ) {
        let (mut read, mut write, mut open) = (0, 0, 0);
        for index in 0..self.open {
            let Run { target, len } = self.runs[index];
            let start = write;
            for _ in 0..len / 2 {
                let (left, right) = (self.points[read], self.points[read + 1]);
                pairs -= 1;
                let slope = left.slope(&right);
                self.products[pairs] *= &inverse;
                self.points[write] = left.join(&right, &slope, &self.products[pairs]);
                if let Some(denominator) = slope.denominator() {
                    inverse *= denominator;
                }
                (read, write) = (read + 2, write + 1);
            }
            if len % 2 == 1 {
                self.points[write] = self.points[read];
                (read, write) = (read + 1, write + 1);
            }
            if write - start == 1 {
                targets[target as usize] = self.points[start];
                write = start;
            } else {
                self.runs[open] = Run { target, len: (write - start) as u32 };
                open += 1;
            }
        }
        (self.filled, self.open) = (write, open);
    }
}

/// `sum_k (k + 1) * buckets[k]`, by a running sum from the top.
pub(super) fn weighted_sum<P: SWCurveConfig>(buckets: &[Point<P>]) -> Projective<P> {
    let (mut running, mut total) = (Bucket::<P>::ZERO, Bucket::<P>::ZERO);
    for point in buckets.iter().rev() {
        if !point.is_infinity() {
            running += Affine::<P>::new_unchecked(point.x, point.y);
        }
        total += &running;
    }
    total.into()
}
