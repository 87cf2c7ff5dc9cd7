//! Constraint systems, `.r1cs`, as circom writes them: to find a constraint that a witness breaks.
//!
//! ```text
//!   "r1cs" | version 1 | sections
//!   1 header       n8 u32 = 32 | r 32 bytes | wires u32 | outputs u32 | public inputs u32 |
//!                  private inputs u32 | labels u64 | constraints u32              64 bytes
//!   2 constraints  for each: three combinations A, B, C
//!                  a combination: terms u32, then (wire u32 | coefficient 32 bytes) a term
//! ```
//!
//! A constraint holds if `A(w) * B(w) = C(w)`. A zkey has A and B alone, so only this file can tell
//! a wrong witness from a wrong key.
//!
//! It must never size anything by a claimed count: terms are read one after the other.
//! Source: <https://github.com/iden3/r1csfile/blob/master/doc/r1cs_bin_format.md>.

use std::path::Path;

use ark_bn254::Fr;
use ark_ff::{PrimeField, Zero};

use super::wtns::WitnessFile;
use super::{Container, Section, SectionTable, check_prime, check_size};
use crate::Runtime;
use crate::groth16::error::ProveError;
use crate::groth16::file_error::{Fault, FileError, FileKind};
use crate::groth16::key::little_endian;
use crate::groth16::key::records::ByteSource;
use crate::groth16::r1cs::Matrix;

const CONTAINER: Container =
    Container { kind: FileKind::R1cs, wanted: "a circom constraint system (.r1cs)", newest: 1 };

const PLACE_HEADER: &str = "section 1 (header)";
const PLACE_CONSTRAINTS: &str = "section 2 (constraints)";

const HEADER_BYTES: u64 = 64;
const OFFSET_WIRES: u64 = 36;
const OFFSET_OUTPUTS: u64 = 40;
const OFFSET_INPUTS: u64 = 44;
const OFFSET_CONSTRAINTS: u64 = 60;

/// Bytes that are read at a time.
const STEP_BYTES: usize = 1 << 14;

/// A term of a constraint: `value` times the signal of `wire`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// The constraint, from 0.
    pub row: usize,
    /// The matrix it stands in.
    pub matrix: Matrix,
    /// The wire, below [`R1csFile::wires`].
    pub wire: usize,
    /// The coefficient.
    pub value: Fr,
}

/// An open constraint system. Holding one proves that its sections are there.
pub struct R1csFile {
    source: ByteSource,
    constraints: Section,
    wires: usize,
    public: usize,
    rows: usize,
}

impl std::fmt::Debug for R1csFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("R1csFile").field("wires", &self.wires).field("rows", &self.rows).finish()
    }
}

impl R1csFile {
    /// Opens a `.r1cs` file: reads its header.
    ///
    /// # Errors
    ///
    /// A [`FileError`] that says which section, size or modulus is wrong.
    pub fn open(path: &Path) -> Result<R1csFile, FileError> {
        let source = ByteSource::open(path)?;
        let table = SectionTable::read(&source, &CONTAINER)?;
        let header = table.section(&source, 1)?;
        check_prime(&source, PLACE_HEADER, "r", header.offset)?;
        check_size(&source, PLACE_HEADER, &header, HEADER_BYTES)?;
        let count = |at| source.u32(PLACE_HEADER, header.offset + at).map(|count| count as usize);
        let (wires, rows) = (count(OFFSET_WIRES)?, count(OFFSET_CONSTRAINTS)?);
        let public = count(OFFSET_OUTPUTS)?.saturating_add(count(OFFSET_INPUTS)?);
        if public >= wires {
            let rule = "it must be above the number of outputs and public inputs";
            let fault = Fault::Count { name: "the number of wires", found: wires as u64, rule };
            return Err(source.error(PLACE_HEADER, fault));
        }
        let constraints = table.section(&source, 2)?;
        Ok(R1csFile { source, constraints, wires, public, rows })
    }

    /// Returns the path that the file was opened at.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// Returns the number of wires, the constant one among them.
    #[must_use]
    pub fn wires(&self) -> usize {
        self.wires
    }

    /// Returns the number of public signals: outputs and public inputs. They are wires 1 and up.
    #[must_use]
    pub fn public_inputs(&self) -> usize {
        self.public
    }

