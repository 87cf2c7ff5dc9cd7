//! Arithmetic of BN254 eight elements at a time, where the processor has AVX-512 IFMA.
//!
//! Sums of points in batches and butterflies of transforms are the same few multiplications over
//! and over, on numbers that do not depend on each other: eight of them fit in the lanes of a
//! register. A processor without these instructions has no such kernel, and [`Adder::detect`] and
//! [`Butterflies::detect`] say so; so do fields other than BN254's. The results are those of
//! `ark-ff`, bit for bit.
//!
//! Nothing here allocates, or keeps what it is given. It is not constant time.

#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, unused_variables, reason = "there are no kernels, and nobody to call them")
)]

#[cfg(target_arch = "x86_64")]
mod add;
mod adder;
mod butterflies;
#[cfg(target_arch = "x86_64")]
mod butterfly;
#[cfg(target_arch = "x86_64")]
mod digits;
mod element;
mod input;
mod prime;
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
#[cfg(target_arch = "x86_64")]
mod words;

pub use adder::Adder;
pub use butterflies::Butterflies;
pub use input::{BLOCK, Direction, Factors, GROUP, Point, Sum};
