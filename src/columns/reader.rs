//! Reads ranges of a packed file.
//!
//! ```text
//!   range of a column   start ........................ end
//!   its blocks        |  b3     |  b4     |  b5     |  b6     |     found by their first elements
//!                        part      whole     whole     part      shared among the threads
//! ```
//!
//! Opening reads head, end and index. A range is cut at the edges of its blocks, and halves of it
//! go to other threads while there are any. A thread reads a block into a buffer, checks it, and
//! unpacks it where the caller wants it, or into the other buffer if only a part is wanted.
//!
//! Invariants:
//!
//! * of several damaged blocks in a range the first is reported, on any number of threads;
//! * a block that was read equals the one that the index names: its header's checksum is the
//!   entry's, its payload's is the header's, and its stamp is its place.
//!
//! It must never unpack what was not checked.

use super::column::Column;
use super::error::{ColumnsError, ColumnsFault};
use super::format::{
    END, END_BYTES, ENTRY_BYTES, End, HEAD, HEAD_START_BYTES, Head, INDEX, LENGTH_BYTES, damaged,
};
use super::index::{Extent, StoredBlock, extents, place_blocks};
use super::scratch::Scratches;
use crate::files::random::{RandomFile, ReadAt};
use crate::runtime::Runtime;
use plimsoll_arena::{PoolVec, Secrecy};
use plimsoll_swap::checksum::checksum;
use plimsoll_swap::codec::{CodecId, decode};
use plimsoll_swap::frame::{HEADER_BYTES, Header, Stamp};
use std::path::{Path, PathBuf};

/// An open packed file. Holding one proves that head, index and end were whole when it was opened,
/// and that there is memory to read with.
pub struct Reader {
    path: PathBuf,
    source: Box<dyn ReadAt>,
    head: Head,
    extents: Vec<Extent>,
    /// The blocks of the first column, then of the second, ...
    blocks: PoolVec<StoredBlock>,
    scratches: Scratches,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A part of a column that is read: what stands in for an element, and where it begins.
#[derive(Clone, Copy)]
struct ReadPart {
    column: usize,
    /// Places of the caller's slice for each element.
    places: u64,
    /// The place of the slice's first in the column.
    start: u64,
}

/// A block that was read and checked, and the part of it that is wanted.
pub(crate) struct Opened<'a> {
    codec: CodecId,
    payload: &'a [u8],
    raw: &'a mut [u8],
    /// The wanted bytes of `raw`.
    from: usize,
    to: usize,
    /// An error at this block.
    fault: &'a dyn Fn(&'static str) -> ColumnsFault,
}

impl Opened<'_> {
    /// Unpacks the wanted bytes into the reader's buffer.
    ///
    /// # Errors
    ///
    /// [`ColumnsFault::Block`].
    pub(crate) fn bytes(&mut self) -> Result<&[u8], ColumnsFault> {
        decode(self.codec, self.payload, self.raw).map_err(|error| (self.fault)(why(&error)))?;
        Ok(&self.raw[self.from..self.to])
    }

    /// Unpacks the wanted bytes into `out`, which is as long.
    fn into(&mut self, out: &mut [u8]) -> Result<(), ColumnsFault> {
        if out.len() == self.raw.len() {
            let decoded = decode(self.codec, self.payload, out);
            return decoded.map_err(|error| (self.fault)(why(&error)));
        }
        out.copy_from_slice(self.bytes()?);
        Ok(())
    }
}

/// The rule that a frame breaks.
fn why(error: &plimsoll_swap::Error) -> &'static str {
    match error {
        plimsoll_swap::Error::Corrupt { what } => what,
        _ => "its header is of another version",
    }
}

impl Reader {
    /// Opens the file at `path`. Buffers come from the pool of this secrecy, and are wiped if that
    /// is secret.
    ///
    /// # Errors
    ///
    /// [`ColumnsFault::Open`], [`ColumnsFault::NotColumns`], [`ColumnsFault::Version`], what says
    /// which part is damaged or cut short, or [`ColumnsFault::Memory`].
    pub fn open(path: &Path, runtime: &Runtime, secrecy: Secrecy) -> Result<Self, ColumnsError> {
        match RandomFile::open(path) {
            Ok(file) => Self::of(Box::new(file), path, runtime, secrecy),
            Err(error) => Err(ColumnsError::new(path, ColumnsFault::Open(error))),
        }
    }

    /// Opens what `source` has; `path` is what errors call it.
    ///
    /// # Errors
    ///
    /// As [`Reader::open`].
    pub(crate) fn of(
        source: Box<dyn ReadAt>,
        path: &Path,
        runtime: &Runtime,
        secrecy: Secrecy,
    ) -> Result<Self, ColumnsError> {
        Self::read_parts(source, path, runtime, secrecy)
            .map_err(|fault| ColumnsError::new(path, fault))
    }

