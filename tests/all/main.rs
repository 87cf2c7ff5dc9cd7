//! Whole-system tests, through the public face: proofs and limits.

mod batches;
mod children;
mod permit_cost;
mod proofs;
mod shared_limits;
