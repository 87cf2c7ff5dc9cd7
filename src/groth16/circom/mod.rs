//! Files of the circom world: keys and witnesses in, proofs out.
//!
//! `.zkey`, `.wtns` and `.r1cs` share one container, iden3's binary file format. This file reads
//! the container; [`zkey`], [`wtns`] and [`r1cs`] read what is inside; [`json`] and [`vkey`] write
//! and read what snarkjs verifies.
//!
//! ```text
//!   magic 4 | version u32 | sections u32 | section ...          little-endian
//!   section:  id u32 | bytes u64 | that many bytes              in any order
//! ```
//!
//! Invariants:
//!
//! * every section lies inside the file; bytes after the last one are counted, not read;
//! * a section with an id that the reader knows is there at most once; ids above
//!   `ID_MAX` are stepped over, since later versions of the tools may add some;
//! * at most `SECTIONS_MAX` sections are believed: snarkjs writes ten.
//!
//! It must never trust the order of sections, and never size anything by a claimed count: the
//! table has a fixed number of places. Source: iden3's specification of the binary format,
//! <https://github.com/iden3/r1csfile/blob/master/doc/r1cs_bin_format.md>.

pub mod json;
mod json_witness;
pub mod r1cs;
#[cfg(test)]
mod r1cs_tests;
#[cfg(test)]
mod tests;
pub mod vkey;
#[cfg(test)]
mod witness_tests;
pub mod wtns;
pub mod zkey;

use ark_bn254::{Fq, Fr};
use ark_ff::{BigInt, PrimeField};

use super::file_error::{Fault, FileError, FileKind, FileWarning, Oddity, WrongKind};
use super::key::little_endian;
use super::key::records::ByteSource;

/// The largest section id that either format uses.
const ID_MAX: usize = 10;

/// The most sections a file may claim; more is damage.
const SECTIONS_MAX: u32 = 64;

/// Magic, version and count.
const CONTAINER_BYTES: u64 = 12;

/// Id and size, before a section's bytes.
const SECTION_HEAD_BYTES: u64 = 12;

/// Where one section's bytes are. Holding one proves that they lie inside the file.
#[derive(Clone, Copy, Debug)]
struct Section {
    offset: u64,
    len_bytes: u64,
}

/// The sections of an open file by id.
struct SectionTable {
    sections: [Option<Section>; ID_MAX + 1],
    /// Bytes after the last section.
    extra: u64,
}

/// What a container must start with.
struct Container {
    kind: FileKind,
    wanted: &'static str,
    /// The newest version that is read. Older ones have the same sections.
    newest: u32,
}

impl SectionTable {
    /// Reads the table of `source` and checks that the sections lie inside the file.
    fn read(source: &ByteSource, container: &Container) -> Result<SectionTable, FileError> {
        let count = read_container_head(source, container)?;
        let mut table = SectionTable { sections: [None; ID_MAX + 1], extra: 0 };
        let mut offset = CONTAINER_BYTES;
        for _ in 0..count {
            let id = source.u32(PLACE_TABLE, offset)?;
            let len_bytes = source.u64(PLACE_TABLE, offset + 4)?;
            offset += SECTION_HEAD_BYTES;
            let end = offset.saturating_add(len_bytes);
            if end > source.len() {
                let fault = Fault::Truncated { needed: end, present: source.len() };
                return Err(source.error(PLACE_TABLE, fault));
            }
            if let Some(place) = table.sections.get_mut(id as usize)
                && place.replace(Section { offset, len_bytes }).is_some()
            {
                return Err(source.error(PLACE_TABLE, Fault::DuplicateSection { id }));
            }
            offset = end;
        }
        table.extra = source.len() - offset;
        Ok(table)
    }

    /// Section `id`.
    fn section(&self, source: &ByteSource, id: u32) -> Result<Section, FileError> {
        let section = self.sections.get(id as usize).copied().flatten();
        section.ok_or_else(|| source.error(PLACE_TABLE, Fault::MissingSection { id }))
    }