    /// Returns the number of constraints.
    #[must_use]
    pub fn constraints(&self) -> usize {
        self.rows
    }

    /// Calls `each` with every term, in the order of the file: by constraint, then A, B and C.
    /// A few kilobytes of the file are in memory at a time.
    ///
    /// # Errors
    ///
    /// A [`FileError`] where a constraint is damaged; `each` has had what comes before it.
    pub fn for_each_term(&self, mut each: impl FnMut(Term)) -> Result<(), FileError> {
        let mut terms = TermReader::new(self);
        for row in 0..self.rows {
            for matrix in [Matrix::A, Matrix::B, Matrix::C] {
                terms.combination(|wire, value| each(Term { row, matrix, wire, value }))?;
            }
        }
        Ok(())
    }

    /// Returns the index of the first constraint that the witness does not satisfy, or none. The
    /// witness is decoded whole, in the secret pool.
    ///
    /// # Errors
    ///
    /// [`Fault::WireCount`] when the two are of different circuits, a [`FileError`] where a
    /// constraint is damaged, and what the limit says.
    pub fn first_unsatisfied(
        &self,
        witness: &WitnessFile,
        runtime: &Runtime,
    ) -> Result<Option<usize>, ProveError> {
        let (wires, values) = (self.wires as u64, witness.len() as u64);
        if wires != values {
            let fault = Fault::WireCount { wires, values };
            return Err(self.source.error(PLACE_HEADER, fault).into());
        }
        let stage = "looking for a constraint";
        let zeroed = runtime.secret_pool().try_zeroed(witness.len());
        let mut assignment = zeroed.map_err(|error| runtime.explain(stage, error))?;
        witness.read(0, &mut assignment)?;
        let mut terms = TermReader::new(self);
        let mut sum = || {
            let mut sum = Fr::zero();
            terms.combination(|wire, value| sum += value * assignment[wire])?;
            Ok::<_, FileError>(sum)
        };
        for row in 0..self.rows {
            let [a, b, c] = [sum()?, sum()?, sum()?];
            if a * b != c {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}

/// Reads the terms of the constraints in order.
struct TermReader<'a> {
    source: &'a ByteSource,
    wires: usize,
    at: u64,
    end: u64,
    buffer: Vec<u8>,
    used: usize,
    /// Terms read so far, for errors.
    index: u64,
}

impl<'a> TermReader<'a> {
    fn new(file: &'a R1csFile) -> Self {
        let R1csFile { source, constraints: section, wires, .. } = file;
        let (at, end) = (section.offset, section.offset + section.len_bytes);
        Self { source, wires: *wires, at, end, buffer: Vec::new(), used: 0, index: 0 }
    }

    /// Calls `each` with wire and coefficient of each term of the next combination.
    fn combination(&mut self, mut each: impl FnMut(usize, Fr)) -> Result<(), FileError> {
        let terms = u32::from_le_bytes(self.take()?);
        for _ in 0..terms {
            let wire = u32::from_le_bytes(self.take()?);
            let value = Fr::from_bigint(little_endian(&self.take()?));
            let index = self.index;
            let value = value.ok_or_else(|| self.error(Fault::CoefficientValue { index }))?;
            if wire as usize >= self.wires {
                let limit = self.wires as u64;
                let fault = Fault::Coefficient { index, name: "wire", found: wire, limit };
                return Err(self.error(fault));
            }
            each(wire as usize, value);
            self.index += 1;
        }
        Ok(())
    }

    /// The next `N` bytes.
    fn take<const N: usize>(&mut self) -> Result<[u8; N], FileError> {
        if self.buffer.len() - self.used < N {
            self.buffer.drain(..self.used);
            self.used = 0;
            let have = self.buffer.len();
            let more = (self.end - self.at).min((STEP_BYTES - have) as u64) as usize;
            if have + more < N {
                let needed = self.at + (N - have) as u64;
                return Err(self.error(Fault::Truncated { needed, present: self.end }));
            }
            self.buffer.resize(have + more, 0);
            self.source.read(PLACE_CONSTRAINTS, self.at, &mut self.buffer[have..])?;
            self.at += more as u64;
        }
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.buffer[self.used..][..N]);
        self.used += N;
        Ok(bytes)
    }

    fn error(&self, fault: Fault) -> FileError {
        self.source.error(PLACE_CONSTRAINTS, fault)
    }
}
