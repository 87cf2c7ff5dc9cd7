//! Writes a packed file as a stream.
//!
//! ```text
//!   write(column, elements) -> | block | block | bl..   |    raw, in order, up to 16 blocks
//!                                 |       |                  all threads pack
//!                              | header, payload | ...  -> out, in order
//!   finish                  -> index, end                  -> out
//! ```
//!
//! Elements of the column that was written to last join its open block; elements of another column
//! close that block. So columns may alternate, and a block is as long as what was written at a
//! time, up to the block's bytes: a caller that writes rows gives each column a few thousand
//! elements.
//!
//! Invariants:
//!
//! * the same columns and writes give the same bytes, on any number of threads;
//! * memory is 16 blocks raw, as much again packed, and 24 bytes for each block written, whatever
//!   the length of the file.
//!
//! It must never seek: `out` may be a pipe.

use super::column::Column;
use super::error::{ColumnsError, ColumnsFault};
use super::format::{END_BYTES, End, Entry, Head, LENGTH_BYTES, number};
use crate::error::Error;
use crate::files::staged::StagedFile;
use crate::runtime::Runtime;
use plimsoll_arena::{PoolVec, Secrecy};
use plimsoll_swap::checksum::checksum;
use plimsoll_swap::codec::{Encoded, encode};
use plimsoll_swap::frame::{HEADER_BYTES, Header, Placement, Stamp};
use rayon::prelude::*;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Blocks that are packed at a time: as many threads can help.
const BATCH_BLOCKS: usize = 16;

/// What an encoder may write beyond its input before it gives up: one group of lanes.
const SLACK_BYTES: usize = 33 << 10;

/// Bytes that are gathered before they are written; what does not fit is written from where it is.
const GATHER_BYTES: usize = 256 << 10;

/// A block whose elements are all there, or are still being added.
struct PendingBlock {
    column: usize,
    range: Range<usize>,
}

/// A writer of a packed file. Drop without [`Writer::finish`] leaves what was written unfinished:
/// no reader takes it. A file of [`Writer::create`] is removed.
pub struct Writer<W: Write> {
    out: W,
    path: PathBuf,
    head: Head,
    head_checksum: u64,
    runtime: Runtime,
    /// Raw bytes of the pending blocks.
    raw: PoolVec<u8>,
    pending: Vec<PendingBlock>,
    /// What an encoder writes, one for each pending block.
    packed: Vec<Zeroizing<Vec<u8>>>,
    /// Stored bytes on their way out.
    gathered: PoolVec<u8>,
    /// Elements, and blocks, of each column.
    lengths: Vec<(u64, u64)>,
    /// Room for the lengths, and the blocks so far.
    index: PoolVec<u8>,
    offset: u64,
}

impl<W: Write> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Writer<StagedFile> {
    /// Makes a file of `mode` less the umask that appears at `path` when the writer has finished
    /// and [`StagedFile::commit`] was called.
    ///
    /// # Errors
    ///
    /// As [`Writer::new`], and [`ColumnsFault::Write`] or [`ColumnsFault::Staged`].
    pub fn create(
        path: &Path,
        mode: u32,
        columns: Vec<Column>,
        runtime: &Runtime,
        secrecy: Secrecy,
    ) -> Result<Self, ColumnsError> {
        let staged = StagedFile::begin(path, mode)?;
        Self::new(staged, path, columns, runtime, secrecy)
    }
}

impl<W: Write> Writer<W> {
    /// Begins a file of these columns on `out`; `path` is what errors call it. Buffers come from
    /// the pool of this secrecy, and are wiped if that is secret.
    ///
    /// # Errors
    ///
    /// [`ColumnsFault::Columns`] for too many columns or two of one name, [`ColumnsFault::Memory`],
    /// [`ColumnsFault::Write`].
    pub fn new(
        out: W,
        path: &Path,
        columns: Vec<Column>,
        runtime: &Runtime,
        secrecy: Secrecy,
    ) -> Result<Self, ColumnsError> {
        Self::begin(out, path, columns, runtime, secrecy)
            .map_err(|fault| ColumnsError::new(path, fault))
    }

