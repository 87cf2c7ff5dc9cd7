//! The constraint matrices A and B that a zkey carries, entry by entry.
//!
//! ```text
//!   matrix row signal u32, value 32        44 bytes each, little-endian, in any order
//! ```
//!
//! A value `c` is stored as the number `c R^2 mod r`, with R = 2^256: snarkjs multiplies it by a
//! witness value that is *not* in Montgomery form and wants the product to be. We want `c` itself,
//! so one Montgomery reduction is taken off.
//!
//! Invariant: every entry that leaves has its matrix below 2, its row below the size of the domain,
//! its signal below the number of variables, and its value below r.
//!
//! Must never: depend on the order of the entries, or keep them.

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, BigInt, PrimeField};

use super::points::little_endian;
use super::records::{Decode, Records, Source};
use crate::groth16::file_error::{Fault, KeyError};

/// Bytes of an entry in the file.
pub(in crate::groth16) const COEFFICIENT_BYTES: u32 = 44;

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
    pub(super) fn new(
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

impl Decode<{ COEFFICIENT_BYTES as usize }> for CoefficientDecoder {
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
