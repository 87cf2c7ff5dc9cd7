//! The index in memory: the blocks of each column, by their first elements.
//!
//! ```text
//!   file     c0 c1 c0 c2 c1 ...          entries, in the order of the file
//!   memory   c0 c0 .. | c1 c1 .. | c2    blocks, each with its place in the file
//!            ^ an extent for each column
//! ```
//!
//! Invariant: the elements of a column's blocks are numbered from 0 without a gap, and the blocks
//! of all columns fill the file from head to index.

use super::error::ColumnsFault;
use super::format::{Entry, Head, INDEX, LENGTH_BYTES, damaged, number};

/// Where a block is.
#[derive(Clone, Copy, Default)]
pub(super) struct StoredBlock {
    pub(super) offset: u64,
    /// Its first element's number in the column.
    pub(super) first: u64,
    pub(super) checksum: u64,
    pub(super) elements: u32,
    pub(super) stored_bytes: u32,
}

/// What is known of a column's blocks.
#[derive(Clone, Copy, Default)]
pub(super) struct Extent {
    /// Elements of the column.
    pub(super) elements: u64,
    /// Its first block's place among all blocks.
    pub(super) start: usize,
    /// One past its last block's.
    pub(super) end: usize,
}

/// How many blocks and elements each column has, by the entries; the lengths must say the same.
pub(super) fn extents(
    entries: &[u8],
    lengths: &[u8],
    head: &Head,
) -> Result<Vec<Extent>, ColumnsFault> {
    let mut extents = vec![Extent::default(); head.columns.len()];
    for bytes in entries.as_chunks().0 {
        let entry = Entry::read(bytes, head)?;
        let extent = &mut extents[entry.column as usize];
        extent.elements = extent.elements.saturating_add(u64::from(entry.elements));
        extent.end += 1;
    }
    let mut start = 0;
    let lengths = lengths.chunks_exact(LENGTH_BYTES).map(number);
    for ((extent, length), column) in extents.iter_mut().zip(lengths).zip(&head.columns) {
        if extent.elements != length {
            return damaged(INDEX, "a column's length is not the sum of its blocks");
        }
        if length.checked_mul(column.element_bytes() as u64).is_none() {
            return damaged(INDEX, "a column's bytes are more than 64 bits count");
        }
        (extent.start, extent.end) = (start, start + extent.end);
        start = extent.end;
    }
    Ok(extents)
}

/// Puts the blocks of each column together, in order; returns where the last one in the file ends.
pub(super) fn place_blocks(
    entries: &[u8],
    head: &Head,
    extents: &[Extent],
    mut offset: u64,
    blocks: &mut [StoredBlock],
) -> Result<u64, ColumnsFault> {
    let mut next: Vec<(usize, u64)> = extents.iter().map(|extent| (extent.start, 0)).collect();
    for bytes in entries.as_chunks().0 {
        let Entry { column, elements, stored_bytes, checksum } = Entry::read(bytes, head)?;
        let (place, first) = &mut next[column as usize];
        blocks[*place] = StoredBlock { offset, first: *first, checksum, elements, stored_bytes };
        *place += 1;
        *first += u64::from(elements);
        offset = offset.saturating_add(u64::from(stored_bytes));
    }
    Ok(offset)
}
