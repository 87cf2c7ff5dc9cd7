//! `plimsoll verify` and `plimsoll vkey`.

use super::failure::Failure;
use super::report::print;
use ark_bn254::Bn254;
use ark_groth16::{Groth16, VerifyingKey, prepare_verifying_key};
use clap::Args;
use plimsoll::groth16::circom::json::{read_proof, read_public};
use plimsoll::groth16::circom::vkey::{
    read_verifying_key, verifying_key_to_json, write_verifying_key,
};
use plimsoll::groth16::key::KeyFile;
use std::io::Read;
use std::path::{Path, PathBuf};

pub(super) const VERIFY_HELP: &str = "\
Exit codes: 0 the proof is valid; 1 it is not; 2 bad input.

Example:
  plimsoll verify verification_key.json public.json proof.json";

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Verifying key in JSON, as snarkjs writes it, or the circom key (.zkey) itself.
    #[arg(value_name = "VKEY|KEY")]
    key: PathBuf,

    /// Public inputs, public.json.
    #[arg(value_name = "PUBLIC")]
    public: PathBuf,

    /// Proof, proof.json.
    #[arg(value_name = "PROOF")]
    proof: PathBuf,

    /// Print one JSON object instead of a sentence.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct VkeyArgs {
    /// Key of a circom circuit.
    #[arg(value_name = "KEY")]
    key: PathBuf,

    /// File for the verifying key; standard output by default.
    #[arg(value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let key = read_key(&args.key)?;
    let (public, proof) = (read_public(&args.public)?, read_proof(&args.proof)?);
    let (found, wanted) = (public.len(), key.gamma_abc_g1.len() - 1);
    if found != wanted {
        return Err(Failure::Input(format!(
            "{}: has {found} public inputs, but the key is for {wanted}; give the files of one \
             circuit",
            args.public.display()
        )));
    }
    let verified = Groth16::<Bn254>::verify_proof(&prepare_verifying_key(&key), &proof, &public);
    // The only error is a wrong number of inputs.
    if !verified.unwrap_or(false) {
        return Err(Failure::NotValid);
    }
    print(if args.json { "{\"verified\":true}\n" } else { "the proof is valid\n" })
}

pub(super) fn run_vkey(args: &VkeyArgs) -> Result<(), Failure> {
    let key = KeyFile::open_zkey(&args.key)?;
    let Some(out) = &args.out else {
        return print(&(verifying_key_to_json(key.verifying_key()) + "\n"));
    };
    write_verifying_key(out, key.verifying_key())?;
    print(&format!("wrote {}\n", out.display()))
}

/// Reads a verifying key from JSON, or from the head of a circom key.
fn read_key(path: &Path) -> Result<VerifyingKey<Bn254>, Failure> {
    let mut first = [0];
    let starts = std::fs::File::open(path).and_then(|mut file| file.read(&mut first));
    // A file that does not open is told of by the reader.
    if starts.is_ok_and(|count| count == 1) && first == *b"z" {
        return Ok(KeyFile::open_zkey(path)?.verifying_key().clone());
    }
    Ok(read_verifying_key(path)?)
}
