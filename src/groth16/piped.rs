//! Bytes that have no offsets of their own, such as a pipe's, kept in memory to be read at offsets.
//!
//! ```text
//!   | piece 0 | piece 1 | ... | last, filled in part |     each a vector of the secret pool
//! ```
//!
//! Invariants: the limit is asked for every piece before it is taken; pieces are wiped when they
//! are dropped, for what comes through a pipe here is a witness.
//!
//! Must never: grow by a number that the bytes themselves claim.

use std::io::{self, Read};

use plimsoll_arena::PoolVec;

use crate::files::random::ReadAt;
use crate::{Error, Runtime};

/// Bytes of a piece.
#[cfg(not(test))]
const PIECE_BYTES: usize = 1 << 20;
/// Small, so that tests cross the edges of pieces; smaller ones are the heap's, not the pool's.
#[cfg(test)]
const PIECE_BYTES: usize = 1 << 16;

/// Bytes in memory. Holding one proves that they count against the runtime's limit.
pub(super) struct Piped {
    runtime: Runtime,
    pieces: Vec<PoolVec<u8>>,
    len: usize,
}

/// Why bytes were not taken in.
#[derive(Debug)]
pub(super) enum PipeError {
    /// They do not fit under the limit.
    Memory(Error),
    /// The system says so.
    Read(io::Error),
}

impl Piped {
    /// Holds nothing yet, under the limit of `runtime`.
    pub(super) fn new(runtime: &Runtime) -> Piped {
        Piped { runtime: runtime.clone(), pieces: Vec::new(), len: 0 }
    }

    /// Returns the number of bytes.
    pub(super) fn len(&self) -> u64 {
        self.len as u64
    }

    /// Adds what `reader` has, to its end.
    pub(super) fn fill(&mut self, reader: &mut dyn Read) -> Result<(), PipeError> {
        loop {
            let room = self.room().map_err(PipeError::Memory)?;
            match reader.read(room) {
                Ok(0) => return Ok(()),
                Ok(read) => self.len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(PipeError::Read(error)),
            }
        }
    }

    /// Adds `bytes`.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let count = room.len().min(bytes.len());
            let (now, later) = bytes.split_at(count);
            room[..count].copy_from_slice(now);
            (self.len, bytes) = (self.len + count, later);
        }
        Ok(())
    }

    /// Copies bytes from `offset` on into `out`.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the range is not all there; `out` is then unchanged.
    pub(super) fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        if start.checked_add(out.len()).is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut at, mut out) = (start, out);
        while !out.is_empty() {
            let piece = &self.pieces[at / PIECE_BYTES][at % PIECE_BYTES..];
            let count = piece.len().min(out.len());
            let (now, later) = out.split_at_mut(count);
            now.copy_from_slice(&piece[..count]);
            (at, out) = (at + count, later);
        }
        Ok(())
    }

    /// The free part of the last piece, of a new one if that is full.
    fn room(&mut self) -> Result<&mut [u8], Error> {
        if self.len == self.pieces.len() * PIECE_BYTES {
            let piece = self.runtime.secret_pool().try_zeroed(PIECE_BYTES);
            self.pieces.push(piece.map_err(|error| self.runtime.explain("reading a pipe", error))?);
        }
        let used = self.len % PIECE_BYTES;
        Ok(self.pieces.last_mut().map_or(&mut [], |piece| &mut piece[used..]))
    }
}

impl ReadAt for Piped {
    fn len(&self) -> u64 {
        Piped::len(self)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        Piped::read_at(self, offset, out)
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::limit::LimitSpec;

    #[test]
    fn what_is_pushed_or_read_comes_back_across_pieces() {
        let runtime = Runtime::builder().limit(LimitSpec::None).build().expect("a runtime");
        let bytes: Vec<u8> = (0..200_000u32).map(|i| (i ^ i >> 8) as u8).collect();
        let mut piped = Piped::new(&runtime);
        piped.push(&bytes[..99_999]).expect("no limit");
        piped.fill(&mut &bytes[99_999..]).expect("no limit");
        assert_eq!(piped.len(), 200_000);
        let edge = PIECE_BYTES;
        let ranges = [
            (0, 200_000),
            (edge - 1, edge + 1),
            (edge, 2 * edge),
            (199_999, 200_000),
            (200_000, 200_000),
        ];
        for (start, end) in ranges {
            let mut out = vec![0; end - start];
            piped.read_at(start as u64, &mut out).expect("inside");
            assert_eq!(out, bytes[start..end]);
        }
        for (offset, count) in [(200_000, 1), (0, 200_001), (u64::MAX, 1)] {
            let error = piped.read_at(offset, &mut vec![0; count]).expect_err("outside");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn what_does_not_fit_under_the_limit_is_refused() {
        // Of its own: what other tests hold is not counted as vectors.
        let runtime = Runtime::builder().own_limit().limit_bytes(2 << 20).build();
        let runtime = runtime.expect("a runtime");
        let mut piped = Piped::new(&runtime);
        let error = piped.fill(&mut io::repeat(7).take(8 << 20)).expect_err("8 of 2 MiB");
        assert!(matches!(error, PipeError::Memory(Error::OverLimit { .. })), "{error:?}");
        assert!(piped.len() <= 2 << 20, "{}", piped.len());
    }
}
