//! The assignment `[1, public inputs, witness]`, in segments that may leave memory.
//!
//! ```text
//!   | segment 0       | segment 1       | ...   | last, shorter |
//!     2^k variables     2^k variables             each a Spillable of the secret pool
//! ```
//!
//! With the memory for it, there is one segment and it never moves. Below, a segment is what the
//! products of the matrices and the multi-scalar multiplications hold at a time; the one that
//! follows is read ahead. A witness of bits packs to a two-hundredth and stays in RAM.
//!
//! Never: shown, logged, or on a heap that is not wiped.

use crate::Runtime;
use crate::groth16::error::ProveError;
use crate::groth16::r1cs::Window;
use crate::spill::{Hint, Spillable};
use ark_bn254::Fr;
use plimsoll_arena::{PoolVec, bytes_of};
use rayon::prelude::*;
use std::ops::Range;
use twox_hash::XxHash3_64;

/// Variables that are hashed at a time.
const HASHED_LEN: usize = 1 << 14;

/// The values of all variables of one proof: `[1, public inputs, witness]`.
///
/// They lie in secret vectors that may leave memory. [`super::prover::Prover`] makes an assignment
/// from a circuit or a `.wtns` file.
pub struct Assignment {
    segments: Vec<Spillable<Fr>>,
    segment_len: usize,
    len: usize,
}

impl std::fmt::Debug for Assignment {
    /// Leaves the values out: they are the witness.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assignment").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Assignment {
    /// Makes an assignment of one segment from a vector, which keeps its pool: take one of
    /// [`Runtime::secret_pool`].
    #[must_use]
    pub fn from_vector(runtime: &Runtime, vector: PoolVec<Fr>) -> Self {
        let len = vector.len();
        Self { segments: vec![runtime.spillable(vector)], segment_len: len.max(1), len }
    }

    /// Makes an assignment of `len` variables in segments of `segment_len`, each filled by
    /// `fill(start, values)`, in order. A segment leaves memory as the next one needs room.
    ///
    /// # Errors
    ///
    /// What `fill` says, or the limit.
    pub fn try_fill(
        runtime: &Runtime,
        len: usize,
        segment_len: usize,
        mut fill: impl FnMut(usize, &mut [Fr]) -> Result<(), ProveError>,
    ) -> Result<Self, ProveError> {
        let segment_len = segment_len.clamp(1, len.max(1));
        let mut segments = Vec::with_capacity(len.div_ceil(segment_len));
        for start in (0..len).step_by(segment_len) {
            let zeroed = runtime.secret_pool().try_zeroed(segment_len.min(len - start));
            let mut values = zeroed.map_err(|error| runtime.explain("witness", error))?;
            fill(start, &mut values)?;
            let segment = runtime.spillable(values);
            if segment_len < len {
                segment.hint(Hint::NextUse(len.div_ceil(segment_len) as u64));
                segment.write_back();
            }
            segments.push(segment);
        }
        Ok(Self { segments, segment_len, len })
    }

    /// Returns the number of variables.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no variables.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Calls `visit` with every window whose variables `wants` says yes to, in turn; a window is a
    /// segment. The next that is wanted is read ahead meanwhile. Both are told `state`: what a
    /// visit learns decides on the windows after it.
    ///
    /// # Errors
    ///
    /// What `visit` says, or the limit and the disk.
    pub(crate) fn for_each_window<S>(
        &self,
        state: &mut S,
        wants: impl Fn(&S, Range<usize>) -> bool,
        mut visit: impl FnMut(&mut S, Window<'_>) -> Result<(), ProveError>,
    ) -> Result<(), ProveError> {
        let next_wanted = |state: &S, from: usize| {
            (from..self.segments.len()).find(|i| {
                let start = i * self.segment_len;
                wants(state, start..(start + self.segment_len).min(self.len))
            })
        };
        let mut next = next_wanted(state, 0);
        while let Some(i) = next {
            let segment = &self.segments[i];
            let values = segment.read()?;
            // Sweeps repeat: what was just used is used last.
            segment.hint(Hint::NextUse(self.segments.len() as u64));
            if let Some(next) = next_wanted(state, i + 1) {
                self.segments[next].prefetch();
            }
            visit(state, Window { start: i * self.segment_len, values: &values })?;
            next = next_wanted(state, i + 1);
        }
        Ok(())
    }

    /// Calls `visit(start, values)` with the variables of `range` in pieces of at most `piece_len`.
    ///
    /// # Errors
    ///
    /// What `visit` says, or the limit and the disk.
    pub fn for_each_piece(
        &self,
        range: Range<usize>,
        piece_len: usize,
        mut visit: impl FnMut(usize, &[Fr]) -> Result<(), ProveError>,
    ) -> Result<(), ProveError> {
        let wants = |_: &(), own: Range<usize>| own.start < range.end && range.start < own.end;
        self.for_each_window(&mut (), wants, |(), window| {
            let from = range.start.max(window.start);
            let to = range.end.min(window.start + window.values.len());
            let values = &window.values[from - window.start..to - window.start];
            for (i, piece) in values.chunks(piece_len.max(1)).enumerate() {
                visit(from + i * piece_len.max(1), piece)?;
            }
            Ok(())
        })
    }

    /// Returns a number that tells assignments apart, whatever their segments.
    ///
    /// # Errors
    ///
    /// What the limit and the disk say.
    pub(crate) fn hash(&self) -> Result<u64, ProveError> {
        let mut sum = 0u64;
        self.for_each_piece(0..self.len, HASHED_LEN, |start, values| {
            let hashed = values.par_iter().enumerate().map(|(i, value)| {
                let bytes = bytes_of(std::slice::from_ref(value));
                XxHash3_64::oneshot_with_seed((start + i) as u64, bytes)
            });
            sum = sum.wrapping_add(hashed.reduce(|| 0, u64::wrapping_add));
            Ok(())
        })?;
        Ok(sum)
    }

    /// Says that the next use is far off: the segments may leave to make room for what is nearer.
    pub(crate) fn set_aside(&self) {
        for segment in &self.segments {
            segment.hint(Hint::NextUse(u64::MAX));
            segment.write_back();
        }
    }

    /// Returns the whole assignment if it is one segment.
    pub(crate) fn single(&self) -> Option<&Spillable<Fr>> {
        match self.segments.as_slice() {
            [segment] => Some(segment),
            _ => None,
        }
    }

    /// Copies out the first variables: the one and the public inputs.
    ///
    /// # Errors
    ///
    /// What the limit and the disk say.
    pub fn first(&self, count: usize) -> Result<Vec<Fr>, ProveError> {
        let mut first = Vec::with_capacity(count.min(self.len));
        for segment in &self.segments {
            if first.len() >= count {
                break;
            }
            let values = segment.read()?;
            first.extend_from_slice(&values[..values.len().min(count - first.len())]);
        }
        Ok(first)
    }
}
