//! snarkjs's proving keys, `.zkey`, of Groth16 over BN254 (there called bn128).
//!
//! ```text
//!   "zkey" | version 1 | sections                 v variables, p public inputs, d domain
//!   1  protocol        u32 = 1                    4 bytes
//!   2  header          n8q u32, q, n8r u32, r     660 bytes
//!                      v, p, d u32
//!                      alpha1 beta1 beta2 gamma2 delta1 delta2
//!   3  IC              p + 1 points of G1         the verifying key's gamma_abc_g1
//!   4  coefficients    count u32, then            4 + 44 count bytes
//!                      matrix row signal u32, value 32
//!   5  A points        v of G1                    6  B1 points   v of G1
//!   7  B2 points       v of G2                    8  C points    v - p - 1 of G1
//!   9  H points        d of G1                   10  contributions (not used here)
//! ```
//!
//! Points and values are little-endian in Montgomery form, with R = 2^256. A coefficient `c` is
//! stored as the number `c R^2 mod r`: snarkjs multiplies it by a witness value that is *not* in
//! Montgomery form and wants the product to be. We want `c` itself, so one Montgomery reduction
//! is taken off. The rows of A include one for each public input and for the constant one,
//! which snarkjs appends after the circuit's own.
//!
//! Invariants: those of [`KeyFile`]; further `2 d` divides r - 1, since circom's reduction
//! evaluates on the coset by a 2d-th root of unity; every coefficient that leaves has its matrix
//! below 2, `row < d`, `signal < v` and its value below r.
//!
//! It must never depend on the order of sections or of coefficients.

use std::path::Path;

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, BigInt, FftField, PrimeField};
use ark_groth16::VerifyingKey;

use super::{Container, SectionTable, check_prime, check_size};
use crate::groth16::error::{Fault, FileError, FileKind, KeyError};
use crate::groth16::key::records::{Decode, Records, Source};
use crate::groth16::key::{
    G1_BYTES, G2_BYTES, KeyFile, KeyKind, check_subgroups, little_endian, read_g1_at, read_g2_at,
    read_gamma_abc,
};

const CONTAINER: Container =
    Container { magic: FileKind::Zkey, wanted: "a snarkjs key (.zkey)", version: 1 };

const PROTOCOL_GROTH16: u32 = 1;

const PLACE_PROTOCOL: &str = "section 1 (protocol)";
const PLACE_HEADER: &str = "section 2 (header)";
const PLACE_IC: &str = "section 3 (IC)";
const PLACE_COEFFICIENTS: &str = "section 4 (coefficients)";
const PLACE_A: &str = "section 5 (A points)";
const PLACE_B1: &str = "section 6 (B1 points)";
const PLACE_B2: &str = "section 7 (B2 points)";
const PLACE_C: &str = "section 8 (C points)";
const PLACE_H: &str = "section 9 (H points)";
const PLACE_CONTRIBUTIONS: &str = "section 10 (contributions)";

/// Names of the header's points of G2: beta, gamma, delta.
pub(in crate::groth16) const HEADER_G2: [&str; 3] =
    ["section 2 (header), beta2", "section 2 (header), gamma2", "section 2 (header), delta2"];

const HEADER_BYTES: u64 = 660;

/// The header from its start: q behind its size, r behind its size, the counts, the points.
const OFFSET_R: u64 = 36;
const OFFSET_COUNTS: u64 = 72;
const OFFSET_POINTS: u64 = 84;

const _: () = assert!(
    HEADER_BYTES == OFFSET_POINTS + 3 * G1_BYTES as u64 + 3 * G2_BYTES as u64,
    "three counts of 4 bytes, then alpha1 beta1 beta2 gamma2 delta1 delta2"
);

const COEFFICIENT_BYTES: u32 = 44;

/// A hash of the circuit and a count: the least that section 10 holds.
const CONTRIBUTIONS_BYTES_MIN: u64 = 68;

/// The header's counts, consistent with each other.
struct Counts {
    variables: u64,
    public_inputs: u64,
    domain_size: u64,
}

