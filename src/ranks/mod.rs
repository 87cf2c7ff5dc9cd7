//! One program as several ranks, each with memory of its own: what they say to each other.
//!
//! ```text
//!   Alone     one rank                          nothing is sent
//!   Threads   ranks of one process              tests, models, and machines without MPI
//!   Mpi       processes, on one machine or many feature `mpi`; the only file that names it
//! ```
//!
//! A rank keeps to the limit of its own runtime. What is shared out are vectors in tiles: of a
//! matrix each rank has some whole rows, or some whole columns, and [`ShareTurn`] makes one of the
//! other, tile by tile. The tiles that a rank has are [`Spillable`](crate::Spillable) as ever:
//! those that do not fit are packed or on its disk, on either side of a turn.
//!
//! There is no scheduler here, no retry and no fault tolerance: all ranks go on or none does
//! ([`Exchange::agree`]), and a job that failed is started again. Messages are neither sealed nor
//! compressed: who can read the network can read what is in the tiles.
//!
//! Sources: D. H. Bailey, "FFTs in external or hierarchical memory", 1990, for the passes; the MPI
//! standard, version 3.1, for what a rank may expect of a message.

mod error;
mod exchange;
#[cfg(test)]
mod exchange_model;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(test)]
mod tests;
mod threads;
mod turn;

pub use error::{ExchangeError, Refusal, RefusalKind};
pub use exchange::{
    AGREE_EVERY, Exchange, Local, MESSAGE_BYTES_MAX, TOLD_BYTES_MAX, Transposition,
};
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
pub use threads::{Alone, Threads};
pub use turn::{ShareOf, ShareTurn};
