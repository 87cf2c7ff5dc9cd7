//! The bytes of head, index and end: docs/columns-format.md gives each of them.
//!
//! ```text
//!   head    24 bytes | columns | checksum       what the blocks are of
//!   index   8 bytes a column | 24 bytes a block where they are, in the order of the file
//!   end     64 bytes                            how many, and the checksums of both
//! ```
//!
//! This is the pure part: bytes in, bytes out, no file.
//!
//! Invariant: what is read here was compared with its checksum first, and with the bounds below.
//!
//! It must never take memory by a number before that was bounded, or panic on what is read.

use super::column::{BLOCK_BYTES_MAX, Column};
use super::error::ColumnsFault;
use plimsoll_swap::checksum::checksum;
use plimsoll_swap::codec::field::{Field32Spec, FieldSpec};
use plimsoll_swap::codec::{LaneKind, LaneSpec};
use plimsoll_swap::frame::HEADER_BYTES;
use std::collections::HashSet;

/// First bytes of every packed file.
pub const MAGIC: [u8; 4] = *b"PLCF";

/// First bytes of the end.
const END_MAGIC: [u8; 4] = *b"PLCE";

/// The format that this build writes, and the only one it reads.
pub const VERSION: u16 = 1;

/// Most raw bytes of a block that the writer makes. A larger block has less header for its bytes,
/// and a reader of a range unpacks more than it was asked for; 128 KiB of bits are 600 bytes.
pub const BLOCK_BYTES: usize = 128 << 10;

/// Most columns of a file.
pub const COLUMNS_MAX: usize = 1 << 16;

/// Most bytes of a head: every column has a name of the longest kind and a modulus.
const HEAD_BYTES_MAX: usize = 32 << 20;

/// Bytes of a head before its columns.
pub(super) const HEAD_START_BYTES: usize = 24;

const CHECKSUM_BYTES: usize = 8;

/// Bytes of a column before its modulus and its name.
const COLUMN_BYTES: usize = 8;

/// Bytes of a block's entry in the index.
pub(super) const ENTRY_BYTES: usize = 24;

/// Bytes of a column's length in the index.
pub(super) const LENGTH_BYTES: usize = 8;

/// Bytes of the end.
pub(super) const END_BYTES: usize = 64;

const _: () = assert!(BLOCK_BYTES <= BLOCK_BYTES_MAX && BLOCK_BYTES_MAX < u32::MAX as usize / 2);
const _: () = assert!(
    HEAD_START_BYTES + CHECKSUM_BYTES + COLUMNS_MAX * (COLUMN_BYTES + 32 + 255) <= HEAD_BYTES_MAX
);

pub(super) const HEAD: &str = "head";
pub(super) const INDEX: &str = "index";
pub(super) const END: &str = "end";

/// An error in one of the parts.
#[cold]
pub(super) fn damaged<T>(part: &'static str, why: &'static str) -> Result<T, ColumnsFault> {
    Err(ColumnsFault::Damaged { part, why })
}

/// Up to eight bytes, little-endian.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// What a head says. Holding one proves that the columns can be kept: no two have one name, and an
/// element fits a block.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) columns: Vec<Column>,
    pub(super) block_bytes: usize,
}

impl Head {
    /// The head of a file of these columns, in blocks that hold the largest element.
    ///
    /// # Errors
    ///
    /// [`ColumnsFault::Columns`] for too many columns, or two of one name.
    pub(super) fn new(columns: Vec<Column>) -> Result<Self, ColumnsFault> {
        if columns.len() > COLUMNS_MAX {
            return Err(ColumnsFault::Columns { why: "a file has at most 65536" });
        }
        let mut names = HashSet::new();
        if !columns.iter().all(|column| names.insert(column.name())) {
            return Err(ColumnsFault::Columns { why: "two have the same name" });
        }
        let largest = columns.iter().map(Column::element_bytes).max().unwrap_or(1);
        Ok(Self { columns, block_bytes: BLOCK_BYTES.max(largest) })
    }