impl KeyFile {
    /// Opens a snarkjs `.zkey` of Groth16 over bn128.
    ///
    /// Reads the header and the verifying key (checked fully), and the size of each section;
    /// points and coefficients are checked when they are read.
    ///
    /// # Errors
    ///
    /// A [`KeyError`] that says which section, size, modulus, count or point is wrong.
    pub fn open_zkey(path: &Path) -> Result<KeyFile, KeyError> {
        let source = Source::open(path)?;
        let table = SectionTable::read(&source, &CONTAINER)?;
        check_protocol(&source, &table)?;
        let header = table.section(&source, 2)?;
        // The moduli before the size: another curve's header has another size.
        check_prime(&source, PLACE_HEADER, "q", header.offset)?;
        check_prime(&source, PLACE_HEADER, "r", header.offset + OFFSET_R)?;
        check_size(&source, PLACE_HEADER, &header, HEADER_BYTES)?;
        let counts = read_counts(&source, header.offset + OFFSET_COUNTS)?;
        let Counts { variables, public_inputs, domain_size } = counts;
        let g1 = |id, place, len| points(&source, &table, id, place, len, G1_BYTES);
        let gamma_abc = g1(3, PLACE_IC, public_inputs + 1)?;
        let coefficients = coefficient_records(&source, &table)?;
        let queries = [
            g1(5, PLACE_A, variables)?,
            g1(6, PLACE_B1, variables)?,
            points(&source, &table, 7, PLACE_B2, variables, G2_BYTES)?,
            g1(9, PLACE_H, domain_size)?,
            g1(8, PLACE_C, variables - public_inputs - 1)?,
        ];
        check_contributions(&source, &table)?;
        let offset = header.offset + OFFSET_POINTS;
        let g1_at = |place, at| read_g1_at(&source, KeyKind::Zkey, place, offset + at);
        let g2_at = |i: usize, at| read_g2_at(&source, KeyKind::Zkey, HEADER_G2[i], offset + at);
        let alpha_g1 = g1_at("section 2 (header), alpha1", 0)?;
        let beta_g1 = g1_at("section 2 (header), beta1", 64)?;
        let beta_g2 = g2_at(0, 128)?;
        let gamma_g2 = g2_at(1, 256)?;
        let delta_g1 = g1_at("section 2 (header), delta1", 384)?;
        let delta_g2 = g2_at(2, 448)?;
        let gamma_abc_g1 = read_gamma_abc(&source, KeyKind::Zkey, &gamma_abc)?;
        let verifying_key = VerifyingKey { alpha_g1, beta_g2, gamma_g2, delta_g2, gamma_abc_g1 };
        check_subgroups(&source, KeyKind::Zkey, &verifying_key)?;
        Ok(KeyFile {
            domain_size: queries[3].len(),
            source,
            kind: KeyKind::Zkey,
            verifying_key,
            beta_g1,
            delta_g1,
            queries,
            coefficients: Some(coefficients),
        })
    }
}

fn check_protocol(source: &Source, table: &SectionTable) -> Result<(), FileError> {
    let section = table.section_of(source, 1, PLACE_PROTOCOL, 4)?;
    let found = source.u32(PLACE_PROTOCOL, section.offset)?;
    if found == PROTOCOL_GROTH16 {
        return Ok(());
    }
    Err(source.error(PLACE_PROTOCOL, Fault::Protocol { found }))
}

/// Section 10 is not used to prove and may be absent; if it is there it has room for its head.
fn check_contributions(source: &Source, table: &SectionTable) -> Result<(), FileError> {
    let Some(section) = table.sections[10] else { return Ok(()) };
    if section.len_bytes >= CONTRIBUTIONS_BYTES_MIN {
        return Ok(());
    }
    let (expected, found) = (CONTRIBUTIONS_BYTES_MIN, section.len_bytes);
    Err(source.error(PLACE_CONTRIBUTIONS, Fault::SectionSize { expected, found }))
}

/// Reads v, p and d and holds them against each other.
fn read_counts(source: &Source, offset: u64) -> Result<Counts, FileError> {
    let count = |i: u64| source.u32(PLACE_HEADER, offset + 4 * i).map(u64::from);
    let (variables, public_inputs, domain_size) = (count(0)?, count(1)?, count(2)?);
    let reject =
        |name, found, rule| Err(source.error(PLACE_HEADER, Fault::Count { name, found, rule }));
    if variables <= public_inputs {
        let rule = "it must be above the number of public inputs (nPublic)";
        return reject("the number of variables (nVars)", variables, rule);
    }
    let name = "the domain size";
    if !domain_size.is_power_of_two() {
        return reject(name, domain_size, "it must be a power of two");
    }
    if 2 * domain_size > 1 << Fr::TWO_ADICITY {
        return reject(name, domain_size, "BN254 has no coset for one larger than 2^27");
    }
    if domain_size <= public_inputs {
        let rule = "each public input and the constant one has a row";
        return reject(name, domain_size, rule);
    }
    Ok(Counts { variables, public_inputs, domain_size })
}

/// Section `id`, which must hold exactly `len` points.
fn points(
    source: &Source,
    table: &SectionTable,
    id: u32,
    place: &'static str,
    len: u64,
    point_bytes: u32,
) -> Result<Records, FileError> {
    // No overflow: len < 2^33, as it comes from 32-bit counts.
    let section = table.section_of(source, id, place, len * u64::from(point_bytes))?;
    Records::new(source, place, section.offset, len, point_bytes)
}

fn coefficient_records(source: &Source, table: &SectionTable) -> Result<Records, FileError> {
    let place = PLACE_COEFFICIENTS;
    let section = table.section(source, 4)?;
    if section.len_bytes < 4 {
        let fault = Fault::SectionSize { expected: 4, found: section.len_bytes };
        return Err(source.error(place, fault));
    }
    let count = u64::from(source.u32(place, section.offset)?);
    check_size(source, place, &section, 4 + count * u64::from(COEFFICIENT_BYTES))?;
    Records::new(source, place, section.offset + 4, count, COEFFICIENT_BYTES)
}

