//! Witnesses, as circom's generators and snarkjs write them.
//!
//! ```text
//!   .wtns      "wtns" | version <= 2 | sections
//!              1 header   n8 u32 = 32 | r 32 bytes | count u32            40 bytes
//!              2 values   count values of 32 bytes, little-endian, not in Montgomery form
//!   bare       the values alone, if there are as many as the key has variables
//!   JSON       a list of decimal strings, as `snarkjs wtns export json` writes it
//! ```
//!
//! Each may be packed (docs/columns-format.md): what the file unpacks to is read then, a block at a
//! time.
//!
//! Value 0 is the constant one, then come the outputs and public inputs, then the rest: the order
//! of a key's variables.
//!
//! Invariants: modulus r is BN254's, section 2 has `32 * count` bytes, value 0 is one. Every value
//! that leaves is below r: of a larger one the remainder, with a [`FileWarning`].
//!
//! A witness is secret. It must never reach a `Debug` text, an error or a log: an error names the
//! index of a bad value, never the value. The buffers that bytes pass through are wiped, but for
//! the JSON parser's own; the memory they are decoded into is the caller's to wipe.

use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use ark_bn254::Fr;
use ark_ff::{PrimeField, Zero};

use super::{Container, SectionTable, check_prime, json_witness, trailing};
use crate::Runtime;
use crate::groth16::error::ProveError;
use crate::groth16::file_error::{
    Fault, FileError, FileKind, FileWarning, Oddity, WitnessError, WrongKind,
};
use crate::groth16::key::records::{ByteSource, Decode, Records};
use crate::groth16::key::{KeyFile, little_endian};
use crate::groth16::piped::{PipeError, Piped};

const CONTAINER: Container =
    Container { kind: FileKind::Wtns, wanted: "a circom witness (.wtns)", newest: 2 };

/// What a witness may be in, for errors.
const WANTED: &str = "a circom witness (.wtns, JSON, or bare values)";

/// The most bytes that a value takes in any form: a JSON string of 78 digits, with room.
const VALUE_TEXT_BYTES_MAX: u64 = 96;

/// The most bytes of heads and tables, in any form.
const HEAD_BYTES_MAX: u64 = 1 << 16;

/// No value was found that is not below r.
const NONE: u64 = u64::MAX;

const PLACE_HEADER: &str = "section 1 (header)";
const PLACE_VALUES: &str = "section 2 (values)";

const HEADER_BYTES: u64 = 40;
const VALUE_BYTES: u32 = 32;

/// An open witness. Holding one proves the invariants of the module's header.
pub struct WitnessFile {
    source: ByteSource,
    values: Records,
    extra_bytes: u64,
    /// The lowest index read so far of a value that is not below r, or [`NONE`].
    unreduced: AtomicU64,
}

