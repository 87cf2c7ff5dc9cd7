//! Whole-system tests, through the public face: proofs, limits, the command.

mod command;
mod proofs;
mod support;
