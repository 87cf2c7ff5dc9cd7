//! The constraint matrices of an arkworks circuit, in a file that a proof streams through.
//!
//! ```text
//!   0    magic "PLMATRIX"                        8
//!   8    version, 1                              u32
//!   12   rows a block, 4096                      u32
//!   16   scalar field modulus                    32 bytes, little-endian
//!   48   constraints                             u64
//!   56   instance variables, with the one        u64
//!   64   variables in all                        u64
//!   72   coefficients in the dictionary          u64
//!   80   fingerprint of the proving key          u64
//!   88   checksum of all before the blocks but this field (XXH3)   u64
//!   96   index: for matrix A, B, C, for each block: offset u64, bytes u64, checksum u64
//!   ...  dictionary: 32 bytes little-endian each, below the modulus
//!   ...  blocks: the row lengths, u32 each; then the terms, (variable u32, coefficient u32) each
//! ```
//!
//! A circuit uses few coefficients (powers of two, plus and minus one), so a term is eight bytes
//! instead of the forty that the constraint system keeps. A block is read, checked against its
//! checksum, used and let go: no row is ever kept.
//!
//! Invariants: every variable index is below `variables`, every coefficient index below the
//! dictionary's length; both are checked for every term of every block before use.
//!
//! Never: a vector sized by a number in the file that was not checked against the file's length.

mod products;

pub(super) use products::multiply;

use crate::files::random::RandomFile;
use crate::groth16::error::MatrixError;
use crate::groth16::parts::{Cut, Parts};
use ark_bn254::Fr;
use ark_ff::{BigInteger, PrimeField};
use std::collections::HashMap;
use std::hash::Hasher;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use twox_hash::XxHash3_64;

const MAGIC: &[u8; 8] = b"PLMATRIX";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 96;
const CHECKSUM_AT: usize = 88;
const INDEX_ENTRY_BYTES: usize = 24;
const TERM_BYTES: usize = 8;

/// Rows a block. 4096 rows of a few terms are some hundred kilobytes: large enough that a read
/// costs nothing, small enough that every thread can hold one.
pub const BLOCK_ROWS: usize = 4096;

/// A matrix as arkworks gives it: for each row, the coefficients and variables of its terms.
pub type ArkMatrix = Vec<Vec<(Fr, usize)>>;

/// One of the three matrices of a rank-1 constraint system `A z * B z = C z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    /// Left factors.
    A = 0,
    /// Right factors.
    B = 1,
    /// Products.
    C = 2,
}

/// What the matrices are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixShape {
    /// Rows of each matrix.
    pub constraints: usize,
    /// Public inputs and the leading one.
    pub instance: usize,
    /// All variables, the one included.
    pub variables: usize,
    /// Fingerprint of the proving key they belong to.
    pub key_fingerprint: u64,
}

/// A part of an assignment: the values of the variables from `start` on.
#[derive(Clone, Copy)]
pub struct Window<'a> {
    /// Index of the first variable.
    pub start: usize,
    /// The values.
    pub values: &'a [Fr],
}

impl std::fmt::Debug for Window<'_> {
    /// Leaves the values out: they are the witness.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Window").field("start", &self.start).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct MatrixBlock {
    offset: u64,
    bytes: usize,
    checksum: u64,
    /// The parts of the assignment that it reads, [`Parts::ALL`] until it was looked through.
    parts: AtomicU64,
}

impl MatrixBlock {
    fn parts(&self) -> Parts {
        Parts::from_bits(self.parts.load(Ordering::Relaxed))
    }

    fn set_parts(&self, parts: Parts) {
        self.parts.store(parts.bits(), Ordering::Relaxed);
    }
}

/// An opened matrix file. Holding one proves that its header, index and dictionary were checked;
/// blocks are checked as they are read.
#[derive(Debug)]
pub struct MatrixFile {
    path: PathBuf,
    file: RandomFile,
    shape: MatrixShape,
    dictionary: Vec<Fr>,
    cut: Cut,
    blocks: [Vec<MatrixBlock>; 3],
}

