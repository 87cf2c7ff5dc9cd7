//! The memory program of a proof: what each stage holds, and the smallest limit that will do.
//!
//! The plan is arithmetic on the sizes of a key: no memory, no files. The prover takes the need of
//! every stage from it, and a test holds the peak that was measured against it, so that plan and
//! program cannot drift apart.
//!
//! ```text
//!   peak of a stage = base + vectors alive + scratch + pages of files in use
//!   minimum         = largest peak, with the smallest chunks
//! ```
//!
//! `base` is [`PROGRAM_BYTES`], or what the process uses before the first stage and
//! [`GROWTH_BYTES`], if that is more. Chunks of a multi-scalar multiplication are as large as the
//! limit allows, down to [`CHUNK_LEN_MIN`].

use crate::Runtime;
use crate::error::Error;
use crate::groth16::circom::zkey::Coefficient;
use crate::groth16::key::{KeyFile, KeyKind, Query};
use crate::groth16::r1cs::MatrixFile;
use crate::groth16::witness_map::COEFFICIENTS_AT_ONCE;
use crate::msm::MsmPlan;
use crate::ntt::twiddle_len;
use ark_bn254::{Fr, G1Affine, G2Affine};
use plimsoll_arena::size::vector_bytes;

/// Points a chunk at most: past 2^16 a multi-scalar multiplication gains nothing.
pub const CHUNK_LEN_MAX: usize = 1 << 16;

/// Points a chunk at least: 2^12 is where buckets, not chunks, take the memory.
pub const CHUNK_LEN_MIN: usize = 1 << 12;

/// What the program comes to use besides, at least: its code pages, the C library, the stacks of
/// its threads, the heap's slack, the verifier's tables. The command was measured at 8 to 10 MiB.
pub const PROGRAM_BYTES: usize = 16 << 20;

/// What a program that is larger already grows by while it proves, beyond what the plan counts.
pub const GROWTH_BYTES: usize = 8 << 20;

/// What a thread takes: the touched part of its stack, and a heap arena of its own.
pub const THREAD_BYTES: usize = 256 << 10;

/// Bytes a public input takes while the proof is verified: two copies of it, and two of its point.
const PUBLIC_INPUT_BYTES: usize = 256;

/// Heap bytes an arkworks circuit takes for each variable while its witness is made: the value
/// (32 bytes) in a vector that doubles, whose touched part is what counts, and gadget state.
const SYNTHESIS_BYTES_A_VARIABLE: usize = 40;

/// Heap bytes it takes besides.
const SYNTHESIS_BYTES: usize = 4 << 20;

/// The stages of a proof, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageName {
    /// The assignment is made or read.
    Witness = 0,
    /// The scalars of the H query.
    Quotient = 1,
    /// The H query.
    MsmH = 2,
    /// The L query.
    MsmL = 3,
    /// The A query.
    MsmA = 4,
    /// The B query in G1.
    MsmB1 = 5,
    /// The B query in G2.
    MsmB2 = 6,
    /// The proof is verified.
    Verify = 7,
}

impl StageName {
    /// All stages, in order.
    pub const ALL: [StageName; 8] = [
        StageName::Witness,
        StageName::Quotient,
        StageName::MsmH,
        StageName::MsmL,
        StageName::MsmA,
        StageName::MsmB1,
        StageName::MsmB2,
        StageName::Verify,
    ];

    /// Returns the name used in reports.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            StageName::Witness => "witness",
            StageName::Quotient => "quotient",
            StageName::MsmH => "msm H",
            StageName::MsmL => "msm L",
            StageName::MsmA => "msm A",
            StageName::MsmB1 => "msm B1",
            StageName::MsmB2 => "msm B2",
            StageName::Verify => "verify",
        }
    }

    fn query(self) -> Option<Query> {
        match self {
            StageName::MsmH => Some(Query::H),
            StageName::MsmL => Some(Query::L),
            StageName::MsmA => Some(Query::A),
            StageName::MsmB1 => Some(Query::B1),
            StageName::MsmB2 => Some(Query::B2),
            StageName::Witness | StageName::Quotient | StageName::Verify => None,
        }
    }
}

