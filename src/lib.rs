//! A memory runtime for large zero-knowledge proofs: a byte budget that is kept.
//!
//! * **Pools** recycle field vectors without a page fault ([`Pool`], [`PoolVec`]).
//! * **A soft limit** over everything the process uses ([`Runtime`], [`limit`]): memory is given
//!   back only when the limit asks for it, cheapest first ([`reclaim`]).
//! * **Reclaim points** before heavy stages are synchronous and deterministic
//!   ([`Runtime::reclaim_point`], [`Runtime::stage`]).
//! * **Kernels** that run inside a budget known beforehand: [`ntt`], [`msm`], and a Groth16 prover
//!   built on them ([`groth16`]).
//!
//! ```
//! use plimsoll::Runtime;
//!
//! let runtime = Runtime::builder().limit_bytes(512 << 20).build()?;
//! let pool = runtime.pool();
//! for _proof in 0..3 {
//!     let _stage = runtime.stage("commit", 32 << 20)?;
//!     let column = pool.try_zeroed::<u64>(4 << 20)?; // 32 MiB; faulted in once, then reused
//!     assert_eq!(column.len(), 4 << 20);
//! }
//! assert_eq!(pool.stats().reused, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Features: `ark` (types and kernels of arkworks; default), `groth16` (the prover), `serde` (for
//! reports), `record` (timelines and pictures of a run), `layer` (the same for programs that use
//! `tracing`), `metrics` (gauges for exporters), `mimalloc` and `jemalloc` (the global allocator
//! over them). They only add; none changes what another does. The `plimsoll` command is a package
//! of its own, `plimsoll-cli`.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod alloc;
pub mod doctor;
pub mod error;
#[cfg(feature = "groth16")]
pub mod groth16;
#[cfg(feature = "layer")]
pub mod layer;
pub mod limit;
pub mod meter;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "ark")]
pub mod msm;
#[cfg(feature = "ark")]
pub mod ntt;
pub mod pool;
pub mod reclaim;
#[cfg(feature = "record")]
pub mod record;
#[cfg(feature = "record")]
pub mod report;
pub mod runtime;
pub mod spill;
pub mod stage;
pub mod testing;
pub mod tiles;
#[cfg(feature = "record")]
pub mod timeline;
pub mod vectors;

pub use alloc::{Allocator, cold, will_need};
pub use error::Error;
pub use plimsoll_arena::{Bump, Plain, Pool, PoolVec, Secrecy};
pub use runtime::Runtime;
pub use spill::Spillable;

/// The README's program is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
