//! Memory for provers: pools of large vectors that recycle their pages, bump arenas for a stage,
//! and a ledger that knows every byte.
//!
//! # Words
//!
//! | word | meaning | size |
//! |---|---|---|
//! | OS page | the kernel's unit; never just "page" | 4 KiB |
//! | huge page | what the kernel maps at once where asked | 2 MiB |
//! | granule | the step of the address table | 64 KiB |
//! | region | one reserved range of addresses | 64 x the machine's memory |
//! | block | what a vector lives in: one size class, never split | 32 KiB to 4 TiB |
//! | class | a size of block; eight a doubling | |
//! | touched | bytes of a block that may be resident | |
//! | dirty | bytes of a block that may be other than zero | |
//! | live, cached | touched bytes of blocks that are owned, or on a free list | |
//! | held | live + cached: what the ledger is charged | |
//! | foreign | resident bytes of the process that are not held | |
//!
//! The order of its rooms is in docs/ARCHITECTURE.md, and `tests/tidy` holds imports to it.
//!
//! # Example
//!
//! ```
//! use plimsoll_arena::Pool;
//!
//! let pool = Pool::builder().build()?;
//! let a = pool.try_zeroed::<u64>(1 << 17)?; // 1 MiB, fresh pages
//! drop(a); // stays cached
//! let b = pool.try_zeroed::<u64>(1 << 17)?; // the same block: no page fault
//! assert_eq!(pool.stats().reused, 1);
//! drop(b);
//! assert_eq!(pool.reclaim(usize::MAX), 1 << 20); // back to the kernel
//! # Ok::<(), plimsoll_arena::Error>(())
//! ```

#![cfg_attr(docsrs, feature(doc_cfg), doc(auto_cfg(hide(loom))))]
#![cfg_attr(loom, allow(dead_code, unused_imports, reason = "the allocator is not built"))]

#[cfg(feature = "allocator-api2-02")]
mod alloc_api;
mod bump;
mod error;
mod free_list;
#[cfg(not(loom))]
pub mod global;
mod ledger;
pub mod os;
mod page_source;
mod plain;
mod pool;
mod prefetch;
pub mod process;
mod region;
pub mod size;
mod stats;
#[doc(hidden)]
pub mod sync;
mod vec;
mod watermark;

pub use bump::{Bump, Rewind};
pub use error::Error;
pub use ledger::{Charge, Grant, Ledger, LedgerStats, OverLimit};
pub use os::Moved;
pub use page_source::{PageSource, Pages, PlainPages, StaticSource, half_range};
pub use plain::{Plain, bytes_of, bytes_of_mut};
pub use pool::{OverLimitRelease, Pool, PoolBuilder, Prefault, Secrecy};
pub use prefetch::prefetch;
pub use process::Pressure;
pub use stats::PoolStats;
pub use vec::{IntoIter, PoolVec, fill_with_zero};
pub use watermark::Watermark;