/// The sizes of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Which reduction, and where the assignment comes from.
    pub kind: KeyKind,
    /// Variables, the one included.
    pub variables: usize,
    /// Public inputs.
    pub public_inputs: usize,
    /// Points of the evaluation domain.
    pub domain_size: usize,
    /// Bytes of the largest block of the matrix file.
    pub matrix_block_bytes: usize,
    /// Bytes that the open matrix file keeps.
    pub matrix_held_bytes: usize,
}

impl Shape {
    /// Returns the sizes of `key`, with its matrices if it is one of arkworks.
    #[must_use]
    pub fn of(key: &KeyFile, matrices: Option<&MatrixFile>) -> Self {
        Self {
            kind: key.kind(),
            variables: key.variables(),
            public_inputs: key.public_inputs(),
            domain_size: key.domain_size(),
            matrix_block_bytes: matrices.map_or(0, MatrixFile::scratch_bytes),
            matrix_held_bytes: matrices.map_or(0, MatrixFile::held_bytes),
        }
    }

    /// Guesses the sizes of an arkworks circuit of which only the number of constraints is known:
    /// as many variables as constraints, and few terms a row.
    #[must_use]
    pub fn of_constraints(constraints: usize) -> Self {
        Self {
            kind: KeyKind::Arkworks,
            variables: constraints.max(2),
            public_inputs: 1,
            domain_size: constraints.saturating_add(2).next_power_of_two(),
            matrix_block_bytes: 1 << 20,
            matrix_held_bytes: 1 << 20,
        }
    }

    fn query_len(&self, query: Query) -> usize {
        match query {
            Query::A | Query::B1 | Query::B2 => self.variables,
            Query::L => self.variables - self.public_inputs - 1,
            Query::H if self.kind == KeyKind::Arkworks => self.domain_size - 1,
            Query::H => self.domain_size,
        }
    }
}

/// What one stage holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedStage {
    /// Which stage.
    pub name: StageName,
    /// Bytes alive when it begins.
    pub before_bytes: usize,
    /// Bytes it adds at most.
    pub need_bytes: usize,
}

/// See the module's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofPlan {
    base_bytes: usize,
    threads: usize,
    chunk_len: usize,
    stages: Vec<PlannedStage>,
}

fn fr_vector(len: usize) -> usize {
    vector_bytes(len.saturating_mul(size_of::<Fr>()))
}

impl ProofPlan {
    /// Plans a proof of `shape` with chunks of `chunk_len` points, on `threads` threads, for a
    /// process that uses `used_bytes` before the first stage.
    #[must_use]
    pub fn new(shape: &Shape, used_bytes: usize, chunk_len: usize, threads: usize) -> Self {
        let assignment = fr_vector(shape.variables);
        let values = fr_vector(shape.domain_size);
        let stages = StageName::ALL
            .into_iter()
            .map(|name| {
                let (before_bytes, need_bytes) = match name {
                    StageName::Witness => (0, assignment + witness_scratch(shape, chunk_len)),
                    StageName::Quotient => (assignment, quotient_bytes(shape, values, threads)),
                    StageName::MsmH => {
                        (assignment + values, msm_bytes(shape, Query::H, chunk_len, threads))
                    }
                    StageName::Verify => {
                        (0, (1 << 20) + shape.public_inputs.saturating_mul(PUBLIC_INPUT_BYTES))
                    }
                    StageName::MsmL | StageName::MsmA | StageName::MsmB1 | StageName::MsmB2 => {
                        let query = name.query().unwrap_or(Query::A);
                        (assignment, msm_bytes(shape, query, chunk_len, threads))
                    }
                };
                PlannedStage { name, before_bytes, need_bytes }
            })
            .collect();
        let program = used_bytes.saturating_add(GROWTH_BYTES).max(PROGRAM_BYTES);
        let base_bytes = program.saturating_add(threads.saturating_mul(THREAD_BYTES));
        Self { base_bytes, threads, chunk_len, stages }
    }

