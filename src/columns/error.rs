//! What can be wrong with a packed file.
//!
//! ```text
//!   w.packed: column "values", block 3 (elements 12 to 16): its checksum differs; copy ...
//!   ^ path    ^ place                                       ^ fault               ^ remedy
//! ```
//!
//! Every text ends with what to do. Numbers of blocks and elements show; what they hold does not.

use crate::error::Error;
use crate::files::staged::{StagedError, StagedFault};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Most characters of a column's name that an error shows.
const NAME_CHARS_MAX: usize = 40;

/// An error of a packed file: which file, and what is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", .path.display())]
pub struct ColumnsError {
    path: PathBuf,
    fault: Box<ColumnsFault>,
}

impl ColumnsError {
    pub(super) fn new(path: &Path, fault: ColumnsFault) -> Self {
        Self { path: path.to_owned(), fault: Box::new(fault) }
    }

    /// Returns the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns what is wrong.
    #[must_use]
    pub fn fault(&self) -> &ColumnsFault {
        &self.fault
    }

    /// Returns what is wrong, without the file's name.
    #[must_use]
    pub fn into_fault(self) -> ColumnsFault {
        *self.fault
    }
}

/// What can be wrong with a packed file, or with what is asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ColumnsFault {
    /// The file does not open.
    #[error("cannot be opened: {0}; check the path and its permissions")]
    Open(#[source] io::Error),
    /// A read failed.
    #[error("cannot be read: {0}; check the disk, and that nothing rewrites the file")]
    Read(#[source] io::Error),
    /// A write failed.
    #[error("cannot be written: {0}; nothing was left there, choose another place")]
    Write(#[source] io::Error),
    /// The place is taken.
    #[error("{0}")]
    Staged(StagedFault),
    /// The file is of another kind.
    #[error("the file is no packed file of columns; make one with `plimsoll pack`")]
    NotColumns,
    /// The file is of a version that is not read here.
    #[error("format version {found}, but only version {read} is read; use a newer plimsoll")]
    Version {
        /// The version in the file.
        found: u16,
        /// The version that is read.
        read: u16,
    },
    /// The file is shorter than a part of it says.
    #[error(
        "the {part} ends too early: {needed} bytes are called for, {present} are there; the file \
         was cut short, copy it again"
    )]
    Truncated {
        /// The part: head, index or end.
        part: &'static str,
        /// Bytes that are called for.
        needed: u64,
        /// Bytes that there are.
        present: u64,
    },
    /// Head, index or end are damaged.
    #[error("the {part} is damaged: {why}; copy the file again, or pack it anew")]
    Damaged {
        /// The part: head, index or end.
        part: &'static str,
        /// The rule that does not hold.
        why: &'static str,
    },
    /// A block is damaged.
    #[error(
        "column {}, block {block} (elements {} to {}): {why}; copy the file again, or pack it anew",
        shown(column), elements.start, elements.end
    )]
    Block {
        /// The column's name.
        column: String,
        /// The block's number in its column, from 0.
        block: u64,
        /// The elements of the block.
        elements: Range<u64>,
        /// The rule that does not hold.
        why: &'static str,
    },
    /// The caller asked for elements that are not there.
    #[error("elements {start} to {end} asked for, there are {len}; ask for a part of them")]
    Range {
        /// The first element asked for.
        start: u64,
        /// One past the last.
        end: u64,
        /// Elements that there are.
        len: u64,
    },
    /// The caller gave bytes that are not whole elements.
    #[error("{bytes} bytes are not whole elements of {element_bytes} bytes; give whole elements")]
    Width {
        /// Bytes that the caller gave, or gave room for.
        bytes: usize,
        /// Bytes of an element.
        element_bytes: usize,
    },
    /// The caller named a column that is not there.
    #[error("column {column} asked for, there are {columns}; ask for one of them")]
    NoColumn {
        /// The number that was asked for.
        column: usize,
        /// Columns that there are.
        columns: usize,
    },
    /// Columns that a file cannot have.
    #[error("the columns cannot be kept: {why}; describe them otherwise")]
    Columns {
        /// The rule that they break.
        why: &'static str,
    },
    /// Memory is short.
    #[error(transparent)]
    Memory(#[from] Error),
}

/// The name as far as it fits a line.
fn shown(name: &str) -> impl fmt::Display {
    let short: String = name.chars().take(NAME_CHARS_MAX).collect();
    let rest = if short.len() < name.len() { "..." } else { "" };
    format!("\"{short}{rest}\"")
}

impl ColumnsFault {
    /// A read of `needed` bytes, counted from the file's start, that failed.
    #[cold]
    pub(super) fn read(error: io::Error, part: &'static str, needed: u64, present: u64) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Truncated { part, needed, present };
        }
        Self::Read(error)
    }
}

impl From<StagedError> for ColumnsError {
    fn from(error: StagedError) -> Self {
        let fault = match error.fault {
            StagedFault::Write(error) => ColumnsFault::Write(error),
            other => ColumnsFault::Staged(other),
        };
        Self::new(&error.path, fault)
    }
}