    fn read_parts(
        source: Box<dyn ReadAt>,
        path: &Path,
        runtime: &Runtime,
        secrecy: Secrecy,
    ) -> Result<Self, ColumnsFault> {
        let present = source.len();
        let mut start = [0; HEAD_START_BYTES];
        read_part(&*source, HEAD, 0, &mut start)?;
        let head_bytes = Head::claimed_bytes(&start)?;
        if (head_bytes + END_BYTES) as u64 > present {
            let needed = (head_bytes + END_BYTES) as u64;
            return Err(ColumnsFault::Truncated { part: HEAD, needed, present });
        }
        // No longer than the file.
        let mut bytes = vec![0; head_bytes];
        read_part(&*source, HEAD, 0, &mut bytes)?;
        let head = Head::read(&bytes)?;
        let mut end = [0; END_BYTES];
        read_part(&*source, END, present - END_BYTES as u64, &mut end)?;
        let end = End::read(&end, (&bytes, &head), present)?;
        let index_bytes = (present - END_BYTES as u64 - end.index_offset) as usize;
        let vectors = runtime.vectors(secrecy);
        // As long as a part of the file.
        let mut index = vectors.for_overwrite(index_bytes)?;
        read_part(&*source, INDEX, end.index_offset, &mut index)?;
        if checksum(&index) != end.index_checksum {
            return damaged(INDEX, "its checksum differs");
        }
        let (lengths, entries) = index.split_at(head.columns.len() * LENGTH_BYTES);
        let extents = extents(entries, lengths, &head)?;
        let mut blocks = vectors.filled(entries.len() / ENTRY_BYTES, StoredBlock::default())?;
        let placed = place_blocks(entries, &head, &extents, bytes.len() as u64, &mut blocks)?;
        if placed != end.index_offset {
            return damaged(INDEX, "its blocks do not fill the file");
        }
        let scratches = Scratches::new(runtime, secrecy, head.block_bytes)?;
        Ok(Self { path: path.to_owned(), source, head, extents, blocks, scratches })
    }

