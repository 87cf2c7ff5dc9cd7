//! How large a multiplication's tables are, decided before a byte is allocated.
//!
//! A window of `c` bits costs, in multiplications of the base field:
//!
//! ```text
//! cost(c) = windows(c) * ( points * ADDITION + buckets(c) * (FINAL_SUM + chunks * WALK) )
//! buckets(c) = 2^(c-1)            signed digits: |digit| is 1..=2^(c-1)
//! windows(c) = ceil((b + 1) / c)  b bits in the scalar field's modulus
//! ```
//!
//! Wide windows make fewer additions and more buckets. The plan takes the narrowest window whose
//! cost is within [`SLACK_PERCENT`] of the cheapest, because every bit doubles the buckets.
//! Everything here is arithmetic: no memory is touched, so a plan can be printed, compared and
//! refused.

use core::mem::size_of;

use ark_ec::short_weierstrass::SWCurveConfig;
use ark_ff::PrimeField;
use plimsoll_arena::size::vector_bytes;
use plimsoll_ifma::GROUP;

use super::buckets::{Point, PointRun, RunBlock};
use super::digits::TILE_LEN;

/// Narrowest and widest windows, bits. A digit is an `i16`, so 16 is the most there can be.
const WINDOW_BITS: core::ops::RangeInclusive<u32> = 2..=16;
/// One batched affine addition, tenths of a field multiplication.
const ADDITION: u128 = 70;
/// One bucket in the final sum: two batched additions, tenths.
const FINAL_SUM: u128 = 2 * ADDITION;
/// Looking at one bucket once in a chunk, tenths.
const WALK: u128 = 1;
/// What may be lost to halve the buckets, percent of the cost.
const SLACK_PERCENT: u128 = 8;
/// Most that all buckets together may take, bytes. Above it a window is not considered.
const BUCKET_BYTES_MAX: usize = 48 << 20;
/// Points that share one inversion, at most. At 8192 an inversion is lost in the noise and the
/// block is still in the second-level cache.
const BLOCK_LEN: usize = if cfg!(test) { 64 } else { 8192 };
/// A block holds a bucket and at least one point for it, or nothing could be added.
const BLOCK_LEN_MIN: usize = 16;
/// Most points in a chunk: an index has 31 bits, and a chunk is meant to be small.
const CHUNK_LEN_MAX: usize = 1 << 24;
/// Most threads that get scratch of their own.
const THREADS_MAX: usize = 1024;

const _: () = assert!(BLOCK_LEN_MIN >= 2 && BLOCK_LEN >= BLOCK_LEN_MIN);
const _: () = assert!(CHUNK_LEN_MAX < 1 << 31);

/// The shape and the exact cost in bytes of one [`Msm`](super::Msm).
///
/// Holding one proves nothing yet: fields are public to be read, and [`Msm::new`](super::Msm::new)
/// refuses a plan that [`MsmPlan::new`] would not have made for its curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MsmPlan {
    /// Bits of a scalar that one digit covers.
    pub window_bits: u32,
    /// Digits of a scalar.
    pub windows: usize,
    /// Points taken at a time; longer slices are cut.
    pub chunk_len: usize,
    /// Parts a chunk's additions are cut into; each has a block of its own.
    pub segments: usize,
    /// Points that share one inversion.
    pub block_len: usize,
    /// Bytes of the running buckets: `windows * 2^(window_bits - 1)` points of two coordinates.
    pub bucket_bytes: usize,
    /// Bytes of everything else: digits, sorted indices, bucket ends, blocks, window sums.
    pub scratch_bytes: usize,
}

impl MsmPlan {
    /// Plans a sum of about `total_len` products taken `chunk_len` at a time by `threads` threads.
    ///
    /// `total_len` only chooses the window: more or fewer points give the same result, at a
    /// worse price. Zero is read as one, and very large values are clamped.
    #[must_use]
    pub fn new<P: SWCurveConfig>(total_len: usize, chunk_len: usize, threads: usize) -> Self {
        Self::within::<P>(total_len, chunk_len, threads, BUCKET_BYTES_MAX)
    }

    /// As [`MsmPlan::new`], with buckets of at most `bucket_bytes_max` bytes, or the fewest there
    /// can be. Fewer buckets are more additions.
    #[must_use]
    pub fn within<P: SWCurveConfig>(
        total_len: usize,
        chunk_len: usize,
        threads: usize,
        bucket_bytes_max: usize,
    ) -> Self {
        let bucket_bytes_max = bucket_bytes_max.min(BUCKET_BYTES_MAX);
        let total_len = total_len.max(1);
        let chunk_len = chunk_len.clamp(1, CHUNK_LEN_MAX).min(total_len);
        let threads = threads.clamp(1, THREADS_MAX);
        let cost = |bits: &u32| cost::<P>(*bits, total_len, chunk_len);
        let affordable = |bits: &u32| bucket_bytes::<P>(*bits) <= bucket_bytes_max;
        let cheapest = WINDOW_BITS.filter(affordable).map(|bits| cost(&bits)).min().unwrap_or(0);
        let window_bits = WINDOW_BITS
            .filter(affordable)
            .find(|bits| cost(bits) * 100 <= cheapest * (100 + SLACK_PERCENT))
            .unwrap_or(*WINDOW_BITS.start());
        Self::with_window::<P>(window_bits, chunk_len, threads, BLOCK_LEN)
    }

