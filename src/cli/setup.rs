//! `plimsoll setup`.

use super::args::SetupArgs;
use super::keys::KeyPaths;
use super::{Failure, on_threads};
use crate::groth16::circuit::{DIGEST_BYTES, Sha256Chain};
use crate::groth16::setup::setup;
use crate::limit::format_bytes;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

pub(super) fn run(args: &SetupArgs) -> Result<(), Failure> {
    let paths = KeyPaths::of(args.compressions, args.key_dir.as_deref())?;
    paths.create_folder()?;
    let mut rng = match args.seed {
        Some(seed) => ChaCha20Rng::seed_from_u64(seed),
        None => ChaCha20Rng::from_entropy(),
    };
    // The generator never asks for the values of a circuit, only for its shape.
    let circuit = Sha256Chain::new([0; DIGEST_BYTES], args.compressions as usize);
    let made = on_threads(args.threads.map(|n| n as usize), || {
        setup(circuit, &mut rng, &paths.key, &paths.matrices)
    })??;
    println!(
        "key for {} compressions: {} constraints, {} variables",
        args.compressions, made.constraints, made.variables
    );
    println!("  {} ({})", paths.key.display(), format_bytes(made.key_bytes));
    println!("  {} ({})", paths.matrices.display(), format_bytes(made.matrix_bytes));
    Ok(())
}
