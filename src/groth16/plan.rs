//! The memory program of a proof: what each stage holds, and the smallest limit that will do.
//!
//! The plan is arithmetic on the sizes of a key: no memory, no files. The prover takes the need of
//! every stage from it, and a test holds the peak that was measured against it, so that plan and
//! program cannot drift apart.
//!
//! ```text
//!                 in core                            out of core
//!   assignment    one vector, stays                  segments; one in use, one on its way
//!   quotient      two or three vectors of n          a stripe of three, and as much again coming
//!                                                    in and going out
//!   MSM           a chunk of points, buckets         the same, with fewer of both
//!
//!   peak of a stage = base + vectors alive and made   vectors alive and made are packed or spilled
//!                     + need                          where they do not fit beside the need
//!   minimum         = base + largest need
//! ```
//!
//! In core is taken when it fits. `base` is [`PROGRAM_BYTES`], or what the process uses before the
//! first stage and [`GROWTH_BYTES`], if that is more, or what the program says it comes to; and
//! what threads take, out of core those for I/O, too. Chunks, buckets, batches, stripes and
//! segments are as large as the limit allows.

mod base;
mod needs;
mod ranks;
mod shape;

pub use base::{GROWTH_BYTES, PROGRAM_BYTES, THREAD_BYTES, used_bytes};
pub use shape::{Shape, StageName};

use crate::Runtime;
use crate::error::Error;
use crate::msm::MsmPlan;
use crate::ntt::{Moved, Plan as NttPlan, PlanError, Ranks};
use crate::reclaim::{Held, largest_first};
use ark_bn254::Fr;
use ark_ec::short_weierstrass::SWCurveConfig;
use base::{base_bytes, live_bytes};
use needs::Sizes;
use shape::QUOTIENT_VECTORS;

/// Points a chunk at most: past 2^16 a multi-scalar multiplication gains nothing.
pub const CHUNK_LEN_MAX: usize = 1 << 16;

/// Points a chunk at least: 2^12 is where buckets, not chunks, take the memory.
pub const CHUNK_LEN_MIN: usize = 1 << 12;

/// Points that the batches of additions of all threads have together in core, and of one thread at
/// most and at least. Fewer a thread cost time: an inversion is as dear as hundreds of products.
const BATCHES_LEN: usize = 1 << 16;
const BATCH_LEN_MAX: usize = 1 << 13;
const BATCH_LEN_MIN: usize = 1 << 10;

/// What is left of a batch where many threads share a small limit.
const BATCH_LEN_LEAST: usize = 1 << 8;

/// Variables a segment of the assignment at least; fewer would be on the heap.
const SEGMENT_LEN_MIN: usize = 1 << 12;

/// What one stage holds and moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedStage {
    /// Which stage.
    pub name: StageName,
    /// Bytes of vectors alive when it begins: in memory in core; out of core wherever they fit.
    pub before_bytes: usize,
    /// Bytes it adds at most, which stay in memory while it needs them.
    pub need_bytes: usize,
    /// Bytes of vectors that it makes out of core: in memory wherever they fit beside the need. In
    /// core they are part of that.
    pub made_bytes: usize,
    /// Bytes of the vectors alive and made that may pack: values before a transform mixes them.
    pub packable_bytes: usize,
    /// Bytes that pass through packing or the spill file, if none of it fits in memory.
    pub moved: Moved,
    /// Bytes of tiles that a rank sends to others, where several make the proof: the most of any.
    pub sent_bytes: u64,
}

/// How many bytes each stage of a proof needs, and which way the proof takes within a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofPlan {
    base_bytes: usize,
    sizes: Sizes,
    stages: Vec<PlannedStage>,
}

impl ProofPlan {
    /// Plans a proof of `shape` in core with chunks of `chunk_len` points, on `threads` threads,
    /// for a process that uses `used_bytes` before the first stage.
    #[must_use]
    pub fn in_core(shape: &Shape, used_bytes: usize, chunk_len: usize, threads: usize) -> Self {
        let segment_len = shape.variables.max(1);
        let sizes = Sizes {
            threads,
            chunk_len,
            block_len: batch_len(threads),
            bucket_bytes_max: usize::MAX,
            segment_len,
            split: None,
        };
        Self::with(shape, used_bytes, sizes)
    }