    /// The same plan with batches of about `block_len` points: fewer take less memory for each
    /// thread, and more time, since an inversion is shared by fewer. Clamped to what there can be.
    #[must_use]
    pub fn with_block_len<P: SWCurveConfig>(self, block_len: usize) -> Self {
        Self::with_window::<P>(self.window_bits, self.chunk_len, self.segments, block_len)
    }

    /// Bytes that the buffers may make resident in a pool, which rounds blocks up.
    #[must_use]
    pub fn pool_bytes<P: SWCurveConfig>(&self) -> usize {
        let buffers = self.scratch_buffers::<P>().into_iter();
        let scratch: usize = buffers.map(|(count, bytes)| count * vector_bytes(bytes)).sum();
        vector_bytes(self.bucket_bytes).saturating_add(scratch)
    }

    /// The plan with a given window.
    pub(super) fn with_window<P: SWCurveConfig>(
        window_bits: u32,
        chunk_len: usize,
        segments: usize,
        block_len: usize,
    ) -> Self {
        let windows = windows::<P>(window_bits);
        let block_len = chunk_len.saturating_mul(windows).min(block_len);
        let block_len = block_len.clamp(BLOCK_LEN_MIN, BLOCK_LEN);
        let mut plan = Self {
            window_bits,
            windows,
            chunk_len,
            segments,
            block_len,
            bucket_bytes: bucket_bytes::<P>(window_bits),
            scratch_bytes: 0,
        };
        plan.scratch_bytes = plan.scratch_bytes::<P>();
        plan
    }

    /// Whether this is a plan that `with_window` makes for the curve, so that no length in it
    /// can surprise.
    pub(super) fn fits<P: SWCurveConfig>(&self) -> bool {
        WINDOW_BITS.contains(&self.window_bits)
            && (1..=CHUNK_LEN_MAX).contains(&self.chunk_len)
            && (1..=THREADS_MAX).contains(&self.segments)
            && *self == self.with_block_len::<P>(self.block_len)
    }

    /// Buckets of one window: `2^(window_bits - 1)`.
    pub(super) fn window_buckets(&self) -> usize {
        1 << (self.window_bits - 1)
    }

    /// Ends of one window: its buckets and the digit zero.
    pub(super) fn window_ends(&self) -> usize {
        self.window_buckets() + 1
    }

    /// Tiles of a chunk.
    pub(super) fn tiles(&self) -> usize {
        self.chunk_len.div_ceil(TILE_LEN)
    }

    /// Digits of a chunk, whole tiles.
    pub(super) fn digits_len(&self) -> usize {
        self.tiles() * TILE_LEN * self.windows
    }

    fn scratch_bytes<P: SWCurveConfig>(&self) -> usize {
        self.scratch_buffers::<P>().into_iter().map(|(count, bytes)| count * bytes).sum()
    }

    /// How many buffers of how many bytes there are beside the buckets, in the order of
    /// [`Msm::new`](super::Msm::new).
    fn scratch_buffers<P: SWCurveConfig>(&self) -> [(usize, usize); 11] {
        let pairs = self.block_len / 2;
        [
            (1, self.digits_len() * size_of::<i16>()),
            (1, self.tiles() * size_of::<u16>()),
            (1, self.windows * self.chunk_len * size_of::<u32>()),
            (1, self.windows * self.window_ends() * size_of::<u32>()),
            (1, self.windows * size_of::<usize>()),
            (1, self.windows * size_of::<usize>()),
            (self.segments, self.block_len * size_of::<Point<P>>()),
            (self.segments, pairs * size_of::<PointRun>()),
            (self.segments, pairs * size_of::<[u32; 2]>()),
            (self.segments, pairs.next_multiple_of(GROUP) * size_of::<P::BaseField>()),
            (self.segments, size_of::<RunBlock<P>>()),
        ]
    }
}

fn windows<P: SWCurveConfig>(window_bits: u32) -> usize {
    // A recentred scalar has one bit less than the modulus; its top digit may carry once.
    (P::ScalarField::MODULUS_BIT_SIZE + 1).div_ceil(window_bits) as usize
}

fn bucket_bytes<P: SWCurveConfig>(window_bits: u32) -> usize {
    windows::<P>(window_bits) * (1 << (window_bits - 1)) * size_of::<Point<P>>()
}

fn cost<P: SWCurveConfig>(window_bits: u32, total_len: usize, chunk_len: usize) -> u128 {
    let chunks = total_len.div_ceil(chunk_len) as u128;
    let buckets = 1_u128 << (window_bits - 1);
    let window = total_len as u128 * ADDITION + buckets * (FINAL_SUM + chunks * WALK);
    windows::<P>(window_bits) as u128 * window
}
