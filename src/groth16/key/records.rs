//! Vectors of fixed-size records inside a file, decoded a chunk at a time.
//!
//! A file that others can change is never looked at through a slice: bytes are copied out with a
//! positional read into a small buffer on the stack, checked there, and what was checked is what
//! is used.
//!
//! ```text
//!   file   ... | r0 | r1 | r2 | ... | r(len-1) | ...      N bytes each, from `offset`
//!                     \____ CHUNK records ____/
//!   stack             [ at most CHUNK * N bytes ]  -> decode -> out[i]
//! ```
//!
//! Invariants:
//!
//! * `offset + len * N <= file length` at the time of opening, so a huge claimed count is an error
//!   before anything is sized by it;
//! * memory used is `CHUNK * N` bytes a thread, whatever the length of the vector; of a packed file
//!   it is the buffers of its reader;
//! * of several bad records in one read the one with the lowest index is reported, at any number
//!   of threads.
//!
//! It must never allocate by a number found in a file, and never keep a copy of a secret record:
//! the buffer of a secret one is wiped.

use std::io;
use std::path::{Path, PathBuf};

use crate::columns::joined::Joined;
use crate::columns::{ColumnsError, ColumnsFault};
use crate::files::random::RandomFile;
use crate::groth16::file_kind::HEAD_BYTES;
use crate::groth16::piped::Piped;
use rayon::prelude::*;
use zeroize::Zeroize;

use crate::groth16::error::ProveError;
use crate::groth16::file_error::{Fault, FileError, FileKind};
use crate::runtime::Runtime;
use plimsoll_arena::Secrecy;

/// Records a chunk: with the largest record (128 bytes) the buffer is 16 KiB of stack.
const CHUNK: usize = 128;

/// Records from which a read is shared among threads. Below, a task costs more than it saves.
const PARALLEL_MIN: usize = 4 * CHUNK;

/// An open file, what a pipe had, or what a packed file unpacks to, and the name under which errors
/// speak of it.
pub(in crate::groth16) struct ByteSource {
    path: PathBuf,
    bytes: Bytes,
}

enum Bytes {
    File(RandomFile),
    Memory(Piped),
    Packed(Joined),
}

impl ByteSource {
    /// Opens the file at `path`.
    pub(in crate::groth16) fn open(path: &Path) -> Result<ByteSource, FileError> {
        match RandomFile::open(path) {
            Ok(file) => Ok(ByteSource { path: path.to_owned(), bytes: Bytes::File(file) }),
            Err(error) => Err(FileError::new(path, "file", Fault::Open(error))),
        }
    }

    /// The bytes in memory that came from `path`.
    pub(in crate::groth16) fn piped(path: &Path, piped: Piped) -> ByteSource {
        ByteSource { path: path.to_owned(), bytes: Bytes::Memory(piped) }
    }

    /// The name under which errors speak of it.
    pub(in crate::groth16) fn path(&self) -> &Path {
        &self.path
    }

    /// The number of bytes; of a file, when it was opened.
    pub(in crate::groth16) fn len(&self) -> u64 {
        match &self.bytes {
            Bytes::File(file) => file.len(),
            Bytes::Memory(piped) => piped.len(),
            Bytes::Packed(joined) => joined.len(),
        }
    }

    /// The bytes that a packed file unpacks to, if this is one: they are secrets, and each is
    /// unpacked when it is read. Any other file stays as it is.
    ///
    /// # Errors
    ///
    /// [`Fault::Packed`] when the packed file is damaged, and what the limit says.
    pub(in crate::groth16) fn unpacked(self, runtime: &Runtime) -> Result<ByteSource, ProveError> {
        if self.kind() != FileKind::Columns {
            return Ok(self);
        }
        let ByteSource { path, bytes } = self;
        let joined = match bytes {
            Bytes::File(file) => Joined::of(Box::new(file), &path, runtime, Secrecy::Secret),
            Bytes::Memory(piped) => Joined::of(Box::new(piped), &path, runtime, Secrecy::Secret),
            Bytes::Packed(joined) => Ok(joined),
        };
        match joined.map_err(ColumnsError::into_fault) {
            Ok(joined) => Ok(ByteSource { path, bytes: Bytes::Packed(joined) }),
            Err(ColumnsFault::Memory(error)) => Err(error.into()),
            Err(fault) => {
                Err(FileError::new(&path, "packed file", Fault::Packed(Box::new(fault))).into())
            }
        }
    }

