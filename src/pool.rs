//! Pools and their vectors, the ledger that counts them, and their errors.
//!
//! ```
//! use plimsoll::pool::Pool;
//!
//! let pool = Pool::builder().build()?;
//! drop(pool.try_zeroed::<u64>(1 << 17)?); // 1 MiB; the pool keeps its pages
//! let column = pool.try_zeroed::<u64>(1 << 17)?; // the same block, without a page fault
//! assert_eq!((column.len(), pool.stats().reused), (1 << 17, 1));
//! # Ok::<(), plimsoll::pool::Error>(())
//! ```
//!
//! Everything here comes from `plimsoll_arena`. A program that uses a [`Runtime`](crate::Runtime)
//! can name these types without a dependency on that crate. This module must never add anything of
//! its own.

pub use plimsoll_arena::os::OsError;
pub use plimsoll_arena::{
    Bump, Charge, Error, IntoIter, Ledger, LedgerStats, OverLimit, OverLimitRelease, Plain, Pool,
    PoolBuilder, PoolStats, PoolVec, Prefault, Pressure, Rewind, Secrecy, Watermark, bytes_of,
    bytes_of_mut, fill_with_zero,
};