    /// Plans a proof out of core within `limit_bytes`, or within the smallest limit there is for
    /// it if that is more: compare with [`ProofPlan::minimum_bytes`].
    ///
    /// # Errors
    ///
    /// [`PlanError::Size`] for a domain that cannot be addressed.
    pub fn out_of_core(
        shape: &Shape,
        used_bytes: usize,
        limit_bytes: usize,
        threads: usize,
    ) -> Result<Self, PlanError> {
        Self::shared_out(shape, [used_bytes, limit_bytes, threads], Ranks::ALONE)
    }

    /// Plans a rank's part of a proof within its limit, as [`ProofPlan::out_of_core`] does: `given`
    /// are its used bytes, its limit and its threads.
    fn shared_out(shape: &Shape, given: [usize; 3], ranks: Ranks) -> Result<Self, PlanError> {
        let [used_bytes, limit_bytes, threads] = given;
        let log_n = shape.domain_size.max(2).ilog2();
        let vectors = [size_of::<Fr>(), QUOTIENT_VECTORS];
        let split = |budget| NttPlan::for_ranks(log_n, vectors, ranks, budget);
        let room = |segment_len| {
            limit_bytes.saturating_sub(base_bytes(used_bytes, threads, Some(segment_len)))
        };
        let matrices = needs::matrix_bytes(shape, 1, threads);
        let mut budget = room(SEGMENT_LEN_MIN).saturating_sub(matrices);
        loop {
            let (found, is_smallest) = match split(budget) {
                Err(PlanError::Budget { smallest_bytes, .. }) => (split(smallest_bytes)?, true),
                other => (other?, false),
            };
            let room = room(segment_len(shape, &found));
            let plan = Self::with(shape, used_bytes, sizes_for(shape, found, room, threads));
            if is_smallest || plan.minimum_bytes() <= limit_bytes {
                return Ok(plan);
            }
            // Other stages hold segments as long as a stripe: try the next shorter one.
            budget = found.smallest_bytes().saturating_sub(1);
        }
    }

    fn with(shape: &Shape, used_bytes: usize, sizes: Sizes) -> Self {
        let stages = StageName::ALL
            .into_iter()
            .map(|name| PlannedStage {
                name,
                before_bytes: needs::alive_before(shape, name, &sizes),
                need_bytes: needs::need(shape, name, &sizes),
                made_bytes: needs::made(shape, name, &sizes),
                packable_bytes: needs::packable(shape, name, &sizes),
                moved: needs::moved(shape, name, &sizes),
                sent_bytes: needs::sent(shape, name, &sizes),
            })
            .collect();
        let pieces = sizes.split.is_some().then_some(sizes.segment_len);
        let base_bytes = base_bytes(used_bytes, sizes.threads, pieces);
        Self { base_bytes, sizes, stages }
    }

    /// Plans a proof under the limit of `runtime`: in core with the largest chunks that fit;
    /// where not even the smallest do, out of core, if the runtime can spill.
    ///
    /// # Errors
    ///
    /// [`Error::OverLimit`] or [`Error::OverPermit`] when that does not fit either. It names the
    /// smallest limit, or permit, that would do.
    pub fn for_runtime(shape: &Shape, runtime: &Runtime) -> Result<Self, Error> {
        let PlanRoom { threads, used, limit, is_permit } = PlanRoom::of(runtime)?;
        let beside = |plan: &Self| if is_permit { plan.base_bytes } else { 0 };
        let needs = |plan: &Self| plan.minimum_bytes() - beside(plan);
        let mut chunk_len = CHUNK_LEN_MAX;
        while chunk_len >= CHUNK_LEN_MIN {
            let plan = Self::in_core(shape, used, chunk_len, threads);
            if needs(&plan) <= limit {
                return Ok(plan);
            }
            chunk_len /= 2;
        }
        let smallest = Self::smallest(shape, used, threads, runtime.can_spill());
        let within = limit.saturating_add(beside(&smallest));
        if smallest.split().is_some()
            && let Ok(plan) = Self::out_of_core(shape, used, within, threads)
            && needs(&plan) <= limit
        {
            return Ok(plan);
        }
        Err(smallest.does_not_fit(runtime, needs(&smallest)))
    }

