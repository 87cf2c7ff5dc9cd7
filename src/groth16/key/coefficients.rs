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
//! A proof out of core asks for the entries again and again: for each of its pieces of rows, and
//! each window of the assignment. A [`CoefficientIndex`] learns what rows and signals each stretch
//! of the file has when that is first read, and stretches that have nothing for a piece and a
//! window are passed over from then on. snarkjs writes constraint after constraint, so a stretch is
//! few rows; in another order more is read, and what leaves is the same.
//!
//! Invariant: every entry that leaves has its matrix below 2, its row below the size of the domain,
//! its signal below the number of variables, and its value below r.
//!
//! Must never: depend on the order of the entries, or keep them.

use std::ops::Range;

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, BigInt, PrimeField};

use super::points::little_endian;
use super::records::{ByteSource, Decode, Records};
use crate::groth16::file_error::{Fault, KeyError};
use crate::groth16::parts::{Cut, Parts};

/// Bytes of an entry in the file.
pub(in crate::groth16) const COEFFICIENT_BYTES: u32 = 44;

/// Which factor of a constraint an entry belongs to. C is not stored: it is A times B, row by row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Factor {
    /// The left factor.
    A,
    /// The right factor.
    B,
}

/// One entry of a constraint matrix that is not zero.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Coefficient {
    /// Its matrix.
    pub matrix: Factor,
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
        Coefficient { matrix: Factor::A, row: 0, signal: 0, value: Fr::ZERO };
}

/// The constraint matrices of a zkey, in the order of the file.
pub struct Coefficients<'a> {
    source: &'a ByteSource,
    records: Records,
    rows: usize,
    signals: usize,
}