    /// The bytes of the head.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEAD_START_BYTES];
        for column in &self.columns {
            bytes.extend_from_slice(&(column.element_bytes() as u32).to_le_bytes());
            bytes.push(column.lanes().kind() as u8);
            // At most 255, as `Column` keeps it.
            bytes.push(column.name().len() as u8);
            bytes.extend_from_slice(&[0; 2]);
            match column.lanes() {
                LaneSpec::Field32(field) => {
                    bytes.extend_from_slice(&field.modulus().to_le_bytes());
                }
                LaneSpec::Field256(field) => {
                    field.modulus().iter().for_each(|limb| bytes.extend(limb.to_le_bytes()));
                }
                _ => {}
            }
            bytes.extend_from_slice(column.name().as_bytes());
        }
        let head_bytes = (bytes.len() + CHECKSUM_BYTES) as u32;
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..12].copy_from_slice(&head_bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&(self.columns.len() as u32).to_le_bytes());
        bytes[16..20].copy_from_slice(&(self.block_bytes as u32).to_le_bytes());
        bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
        bytes
    }

    /// The length that the first bytes of a head claim for all of it.
    ///
    /// # Errors
    ///
    /// [`ColumnsFault::NotColumns`], [`ColumnsFault::Version`], or [`ColumnsFault::Damaged`] for a
    /// length that no head has.
    pub(super) fn claimed_bytes(start: &[u8; HEAD_START_BYTES]) -> Result<usize, ColumnsFault> {
        if start[..4] != MAGIC {
            return Err(ColumnsFault::NotColumns);
        }
        let found = number(&start[4..6]) as u16;
        if found != VERSION {
            return Err(ColumnsFault::Version { found, read: VERSION });
        }
        let bytes = number(&start[8..12]) as usize;
        if !(HEAD_START_BYTES + CHECKSUM_BYTES..=HEAD_BYTES_MAX).contains(&bytes) {
            return damaged(HEAD, "its length cannot be right");
        }
        Ok(bytes)
    }

    /// Reads a whole head.
    ///
    /// # Errors
    ///
    /// [`ColumnsFault::Damaged`].
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ColumnsFault> {
        let Some((checked, sum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
            return damaged(HEAD, "it is shorter than its checksum");
        };
        if checksum(checked) != u64::from_le_bytes(*sum) {
            return damaged(HEAD, "its checksum differs");
        }
        let Some((start, mut rest)) = checked.split_first_chunk::<HEAD_START_BYTES>() else {
            return damaged(HEAD, "it is shorter than its start");
        };
        let (count, block_bytes) = (number(&start[12..16]), number(&start[16..20]) as usize);
        if number(&start[6..8]) != 0 || number(&start[20..24]) != 0 {
            return damaged(HEAD, "its reserved bytes are not zero");
        }
        if !(1..=BLOCK_BYTES_MAX).contains(&block_bytes) {
            return damaged(HEAD, "its blocks have no bytes, or more than 4 MiB");
        }
        let mut columns = Vec::new();
        for _ in 0..count {
            let column = read_column(&mut rest)?;
            if column.element_bytes() > block_bytes {
                return damaged(HEAD, "an element is larger than a block");
            }
            columns.push(column);
        }
        if !rest.is_empty() {
            return damaged(HEAD, "bytes follow the last column");
        }
        match Self::new(columns) {
            Ok(head) => Ok(Self { block_bytes, ..head }),
            Err(_) => damaged(HEAD, "two columns have one name, or there are too many"),
        }
    }
}

/// Reads a column from the front of `rest`.
fn read_column(rest: &mut &[u8]) -> Result<Column, ColumnsFault> {
    let mut take = |bytes: usize| match rest.split_at_checked(bytes) {
        Some((front, later)) => {
            *rest = later;
            Ok(front)
        }
        None => damaged(HEAD, "a column ends early"),
    };
    let fixed = take(COLUMN_BYTES)?;
    let (element_bytes, name_bytes) = (number(&fixed[..4]) as usize, usize::from(fixed[5]));
    if number(&fixed[6..8]) != 0 {
        return damaged(HEAD, "a column's reserved bytes are not zero");
    }
    let Ok(kind) = LaneKind::try_from(fixed[4]) else {
        return damaged(HEAD, "a column's lane kind is unknown");
    };
    let lanes = match kind {
        LaneKind::Bytes => Some(LaneSpec::Bytes),
        LaneKind::U8 => Some(LaneSpec::U8),
        LaneKind::U16 => Some(LaneSpec::U16),
        LaneKind::U32 => Some(LaneSpec::U32),
        LaneKind::U64 => Some(LaneSpec::U64),
        LaneKind::U256 => Some(LaneSpec::U256),
        LaneKind::Field32 => Field32Spec::new(number(take(4)?) as u32).ok().map(LaneSpec::Field32),
        LaneKind::Field256 => {
            let mut modulus = [0; 4];
            for limb in &mut modulus {
                *limb = number(take(8)?);
            }
            FieldSpec::new(modulus).ok().map(LaneSpec::Field256)
        }
    };
    let Some(lanes) = lanes else {
        return damaged(HEAD, "a column's modulus is no field's");
    };
    let Ok(name) = str::from_utf8(take(name_bytes)?) else {
        return damaged(HEAD, "a column's name is not UTF-8");
    };
    match Column::new(name, element_bytes, lanes) {
        Ok(column) => Ok(column),
        Err(_) => damaged(HEAD, "a column has no name, or elements of a size that none have"),
    }
}