    /// The error of a limit, or a permit, that is too small for this plan, which `fits` would do.
    fn does_not_fit(&self, runtime: &Runtime, fits: usize) -> Error {
        let stage = self.largest().name.text().to_owned();
        let asked_bytes = self.largest().need_bytes as u64;
        let (fits_bytes, holders) = (fits as u64, self.holders());
        let limit_bytes = runtime.limit_bytes().unwrap_or(u64::MAX);
        match runtime.permit_name() {
            Some(permit) => Error::OverPermit {
                permit: permit.to_owned(),
                stage,
                asked_bytes,
                permit_bytes: limit_bytes,
                fits_bytes,
                holders,
            },
            None => Error::OverLimit {
                stage,
                asked_bytes,
                short_bytes: fits_bytes.saturating_sub(limit_bytes),
                limit_bytes,
                fits_bytes,
                holders,
            },
        }
    }

    /// Plans a proof with the smallest limit that will do, out of core only if `can_spill`.
    #[must_use]
    pub fn smallest(shape: &Shape, used_bytes: usize, threads: usize, can_spill: bool) -> Self {
        let in_core = Self::in_core(shape, used_bytes, CHUNK_LEN_MIN, threads);
        match Self::out_of_core(shape, used_bytes, 0, threads) {
            Ok(plan) if can_spill && plan.minimum_bytes() < in_core.minimum_bytes() => plan,
            _ => in_core,
        }
    }

    /// Returns the stages, in order.
    #[must_use]
    pub fn stages(&self) -> &[PlannedStage] {
        &self.stages
    }

    /// Returns the threads planned for.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.sizes.threads
    }

    /// Returns the ranks that share the proof.
    #[must_use]
    pub fn ranks(&self) -> usize {
        self.sizes.ranks()
    }

    /// Returns the points a chunk of a multi-scalar multiplication has.
    #[must_use]
    pub fn chunk_len(&self) -> usize {
        self.sizes.chunk_len
    }

    /// Returns the variables a segment of the assignment has: all of them in core.
    #[must_use]
    pub fn segment_len(&self) -> usize {
        self.sizes.segment_len
    }

    /// Returns how the transforms are cut out of core; `None` in core.
    #[must_use]
    pub fn split(&self) -> Option<&NttPlan> {
        self.sizes.split.as_ref()
    }

    /// Returns the plan of a multi-scalar multiplication of `len` points.
    #[must_use]
    pub fn msm<P: SWCurveConfig>(&self, len: usize) -> MsmPlan {
        self.sizes.msm::<P>(len)
    }

    /// Returns the bytes of the process that belong to no stage.
    #[must_use]
    pub fn base_bytes(&self) -> usize {
        self.base_bytes
    }

    /// Returns the bytes a stage adds at most.
    #[must_use]
    pub fn need_bytes(&self, name: StageName) -> usize {
        self.stages[name as usize].need_bytes
    }

    /// Returns the largest memory of the process during a stage if nothing is spilled.
    #[must_use]
    pub fn peak_bytes(&self, stage: &PlannedStage) -> usize {
        self.least_bytes(stage).saturating_add(stage.before_bytes + stage.made_bytes)
    }

    /// Returns what the stage keeps in memory at least, the program included.
    fn least_bytes(&self, stage: &PlannedStage) -> usize {
        self.base_bytes.saturating_add(stage.need_bytes)
    }

    /// Returns the bytes that cached blocks may keep during a stage, for the process to stay below
    /// the peak of its largest stage, in core or as one of several ranks, whose vectors may all
    /// fit. Out of core alone the limit says when they go; the last stage makes no vectors, and
    /// nothing comes after it.
    pub(crate) fn cached_bytes(&self, name: StageName) -> usize {
        let bytes = |stage: &PlannedStage| stage.before_bytes + stage.made_bytes + stage.need_bytes;
        match self.split() {
            _ if name == StageName::Verify => 0,
            Some(split) if split.ranks() == 1 => usize::MAX,
            _ => {
                let largest = self.stages.iter().map(bytes).max().unwrap_or(0);
                largest.saturating_sub(bytes(&self.stages[name as usize]))
            }
        }
    }

    /// Returns the bytes of vectors that find no room under `limit_bytes` during a stage, and are
    /// packed or spilled.
    #[must_use]
    pub fn away_bytes(&self, stage: &PlannedStage, limit_bytes: usize) -> usize {
        match self.split() {
            Some(_) => {
                let over = self.peak_bytes(stage).saturating_sub(limit_bytes);
                over.min(stage.before_bytes + stage.made_bytes)
            }
            None => 0,
        }
    }

    /// Returns the smallest limit in bytes under which this plan keeps.
    #[must_use]
    pub fn minimum_bytes(&self) -> usize {
        let peak = |stage: &PlannedStage| match self.split() {
            Some(_) => self.least_bytes(stage),
            None => self.peak_bytes(stage),
        };
        self.stages.iter().map(peak).max().unwrap_or(self.base_bytes)
    }

    fn largest(&self) -> &PlannedStage {
        let bytes = |stage: &&PlannedStage| match self.split() {
            Some(_) => self.least_bytes(stage),
            None => self.peak_bytes(stage),
        };
        // A plan has every stage, so there is a largest; the first is as good as any otherwise.
        self.stages.iter().max_by_key(bytes).unwrap_or(&self.stages[0])
    }

    /// Returns the bytes of vectors that this plan keeps in memory at least: what a permit for the
    /// proof is worth.
    #[must_use]
    pub fn vector_bytes(&self) -> usize {
        self.minimum_bytes() - self.base_bytes
    }

    fn holders(&self) -> Vec<Held> {
        let stage = self.largest();
        let held = |name: &str, bytes: usize| Held::new(name, bytes);
        let before = if self.split().is_some() { 0 } else { stage.before_bytes };
        let mut holders = vec![
            held(&format!("{} itself", stage.name.text()), stage.need_bytes),
            held("vectors made before", before),
            held("the program", self.base_bytes),
        ];
        largest_first(&mut holders);
        holders
    }
}