impl std::fmt::Debug for Coefficients<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coefficients").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<'a> Coefficients<'a> {
    pub(super) fn new(
        source: &'a ByteSource,
        records: Records,
        rows: usize,
        signals: usize,
    ) -> Coefficients<'a> {
        Coefficients { source, records, rows, signals }
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
        self.records.read(self.source, start, out, &self.decoder(Want::ALL))
    }

    /// Calls `visit` with all entries in order, `chunk_len` at a time, the last time fewer.
    ///
    /// # Errors
    ///
    /// The first error of [`Coefficients::read`] or of `visit`.
    pub fn for_each_chunk<E: From<KeyError>>(
        &self,
        chunk_len: usize,
        mut visit: impl FnMut(&[Coefficient]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = vec![Coefficient::ZERO; chunk_len.clamp(1, self.len().max(1))];
        let mut index = self.index(buffer.len());
        self.for_each_stretch(&mut index, Want::ALL, &mut buffer, |chunk| visit(chunk))
    }

    /// An index that knows nothing yet, of stretches of `stretch_len` entries.
    pub(in crate::groth16) fn index(&self, stretch_len: usize) -> CoefficientIndex {
        let stretch_len = stretch_len.max(1);
        let stretches = self.len().div_ceil(stretch_len);
        CoefficientIndex {
            stretch_len,
            cut: Cut::of(self.signals),
            stretches: vec![Stretch::UNREAD; stretches],
        }
    }

    /// Calls `visit` with every stretch that may have an entry that is wanted, in order. Entries
    /// that are not wanted come with the value zero.
    ///
    /// `buffer` holds a stretch of the index; what `visit` leaves in it is not used.
    ///
    /// # Errors
    ///
    /// The first error of [`Coefficients::read`] or of `visit`.
    pub(in crate::groth16) fn for_each_stretch<E: From<KeyError>>(
        &self,
        index: &mut CoefficientIndex,
        want: Want,
        buffer: &mut [Coefficient],
        mut visit: impl FnMut(&mut [Coefficient]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (cut, len) = (index.cut, index.stretch_len);
        let parts = cut.parts(want.signals());
        let decoder = self.decoder(want);
        for (i, stretch) in index.stretches.iter_mut().enumerate() {
            if !stretch.may_have(&want, parts) {
                continue;
            }
            let start = i * len;
            let chunk = &mut buffer[..len.min(self.len() - start)];
            self.records.read(self.source, start, chunk, &decoder)?;
            *stretch = Stretch::of(chunk, cut);
            visit(chunk)?;
        }
        Ok(())
    }

    fn decoder(&self, want: Want) -> CoefficientDecoder {
        CoefficientDecoder { rows: self.rows as u64, signals: self.signals as u64, want }
    }
}

/// Rows and signals whose entries are wanted.
#[derive(Clone, Copy, Debug)]
pub(in crate::groth16) struct Want {
    first_row: usize,
    rows: usize,
    first_signal: usize,
    signals: usize,
}

impl Want {
    const ALL: Want = Want { first_row: 0, rows: usize::MAX, first_signal: 0, signals: usize::MAX };

    pub(in crate::groth16) fn new(rows: Range<usize>, signals: Range<usize>) -> Self {
        Want {
            first_row: rows.start,
            rows: rows.len(),
            first_signal: signals.start,
            signals: signals.len(),
        }
    }

    fn signals(&self) -> Range<usize> {
        self.first_signal..self.first_signal.saturating_add(self.signals)
    }

    /// Where an entry lies in the rows and signals wanted: its row and its signal, counted from
    /// their first.
    #[inline]
    pub(in crate::groth16) fn place(&self, row: u32, signal: u32) -> Option<(usize, usize)> {
        let row = (row as usize).wrapping_sub(self.first_row);
        let signal = (signal as usize).wrapping_sub(self.first_signal);
        (row < self.rows && signal < self.signals).then_some((row, signal))
    }
}

/// What each stretch of the file has, as far as it was read: 16 bytes a stretch.
pub(in crate::groth16) struct CoefficientIndex {
    stretch_len: usize,
    cut: Cut,
    stretches: Vec<Stretch>,
}

impl CoefficientIndex {
    /// Bytes of an index of `entries` in stretches of `stretch_len`.
    pub(in crate::groth16) fn bytes(entries: usize, stretch_len: usize) -> usize {
        entries.div_ceil(stretch_len.max(1)) * size_of::<Stretch>()
    }

    /// Returns whether an entry may be wanted.
    pub(in crate::groth16) fn may_have(&self, want: &Want) -> bool {
        let parts = self.cut.parts(want.signals());
        self.stretches.iter().any(|stretch| stretch.may_have(want, parts))
    }
}

/// The rows and signals of some entries that follow each other in the file.
#[derive(Clone, Copy)]
struct Stretch {
    first_row: u32,
    last_row: u32,
    parts: Parts,
}

impl Stretch {
    /// What a stretch may have that was not read yet.
    const UNREAD: Stretch = Stretch { first_row: 0, last_row: u32::MAX, parts: Parts::ALL };

    fn of(entries: &[Coefficient], cut: Cut) -> Self {
        let none = Stretch { first_row: u32::MAX, last_row: 0, parts: Parts::default() };
        entries.iter().fold(none, |mut all, entry| {
            all.first_row = all.first_row.min(entry.row);
            all.last_row = all.last_row.max(entry.row);
            all.parts.add(cut.part(entry.signal as usize));
            all
        })
    }

    fn may_have(&self, want: &Want, parts: Parts) -> bool {
        let end = want.first_row.saturating_add(want.rows);
        (self.first_row as usize) < end
            && self.last_row as usize >= want.first_row
            && self.parts.meets(parts)
    }
}

struct CoefficientDecoder {
    rows: u64,
    signals: u64,
    want: Want,
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
        let matrix = if below("matrix", number(0), 2)? == 0 { Factor::A } else { Factor::B };
        let row = below("row", number(1), self.rows)?;
        let signal = below("signal", number(2), self.signals)?;
        let mut stored = [0; 32];
        stored.copy_from_slice(value);
        let stored = little_endian(&stored);
        if stored >= Fr::MODULUS {
            return Err(Fault::CoefficientValue { index });
        }
        let value = match self.want.place(row, signal) {
            Some(_) => from_twice_montgomery(stored),
            None => Fr::ZERO,
        };
        Ok(Coefficient { matrix, row, signal, value })
    }
}

/// The `c` of the number `c R^2 mod r`, which is below r.
fn from_twice_montgomery(stored: BigInt<4>) -> Fr {
    // Taken as a Montgomery form, `stored` is that of `c R`; the value of that, `c R`, is the
    // Montgomery form of `c`.
    let montgomery_form = Fr::new_unchecked(stored).into_bigint();
    Fr::new_unchecked(montgomery_form)
}