    /// Returns the columns, in their order.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.head.columns
    }

    /// Returns the number of the column of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.head.columns.iter().position(|column| column.name() == name)
    }

    /// Returns the elements of a column; of one that is not there, 0.
    #[must_use]
    pub fn elements(&self, column: usize) -> u64 {
        self.extents.get(column).map_or(0, |extent| extent.elements)
    }

    /// Returns the number of a column's blocks, and the bytes that they take in the file.
    #[must_use]
    pub fn stored(&self, column: usize) -> (usize, u64) {
        let blocks = self.blocks_of(column);
        (blocks.len(), blocks.iter().map(|block| u64::from(block.stored_bytes)).sum())
    }

    fn blocks_of(&self, column: usize) -> &[StoredBlock] {
        let extent = self.extents.get(column).copied().unwrap_or_default();
        &self.blocks[extent.start..extent.end]
    }

    /// Fills `out` with the elements of a column from number `start` on. Threads of the current
    /// rayon pool share the blocks.
    ///
    /// # Errors
    ///
    /// [`ColumnsFault::NoColumn`], [`ColumnsFault::Width`], [`ColumnsFault::Range`],
    /// [`ColumnsFault::Read`], or [`ColumnsFault::Block`], which names the first block that is
    /// damaged. What `out` then holds is unspecified.
    pub fn read(&self, column: usize, start: u64, out: &mut [u8]) -> Result<(), ColumnsError> {
        let named = |fault| ColumnsError::new(&self.path, fault);
        let element_bytes = self.head.columns.get(column).map_or(1, Column::element_bytes);
        if !out.len().is_multiple_of(element_bytes) {
            return Err(named(ColumnsFault::Width { bytes: out.len(), element_bytes }));
        }
        self.copy(column, start.saturating_mul(element_bytes as u64), out).map_err(named)
    }

    /// Copies bytes of a column from its byte `start` on.
    pub(crate) fn copy(
        &self,
        column: usize,
        start: u64,
        out: &mut [u8],
    ) -> Result<(), ColumnsFault> {
        let places = self.head.columns.get(column).map_or(1, Column::element_bytes) as u64;
        let window = ReadPart { column, places, start };
        self.walk(window, out, &|opened: &mut Opened<'_>, _, out: &mut [u8]| opened.into(out))
    }

    /// Gives `each` the elements of a column from number `start` on, block by block, with the
    /// number of the first and the part of `out` that stands for them: a place for each element.
    ///
    /// # Errors
    ///
    /// As [`Reader::read`], and what `each` says; the first in the order of the elements.
    #[cfg(feature = "groth16")]
    pub(crate) fn decode<T: Send, E: From<ColumnsFault> + Send>(
        &self,
        column: usize,
        start: u64,
        out: &mut [T],
        each: impl Fn(&mut Opened<'_>, u64, &mut [T]) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        self.walk(ReadPart { column, places: 1, start }, out, &each)
    }

    fn walk<T, E, F>(&self, window: ReadPart, out: &mut [T], each: &F) -> Result<(), E>
    where
        T: Send,
        E: From<ColumnsFault> + Send,
        F: Fn(&mut Opened<'_>, u64, &mut [T]) -> Result<(), E> + Sync,
    {
        let ReadPart { column, places, start } = window;
        let columns = self.extents.len();
        let Some(extent) = self.extents.get(column) else {
            return Err(ColumnsFault::NoColumn { column, columns }.into());
        };
        let (end, len) = (start.saturating_add(out.len() as u64), extent.elements);
        if end > len * places {
            let (start, end) = (start / places, end.div_ceil(places));
            return Err(ColumnsFault::Range { start, end, len }.into());
        }
        if out.is_empty() {
            return Ok(());
        }
        let blocks = self.blocks_of(column);
        let after = blocks.partition_point(|block| block.first * places <= start);
        let last = blocks.partition_point(|block| block.first * places < end);
        self.share(window, after - 1..last, out, each)
    }

    /// Shares the blocks of a window among the threads.
    fn share<T, E, F>(
        &self,
        window: ReadPart,
        numbers: std::ops::Range<usize>,
        out: &mut [T],
        each: &F,
    ) -> Result<(), E>
    where
        T: Send,
        E: From<ColumnsFault> + Send,
        F: Fn(&mut Opened<'_>, u64, &mut [T]) -> Result<(), E> + Sync,
    {
        if numbers.len() <= 1 {
            return self.one(window, numbers.start, out, each);
        }
        let middle = numbers.start + numbers.len() / 2;
        let cut = self.blocks_of(window.column)[middle].first * window.places;
        let (left, right) = out.split_at_mut((cut - window.start) as usize);
        let (left, right) = rayon::join(
            || self.share(window, numbers.start..middle, left, each),
            || self.share(ReadPart { start: cut, ..window }, middle..numbers.end, right, each),
        );
        left.and(right)
    }

    /// Reads one block, and gives `each` the part that the window wants.
    fn one<T, E, F>(
        &self,
        window: ReadPart,
        number: usize,
        out: &mut [T],
        each: &F,
    ) -> Result<(), E>
    where
        T: Send,
        E: From<ColumnsFault> + Send,
        F: Fn(&mut Opened<'_>, u64, &mut [T]) -> Result<(), E> + Sync,
    {
        let ReadPart { column, places, start } = window;
        let (described, block) = (&self.head.columns[column], self.blocks_of(column)[number]);
        let element_bytes = described.element_bytes();
        let fault = |why| ColumnsFault::Block {
            column: described.name().to_owned(),
            block: number as u64,
            elements: block.first..block.first + u64::from(block.elements),
            why,
        };
        let mut scratch = self.scratches.borrow();
        let (stored, raw) = scratch.parts();
        let stored = &mut stored[..block.stored_bytes as usize];
        let needed = block.offset + stored.len() as u64;
        let read = self.source.read_at(block.offset, stored);
        read.map_err(|error| ColumnsFault::read(error, "file", needed, self.source.len()))?;
        let raw = &mut raw[..block.elements as usize * element_bytes];
        let stamp = Stamp { owner: column as u64, generation: number as u64 };
        let checked = check(stored, stamp, described, raw.len(), block.checksum);
        let (codec, payload) = checked.map_err(fault)?;
        let unit = element_bytes / places as usize;
        let from = (start - block.first * places) as usize * unit;
        let to = from + out.len() * unit;
        each(&mut Opened { codec, payload, raw, from, to, fault: &fault }, start, out)
    }
}

/// Checks a stored block against its entry: how it is packed, and its payload.
fn check<'a>(
    stored: &'a [u8],
    stamp: Stamp,
    column: &Column,
    raw_bytes: usize,
    checksum: u64,
) -> Result<(CodecId, &'a [u8]), &'static str> {
    let header = Header::read(stored).map_err(|error| why(&error))?;
    if header.checksum() != checksum {
        return Err("a whole block of another file is in its place");
    }
    header.expect(stamp).map_err(|error| why(&error))?;
    if header.lanes() != column.lanes().kind() || header.raw_bytes() != raw_bytes as u64 {
        return Err("its header is not that of the column's block");
    }
    let payload = &stored[HEADER_BYTES..];
    header.check_close(payload).map_err(|error| why(&error))?;
    Ok((header.codec(), payload))
}

/// Reads a part of the file.
fn read_part(
    source: &dyn ReadAt,
    part: &'static str,
    offset: u64,
    out: &mut [u8],
) -> Result<(), ColumnsFault> {
    let needed = offset + out.len() as u64;
    let read = source.read_at(offset, out);
    read.map_err(|error| ColumnsFault::read(error, part, needed, source.len()))
}
