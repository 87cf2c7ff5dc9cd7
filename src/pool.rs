//! Pools and their vectors, the ledger that counts them, and their errors.
//!
//! All of it is `plimsoll_arena`'s; a program that uses a [`Runtime`](crate::Runtime) needs no
//! dependency on that crate to name it. This room must never add anything of its own.

pub use plimsoll_arena::os::OsError;
pub use plimsoll_arena::{
    Bump, Charge, Error, IntoIter, Ledger, LedgerStats, OverLimit, OverLimitRelease, Plain, Pool,
    PoolBuilder, PoolStats, PoolVec, Prefault, Pressure, Rewind, Secrecy, Watermark, bytes_of,
    bytes_of_mut, fill_with_zero,
};
