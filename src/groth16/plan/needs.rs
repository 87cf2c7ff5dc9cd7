//! Bytes: what each stage holds alive, needs in memory and moves, in and out of core.

use super::shape::{QUOTIENT_VECTORS, Shape, StageName};
use crate::groth16::key::{KeyKind, Query};
use crate::groth16::r1cs::BLOCK_ROWS;
use crate::msm::MsmPlan;
use crate::ntt::{Moved, Passes, Plan as NttPlan, twiddle_len};
use ark_bn254::g1::Config as G1;
use ark_bn254::g2::Config as G2;
use ark_bn254::{Fr, G1Affine, G2Affine};
use ark_ec::short_weierstrass::SWCurveConfig;
use plimsoll_arena::size::vector_bytes;

/// What the verifier takes besides: the prepared key.
const VERIFYING_BYTES: usize = 128 << 10;

/// Bytes a public input takes while the proof is verified: two copies of it, and two of its point.
const PUBLIC_INPUT_BYTES: usize = 256;

/// Heap bytes an arkworks circuit takes for each variable while its witness is made: the value
/// (32 bytes), in a vector that is reserved whole, and gadget state. Of 2^20 constraints of SHA-256
/// a limit with none for the latter left 1 MB (`cargo bench --bench groth16 -- sweep-sha256 20`).
const SYNTHESIS_BYTES_A_VARIABLE: usize = 34;

/// Heap bytes it takes besides.
const SYNTHESIS_BYTES: usize = 1 << 20;

/// What reading a file takes on stacks and heap, with what the heap keeps of it.
const READING_BYTES: usize = 64 << 10;

/// Buckets a multi-scalar multiplication is left at least: windows of about eight bits in G2.
pub(super) const BUCKET_BYTES_MIN: usize = 512 << 10;

/// Batches of additions that the points of a sum make at least, unless they are shorter than
/// [`BATCH_LEN_SHORT`] then.
const BATCHES_A_SUM_MIN: usize = 4;
const BATCH_LEN_SHORT: usize = 1 << 10;

/// Segments in memory at once: the one in use, the one that is read, the one that is written.
const SEGMENTS: usize = 3;

/// The lengths that a plan chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) threads: usize,
    pub(super) chunk_len: usize,
    /// Points of a batch of additions, of which each thread has one.
    pub(super) block_len: usize,
    pub(super) bucket_bytes_max: usize,
    pub(super) segment_len: usize,
    pub(super) split: Option<NttPlan>,
}

impl Sizes {
    pub(super) fn msm<P: SWCurveConfig>(&self, len: usize) -> MsmPlan {
        // A short sum has no use for long batches, and they would be most of what it takes.
        let batch_len = (len / BATCHES_A_SUM_MIN).next_power_of_two().max(BATCH_LEN_SHORT);
        MsmPlan::within::<P>(len, self.chunk_len, self.threads, self.bucket_bytes_max)
            .with_block_len::<P>(self.block_len.min(batch_len))
    }
}

fn fr_vector(len: usize) -> usize {
    vector_bytes(len.saturating_mul(size_of::<Fr>()))
}

/// Bytes of vectors alive when a stage begins.
pub(super) fn alive_before(shape: &Shape, name: StageName) -> usize {
    let assignment = fr_vector(shape.variables);
    match name {
        StageName::Witness | StageName::Verify => 0,
        StageName::MsmH => assignment + fr_vector(shape.domain_size),
        StageName::Quotient
        | StageName::MsmL
        | StageName::MsmA
        | StageName::MsmB1
        | StageName::MsmB2 => assignment,
    }
}

/// Bytes of vectors a stage makes out of core, which may leave before it ends.
pub(super) fn made(shape: &Shape, name: StageName, sizes: &Sizes) -> usize {
    match (name, &sizes.split) {
        (StageName::Witness, Some(_)) => fr_vector(shape.variables),
        (StageName::Quotient, Some(split)) => QUOTIENT_VECTORS * split.vector_bytes(),
        _ => 0,
    }
}

/// Bytes of what is alive or made that may pack: the assignment, and rows before their transform.
pub(super) fn packable(shape: &Shape, name: StageName, sizes: &Sizes) -> usize {
    match name {
        StageName::Verify => 0,
        StageName::Witness => made(shape, name, sizes),
        StageName::Quotient => alive_before(shape, name) + made(shape, name, sizes),
        // The scalars of the H query are the last transform's.
        StageName::MsmH => fr_vector(shape.variables),
        StageName::MsmL | StageName::MsmA | StageName::MsmB1 | StageName::MsmB2 => {
            alive_before(shape, name)
        }
    }
}

/// Bytes a stage needs in memory beyond what is alive, or out of core beyond nothing.
pub(super) fn need(shape: &Shape, name: StageName, sizes: &Sizes) -> usize {
    match name {
        StageName::Witness => witness(shape, sizes),
        StageName::Quotient => match &sizes.split {
            Some(split) => quotient_out_of_core(shape, split, sizes),
            None => quotient_in_core(shape, sizes.threads),
        },
        StageName::Verify => {
            VERIFYING_BYTES + shape.public_inputs.saturating_mul(PUBLIC_INPUT_BYTES)
        }
        StageName::MsmH
        | StageName::MsmL
        | StageName::MsmA
        | StageName::MsmB1
        | StageName::MsmB2 => msm(shape, name, sizes),
    }
}

