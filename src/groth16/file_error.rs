//! What can be wrong with a file that a Groth16 proof is made from, or written to.
//!
//! Key, witness and JSON readers share one error, [`FileError`]: which file, which part of it,
//! and which [`Fault`]. Its text has three parts and reads as one line:
//!
//! ```text
//!   a.zkey: section 5 (A points): point 17 is not on the curve; make the key again
//!   ^ path  ^ place               ^ fault                       ^ remedy
//! ```
//!
//! Invariants:
//!
//! * One kind of damage is one variant, so that a test can count which checks were reached.
//! * Every text ends with what the reader of it should do.
//! * A number that was read is shown only if it is public: sizes, counts, indices. The value of
//!   a witness never appears, not even a part of it; its index does.
//!
//! It must never hold the bytes of a file, and never panic while it is formatted.

use std::io;
use std::path::{Path, PathBuf};

pub use super::file_kind::{FileKind, WrongKind};
use crate::columns::ColumnsFault;
use crate::files::staged::{StagedError, StagedFault};
use thiserror::Error;

/// An error of a key file.
pub type KeyError = FileError;

/// An error of a witness file.
pub type WitnessError = FileError;

/// One fault at one place of one file.
///
/// Boxed inside: a `Result` that carries it stays one pointer wide.
#[derive(Debug, Error)]
#[error("{}: {}: {}", .0.path.display(), .0.place, .0.fault)]
pub struct FileError(Box<FaultInFile>);

#[derive(Debug)]
struct FaultInFile {
    path: PathBuf,
    place: &'static str,
    fault: Fault,
}

impl FileError {
    /// The fault `fault` of the file at `path`, found at `place`, such as `"section 2 (header)"`.
    #[cold]
    #[must_use]
    pub fn new(path: &Path, place: &'static str, fault: Fault) -> FileError {
        FileError(Box::new(FaultInFile { path: path.to_owned(), place, fault }))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The part of the file, in words.
    #[must_use]
    pub fn place(&self) -> &'static str {
        self.0.place
    }

    /// What is wrong there.
    #[must_use]
    pub fn fault(&self) -> &Fault {
        &self.0.fault
    }
}

/// Something odd in a file that can be used all the same.
#[derive(Debug, Error)]
#[error("{}: {oddity}", .path.display())]
pub struct FileWarning {
    path: PathBuf,
    oddity: Oddity,
}

impl FileWarning {
    /// The oddity `oddity` of the file at `path`.
    #[must_use]
    pub fn new(path: &Path, oddity: Oddity) -> FileWarning {
        FileWarning { path: path.to_owned(), oddity }
    }

    /// What is odd.
    #[must_use]
    pub fn oddity(&self) -> &Oddity {
        &self.oddity
    }
}

/// One kind of oddity: snarkjs proves with such a file, and so does this crate.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum Oddity {
    /// Bytes follow the last section.
    #[error("{extra} bytes follow the last section; they are not used")]
    TrailingBytes {
        /// How many.
        extra: u64,
    },
    /// A value of the witness is not below the modulus r.
    #[error("value {index} is not below the modulus r; its remainder is used")]
    Unreduced {
        /// The lowest such index that was read.
        index: u64,
    },
}