fn modulus_bytes() -> Vec<u8> {
    Fr::MODULUS.to_bytes_le()
}

/// The dictionary while matrices are written.
#[derive(Default)]
struct Dictionary {
    index: HashMap<Fr, u32>,
    values: Vec<Fr>,
}

impl Dictionary {
    fn index_of(&mut self, value: Fr) -> u32 {
        *self.index.entry(value).or_insert_with(|| {
            self.values.push(value);
            (self.values.len() - 1) as u32
        })
    }
}

fn encode_block(rows: &[Vec<(Fr, usize)>], dictionary: &mut Dictionary, out: &mut Vec<u8>) {
    out.clear();
    for row in rows {
        out.extend_from_slice(&(row.len() as u32).to_le_bytes());
    }
    for (coefficient, variable) in rows.iter().flatten() {
        out.extend_from_slice(&(*variable as u32).to_le_bytes());
        out.extend_from_slice(&dictionary.index_of(*coefficient).to_le_bytes());
    }
}

/// Writes the three matrices, all with `shape.constraints` rows.
///
/// # Errors
///
/// What the writer says; `InvalidInput` for more than 2^32 variables.
pub fn write_matrices(
    mut out: impl Write,
    matrices: [&ArkMatrix; 3],
    shape: MatrixShape,
) -> std::io::Result<()> {
    let fits = u32::try_from(shape.variables).is_ok();
    if !fits || matrices.iter().any(|m| m.len() != shape.constraints) {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "three matrices of equal height and at most 2^32 variables can be written",
        ));
    }
    // Two passes: the first makes the dictionary and the index, the second writes the blocks.
    let mut dictionary = Dictionary::default();
    let mut scratch = Vec::new();
    let mut entries = Vec::new();
    for rows in matrices.iter().flat_map(|matrix| matrix.chunks(BLOCK_ROWS)) {
        encode_block(rows, &mut dictionary, &mut scratch);
        entries.push((scratch.len() as u64, XxHash3_64::oneshot(&scratch)));
    }
    let mut head = Vec::with_capacity(HEADER_BYTES);
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&(BLOCK_ROWS as u32).to_le_bytes());
    head.extend_from_slice(&modulus_bytes());
    for number in [shape.constraints, shape.instance, shape.variables, dictionary.values.len()] {
        head.extend_from_slice(&(number as u64).to_le_bytes());
    }
    head.extend_from_slice(&shape.key_fingerprint.to_le_bytes());
    let mut tail = Vec::new();
    let preamble = HEADER_BYTES + entries.len() * INDEX_ENTRY_BYTES + dictionary.values.len() * 32;
    let mut offset = preamble as u64;
    for (bytes, checksum) in &entries {
        for number in [offset, *bytes, *checksum] {
            tail.extend_from_slice(&number.to_le_bytes());
        }
        offset += bytes;
    }
    for value in &dictionary.values {
        tail.extend_from_slice(&value.into_bigint().to_bytes_le());
    }
    let mut hasher = XxHash3_64::new();
    hasher.write(&head);
    hasher.write(&tail);
    out.write_all(&head)?;
    out.write_all(&hasher.finish().to_le_bytes())?;
    out.write_all(&tail)?;
    for rows in matrices.iter().flat_map(|matrix| matrix.chunks(BLOCK_ROWS)) {
        encode_block(rows, &mut dictionary, &mut scratch);
        out.write_all(&scratch)?;
    }
    out.flush()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Reads a little-endian number below the modulus.
fn scalar(bytes: &[u8]) -> Option<Fr> {
    let mut limbs = [0u64; 4];
    for (limb, bytes) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
        *limb = u64_at(bytes, 0);
    }
    Fr::from_bigint(ark_ff::BigInt(limbs))
}

impl MatrixFile {
    /// Opens the file and checks its header, index and dictionary.
    ///
    /// # Errors
    ///
    /// [`MatrixError`], naming what is wrong.
    pub fn open(path: &Path) -> Result<Self, MatrixError> {
        let file = RandomFile::open(path)
            .map_err(|error| MatrixError { path: path.to_owned(), why: error.to_string() })?;
        Self::parse(path, file)
            .map_err(|why| MatrixError { path: path.to_owned(), why: why.to_owned() })
    }

