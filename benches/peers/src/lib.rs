//! Provers of others, from crates.io and unmodified, each under one allocator after the other.
//!
//! ```text
//!   peers (driver) --- spawns ---> glibc | jemalloc | mimalloc | zk_alloc | plimsoll
//!        |                            |  PROVER LOG_SIZE PROOFS FOLDER
//!        |                            |  one proof after the other, in one process
//!        |<-- seconds= peak_bytes= ---+  hash= faults= ...
//!        +--- runs take turns; medians; limits; the kernel's swap beside ours
//! ```
//!
//! One binary an allocator, because a program has one. What they prove is the same to the bit, so
//! hash(glibc) = hash(any other) for the provers that are deterministic; spartan draws its blinders
//! from the operating system, and its proofs are verified instead.
//!
//! Must never: print a figure of a proof that was not verified, or change a prover.

pub mod anatomy;
pub mod disk;
pub mod provers;
pub mod run;