/// One kind of damage or misuse.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file does not open.
    #[error("cannot be opened: {0}; check the path and its permissions")]
    Open(#[source] io::Error),
    /// The file opened, but a read failed.
    #[error("cannot be read: {0}; check the disk, and that nothing rewrites the file")]
    Read(#[source] io::Error),
    /// The file, or the part of it, is shorter than its own headers say.
    #[error(
        "ends too early: {needed} bytes are called for, {present} are there; \
         the file was cut short, copy it again"
    )]
    Truncated {
        /// Bytes that the headers call for, up to and with the missing one.
        needed: u64,
        /// Bytes that there are.
        present: u64,
    },
    /// A pipe has more bytes than the witness of the key can have.
    #[error(
        "more than {most} bytes came, the most that a witness of this key has; give its witness"
    )]
    TooLong {
        /// The most that is read, bytes.
        most: u64,
    },
    /// Bytes follow the last part.
    #[error("{extra} bytes follow the last section; copy or make the file again")]
    TrailingBytes {
        /// How many.
        extra: u64,
    },
    /// The file is of another kind.
    #[error("{0}")]
    WrongKind(WrongKind),
    /// A version of the format that is not read here.
    #[error(
        "format version {found}, but only versions up to {newest} are read; \
         make it with snarkjs 0.7"
    )]
    Version {
        /// The version in the file.
        found: u32,
        /// The newest version that is read.
        newest: u32,
    },
    /// More sections than any honest file has.
    #[error("claims {found} sections, more than {max}; the file is damaged, copy it again")]
    SectionCount {
        /// The claimed count.
        found: u32,
        /// The largest count that is believed.
        max: u32,
    },
    /// A section that must be there is not.
    #[error("section {id} is missing; the file is damaged, or not finished: make it again")]
    MissingSection {
        /// Its number in the format.
        id: u32,
    },
    /// A section is there twice.
    #[error("section {id} is there twice; the file is damaged, make it again")]
    DuplicateSection {
        /// Its number in the format.
        id: u32,
    },
    /// A section's size does not follow from the counts in the header.
    #[error("has {found} bytes, but the header's counts call for {expected}; make it again")]
    SectionSize {
        /// What the counts call for, bytes.
        expected: u64,
        /// What the section table says, bytes.
        found: u64,
    },
    /// A proof system that is not Groth16.
    #[error(
        "the key is for {name} (proof system number {found}), but only groth16 (1) is proved here; \
         make a key with `snarkjs groth16 setup`"
    )]
    Protocol {
        /// snarkjs's number: 1 groth16, 2 plonk, 10 fflonk.
        found: u32,
        /// The proof system of that number.
        name: &'static str,
    },
    /// A field element has another size than BN254's.
    #[error(
        "elements of {field} have {found} bytes, BN254's have 32; \
         compile and set up for bn128"
    )]
    FieldBytes {
        /// Which field: `q` (coordinates) or `r` (scalars).
        field: &'static str,
        /// The size in the file, bytes.
        found: u32,
    },
    /// The modulus is not BN254's.
    #[error("the modulus {field} is {curve}, not BN254's; compile and set up for bn128")]
    WrongPrime {
        /// Which modulus: `q` (coordinates) or `r` (scalars).
        field: &'static str,
        /// Whose modulus it is, if it is a known one.
        curve: &'static str,
    },
    /// A count that cannot be.
    #[error("{name} is {found}, but {rule}; the file is damaged, make it again")]
    Count {
        /// The count's name.
        name: &'static str,
        /// Its value in the file.
        found: u64,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// A coordinate is not below the field's modulus.
    #[error("point {index} has a coordinate not below the modulus; copy or make the key again")]
    Coordinate {
        /// The point's place in its vector, from 0.
        index: u64,
    },
    /// A point is not on the curve.
    #[error("point {index} is not on the curve; copy or make the key again")]
    NotOnCurve {
        /// The point's place in its vector, from 0.
        index: u64,
    },
    /// The flag bits of an arkworks point contradict its coordinates.
    #[error("point {index} has flag bits that contradict it; copy or make the key again")]
    PointFlags {
        /// The point's place in its vector, from 0.
        index: u64,
    },
    /// A point of the verifying key is outside the group of prime order.
    #[error("the point is outside the subgroup of order r; do not use this key")]
    NotInSubgroup,
    /// A point of the verifying key is the identity, which makes every proof forgeable or void.
    #[error("the point is the identity; do not use this key")]
    Identity,
    /// A coefficient names no matrix, row or signal of the circuit.
    #[error(
        "coefficient {index}: {name} {found} is not below {limit}; copy or make the file again"
    )]
    Coefficient {
        /// The coefficient's place, from 0.
        index: u64,
        /// Which number: `matrix`, `row`, `signal` or `wire`.
        name: &'static str,
        /// Its value.
        found: u32,
        /// The first value too large.
        limit: u64,
    },
    /// A scalar of the key is not below the modulus r.
    #[error("coefficient {index}: its value is not below r; copy or make the file again")]
    CoefficientValue {
        /// The coefficient's place, from 0.
        index: u64,
    },
    /// The witness does not start with the constant one.
    #[error("the first value must be the constant 1 and is not; calculate the witness again")]
    FirstValue,
    /// Key and witness are not of one circuit.
    #[error(
        "the witness has {witness} values, the key {variables} variables; \
         they are of different circuits: give the two files of one circuit"
    )]
    WitnessCount {
        /// Values in the witness file, with the leading one.
        witness: u64,
        /// Variables of the key, with the leading one.
        variables: u64,
    },
    /// A constraint system and a witness are not of one circuit.
    #[error(
        "the circuit has {wires} wires, the witness {values} values; \
         give the .r1cs of the witness's circuit"
    )]
    WireCount {
        /// Wires of the constraint system, with the leading one.
        wires: u64,
        /// Values of the witness, with the leading one.
        values: u64,
    },
    /// The caller asked for entries that are not there.
    #[error("entries {start}..{end} asked for, there are {len}; ask for a part of them")]
    Range {
        /// First entry asked for.
        start: u64,
        /// One past the last entry asked for.
        end: u64,
        /// Entries that there are.
        len: u64,
    },
    /// The caller asked for points of one group in a query of the other.
    #[error("its points are in the other group; use the other read")]
    WrongGroup,
    /// A JSON text is not what snarkjs writes.
    #[error("not as snarkjs writes it: {reason}; make the file again")]
    Json {
        /// What was expected there.
        reason: &'static str,
    },
    /// The output cannot be written. Nothing of it is left behind.
    #[error("cannot be written: {0}; nothing was left there, choose another place")]
    Write(#[source] io::Error),
    /// A packed file, or a part of it, cannot be used.
    #[error("{0}")]
    Packed(#[source] Box<ColumnsFault>),
    /// The output's place is taken by something that must not be replaced.
    #[error("there is something there that is not a regular file; choose another place")]
    NotRegular,
    /// The output's place is taken by a file, and only a new one was wanted.
    #[error("there is a file there already; choose another name, or remove it")]
    Exists,
}

impl From<StagedError> for FileError {
    fn from(error: StagedError) -> FileError {
        let fault = match error.fault {
            StagedFault::Write(error) => Fault::Write(error),
            StagedFault::NotRegular => Fault::NotRegular,
            StagedFault::Exists => Fault::Exists,
        };
        FileError::new(&error.path, "file", fault)
    }
}

impl Fault {
    /// The fault of a failed read: an end of file is its own kind.
    #[cold]
    #[must_use]
    pub(crate) fn read(error: io::Error, needed: u64, present: u64) -> Fault {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Fault::Truncated { needed, present }
        } else {
            Fault::Read(error)
        }
    }
}