    fn begin(
        mut out: W,
        path: &Path,
        columns: Vec<Column>,
        runtime: &Runtime,
        secrecy: Secrecy,
    ) -> Result<Self, ColumnsFault> {
        let head = Head::new(columns)?;
        let bytes = head.to_bytes();
        let vectors = runtime.vectors(secrecy);
        let block_bytes = head.block_bytes;
        let scratch = || Zeroizing::new(Vec::with_capacity(block_bytes + SLACK_BYTES));
        let writer = Self {
            path: path.to_owned(),
            head_checksum: number(&bytes[bytes.len() - size_of::<u64>()..]),
            runtime: runtime.clone(),
            raw: vectors.with_capacity(BATCH_BLOCKS * block_bytes)?,
            pending: Vec::with_capacity(BATCH_BLOCKS),
            packed: (0..BATCH_BLOCKS).map(|_| scratch()).collect(),
            gathered: vectors.with_capacity(GATHER_BYTES)?,
            lengths: vec![(0, 0); head.columns.len()],
            index: vectors.zeroed(head.columns.len() * LENGTH_BYTES)?,
            offset: bytes.len() as u64,
            head,
            out: {
                out.write_all(&bytes).map_err(ColumnsFault::Write)?;
                out
            },
        };
        Ok(writer)
    }