impl fmt::Debug for WitnessFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WitnessFile").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl WitnessFile {
    /// Opens a `.wtns` file: reads the header and the first value.
    ///
    /// # Errors
    ///
    /// A [`WitnessError`] that says which section, size, modulus or count is wrong.
    pub fn open(path: &Path) -> Result<WitnessFile, WitnessError> {
        Self::of_container(ByteSource::open(path)?)
    }

    /// Opens the file at `path` as a witness for `key`, in any of the forms of the module's header.
    /// What is JSON is held in memory, and so are a few blocks of a packed file, under the limit of
    /// `runtime`.
    ///
    /// # Errors
    ///
    /// As [`WitnessFile::open`], and what the limit says.
    pub fn open_for(
        key: &KeyFile,
        path: &Path,
        runtime: &Runtime,
    ) -> Result<WitnessFile, ProveError> {
        Self::of_any(key, ByteSource::open(path)?, runtime)
    }

    /// Reads a witness for `key` from `reader`, a pipe for one, to its end, in any of the forms of
    /// the module's header. It is held in memory, under the limit of `runtime`; `name` is what
    /// errors call it.
    ///
    /// # Errors
    ///
    /// As [`WitnessFile::open`], what the limit says, and [`Fault::TooLong`] when more bytes come
    /// than any witness of this key has.
    pub fn read_from(
        key: &KeyFile,
        name: &Path,
        reader: &mut dyn Read,
        runtime: &Runtime,
    ) -> Result<WitnessFile, ProveError> {
        let most = HEAD_BYTES_MAX + key.variables() as u64 * VALUE_TEXT_BYTES_MAX;
        let mut piped = Piped::new(runtime);
        piped.fill(&mut reader.take(most + 1)).map_err(|error| match error {
            PipeError::Memory(error) => error.into(),
            PipeError::Read(error) => {
                ProveError::from(FileError::new(name, "pipe", Fault::Read(error)))
            }
        })?;
        if piped.len() > most {
            return Err(FileError::new(name, "pipe", Fault::TooLong { most }).into());
        }
        Self::of_any(key, ByteSource::piped(name, piped), runtime)
    }

    fn of_any(
        key: &KeyFile,
        source: ByteSource,
        runtime: &Runtime,
    ) -> Result<WitnessFile, ProveError> {
        let source = source.unpacked(runtime)?;
        let bare_bytes = key.variables() as u64 * u64::from(VALUE_BYTES);
        match source.kind() {
            FileKind::Wtns => Ok(Self::of_container(source)?),
            FileKind::JsonList => Ok(Self::of_values(json_witness::read(&source, runtime)?)?),
            FileKind::Unknown if source.len() == bare_bytes => Ok(Self::of_values(source)?),
            found => {
                let fault = Fault::WrongKind(WrongKind { wanted: WANTED, found });
                Err(source.error("first bytes", fault).into())
            }
        }
    }

    fn of_container(source: ByteSource) -> Result<WitnessFile, WitnessError> {
        let table = SectionTable::read(&source, &CONTAINER)?;
        // The modulus before the size: another curve's header has another size.
        let header = table.section(&source, 1)?;
        check_prime(&source, PLACE_HEADER, "r", header.offset)?;
        super::check_size(&source, PLACE_HEADER, &header, HEADER_BYTES)?;
        let count = u64::from(source.u32(PLACE_HEADER, header.offset + 36)?);
        check_count(&source, PLACE_HEADER, count)?;
        let expected = count * u64::from(VALUE_BYTES);
        let section = table.section_of(&source, 2, PLACE_VALUES, expected)?;
        Self::new(source, PLACE_VALUES, section.offset, count, table.extra)
    }

    /// The witness whose values are all that `source` has.
    fn of_values(source: ByteSource) -> Result<WitnessFile, WitnessError> {
        let count = source.len() / u64::from(VALUE_BYTES);
        check_count(&source, "values", count)?;
        Self::new(source, "values", 0, count, 0)
    }

    fn new(
        source: ByteSource,
        place: &'static str,
        offset: u64,
        count: u64,
        extra_bytes: u64,
    ) -> Result<WitnessFile, WitnessError> {
        let values = Records::new(&source, place, offset, count, VALUE_BYTES)?;
        let witness = WitnessFile { source, values, extra_bytes, unreduced: AtomicU64::new(NONE) };
        let mut first = [Fr::zero()];
        witness.read(0, &mut first)?;
        if first[0] == Fr::from(1_u64) {
            Ok(witness)
        } else {
            Err(witness.error(Fault::FirstValue))
        }
    }

    /// What is odd about the part that was read so far, though it can be used.
    #[must_use]
    pub fn warnings(&self) -> Vec<FileWarning> {
        let mut warnings: Vec<_> = trailing(&self.source, self.extra_bytes).into_iter().collect();
        let index = self.unreduced.load(Ordering::Relaxed);
        if index != NONE {
            warnings.push(FileWarning::new(self.source.path(), Oddity::Unreduced { index }));
        }
        warnings
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
    /// [`Fault::Range`] past the end, or a failed read; `out` is then unspecified.
    pub fn read(&self, start: usize, out: &mut [Fr]) -> Result<(), WitnessError> {
        self.values.read(&self.source, start, out, &Value { unreduced: &self.unreduced })
    }

    /// Returns where the values are among the bytes of the witness.
    #[must_use]
    pub fn values_bytes(&self) -> Range<u64> {
        self.values.start()..self.values.end()
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
        self.source.error(self.values.place(), fault)
    }
}

/// Checks that there is a value.
fn check_count(source: &ByteSource, place: &'static str, count: u64) -> Result<(), FileError> {
    if count > 0 {
        return Ok(());
    }
    let rule = "the constant one is always there";
    Err(source.error(place, Fault::Count { name: "the count of values", found: 0, rule }))
}

/// One value of a witness.
struct Value<'a> {
    unreduced: &'a AtomicU64,
}

impl Decode<32> for Value<'_> {
    type Item = Fr;

    const SECRET: bool = true;

    fn decode(&self, bytes: &[u8; 32], index: u64) -> Result<Fr, Fault> {
        Ok(Fr::from_bigint(little_endian(bytes)).unwrap_or_else(|| {
            self.unreduced.fetch_min(index, Ordering::Relaxed);
            Fr::from_le_bytes_mod_order(bytes)
        }))
    }
}