/// A block as the index has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) column: u32,
    pub(super) elements: u32,
    pub(super) stored_bytes: u32,
    pub(super) checksum: u64,
}

impl Entry {
    pub(super) fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..4].copy_from_slice(&self.column.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.elements.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.stored_bytes.to_le_bytes());
        bytes[16..].copy_from_slice(&self.checksum.to_le_bytes());
        bytes
    }

    /// Reads an entry of a file with this head.
    ///
    /// # Errors
    ///
    /// [`ColumnsFault::Damaged`] for a block that such a file cannot have.
    pub(super) fn read(bytes: &[u8; ENTRY_BYTES], head: &Head) -> Result<Self, ColumnsFault> {
        let at = |start: usize| number(&bytes[start..start + 4]) as u32;
        let (column, elements, stored_bytes) = (at(0), at(4), at(8));
        let Some(described) = head.columns.get(column as usize) else {
            return damaged(INDEX, "a block is of a column that there is not");
        };
        let raw_bytes = u64::from(elements) * described.element_bytes() as u64;
        if elements == 0 || raw_bytes > head.block_bytes as u64 {
            return damaged(INDEX, "a block has no elements, or too many");
        }
        let stored = u64::from(stored_bytes).checked_sub(HEADER_BYTES as u64);
        if stored.is_none_or(|payload| payload > raw_bytes) {
            return damaged(INDEX, "a block's length cannot be right");
        }
        if at(12) != 0 {
            return damaged(INDEX, "a block's reserved bytes are not zero");
        }
        Ok(Self { column, elements, stored_bytes, checksum: number(&bytes[16..]) })
    }
}

/// The end of a file: where the index is, and what ties the parts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) index_offset: u64,
    pub(super) blocks: u64,
    pub(super) file_bytes: u64,
    pub(super) head_checksum: u64,
    pub(super) index_checksum: u64,
}

impl End {
    pub(super) fn to_bytes(self) -> [u8; END_BYTES] {
        let mut bytes = [0; END_BYTES];
        bytes[..4].copy_from_slice(&END_MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        let numbers = [
            self.index_offset,
            self.blocks,
            self.file_bytes,
            self.head_checksum,
            self.index_checksum,
        ];
        for (slot, number) in bytes[8..].chunks_exact_mut(8).zip(numbers) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        let sum = checksum(&bytes[..END_BYTES - CHECKSUM_BYTES]);
        bytes[END_BYTES - CHECKSUM_BYTES..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads the end of a file of `present` bytes whose head is `head`.
    ///
    /// # Errors
    ///
    /// [`ColumnsFault::Damaged`], for a file that was cut short, too.
    pub(super) fn read(
        bytes: &[u8; END_BYTES],
        (head_bytes, head): (&[u8], &Head),
        present: u64,
    ) -> Result<Self, ColumnsFault> {
        let (checked, sum) = bytes.split_at(END_BYTES - CHECKSUM_BYTES);
        if checked[..4] != END_MAGIC {
            return damaged(END, "it is not there: the file was cut short, or not finished");
        }
        if checksum(checked) != number(sum) {
            return damaged(END, "its checksum differs");
        }
        if number(&checked[4..6]) != u64::from(VERSION)
            || number(&checked[6..8]) != 0
            || number(&checked[48..56]) != 0
        {
            return damaged(END, "its version is not the head's, or reserved bytes are not zero");
        }
        let at = |start: usize| number(&checked[start..start + 8]);
        let end = Self {
            index_offset: at(8),
            blocks: at(16),
            file_bytes: at(24),
            head_checksum: at(32),
            index_checksum: at(40),
        };
        let head_checksum = number(&head_bytes[head_bytes.len() - CHECKSUM_BYTES..]);
        if end.head_checksum != head_checksum {
            return damaged(END, "it is of another head");
        }
        if end.file_bytes != present {
            return damaged(END, "the file is longer or shorter than it says");
        }
        let index_bytes = end.index_bytes(head.columns.len());
        let sum = index_bytes.and_then(|bytes| bytes.checked_add(end.index_offset));
        if sum.and_then(|sum| sum.checked_add(END_BYTES as u64)) != Some(present)
            || end.index_offset < head_bytes.len() as u64
        {
            return damaged(END, "its index does not fit between the blocks and the end");
        }
        Ok(end)
    }

    /// Bytes of the index of a file of `columns` columns, if 64 bits hold them.
    pub(super) fn index_bytes(&self, columns: usize) -> Option<u64> {
        let lengths = (columns * LENGTH_BYTES) as u64;
        self.blocks.checked_mul(ENTRY_BYTES as u64)?.checked_add(lengths)
    }
}