    /// What the first bytes of the file say about its kind.
    pub(in crate::groth16) fn kind(&self) -> FileKind {
        let mut head = [0; HEAD_BYTES];
        let head = &mut head[..self.len().min(HEAD_BYTES as u64) as usize];
        match self.read("first bytes", 0, head) {
            Ok(()) => FileKind::of(head, &self.path),
            Err(_) => FileKind::Unknown,
        }
    }

    /// An error of this file.
    pub(in crate::groth16) fn error(&self, place: &'static str, fault: Fault) -> FileError {
        FileError::new(&self.path, place, fault)
    }

    /// Copies `out.len()` bytes from `offset`.
    pub(in crate::groth16) fn read(
        &self,
        place: &'static str,
        offset: u64,
        out: &mut [u8],
    ) -> Result<(), FileError> {
        let needed = offset.saturating_add(out.len() as u64);
        let (read, present) = match &self.bytes {
            Bytes::File(file) => (file.read_at(offset, out), file.len_now()),
            Bytes::Memory(piped) => (piped.read_at(offset, out), piped.len()),
            Bytes::Packed(joined) if needed <= joined.len() => {
                let copied = joined.copy(offset, out);
                return copied.map_err(|fault| self.error(place, Fault::Packed(Box::new(fault))));
            }
            Bytes::Packed(joined) => (Err(io::ErrorKind::UnexpectedEof.into()), joined.len()),
        };
        read.map_err(|error| self.error(place, Fault::read(error, needed, present)))
    }

    /// Copies an array of `N` bytes from `offset`.
    pub(in crate::groth16) fn array<const N: usize>(
        &self,
        place: &'static str,
        offset: u64,
    ) -> Result<[u8; N], FileError> {
        let mut bytes = [0; N];
        self.read(place, offset, &mut bytes)?;
        Ok(bytes)
    }

    /// A little-endian `u32` at `offset`.
    pub(in crate::groth16) fn u32(
        &self,
        place: &'static str,
        offset: u64,
    ) -> Result<u32, FileError> {
        self.array(place, offset).map(u32::from_le_bytes)
    }

    /// A little-endian `u64` at `offset`.
    pub(in crate::groth16) fn u64(
        &self,
        place: &'static str,
        offset: u64,
    ) -> Result<u64, FileError> {
        self.array(place, offset).map(u64::from_le_bytes)
    }
}

/// Why a read of a packed column ends.
enum Stop {
    Packed(ColumnsFault),
    Record(Fault),
}

impl From<ColumnsFault> for Stop {
    fn from(fault: ColumnsFault) -> Self {
        Self::Packed(fault)
    }
}

/// How one record of `N` bytes becomes a value.
pub(in crate::groth16) trait Decode<const N: usize>: Sync {
    /// The value.
    type Item: Send;

    /// True where the bytes are secret: the buffer is wiped after use.
    const SECRET: bool = false;

    /// The value of `bytes`, the record number `index`.
    fn decode(&self, bytes: &[u8; N], index: u64) -> Result<Self::Item, Fault>;
}

/// A vector of records: holding one proves that it lies inside its file.
#[derive(Clone, Copy, Debug)]
pub(in crate::groth16) struct Records {
    place: &'static str,
    offset: u64,
    len: usize,
    record_bytes: u32,
}

impl Records {
    /// The vector of `len` records of `record_bytes` bytes from `offset` of `source`.
    ///
    /// # Errors
    ///
    /// [`Fault::Truncated`] when it does not end inside the file.
    pub(in crate::groth16) fn new(
        source: &ByteSource,
        place: &'static str,
        offset: u64,
        len: u64,
        record_bytes: u32,
    ) -> Result<Records, FileError> {
        let needed = len
            .checked_mul(u64::from(record_bytes))
            .and_then(|bytes| bytes.checked_add(offset))
            .unwrap_or(u64::MAX);
        let present = source.len();
        match usize::try_from(len) {
            Ok(len) if needed <= present => Ok(Records { place, offset, len, record_bytes }),
            _ => Err(source.error(place, Fault::Truncated { needed, present })),
        }
    }

