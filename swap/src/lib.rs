//! Where cold bytes go: a store for vectors that a prover does not need at the moment, and a pager
//! for programs that know nothing of it.
//!
//! Between two uses a vector of a proof may be idle for seconds. This crate packs it in RAM, or
//! writes it to a file without a name. It is exact: the same bytes come back, to the bit, whatever
//! they are.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | lane | one element: 32 bytes of a large field, 8 or 4 of a small one |
//! | raw bytes | a vector as it is in memory |
//! | payload | the same bytes after a codec |
//! | frame | header, payload, padding: what is stored, checksummed |
//! | extent | a range of the spill file, in blocks of 4 KiB |
//! | group | 1024 lanes that share a width |
//! | exception | a lane that does not fit the width, stored verbatim |
//!
//! # Contract
//!
//! * `decode(codec, encode(spec, x)) == x` for every `x` and every `spec`: a wrong `spec` costs
//!   ratio, never a bit.
//! * No decoder panics or allocates by a size it has read, whatever the bytes are.
//! * A frame with any bit changed is [`Error::Corrupt`] on reading.
//! * No error, `Debug` or log shows data: the bytes may be a witness. Lengths do show, and packed
//!   lengths tell how large the values are.
//!
//! # Example
//!
//! ```
//! use plimsoll_swap::codec::{LaneSpec, decode, encode};
//!
//! let column: Vec<u8> = (0..4096u64).flat_map(|row| (row % 2).to_le_bytes()).collect();
//! let mut scratch = Vec::new();
//! let packed = encode(LaneSpec::U64, &column, &mut scratch);
//! assert!(packed.payload().len() * 50 < column.len());
//!
//! let mut back = vec![0; column.len()];
//! decode(packed.codec(), packed.payload(), &mut back)?;
//! assert_eq!(back, column);
//! # Ok::<(), plimsoll_swap::Error>(())
//! ```

#![deny(unsafe_code)]

pub mod backend;
mod behind;
pub mod checksum;
pub mod codec;
mod error;
pub mod extent;
pub mod file;
pub mod frame;
mod kernel_swap;
pub mod mapped;
#[allow(unsafe_code, reason = "mappings, moved pages, futexes: the pager's own rooms")]
pub mod pager;
mod scratch;
mod seal;
mod space;
pub mod store;
pub mod workers;

pub use error::Error;