    /// Plans a proof under the limit of `runtime`, with the largest chunks that fit.
    ///
    /// # Errors
    ///
    /// [`Error::OverLimit`] when even the smallest chunks do not fit; it names the smallest limit
    /// that would do.
    pub fn for_runtime(shape: &Shape, runtime: &Runtime) -> Result<Self, Error> {
        let base = usize::try_from(runtime.meter().rss_bytes()?).unwrap_or(usize::MAX);
        let base = base.saturating_sub(runtime.ledger().held_bytes());
        let limit = runtime.limit_bytes().unwrap_or(usize::MAX);
        let threads = rayon::current_num_threads();
        let mut chunk_len = CHUNK_LEN_MAX;
        loop {
            let plan = Self::new(shape, base, chunk_len, threads);
            if plan.minimum_bytes() <= limit {
                return Ok(plan);
            }
            if chunk_len == CHUNK_LEN_MIN {
                let peak = plan.largest();
                return Err(Error::OverLimit {
                    stage: peak.name.text().to_owned(),
                    asked_bytes: peak.need_bytes as u64,
                    short_bytes: (plan.minimum_bytes() - limit) as u64,
                    limit_bytes: limit as u64,
                    fits_bytes: plan.minimum_bytes() as u64,
                    holders: plan.holders(peak),
                });
            }
            chunk_len /= 2;
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
        self.threads
    }

    /// Returns the points a chunk of a multi-scalar multiplication has.
    #[must_use]
    pub fn chunk_len(&self) -> usize {
        self.chunk_len
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

    /// Returns the largest memory of the process during a stage.
    #[must_use]
    pub fn peak_bytes(&self, stage: &PlannedStage) -> usize {
        self.base_bytes.saturating_add(stage.before_bytes).saturating_add(stage.need_bytes)
    }

    /// Returns the smallest limit in bytes under which this plan keeps.
    #[must_use]
    pub fn minimum_bytes(&self) -> usize {
        self.peak_bytes(self.largest())
    }

    fn largest(&self) -> &PlannedStage {
        // A plan has every stage, so there is a largest; the first is as good as any otherwise.
        self.stages.iter().max_by_key(|s| self.peak_bytes(s)).unwrap_or(&self.stages[0])
    }

    fn holders(&self, stage: &PlannedStage) -> Vec<crate::reclaim::Held> {
        let held = |name: &str, bytes| crate::reclaim::Held { name: name.to_owned(), bytes };
        let mut holders = vec![
            held(&format!("{} itself", stage.name.text()), stage.need_bytes),
            held("vectors made before", stage.before_bytes),
            held("the program", self.base_bytes),
        ];
        holders.retain(|held| held.bytes > 0);
        holders.sort_by_key(|held| std::cmp::Reverse(held.bytes));
        holders
    }
}

fn witness_scratch(shape: &Shape, chunk_len: usize) -> usize {
    match shape.kind {
        // The circuit's own copy of the assignment, until it is copied into ours.
        KeyKind::Arkworks => {
            SYNTHESIS_BYTES + shape.variables.saturating_mul(SYNTHESIS_BYTES_A_VARIABLE)
        }
        // Pages of the file, a chunk at a time.
        KeyKind::Zkey => chunk_len * size_of::<Fr>() + FILE_SLACK_BYTES,
    }
}

/// Pages that the kernel maps around the ones asked for, and chunks that straddle them.
const FILE_SLACK_BYTES: usize = 512 << 10;

fn quotient_bytes(shape: &Shape, values: usize, threads: usize) -> usize {
    let roots = fr_vector(twiddle_len(shape.domain_size.max(1).ilog2()));
    match shape.kind {
        KeyKind::Arkworks => {
            // A block of the file twice: its pages, and the copy that is checked and used.
            let blocks = shape.matrix_block_bytes.saturating_mul(2 * threads);
            values * 2 + roots + blocks + shape.matrix_held_bytes + FILE_SLACK_BYTES
        }
        KeyKind::Zkey => {
            let record = size_of::<Coefficient>() + size_of::<Fr>() + 44;
            values * 3 + roots + COEFFICIENTS_AT_ONCE * record + FILE_SLACK_BYTES
        }
    }
}

fn msm_bytes(shape: &Shape, query: Query, chunk_len: usize, threads: usize) -> usize {
    let len = shape.query_len(query);
    let chunk = chunk_len.min(len);
    let (decoded, plan) = match query {
        Query::B2 => {
            let plan = MsmPlan::new::<ark_bn254::g2::Config>(len, chunk_len, threads);
            (size_of::<G2Affine>(), plan)
        }
        Query::A | Query::B1 | Query::H | Query::L => {
            let plan = MsmPlan::new::<ark_bn254::g1::Config>(len, chunk_len, threads);
            (size_of::<G1Affine>(), plan)
        }
    };
    let pages = chunk * query.point_bytes() + FILE_SLACK_BYTES;
    vector_bytes(chunk * decoded) + pages + plan.pool_bytes()
}
