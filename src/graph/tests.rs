//! Random graphs against a recount and an exhaustive search; runs, overlaps, failures.

mod model;
mod oracle;
mod prover;
mod random;
mod runs;
