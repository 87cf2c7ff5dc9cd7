//! Sums of scalars times points, streamed once, in memory that is known beforehand.
//!
//! ```text
//!          chunk of bases and scalars                          (the caller's, read only)
//!                     |  digits.rs: signed digits, tiles in parallel
//!                     |  digits.rs: one counting sort a window, windows in parallel
//!                     v
//!  window 0 [b0 b0 b3 b7 ...] window 1 [...] ...               (one sorted line of additions)
//!  |---- segment 0 ----|---- segment 1 ----|                   (equal shares, cut anywhere)
//!                     |  buckets.rs: batches of affine additions, segments in parallel
//!                     v
//!  running buckets: windows * 2^(c-1) points                   (kept from chunk to chunk)
//!                     |  finish: buckets summed by the bits of their indices, windows in parallel
//!                     v
//!                 one point
//! ```
//!
//! ```
//! use ark_bn254::{Fr, G1Affine};
//! use ark_ec::AffineRepr;
//!
//! let pool = plimsoll::Pool::builder().build()?;
//! let bases = [G1Affine::generator(); 3];
//! let scalars = [1u64, 2, 4].map(Fr::from);
//! let sum = plimsoll::msm::msm(&pool, &bases, &scalars)?;
//! assert_eq!(sum, G1Affine::generator() * Fr::from(7u64));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Method: buckets (N. Pippenger, On the evaluation of powers and monomials, SIAM J. Comput. 9,
//! 1980) with signed digits and batched affine additions. A segment owns the buckets that begin in
//! it. For the bucket that it shares with the segment before, it keeps a sum of its own, which is
//! added when all segments are done. So even a column of ones, where all work is in one bucket,
//! keeps every thread busy.
//!
//! Invariants:
//!
//! * `sum_w 2^(c*w) * sum_k (k+1) * bucket[w][k] = sum over all points added so far`;
//! * bytes allocated = `plan.bucket_bytes + plan.scratch_bytes`, all of it in [`Msm::new`];
//! * the result does not depend on chunks, segments or threads.
//!
//! Must never: allocate in [`Msm::add`], keep a reference to a chunk, or print the values that it
//! holds, because scalars are witness. It is not constant time. Bases must be in the prime-order
//! subgroup.

mod buckets;
mod digits;
mod plan;
#[cfg(test)]
mod tests;

pub use plan::MsmPlan;

use ark_ec::short_weierstrass::{Affine, Projective, SWCurveConfig};
use ark_ff::AdditiveGroup;
use plimsoll_arena::{Pool, PoolVec, prefetch};
use rayon::prelude::*;

use buckets::{Point, RunBlock, add_alone, infinity, is_infinity};
use digits::{Digits, TILE_LEN, entry};

/// Points that [`msm`] takes at a time: past it, digits and indices outgrow the caches.
const CHUNK_LEN: usize = 1 << 16;

/// How many additions ahead a point is prefetched. A chunk is larger than the caches, and its
/// points are gathered in the order of their buckets.
const PREFETCH_AHEAD: usize = 16;

/// Why a multi-scalar multiplication was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MsmError {
    /// Bases and scalars do not pair up.
    #[error("{bases} bases but {scalars} scalars: pass slices of equal length")]
    Lengths {
        /// Bases passed.
        bases: usize,
        /// Scalars passed.
        scalars: usize,
    },
    /// The pool has no room for the plan's buffers.
    #[error(transparent)]
    Memory(#[from] plimsoll_arena::Error),
    /// The plan was made for another curve, or changed after it was made.
    #[error(
        "the plan (window_bits {}, windows {}, chunk_len {}) does not fit this curve: make it \
         with MsmPlan::new for the curve it is used with, and do not change it",
        plan.window_bits, plan.windows, plan.chunk_len
    )]
    Plan {
        /// The plan passed.
        plan: MsmPlan,
    },
}

/// A sum under way: the buckets of all points added so far, and scratch for one chunk.
pub struct Msm<P: SWCurveConfig> {
    plan: MsmPlan,
    /// `windows * window_buckets` points.
    buckets: PoolVec<Point<P>>,
    /// Digits of the chunk, by tile, window and point.
    digits: PoolVec<i16>,
    /// Windows written in each tile; the rest of a tile is stale.
    used: PoolVec<u16>,
    /// `chunk_len` entries a window, sorted by bucket.
    order: PoolVec<u32>,
    /// `window_ends` ends a window; stale where the window has no point in this chunk.
    ends: PoolVec<u32>,
    /// Points with a digit in each window, this chunk.
    counts: PoolVec<usize>,
    /// Points with a digit in each window, all chunks: where zero, the buckets are infinity.
    totals: PoolVec<usize>,
    blocks: Vec<RunBlock<P>>,
}

impl<P: SWCurveConfig> core::fmt::Debug for Msm<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Msm").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// The only place where memory is taken.
fn buffer<T: Copy>(pool: &Pool, len: usize, value: T) -> Result<PoolVec<T>, MsmError> {
    Ok(pool.try_filled(len, value)?)
}