/// Which constraint matrix an entry belongs to. C is not stored: it is A times B, row by row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Matrix {
    /// The left factor.
    A,
    /// The right factor.
    B,
}

/// One entry of a constraint matrix that is not zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Coefficient {
    /// Its matrix.
    pub matrix: Matrix,
    /// Its row, below the domain size.
    pub row: u32,
    /// Its column, below the number of variables.
    pub signal: u32,
    /// Its value.
    pub value: Fr,
}

impl Coefficient {
    /// A zero entry, to fill a buffer with.
    pub const ZERO: Coefficient =
        Coefficient { matrix: Matrix::A, row: 0, signal: 0, value: Fr::ZERO };
}

/// The constraint matrices of a zkey, in the order of the file.
pub struct Coefficients<'a> {
    source: &'a Source,
    records: Records,
    decoder: CoefficientDecoder,
}

impl std::fmt::Debug for Coefficients<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coefficients").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<'a> Coefficients<'a> {
    pub(in crate::groth16) fn new(
        source: &'a Source,
        records: Records,
        rows: usize,
        signals: usize,
    ) -> Coefficients<'a> {
        let decoder = CoefficientDecoder { rows: rows as u64, signals: signals as u64 };
        Coefficients { source, records, decoder }
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Decodes the entries from `start` on into `out`, on all threads of the current rayon pool
    /// when there are many.
    ///
    /// # Errors
    ///
    /// A [`KeyError`] naming the lowest bad entry; `out` is then unspecified. [`Fault::Range`] past
    /// the end.
    pub fn read(&self, start: usize, out: &mut [Coefficient]) -> Result<(), KeyError> {
        self.records.read(self.source, start, out, &self.decoder)
    }

    /// Calls `visit` with all entries in order, `buffer.len()` at a time, the last time fewer. The
    /// pages of the file behind leave resident memory.
    ///
    /// An empty `buffer` is taken as one of a single entry.
    ///
    /// # Errors
    ///
    /// The first error of [`Coefficients::read`] or of `visit`.
    pub fn for_each_chunk_in<E: From<KeyError>>(
        &self,
        buffer: &mut [Coefficient],
        mut visit: impl FnMut(&[Coefficient]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut single = [Coefficient::ZERO];
        let buffer = if buffer.is_empty() { &mut single[..] } else { buffer };
        let mut start = 0;
        while start < self.len() {
            let count = buffer.len().min(self.len() - start);
            let chunk = &mut buffer[..count];
            self.read(start, chunk)?;
            visit(chunk)?;
            start += count;
        }
        Ok(())
    }

    /// As [`Coefficients::for_each_chunk_in`], with a buffer of its own: of `chunk_len` entries of
    /// 48 bytes, or of as many as there are.
    ///
    /// # Errors
    ///
    /// As [`Coefficients::for_each_chunk_in`].
    pub fn for_each_chunk<E: From<KeyError>>(
        &self,
        chunk_len: usize,
        visit: impl FnMut(&[Coefficient]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = vec![Coefficient::ZERO; chunk_len.min(self.len())];
        self.for_each_chunk_in(&mut buffer, visit)
    }
}

struct CoefficientDecoder {
    rows: u64,
    signals: u64,
}

impl Decode<44> for CoefficientDecoder {
    type Item = Coefficient;

    fn decode(&self, bytes: &[u8; 44], index: u64) -> Result<Coefficient, Fault> {
        let (numbers, value) = bytes.split_at(12);
        let number = |i: usize| {
            let n = &numbers[4 * i..4 * i + 4];
            u32::from_le_bytes([n[0], n[1], n[2], n[3]])
        };
        let below = |name, found: u32, limit: u64| {
            if u64::from(found) < limit {
                Ok(found)
            } else {
                Err(Fault::Coefficient { index, name, found, limit })
            }
        };
        let matrix = if below("matrix", number(0), 2)? == 0 { Matrix::A } else { Matrix::B };
        let row = below("row", number(1), self.rows)?;
        let signal = below("signal", number(2), self.signals)?;
        let mut stored = [0; 32];
        stored.copy_from_slice(value);
        let value = from_twice_montgomery(little_endian(&stored))
            .ok_or(Fault::CoefficientValue { index })?;
        Ok(Coefficient { matrix, row, signal, value })
    }
}

/// The `c` of the number `c R^2 mod r`, if the number is below r.
fn from_twice_montgomery(stored: BigInt<4>) -> Option<Fr> {
    if stored >= Fr::MODULUS {
        return None;
    }
    // Taken as a Montgomery form, `stored` is that of `c R`; the value of that, `c R`, is the
    // Montgomery form of `c`.
    let montgomery_form = Fr::new_unchecked(stored).into_bigint();
    Some(Fr::new_unchecked(montgomery_form))
}
