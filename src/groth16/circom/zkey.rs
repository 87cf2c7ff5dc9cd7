//! snarkjs's proving keys, `.zkey`, of Groth16 over BN254 (there called bn128).
//!
//! ```text
//!   "zkey" | version <= 2 | sections                v variables, p public inputs, d domain
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
//! Points are little-endian in Montgomery form, with R = 2^256. Coefficients are read by
//! `key/coefficients.rs`. The rows of A include one for each public input and for the constant
//! one, which snarkjs appends after the circuit's own.
//!
//! Invariants: those of [`KeyFile`]; further `2 d` divides r - 1, since circom's reduction
//! evaluates on the coset by a 2d-th root of unity.
//!
//! It must never depend on the order of sections.

use std::path::Path;

use ark_bn254::Fr;
use ark_ff::FftField;
use ark_groth16::VerifyingKey;

use super::{Container, SectionTable, check_prime, check_size};
use crate::groth16::file_error::{Fault, FileError, FileKind, KeyError};
use crate::groth16::key::records::{ByteSource, Records};
use crate::groth16::key::{
    COEFFICIENT_BYTES, G1_BYTES, G2_BYTES, KeyFile, KeyKind, check_subgroups, read_g1_at,
    read_g2_at, read_gamma_abc,
};

const CONTAINER: Container =
    Container { kind: FileKind::Zkey, wanted: "a snarkjs key (.zkey)", newest: 2 };

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

/// Names of the header's points of G2: beta, gamma, delta.
const HEADER_G2: [&str; 3] =
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
        let source = ByteSource::open(path)?;
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
        check_subgroups(&source, HEADER_G2, &verifying_key)?;
        Ok(KeyFile {
            domain_size: queries[3].len(),
            extra_bytes: table.extra,
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

fn check_protocol(source: &ByteSource, table: &SectionTable) -> Result<(), FileError> {
    let section = table.section_of(source, 1, PLACE_PROTOCOL, 4)?;
    let found = source.u32(PLACE_PROTOCOL, section.offset)?;
    if found == PROTOCOL_GROTH16 {
        return Ok(());
    }
    let name = match found {
        2 => "plonk",
        10 => "fflonk",
        _ => "an unknown proof system",
    };
    Err(source.error(PLACE_PROTOCOL, Fault::Protocol { found, name }))
}

/// Reads v, p and d and holds them against each other.
fn read_counts(source: &ByteSource, offset: u64) -> Result<Counts, FileError> {
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
    source: &ByteSource,
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

fn coefficient_records(source: &ByteSource, table: &SectionTable) -> Result<Records, FileError> {
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
