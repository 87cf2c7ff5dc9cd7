//! `plimsoll setup`.

use super::args::SetupArgs;
use super::failure::Failure;
use super::keys::KeyPaths;
use super::needs::on_threads;
use super::random::Random;
use super::report::print;
use plimsoll::Runtime;
use plimsoll::groth16::circuit::{DIGEST_BYTES, Sha256Chain};
use plimsoll::groth16::setup::{floor_bytes, setup};
use plimsoll::limit::{LimitSpec, format_bytes};

pub(super) fn run(args: &SetupArgs) -> Result<(), Failure> {
    let paths = KeyPaths::of(args.compressions, args.key_dir.as_deref())?;
    paths.create_folder()?;
    // Held until the end: two setups at once would leave the key of one and the matrices of the
    // other.
    let _lock = paths.lock()?;
    if args.if_missing && paths.exist() {
        return Ok(());
    }
    let mut random = Random::new(args.seed);
    // The generator never asks for the values of a circuit, only for its shape.
    let circuit = Sha256Chain::new([0; DIGEST_BYTES], args.compressions as usize);
    let floor_bytes = floor_bytes(circuit.clone())?;
    if let Some(limit) = args.limit {
        check_limit(limit, floor_bytes)?;
    }
    let made = on_threads(args.threads.map(|n| n as usize), || {
        setup(circuit, random.rng(), &paths.key, &paths.matrices)
    })??;
    random.wipe();
    let peak_bytes = Runtime::builder().build()?.meter().peak_rss_bytes();
    print(&format!(
        "key for {} compressions: {} constraints, {} variables\n  {} ({})\n  {} ({})\n\
         peak {}; --limit takes {}MiB and more\n",
        args.compressions,
        made.constraints,
        made.variables,
        paths.key.display(),
        format_bytes(made.key_bytes),
        paths.matrices.display(),
        format_bytes(made.matrix_bytes),
        format_bytes(peak_bytes.map_err(plimsoll::Error::from)?),
        floor_bytes.div_ceil(1 << 20),
    ))
}

/// Refuses a limit below what the generator takes.
fn check_limit(limit: LimitSpec, floor_bytes: u64) -> Result<(), Failure> {
    let runtime = Runtime::builder().limit(limit).build()?;
    let limit = runtime.limit_bytes().unwrap_or(u64::MAX);
    if floor_bytes <= limit {
        return Ok(());
    }
    Err(Failure::NoProof(format!(
        "making this key takes {}MiB, over the limit of {}: ark-groth16's generator holds all of \
         it at once; make the key on a larger machine and copy both files, or choose fewer \
         --compressions",
        floor_bytes.div_ceil(1 << 20),
        format_bytes(limit),
    )))
}
