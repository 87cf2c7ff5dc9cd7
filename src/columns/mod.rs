//! Trace files: columns of fixed-size elements, packed, checksummed, read by ranges.
//!
//! ```text
//!   Writer   columns, a few elements at a time --> blocks, packed in parallel --> a file
//!   Reader   any range of a column <-- its blocks, read and unpacked in parallel <-- the file
//!
//!   | head | block | block | block | ... | index | end |          docs/columns-format.md
//!            a frame of the spill store: header, payload; 128 KiB of elements at most
//! ```
//!
//! A witness is mostly bits in 32-byte elements, and a trace mostly small numbers in the elements
//! of a field. The codecs of the spill store pack both by their values, at gigabytes a second; the
//! rest goes through LZ4, or stays as it is. So a packed witness of SHA-256 is a two-hundredth of
//! the raw one, and reading it is faster than reading the raw one from a disk (`cargo bench --bench
//! columns`).
//!
//! ```
//! use plimsoll::columns::{Column, Reader, Writer};
//! use plimsoll::{Runtime, Secrecy};
//! use std::path::Path;
//!
//! let runtime = Runtime::builder().own_limit().limit_bytes(64 << 20).build()?;
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("trace.packed");
//! let columns = vec![Column::integers("clock", 8)?, Column::integers("is_real", 1)?];
//! let mut writer = Writer::create(&path, 0o600, columns, &runtime, Secrecy::Secret)?;
//! for batch in 0..4u64 {
//!     let clock = batch * 1000..(batch + 1) * 1000;
//!     let clock: Vec<u8> = clock.flat_map(u64::to_le_bytes).collect();
//!     writer.write(0, &clock)?;
//!     writer.write(1, &[1; 1000])?;
//! }
//! writer.finish()?.commit()?; // until here there is no file of that name
//!
//! let reader = Reader::open(&path, &runtime, Secrecy::Secret)?;
//! let mut clock = [0; 16];
//! reader.read(0, 2998, &mut clock)?; // two elements, from a block of 1000
//! assert_eq!(clock[8..], 2999u64.to_le_bytes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Invariants:
//!
//! * what was written comes back, to the bit, whatever it is and whatever its lanes were said to
//!   be;
//! * holding a [`Reader`] proves that head, index and end were whole; a block is checked when it is
//!   read, and an error names it;
//! * memory is asked of the runtime's pools: of a reader that is 32 bytes for each block, and two
//!   blocks for each thread that reads (two in all, where no more fit under the limit); of a writer
//!   48 bytes for each block, and 16 blocks. Nothing is sized by a number that was read before that
//!   was compared with the file's length, or with a bound of the format.
//!
//! It must never show what a file holds in an error: it may be a witness.

mod column;
mod error;
mod format;
mod index;
#[cfg(feature = "groth16")]
pub(crate) mod joined;
mod reader;
mod scratch;
#[cfg(all(test, not(miri)))]
mod tests;
mod writer;

pub use self::column::{BLOCK_BYTES_MAX, Column};
pub use self::error::{ColumnsError, ColumnsFault};
pub use self::format::{BLOCK_BYTES, COLUMNS_MAX, MAGIC, VERSION};
pub use self::reader::Reader;
pub use self::writer::Writer;
pub use plimsoll_swap::codec::{LaneSpec, field};