    fn parse(path: &Path, file: RandomFile) -> Result<Self, &'static str> {
        const CUT: &str = "the file is cut short";
        let mut header = [0u8; HEADER_BYTES];
        file.read_at(0, &mut header).map_err(|_| "not a matrix file: too short")?;
        if &header[..8] != MAGIC {
            return Err("not a matrix file: wrong magic bytes");
        }
        if u32_at(&header, 8) != VERSION || u32_at(&header, 12) as usize != BLOCK_ROWS {
            return Err("written by another version of plimsoll");
        }
        if header[16..48] != modulus_bytes() {
            return Err("the matrices are over another field than BN254's scalars");
        }
        let count = |at| usize::try_from(u64_at(&header, at)).map_err(|_| "a count is too large");
        let (constraints, instance) = (count(48)?, count(56)?);
        let (variables, dictionary_len) = (count(64)?, count(72)?);
        if instance == 0 || instance > variables || variables > u32::MAX as usize {
            return Err("the numbers of variables contradict each other");
        }
        let blocks_each = constraints.div_ceil(BLOCK_ROWS);
        let index_bytes = blocks_each.checked_mul(3 * INDEX_ENTRY_BYTES).ok_or(CUT)?;
        let tail_bytes = dictionary_len
            .checked_mul(32)
            .and_then(|bytes| bytes.checked_add(index_bytes))
            .filter(|bytes| (*bytes as u64) < file.len())
            .ok_or(CUT)?;
        let mut tail = vec![0u8; tail_bytes];
        file.read_at(HEADER_BYTES as u64, &mut tail).map_err(|_| CUT)?;
        let mut hasher = XxHash3_64::new();
        hasher.write(&header[..CHECKSUM_AT]);
        hasher.write(&tail);
        if hasher.finish() != u64_at(&header, CHECKSUM_AT) {
            return Err("the checksum of header, index and dictionary is wrong");
        }
        let shape =
            MatrixShape { constraints, instance, variables, key_fingerprint: u64_at(&header, 80) };
        let (index, values) = tail.split_at(index_bytes);
        let blocks = Self::parse_index(index, blocks_each, &file)?;
        let dictionary = values
            .chunks_exact(32)
            .map(scalar)
            .collect::<Option<Vec<_>>>()
            .ok_or("a coefficient is not below the modulus")?;
        let cut = Cut::of(variables);
        Ok(Self { path: path.to_owned(), file, shape, dictionary, cut, blocks })
    }

    fn parse_index(
        index: &[u8],
        blocks_each: usize,
        file: &RandomFile,
    ) -> Result<[Vec<MatrixBlock>; 3], &'static str> {
        let mut blocks = [const { Vec::new() }; 3];
        for (i, entry) in index.chunks_exact(INDEX_ENTRY_BYTES).enumerate() {
            let (offset, bytes) = (u64_at(entry, 0), u64_at(entry, 8));
            let end = offset.checked_add(bytes).filter(|end| *end <= file.len());
            if end.is_none() {
                return Err("the file is cut short");
            }
            blocks[i / blocks_each].push(MatrixBlock {
                offset,
                bytes: bytes as usize,
                checksum: u64_at(entry, 16),
                parts: AtomicU64::new(Parts::ALL.bits()),
            });
        }
        Ok(blocks)
    }

    /// Returns what the matrices are of.
    #[must_use]
    pub fn shape(&self) -> MatrixShape {
        self.shape
    }

    /// Returns the heap bytes that a thread takes at most while products are made.
    #[must_use]
    pub fn scratch_bytes(&self) -> usize {
        self.blocks.iter().flatten().map(|block| block.bytes).max().unwrap_or(0)
    }

    /// Returns the heap bytes that the open file itself keeps.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let blocks = self.blocks.iter().map(Vec::len).sum::<usize>();
        self.dictionary.len() * size_of::<Fr>() + blocks * size_of::<MatrixBlock>()
    }
}
