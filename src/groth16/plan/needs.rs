//! Bytes: what each stage holds alive, needs in memory and moves, in and out of core.

use super::shape::{QUOTIENT_VECTORS, Shape, StageName};
use crate::groth16::key::{KeyKind, Query};
use crate::groth16::r1cs::BLOCK_ROWS;
use crate::msm::MsmPlan;
use crate::ntt::{Moved, Plan as NttPlan, twiddle_len};
use crate::ranks::ShareTurn;
use crate::tiles::Share;
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
    /// Ranks that share the proof.
    pub(super) fn ranks(&self) -> usize {
        self.split.map_or(1, |split| split.ranks())
    }

    /// The most points of a query that a rank multiplies.
    pub(super) fn share_len(&self, shape: &Shape, query: Query) -> usize {
        let len = shape.query_len(query);
        match &self.split {
            _ if self.ranks() == 1 => len,
            Some(split) if query == Query::H => len.min(split.share_bytes() / size_of::<Fr>()),
            _ => {
                let shares = Share::first_of(self.ranks()).all();
                shares.map(|share| shape.own_points(query, share).len()).max().unwrap_or(len)
            }
        }
    }

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

/// Bytes of vectors alive when a stage begins: the whole assignment, and this rank's share of the
/// others.
pub(super) fn alive_before(shape: &Shape, name: StageName, sizes: &Sizes) -> usize {
    let assignment = fr_vector(shape.variables);
    match name {
        StageName::Witness | StageName::Verify => 0,
        StageName::MsmH => {
            let shared = sizes.split.filter(|split| split.ranks() > 1);
            let whole = shape.domain_size * size_of::<Fr>();
            assignment + vector_bytes(shared.map_or(whole, |split| split.share_bytes()))
        }
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
        (StageName::Quotient, Some(split)) => QUOTIENT_VECTORS * split.share_bytes(),
        _ => 0,
    }
}

/// Bytes of what is alive or made that may pack: the assignment, and rows before their transform.
pub(super) fn packable(shape: &Shape, name: StageName, sizes: &Sizes) -> usize {
    match name {
        StageName::Verify => 0,
        StageName::Witness => made(shape, name, sizes),
        StageName::Quotient => alive_before(shape, name, sizes) + made(shape, name, sizes),
        // The scalars of the H query are the last transform's.
        StageName::MsmH => fr_vector(shape.variables),
        StageName::MsmL | StageName::MsmA | StageName::MsmB1 | StageName::MsmB2 => {
            alive_before(shape, name, sizes)
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
    let needed = split.smallest_bytes().max(making);
    needed + matrix_bytes(shape, piece_len, sizes.threads) + message_bytes(split)
}

/// What a turn takes where there are several ranks: a block on its way out and one on its way in,
/// as vectors and as messages, and one that is brought in and one that is written beside.
fn message_bytes(split: &NttPlan) -> usize {
    if split.ranks() == 1 { 0 } else { 6 * vector_bytes(split.block_bytes()) }
}

fn msm(shape: &Shape, name: StageName, sizes: &Sizes) -> usize {
    let query = name.query().unwrap_or(Query::A);
    sum(query, sizes.share_len(shape, query), sizes)
}

/// What the sum of a query takes where `len` of its points are multiplied.
pub(super) fn sum(query: Query, len: usize, sizes: &Sizes) -> usize {
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
    let vector = split.share_bytes() as u64;
    let read = |bytes| Moved { read_bytes: bytes, written_bytes: 0 };
    match name {
        StageName::Witness => Moved { read_bytes: 0, written_bytes: assignment },
        StageName::Quotient => {
            let piece_len = crate::groth16::quotient::piece_len(split);
            let own_len = split.share_bytes() / size_of::<Fr>();
            // Several ranks compare their assignments before.
            let sweeps = own_len.div_ceil(piece_len) + usize::from(split.ranks() > 1);
            let last = match shape.kind {
                KeyKind::Arkworks => vector,
                KeyKind::Zkey => 0,
            };
            let turned = sent(shape, name, sizes);
            // Three passes of three vectors, of which c is made and b and c end without a walk.
            Moved {
                read_bytes: sweeps as u64 * assignment + 8 * vector + last + turned,
                written_bytes: 9 * vector + last + turned,
            }
        }
        StageName::MsmH => read(vector),
        StageName::MsmL | StageName::MsmA | StageName::MsmB1 | StageName::MsmB2 => {
            let own = name.query().map_or(0, |query| sizes.share_len(shape, query));
            read(assignment.min((own * size_of::<Fr>()) as u64))
        }
        StageName::Verify => Moved::default(),
    }
}

/// Bytes of tiles that a rank sends to the others in a stage, at most: those of the rank with most.
pub(super) fn sent(shape: &Shape, name: StageName, sizes: &Sizes) -> u64 {
    match &sizes.split {
        Some(split) if name == StageName::Quotient => {
            let shares = Share::first_of(split.ranks()).all();
            shares.map(|share| sent_by(shape, split, share)).max().unwrap_or(0)
        }
        _ => 0,
    }
}

/// Bytes of tiles that the rank `share` sends.
pub(super) fn sent_by(shape: &Shape, split: &NttPlan, share: Share) -> u64 {
    let blocks = |(from, vectors)| {
        let turn = ShareTurn { whole: split.layout(), from };
        turn.sent_blocks(share) * vectors
    };
    let turns = crate::groth16::quotient::turned_vectors(shape.kind).map(blocks);
    (turns.into_iter().sum::<usize>() * split.block_bytes()) as u64
}