    /// The number of records.
    pub(in crate::groth16) fn len(&self) -> usize {
        self.len
    }

    /// The vector's name in error texts.
    pub(in crate::groth16) fn place(&self) -> &'static str {
        self.place
    }

    /// The offset of the first byte of the vector.
    pub(in crate::groth16) fn start(&self) -> u64 {
        self.offset
    }

    /// The offset of the first byte after the vector.
    pub(in crate::groth16) fn end(&self) -> u64 {
        self.byte_at(self.len)
    }

    fn byte_at(&self, index: usize) -> u64 {
        // No overflow for index <= len: `new` computed the product for `len` with checks.
        self.offset + index as u64 * u64::from(self.record_bytes)
    }

    /// Decodes the records from `start` on into `out`, on all threads when there are many.
    ///
    /// # Errors
    ///
    /// [`Fault::Range`] when the records are not all there, the lowest decoding fault, or a failed
    /// read. `out` then holds a mixture of old and new values.
    pub(in crate::groth16) fn read<const N: usize, D: Decode<N>>(
        &self,
        source: &ByteSource,
        start: usize,
        out: &mut [D::Item],
        decoder: &D,
    ) -> Result<(), FileError> {
        debug_assert_eq!(N, self.record_bytes as usize);
        let end = start.saturating_add(out.len());
        if end > self.len {
            let (start, end, len) = (start as u64, end as u64, self.len as u64);
            return Err(source.error(self.place, Fault::Range { start, end, len }));
        }
        if let Bytes::Packed(joined) = &source.bytes {
            let bytes = out.len() as u64 * u64::from(self.record_bytes);
            let place = joined.elements_at(self.byte_at(start), bytes, N);
            if let Some(place) = place {
                return self.read_column(source, (joined, place), start, out, decoder);
            }
        }
        let chunk_error = |(chunk, out): (usize, &mut [D::Item])| {
            self.read_chunk(source, start + chunk * CHUNK, out, decoder).err()
        };
        let error = if out.len() < PARALLEL_MIN {
            out.chunks_mut(CHUNK).enumerate().find_map(chunk_error)
        } else {
            out.par_chunks_mut(CHUNK).enumerate().find_map_first(chunk_error)
        };
        error.map_or(Ok(()), Err)
    }

    /// Decodes records that are elements of a packed column, block by block.
    fn read_column<const N: usize, D: Decode<N>>(
        &self,
        source: &ByteSource,
        (joined, place): (&Joined, (usize, u64)),
        start: usize,
        out: &mut [D::Item],
        decoder: &D,
    ) -> Result<(), FileError> {
        let read = joined.decode(place, out, |opened, element, out| {
            let index = start as u64 + (element - place.1);
            let records = opened.bytes()?.as_chunks().0;
            for ((bytes, slot), index) in records.iter().zip(out).zip(index..) {
                *slot = decoder.decode(bytes, index).map_err(Stop::Record)?;
            }
            Ok(())
        });
        read.map_err(|stop| match stop {
            Stop::Packed(fault) => source.error(self.place, Fault::Packed(Box::new(fault))),
            Stop::Record(fault) => source.error(self.place, fault),
        })
    }

    /// Decodes at most [`CHUNK`] records.
    fn read_chunk<const N: usize, D: Decode<N>>(
        &self,
        source: &ByteSource,
        start: usize,
        out: &mut [D::Item],
        decoder: &D,
    ) -> Result<(), FileError> {
        let mut buffer = [[0; N]; CHUNK];
        let records = &mut buffer[..out.len()];
        let mut result = source.read(self.place, self.byte_at(start), records.as_flattened_mut());
        if result.is_ok() {
            for (i, (bytes, slot)) in records.iter().zip(out).enumerate() {
                match decoder.decode(bytes, (start + i) as u64) {
                    Ok(value) => *slot = value,
                    Err(fault) => {
                        result = Err(source.error(self.place, fault));
                        break;
                    }
                }
            }
        }
        if D::SECRET {
            records.as_flattened_mut().zeroize();
        }
        result
    }
}
