//! A memory runtime for large zero-knowledge proofs: a byte budget that is kept.
//!
//! * **The allocator** ([`Allocator`], [`alloc`]) goes under any program with one line: large
//!   blocks keep their pages, and leave memory when the limit asks for it.
//! * **Pools** ([`Pool`], [`PoolVec`]) reuse the memory of field vectors without a page fault.
//! * **A soft limit** ([`Runtime`], [`limit`]) covers everything that the process uses. Memory is
//!   freed only when the limit asks for it, the cheapest first ([`reclaim`]).
//! * **Reclaim points** ([`Runtime::stage`], [`Runtime::reclaim_point`]) before heavy stages are
//!   synchronous and deterministic.
//! * **Permits** ([`Runtime::permit`], [`permit`]) let as many jobs run at once as the limit
//!   allows.
//! * **Spillable vectors** ([`Spillable`], [`spill`], [`tiles`]) are packed or on disk between two
//!   uses.
//! * **Kernels** work inside a budget that is known beforehand: [`ntt`], [`msm`], and a Groth16
//!   prover built on them ([`groth16`]).
//! * **Graphs of stages** ([`graph`]) run in an order that is known to fit, and overlap what waits
//!   for the disk with what needs the cores.
//! * **Ranks** ([`ranks`]) share one proof out to several processes or machines.
//! * **Trace files** ([`columns`]): witnesses and traces, packed, checksummed, read by ranges.
//! * **Pictures and gates**: a page about a run ([`record`], [`layer`]), and tests of memory peaks
//!   ([`peak_below!`], [`testing`]).
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
//! Most programs need only these. The other modules show what is inside: [`meter`] reads the
//! kernel's numbers, [`stage`] and [`vectors`] are what [`Runtime`] hands out, [`report`],
//! [`timeline`] and [`metrics`] show a recording, and [`doctor`] judges a machine.
//!
//! | feature | what it adds |
//! |---|---|
//! | `ark` (default) | types and kernels of arkworks |
//! | `columns` | packed files of columns |
//! | `groth16` | the prover |
//! | `mpi` | ranks that are processes of MPI; needs an MPI library to build |
//! | `serde` | serialization of reports |
//! | `record` | timelines and pictures of a run |
//! | `layer` | the same for programs that use `tracing` |
//! | `metrics` | gauges for exporters |
//! | `mimalloc`, `jemalloc` | the global allocator over one of these |
//!
//! Features only add; none changes what another does. The `plimsoll` command is a package of its
//! own, `plimsoll-cli`.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod alloc;
#[cfg(feature = "columns")]
pub mod columns;
pub mod doctor;
pub mod error;
#[cfg(feature = "columns")]
#[doc(hidden)]
pub mod files;
pub mod graph;
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
pub mod permit;
pub mod pool;
#[cfg(feature = "groth16")]
pub mod ranks;
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

#[doc(inline)]
pub use alloc::{Allocator, cold, will_need};
#[doc(inline)]
pub use error::Error;
#[doc(inline)]
pub use plimsoll_arena::{Bump, Plain, Pool, PoolVec, Secrecy};
#[doc(inline)]
pub use runtime::Runtime;
#[doc(inline)]
pub use spill::Spillable;

/// The README's program is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// So is what this page shows.
#[cfg(doctest)]
#[doc = include_str!("../docs/permits.md")]
struct PermitsPage;