    /// Section `id`, which must have `expected` bytes.
    fn section_of(
        &self,
        source: &ByteSource,
        id: u32,
        place: &'static str,
        expected: u64,
    ) -> Result<Section, FileError> {
        let section = self.section(source, id)?;
        check_size(source, place, &section, expected)?;
        Ok(section)
    }
}

const PLACE_TABLE: &str = "section table";

/// The warning that `extra` bytes follow the last section, if they do.
pub(super) fn trailing(source: &ByteSource, extra: u64) -> Option<FileWarning> {
    let oddity = Oddity::TrailingBytes { extra };
    (extra > 0).then(|| FileWarning::new(source.path(), oddity))
}

/// Checks magic and version; returns the number of sections.
fn read_container_head(source: &ByteSource, container: &Container) -> Result<u32, FileError> {
    let place = "first bytes";
    let (found, wanted) = (source.kind(), container.wanted);
    // A magic with a version that nobody writes is damage in the version.
    let has_magic = source.array::<4>(place, 0).is_ok_and(|m| container.kind.has_magic_of(&m));
    if found != container.kind && !(has_magic && source.len() >= CONTAINER_BYTES) {
        return Err(source.error(place, Fault::WrongKind(WrongKind { wanted, found })));
    }
    let (found, newest) = (source.u32(place, 4)?, container.newest);
    if found > newest {
        return Err(source.error(place, Fault::Version { found, newest }));
    }
    let found = source.u32(place, 8)?;
    if found > SECTIONS_MAX {
        let fault = Fault::SectionCount { found, max: SECTIONS_MAX };
        return Err(source.error(place, fault));
    }
    Ok(found)
}

/// Checks that `section` has `expected` bytes.
fn check_size(
    source: &ByteSource,
    place: &'static str,
    section: &Section,
    expected: u64,
) -> Result<(), FileError> {
    if section.len_bytes == expected {
        return Ok(());
    }
    let found = section.len_bytes;
    Err(source.error(place, Fault::SectionSize { expected, found }))
}

/// Moduli of other curves that circom and snarkjs know, to say whose file this is.
const OTHER_PRIMES: [(&str, BigInt<4>); 4] = [
    (
        "BLS12-381's",
        BigInt([
            0xffff_ffff_0000_0001,
            0x53bd_a402_fffe_5bfe,
            0x3339_d808_09a1_d805,
            0x73ed_a753_299d_7d48,
        ]),
    ),
    ("Pallas's", BigInt([0x992d_30ed_0000_0001, 0x2246_98fc_094c_f91b, 0, 0x4000_0000_0000_0000])),
    ("Vesta's", BigInt([0x8c46_eb21_0000_0001, 0x2246_98fc_0994_a8dd, 0, 0x4000_0000_0000_0000])),
    ("secp256r1's", BigInt([u64::MAX, 0xffff_ffff, 0, 0xffff_ffff_0000_0001])),
];

/// Checks the 4-byte element size and the modulus at `offset`: 32, and BN254's q or r.
fn check_prime(
    source: &ByteSource,
    place: &'static str,
    field: &'static str,
    offset: u64,
) -> Result<(), FileError> {
    let found = source.u32(place, offset)?;
    if found != 32 {
        return Err(source.error(place, Fault::FieldBytes { field, found }));
    }
    let prime = little_endian(&source.array(place, offset + 4)?);
    let (wanted, other) =
        if field == "q" { (Fq::MODULUS, Fr::MODULUS) } else { (Fr::MODULUS, Fq::MODULUS) };
    if prime == wanted {
        return Ok(());
    }
    let known = OTHER_PRIMES.iter().find(|(_, modulus)| *modulus == prime);
    let curve = match known {
        Some((name, _)) => name,
        None if prime == other => "BN254's other modulus (Grumpkin's)",
        None => "of no curve known here",
    };
    Err(source.error(place, Fault::WrongPrime { field, curve }))
}