/// Bytes of the segments or blocks that a walk over a vector has in memory out of core.
fn walk_bytes(sizes: &Sizes) -> usize {
    match sizes.split {
        Some(_) => SEGMENTS * fr_vector(sizes.segment_len),
        None => 0,
    }
}

fn witness(shape: &Shape, sizes: &Sizes) -> usize {
    let vectors = match sizes.split {
        Some(_) => walk_bytes(sizes),
        None => fr_vector(shape.variables),
    };
    let scratch = match shape.kind {
        // The circuit's own copy of the assignment, until it is copied into ours.
        KeyKind::Arkworks => {
            SYNTHESIS_BYTES + shape.variables.saturating_mul(SYNTHESIS_BYTES_A_VARIABLE)
        }
        KeyKind::Zkey => READING_BYTES,
    };
    vectors + scratch
}

/// What reading the matrices takes, a piece of `rows` at a time.
pub(super) fn matrix_bytes(shape: &Shape, rows: usize, threads: usize) -> usize {
    match shape.kind {
        KeyKind::Arkworks => {
            let at_once = rows.div_ceil(BLOCK_ROWS).clamp(1, threads.max(1));
            let blocks = shape.matrix_block_bytes.saturating_mul(at_once);
            blocks + shape.matrix_held_bytes + READING_BYTES
        }
        KeyKind::Zkey => {
            vector_bytes(shape.matrix_block_bytes) + shape.matrix_held_bytes + READING_BYTES
        }
    }
}

fn quotient_in_core(shape: &Shape, threads: usize) -> usize {
    let values = fr_vector(shape.domain_size);
    let roots = fr_vector(twiddle_len(shape.domain_size.max(1).ilog2()));
    let matrices = matrix_bytes(shape, shape.domain_size, threads);
    match shape.kind {
        // C is made where B was, beside the roots.
        KeyKind::Arkworks => 2 * values + roots + matrices,
        // C is A times B: the coefficients are done with by then, but their buffer is still cached.
        KeyKind::Zkey => {
            2 * values + matrices.max(values + roots + vector_bytes(shape.matrix_block_bytes))
        }
    }
}

fn quotient_out_of_core(shape: &Shape, split: &NttPlan, sizes: &Sizes) -> usize {
    // Three pieces of rows are made from windows of the assignment, and stored.
    let piece_len = crate::groth16::quotient::piece_len(split);
    let making = 2 * (3 * fr_vector(piece_len)) + walk_bytes(sizes);
    split.smallest_bytes().max(making) + matrix_bytes(shape, piece_len, sizes.threads)
}

fn msm(shape: &Shape, name: StageName, sizes: &Sizes) -> usize {
    let query = name.query().unwrap_or(Query::A);
    let len = shape.query_len(query);
    let chunk = sizes.chunk_len.min(len);
    let (decoded, buffers) = match query {
        Query::B2 => (size_of::<G2Affine>(), sizes.msm::<G2>(len).pool_bytes::<G2>()),
        Query::A | Query::B1 | Query::H | Query::L => {
            (size_of::<G1Affine>(), sizes.msm::<G1>(len).pool_bytes::<G1>())
        }
    };
    // The quotient's scalars are gathered from blocks.
    let gathered = match sizes.split {
        Some(_) if query == Query::H => fr_vector(chunk),
        _ => 0,
    };
    vector_bytes(chunk * decoded) + READING_BYTES + buffers + gathered + walk_bytes(sizes)
}

/// Bytes that a stage packs or writes, and brings back, if none of it stays in memory.
pub(super) fn moved(shape: &Shape, name: StageName, sizes: &Sizes) -> Moved {
    let Some(split) = &sizes.split else { return Moved::default() };
    let assignment = (shape.variables * size_of::<Fr>()) as u64;
    let vector = split.vector_bytes() as u64;
    let read = |bytes| Moved { read_bytes: bytes, written_bytes: 0 };
    match name {
        StageName::Witness => Moved { read_bytes: 0, written_bytes: assignment },
        StageName::Quotient => {
            let pieces = shape.domain_size.div_ceil(crate::groth16::quotient::piece_len(split));
            let shifts = split.walked(Passes::Shift);
            let last = match shape.kind {
                KeyKind::Arkworks => Passes::Single.count() as u64 * vector - vector,
                KeyKind::Zkey => 0,
            };
            Moved {
                // The third pass of two of the shifts stores nothing.
                read_bytes: pieces as u64 * assignment + 3 * shifts.read_bytes + last,
                written_bytes: 3 * vector + 3 * shifts.written_bytes - 2 * vector + last,
            }
        }
        StageName::MsmH => read(vector),
        StageName::MsmL | StageName::MsmA | StageName::MsmB1 | StageName::MsmB2 => read(assignment),
        StageName::Verify => Moved::default(),
    }
}
