//! Files that are read at offsets, and files that appear whole or not at all.
//!
//! ```text
//!   RandomFile   reads by copy, never by a mapping
//!   ReadAt       the same of a file, of memory, or of what a packed file unpacks to
//!   StagedFile   a file of another name until all of it is on the disk
//! ```
//!
//! It must never know a format.

pub(crate) mod random;
pub mod staged;