/// Variables of a segment that goes with a split: as long as a stripe.
fn segment_len(shape: &Shape, split: &NttPlan) -> usize {
    let stripe_len = split.stripe_bytes() / size_of::<Fr>();
    stripe_len.max(SEGMENT_LEN_MIN).min(shape.variables.max(1))
}

/// What a runtime gives a plan.
struct PlanRoom {
    threads: usize,
    used: usize,
    limit: usize,
    /// Whether the limit is a permit's: for vectors, the program is beside it.
    is_permit: bool,
}

impl PlanRoom {
    fn of(runtime: &Runtime) -> Result<Self, Error> {
        let threads = rayon::current_num_threads();
        let used = used_bytes(runtime, threads)?;
        let limit_bytes = runtime.limit_bytes().unwrap_or(u64::MAX);
        let mut limit = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
        let is_permit = runtime.permit_name().is_some();
        // Vectors that live are within a permit.
        if is_permit {
            limit = limit.saturating_sub(live_bytes(runtime));
        }
        Ok(Self { threads, used, limit, is_permit })
    }
}

/// Chooses the lengths that go with a split: a segment as long as a stripe, and the largest chunks
/// and buckets that fit beside it in `room`.
fn sizes_for(shape: &Shape, split: NttPlan, room: usize, threads: usize) -> Sizes {
    let segment_len = segment_len(shape, &split);
    let mut sizes = Sizes {
        threads,
        chunk_len: CHUNK_LEN_MAX,
        block_len: batch_len(threads),
        // Fewer buckets are more windows, which take more in digits than the buckets give back.
        bucket_bytes_max: (room / 2).max(needs::BUCKET_BYTES_MIN),
        segment_len,
        split: Some(split),
    };
    let largest = |sizes: &Sizes| {
        StageName::MSMS.iter().map(|name| needs::need(shape, *name, sizes)).max().unwrap_or(0)
    };
    while largest(&sizes) > room {
        if sizes.chunk_len > CHUNK_LEN_MIN {
            sizes.chunk_len /= 2;
        } else if sizes.bucket_bytes_max > needs::BUCKET_BYTES_MIN {
            sizes.bucket_bytes_max /= 2;
        } else if sizes.block_len > BATCH_LEN_LEAST {
            sizes.block_len /= 2;
        } else {
            break;
        }
    }
    sizes
}

/// Points of a batch of additions, where there is room.
fn batch_len(threads: usize) -> usize {
    (BATCHES_LEN / threads.max(1)).next_power_of_two().clamp(BATCH_LEN_MIN, BATCH_LEN_MAX)
}