impl<P: SWCurveConfig> Msm<P> {
    /// Takes all memory of the plan from `pool`; the sum is zero.
    ///
    /// # Errors
    ///
    /// [`MsmError::Plan`] if [`MsmPlan::new`] would not make this plan for `P`;
    /// [`MsmError::Memory`] if the pool has no room for it.
    pub fn new(plan: MsmPlan, pool: &Pool) -> Result<Self, MsmError> {
        if !plan.fits::<P>() {
            return Err(MsmError::Plan { plan });
        }
        let buckets = plan.windows * plan.window_buckets();
        Ok(Self {
            plan,
            buckets: buffer(pool, buckets, infinity::<P>())?,
            digits: buffer(pool, plan.digits_len(), 0)?,
            used: buffer(pool, plan.tiles(), 0)?,
            order: buffer(pool, plan.windows * plan.chunk_len, 0)?,
            ends: buffer(pool, plan.windows * plan.window_ends(), 0)?,
            counts: buffer(pool, plan.windows, 0)?,
            totals: buffer(pool, plan.windows, 0)?,
            blocks: (0..plan.segments)
                .map(|_| RunBlock::new(plan.block_len, pool))
                .collect::<Result<_, _>>()?,
        })
    }

    /// The plan this sum was made with.
    pub fn plan(&self) -> &MsmPlan {
        &self.plan
    }

    /// Adds `scalars[i] * bases[i]` for every `i`, on rayon's current pool.
    ///
    /// Slices longer than the plan's chunk are taken a chunk at a time. Bases lie in the
    /// prime-order subgroup; infinity and repeats are welcome.
    ///
    /// # Errors
    ///
    /// [`MsmError::Lengths`] if the slices differ in length; nothing is added then.
    pub fn add(&mut self, bases: &[Affine<P>], scalars: &[P::ScalarField]) -> Result<(), MsmError> {
        if bases.len() != scalars.len() {
            return Err(MsmError::Lengths { bases: bases.len(), scalars: scalars.len() });
        }
        let chunk_len = self.plan.chunk_len;
        for (bases, scalars) in bases.chunks(chunk_len).zip(scalars.chunks(chunk_len)) {
            self.sort_chunk(bases, scalars);
            self.add_chunk(bases);
        }
        Ok(())
    }

    /// The sum.
    pub fn finish(mut self) -> Projective<P> {
        let window_buckets = self.plan.window_buckets();
        let used = self.totals.iter().rposition(|total| *total > 0).map_or(0, |last| last + 1);
        let share = used.div_ceil(self.plan.segments).max(1);
        self.buckets[..used * window_buckets]
            .par_chunks_mut(share * window_buckets)
            .zip(self.blocks.par_iter_mut())
            .for_each(|(windows, block)| block.sum_by_bits(windows, window_buckets));
        let mut result = Projective::ZERO;
        for window in self.buckets[..used * window_buckets].chunks_exact(window_buckets).rev() {
            // A bucket's digit is one above its index.
            for bit in (0..self.plan.window_bits).rev() {
                result.double_in_place();
                for sum in [window.get(1 << bit), window.first().filter(|_| bit == 0)] {
                    if let Some(sum) = sum.filter(|sum| !is_infinity::<P>(sum)) {
                        result += Affine::<P>::new_unchecked(sum.x, sum.y);
                    }
                }
            }
        }
        result
    }

    /// Fills `digits`, `order`, `ends` and `counts` for one chunk.
    fn sort_chunk(&mut self, bases: &[Affine<P>], scalars: &[P::ScalarField]) {
        let MsmPlan { window_bits, windows, chunk_len, .. } = self.plan;
        let stride = windows * TILE_LEN;
        self.digits
            .par_chunks_mut(stride)
            .zip(self.used.par_iter_mut())
            .zip(bases.par_chunks(TILE_LEN).zip(scalars.par_chunks(TILE_LEN)))
            .for_each(|((tile, used), (bases, scalars))| {
                // At most as many as a modulus has bits: far below 2^16.
                *used = digits::recode_tile(bases, scalars, window_bits, tile) as u16;
            });
        let digits = Digits { tiles: &self.digits, used: &self.used, stride, len: bases.len() };
        self.order
            .par_chunks_mut(chunk_len)
            .zip(self.ends.par_chunks_mut(self.plan.window_ends()))
            .zip(self.counts.par_iter_mut().zip(self.totals.par_iter_mut()))
            .enumerate()
            .with_max_len(1)
            .for_each(|(window, ((order, ends), (count, total)))| {
                *count = digits.sort_window(window, order, ends);
                *total += *count;
            });
    }

    /// Adds the sorted chunk to the buckets.
    fn add_chunk(&mut self, bases: &[Affine<P>]) {
        let sorted = Sorted {
            bases,
            order: &self.order,
            ends: &self.ends,
            counts: &self.counts,
            chunk_len: self.plan.chunk_len,
            window_buckets: self.plan.window_buckets(),
            len: self.counts.iter().sum(),
            segments: self.plan.segments,
        };
        sorted.add_segments(0, &mut self.blocks, 0, &mut self.buckets);
        for block in &mut self.blocks {
            if !is_infinity::<P>(&block.carry) {
                add_alone::<P>(&mut self.buckets[block.carry_bucket], &block.carry);
                block.carry = infinity::<P>();
            }
        }
    }
}

