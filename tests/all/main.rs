//! Whole-system tests, through the public face: proofs and limits.

mod batches;
mod proofs;
mod shared_limits;
