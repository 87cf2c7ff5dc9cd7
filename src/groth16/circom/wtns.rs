//! Witness files, `.wtns`, as circom's generators and snarkjs write them.
//!
//! ```text
//!   "wtns" | version 2 | sections
//!   1 header   n8 u32 = 32 | r 32 bytes | count u32            40 bytes
//!   2 values   count values of 32 bytes, little-endian, not in Montgomery form
//! ```
//!
//! Value 0 is the constant one, then come the outputs and public inputs, then the rest: the order
//! of a key's variables.
//!
//! Invariants: modulus r is BN254's, section 2 has `32 * count` bytes, value 0 is one. Every value
//! that leaves is below r.
//!
//! A witness is secret. It must never reach a `Debug` text, an error or a log: an error names the
//! index of a bad value, never the value. The buffer that bytes pass through is wiped; the memory
//! they are decoded into is the caller's to wipe.

use std::fmt;
use std::path::Path;

use ark_bn254::Fr;
use ark_ff::{PrimeField, Zero};

use super::{Container, SectionTable, check_prime};
use crate::groth16::file_error::{Fault, FileError, FileKind, WitnessError};
use crate::groth16::key::records::{Decode, Records, Source};
use crate::groth16::key::{KeyFile, little_endian};

const CONTAINER: Container =
    Container { magic: FileKind::Wtns, wanted: "a circom witness (.wtns)", version: 2 };

const PLACE_HEADER: &str = "section 1 (header)";
const PLACE_VALUES: &str = "section 2 (values)";

const HEADER_BYTES: u64 = 40;
const VALUE_BYTES: u32 = 32;

/// An open witness file. Holding one proves the invariants of the module's header.
pub struct WitnessFile {
    source: Source,
    values: Records,
}

impl fmt::Debug for WitnessFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WitnessFile").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl WitnessFile {
    /// Opens a witness: reads the header and the first value.
    ///
    /// # Errors
    ///
    /// A [`WitnessError`] that says which section, size, modulus or count is wrong.
    pub fn open(path: &Path) -> Result<WitnessFile, WitnessError> {
        let source = Source::open(path)?;
        let table = SectionTable::read(&source, &CONTAINER)?;
        // The modulus before the size: another curve's header has another size.
        let header = table.section(&source, 1)?;
        check_prime(&source, PLACE_HEADER, "r", header.offset)?;
        super::check_size(&source, PLACE_HEADER, &header, HEADER_BYTES)?;
        let count = u64::from(source.u32(PLACE_HEADER, header.offset + 36)?);
        if count == 0 {
            let rule = "the constant one is always there";
            let fault = Fault::Count { name: "the count of values", found: 0, rule };
            return Err(source.error(PLACE_HEADER, fault));
        }
        let expected = count * u64::from(VALUE_BYTES);
        let section = table.section_of(&source, 2, PLACE_VALUES, expected)?;
        let values = Records::new(&source, PLACE_VALUES, section.offset, count, VALUE_BYTES)?;
        let witness = WitnessFile { source, values };
        let mut first = [Fr::zero()];
        witness.read(0, &mut first)?;
        if first[0] == Fr::from(1_u64) {
            Ok(witness)
        } else {
            Err(witness.error(Fault::FirstValue))
        }
    }

    /// Number of values, with the leading one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is always the leading one")]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Decodes the values from `start` on into `out`, on all threads of the current rayon pool
    /// when there are many.
    ///
    /// # Errors
    ///
    /// [`Fault::WitnessValue`] with the lowest index of a value not below r, [`Fault::Range`] past
    /// the end, or a failed read; `out` is then unspecified.
    pub fn read(&self, start: usize, out: &mut [Fr]) -> Result<(), WitnessError> {
        self.values.read(&self.source, start, out, &Value)
    }

    /// Checks that this can be a witness of the circuit of `key`: it has a value for each variable.
    ///
    /// # Errors
    ///
    /// [`Fault::WitnessCount`] when it has not: the two files are of different circuits.
    pub fn check_is_of(&self, key: &KeyFile) -> Result<(), WitnessError> {
        let (witness, variables) = (self.len() as u64, key.variables() as u64);
        if witness == variables {
            return Ok(());
        }
        Err(self.error(Fault::WitnessCount { witness, variables }))
    }

    /// An error at this witness's values.
    fn error(&self, fault: Fault) -> FileError {
        self.source.error(PLACE_VALUES, fault)
    }
}

/// One value of a witness.
struct Value;

impl Decode<32> for Value {
    type Item = Fr;

    const SECRET: bool = true;

    fn decode(&self, bytes: &[u8; 32], index: u64) -> Result<Fr, Fault> {
        Fr::from_bigint(little_endian(bytes)).ok_or(Fault::WitnessValue { index })
    }
}