/// A chunk's additions as one line, sorted by window and bucket.
struct Sorted<'a, P: SWCurveConfig> {
    bases: &'a [Affine<P>],
    order: &'a [u32],
    ends: &'a [u32],
    counts: &'a [usize],
    chunk_len: usize,
    window_buckets: usize,
    /// Additions in all.
    len: usize,
    segments: usize,
}

impl<P: SWCurveConfig> Sorted<'_, P> {
    /// Where a segment begins on the line.
    fn start(&self, segment: usize) -> usize {
        (self.len as u128 * segment as u128 / self.segments as u128) as usize
    }

    /// First bucket of a segment's own: the one after that of the last addition before it.
    fn first_bucket(&self, segment: usize) -> usize {
        let Some(mut last) = self.start(segment).checked_sub(1) else {
            return 0;
        };
        for (window, count) in self.counts.iter().enumerate() {
            if last < *count {
                let first = window * self.window_buckets;
                let ends = self.window_ends(window);
                return first + ends.partition_point(|end| *end as usize <= last) + 1;
            }
            last -= count;
        }
        self.counts.len() * self.window_buckets
    }

    /// Ends of a window's buckets, without that of the digit zero.
    fn window_ends(&self, window: usize) -> &[u32] {
        let first = window * (self.window_buckets + 1);
        &self.ends[first..first + self.window_buckets]
    }

    /// Runs a block's worth of segments each, in parallel; `buckets` begins at `first_bucket`.
    fn add_segments(
        &self,
        segment: usize,
        blocks: &mut [RunBlock<P>],
        first_bucket: usize,
        buckets: &mut [Point<P>],
    ) {
        match blocks {
            [] => {}
            [block] => self.add_segment(segment, block, first_bucket, buckets),
            _ => {
                let half = blocks.len() / 2;
                let (left, right) = blocks.split_at_mut(half);
                let middle = segment + half;
                let middle_bucket = self.first_bucket(middle).max(first_bucket);
                let (lower, upper) = buckets.split_at_mut(middle_bucket - first_bucket);
                rayon::join(
                    || self.add_segments(segment, left, first_bucket, lower),
                    || self.add_segments(middle, right, middle_bucket, upper),
                );
            }
        }
    }

    /// Adds one segment to the buckets it owns, and to the carry what comes before them.
    fn add_segment(
        &self,
        segment: usize,
        block: &mut RunBlock<P>,
        first_bucket: usize,
        buckets: &mut [Point<P>],
    ) {
        let (start, end) = (self.start(segment), self.start(segment + 1));
        let mut line = 0;
        for (window, count) in self.counts.iter().enumerate() {
            let (mut next, stop) = (start.max(line) - line, end.min(line + count));
            let Some(stop) = stop.checked_sub(line).filter(|stop| next < *stop) else {
                line += count;
                continue;
            };
            line += count;
            let first = window * self.window_buckets;
            let ends = self.window_ends(window);
            let order = &self.order[window * self.chunk_len..][..stop];
            let skipped = ends.partition_point(|end| *end as usize <= next);
            for (bucket, end) in ends.iter().enumerate().skip(skipped) {
                let end = (*end as usize).min(stop);
                let ahead = next + PREFETCH_AHEAD..end + PREFETCH_AHEAD;
                for order in order.get(ahead.start..ahead.end.min(stop)).unwrap_or_default() {
                    prefetch(&self.bases[entry(*order).0]);
                }
                if let Some(own) = (first + bucket).checked_sub(first_bucket) {
                    block.push(self.bases, &order[next..end], buckets, own);
                } else {
                    let mut carry = [block.carry];
                    block.push(self.bases, &order[next..end], &mut carry, 0);
                    block.flush(&mut carry);
                    (block.carry, block.carry_bucket) = (carry[0], first + bucket);
                }
                next = end;
                if next == stop {
                    break;
                }
            }
        }
        block.flush(buckets);
    }
}

/// `sum_i scalars[i] * bases[i]`, on rayon's current pool.
///
/// Bases lie in the prime-order subgroup. Transient memory is that of
/// `MsmPlan::new::<P>(len, 2^16, threads)`.
///
/// # Errors
///
/// [`MsmError::Lengths`] if the slices differ in length.
pub fn msm<P: SWCurveConfig>(
    pool: &Pool,
    bases: &[Affine<P>],
    scalars: &[P::ScalarField],
) -> Result<Projective<P>, MsmError> {
    let threads = rayon::current_num_threads();
    let mut sum = Msm::new(MsmPlan::new::<P>(scalars.len(), CHUNK_LEN, threads), pool)?;
    sum.add(bases, scalars)?;
    Ok(sum.finish())
}
