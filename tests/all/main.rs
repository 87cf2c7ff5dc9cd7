//! Whole-system tests, through the public face: proofs and limits.

mod proofs;
mod support;