    /// Returns the columns, in their order.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.head.columns
    }

    /// Appends whole elements to a column.
    ///
    /// # Errors
    ///
    /// [`ColumnsFault::NoColumn`] and [`ColumnsFault::Width`], and nothing was appended;
    /// [`ColumnsFault::Memory`] and [`ColumnsFault::Write`], and the file cannot be finished.
    pub fn write(&mut self, column: usize, elements: &[u8]) -> Result<(), ColumnsError> {
        self.append(column, elements).map_err(|fault| ColumnsError::new(&self.path, fault))
    }

    fn append(&mut self, column: usize, mut elements: &[u8]) -> Result<(), ColumnsFault> {
        let columns = self.head.columns.len();
        let Some(described) = self.head.columns.get(column) else {
            return Err(ColumnsFault::NoColumn { column, columns });
        };
        let (element_bytes, bytes) = (described.element_bytes(), elements.len());
        if !bytes.is_multiple_of(element_bytes) {
            return Err(ColumnsFault::Width { bytes, element_bytes });
        }
        let block_bytes = self.head.block_bytes / element_bytes * element_bytes;
        while !elements.is_empty() {
            let open = self.pending.last().filter(|last| last.column == column);
            let filled = open.map_or(block_bytes, |block| block.range.len());
            if filled == block_bytes {
                self.open_block(column)?;
                continue;
            }
            let (now, later) = elements.split_at((block_bytes - filled).min(elements.len()));
            self.raw.try_extend_from_slice(now).map_err(|error| self.short(error))?;
            if let Some(block) = self.pending.last_mut() {
                block.range.end += now.len();
            }
            elements = later;
        }
        Ok(())
    }

    /// Opens an empty block, for which there is room once the others are written.
    fn open_block(&mut self, column: usize) -> Result<(), ColumnsFault> {
        if self.pending.len() == BATCH_BLOCKS {
            self.flush()?;
        }
        let start = self.raw.len();
        self.pending.push(PendingBlock { column, range: start..start });
        Ok(())
    }

    fn short(&self, error: plimsoll_arena::Error) -> ColumnsFault {
        ColumnsFault::Memory(self.runtime.explain("writing a packed file", error))
    }

    /// Packs the pending blocks on all threads, and writes them in their order.
    fn flush(&mut self) -> Result<(), ColumnsFault> {
        let (raw, columns) = (&self.raw, &self.head.columns);
        let mut stamps = Vec::with_capacity(self.pending.len());
        for block in &self.pending {
            let (elements, blocks) = &mut self.lengths[block.column];
            stamps.push(Stamp { owner: block.column as u64, generation: *blocks });
            *elements += (block.range.len() / columns[block.column].element_bytes()) as u64;
            *blocks += 1;
        }
        let jobs = self.pending.par_iter().zip(&stamps).zip(&mut self.packed);
        let packed: Result<Vec<(Header, Encoded<'_>)>, plimsoll_swap::Error> = jobs
            .map(|((block, stamp), scratch)| {
                let (raw, lanes) = (&raw[block.range.clone()], columns[block.column].lanes());
                let encoded = encode(lanes, raw, scratch);
                let (what, payload) = ((encoded.codec(), lanes.kind()), encoded.payload());
                let header = Header::new(what, Placement::Packed, *stamp, raw.len(), payload)?;
                Ok((header, encoded))
            })
            .collect();
        let packed = packed.map_err(|error| ColumnsFault::Memory(Error::from(error)))?;
        for ((header, encoded), block) in packed.iter().zip(&self.pending) {
            let element_bytes = columns[block.column].element_bytes();
            // A block has at most 4 MiB, so its numbers fit.
            let entry = Entry {
                column: block.column as u32,
                elements: (block.range.len() / element_bytes) as u32,
                stored_bytes: (HEADER_BYTES + encoded.payload().len()) as u32,
                checksum: header.checksum(),
            };
            let added = self.index.try_extend_from_slice(&entry.to_bytes());
            added.map_err(|error| {
                ColumnsFault::Memory(self.runtime.explain("writing a packed file", error))
            })?;
            self.offset += u64::from(entry.stored_bytes);
            gather(&mut self.out, &mut self.gathered, &header.to_bytes())?;
            gather(&mut self.out, &mut self.gathered, encoded.payload())?;
        }
        drop(packed);
        self.pending.clear();
        self.raw.clear();
        Ok(())
    }

    /// Writes what is left, the index and the end; returns what was written to. A [`StagedFile`]
    /// has its name after [`StagedFile::commit`].
    ///
    /// # Errors
    ///
    /// [`ColumnsFault::Memory`] and [`ColumnsFault::Write`].
    pub fn finish(mut self) -> Result<W, ColumnsError> {
        match self.end() {
            Ok(()) => Ok(self.out),
            Err(fault) => Err(ColumnsError::new(&self.path, fault)),
        }
    }

    fn end(&mut self) -> Result<(), ColumnsFault> {
        self.flush()?;
        let blocks = self.lengths.iter().map(|(_, blocks)| blocks).sum();
        let slots = self.index.chunks_exact_mut(LENGTH_BYTES);
        for (slot, (elements, _)) in slots.zip(&self.lengths) {
            slot.copy_from_slice(&elements.to_le_bytes());
        }
        gather(&mut self.out, &mut self.gathered, &self.index)?;
        let end = End {
            index_offset: self.offset,
            blocks,
            file_bytes: self.offset + (self.index.len() + END_BYTES) as u64,
            head_checksum: self.head_checksum,
            index_checksum: checksum(&self.index),
        };
        gather(&mut self.out, &mut self.gathered, &end.to_bytes())?;
        self.out.write_all(&self.gathered).map_err(ColumnsFault::Write)?;
        self.out.flush().map_err(ColumnsFault::Write)
    }
}

/// Adds bytes to those that are gathered, after writing these if there is no room.
fn gather(
    out: &mut impl Write,
    gathered: &mut PoolVec<u8>,
    bytes: &[u8],
) -> Result<(), ColumnsFault> {
    if gathered.len() + bytes.len() > GATHER_BYTES {
        out.write_all(gathered).map_err(ColumnsFault::Write)?;
        gathered.clear();
    }
    if bytes.len() > GATHER_BYTES {
        return out.write_all(bytes).map_err(ColumnsFault::Write);
    }
    // Its capacity is as much, so it takes no memory.
    gathered.try_extend_from_slice(bytes).map_err(|error| ColumnsFault::Memory(error.into()))
}
