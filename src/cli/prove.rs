//! `plimsoll prove`.

use super::args::ProveArgs;
use super::failure::Failure;
use super::keys::{KeyPaths, make_in_child};
use super::live::Live;
use super::needs::{check_writable, on_threads};
use super::pictures::Pictures;
use super::random::Random;
use super::report::{ProofReport, print};
use super::spill::auto_unless_set;
use ark_bn254::{Bn254, Fr};
use ark_ff::UniformRand;
use ark_groth16::Proof;
use plimsoll::Runtime;
use plimsoll::groth16::assignment::Assignment;
use plimsoll::groth16::circom::json::write_proof_and_public;
use plimsoll::groth16::circom::wtns::WitnessFile;
use plimsoll::groth16::circuit::{DIGEST_BYTES, Sha256Chain};
use plimsoll::groth16::error::ProveError;
use plimsoll::groth16::key::KeyFile;
use plimsoll::groth16::prover::Prover;
use plimsoll::groth16::r1cs::MatrixFile;
use plimsoll::limit::format_bytes;
use rand::RngCore;
use rand_chacha::ChaCha20Rng;
use std::path::{Path, PathBuf};
use std::time::Instant;
use zeroize::Zeroizing;

/// A proof, its public inputs, and the size of its domain.
struct Proved {
    proof: Proof<Bn254>,
    public: Vec<Fr>,
    domain_size: usize,
}

pub(super) fn run(args: &ProveArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let out = output_paths(args)?;
    let runtime = args.spill.runtime(args.limit.or_else(auto_unless_set))?;
    let mut random = Random::new(args.seed);
    let mut pictures = Pictures::start(args, &runtime)?;
    let live = Live::start(args, &runtime);
    let proved = on_threads(args.threads.map(|n| n as usize), || match (&args.zkey, &args.wtns) {
        (Some(zkey), Some(wtns)) => prove_circom(&runtime, zkey, wtns, random.rng(), &live),
        _ => prove_built_in(&runtime, args, random.rng(), &live),
    });
    random.wipe();
    live.finish();
    // A run that failed is the one to look at.
    pictures.stop();
    let proved = match proved.and_then(|proved| proved) {
        Ok(proved) => proved,
        Err(failure) => {
            pictures.write_or_warn(runtime.meter().peak_rss_bytes().unwrap_or(0));
            return Err(failure);
        }
    };
    runtime.reclaim_all();
    if let Some((proof_path, public_path)) = &out {
        write_proof_and_public(proof_path, &proved.proof, public_path, &proved.public)?;
    }
    let peak_rss_bytes = runtime.meter().peak_rss_bytes().map_err(plimsoll::Error::from)?;
    pictures.write_or_warn(peak_rss_bytes);
    let limit_bytes = runtime.limit_bytes().unwrap_or(u64::MAX);
    if peak_rss_bytes > limit_bytes {
        for path in out.iter().flat_map(|(proof, public)| [proof, public]) {
            let _ = std::fs::remove_file(path);
        }
        return Err(Failure::NoProof(format!(
            "a proof was made, but the process took {} at its peak, over the limit of {}; please \
             report it with the output of `plimsoll plan`, and raise the limit meanwhile",
            format_bytes(peak_rss_bytes),
            format_bytes(limit_bytes),
        )));
    }
    let report = ProofReport {
        verified: true,
        limit_bytes,
        limit_source: runtime.limit().map_or_else(String::new, |limit| limit.to_string()),
        peak_rss_bytes,
        over_limit: runtime.over_limit().0,
        wall_seconds: started.elapsed().as_secs_f64(),
        domain_size: proved.domain_size,
        stages: runtime.take_stages(),
        spill: runtime.spill_stats(),
    };
    if args.json {
        return print(&report.json()?);
    }
    let mut text = report.table() + &pictures.said();
    if let Some((proof_path, public_path)) = &out {
        text += &format!("wrote {} and {}\n", proof_path.display(), public_path.display());
    }
    print(&text)
}

/// Names the output files and checks that their folder can be written, before any work is done.
fn output_paths(args: &ProveArgs) -> Result<Option<(PathBuf, PathBuf)>, Failure> {
    let folder = match (&args.out, &args.zkey) {
        (Some(folder), _) => folder.clone(),
        (None, Some(_)) => PathBuf::from("."),
        (None, None) => return Ok(None),
    };
    check_writable(&folder, "--out")?;
    Ok(Some((folder.join("proof.json"), folder.join("public.json"))))
}

fn prove_circom(
    runtime: &Runtime,
    zkey: &Path,
    wtns: &Path,
    rng: &mut ChaCha20Rng,
    live: &Live,
) -> Result<Proved, Failure> {
    let key = KeyFile::open_zkey(zkey)?;
    let witness = WitnessFile::open(wtns)?;
    let prover = Prover::new(runtime, &key, None)?.progress(live);
    let assignment = prover.assign_witness(&witness)?;
    Ok(finish(&prover, &key, assignment, rng)?)
}

fn prove_built_in(
    runtime: &Runtime,
    args: &ProveArgs,
    rng: &mut ChaCha20Rng,
    live: &Live,
) -> Result<Proved, Failure> {
    let paths = KeyPaths::of(args.compressions, args.key_dir.as_deref())?;
    if !paths.exist() {
        paths.create_folder()?;
        eprintln!("making the key for {} compressions (once)", args.compressions);
        make_in_child(args.compressions, args.key_dir.as_deref(), args.threads)?;
    }
    let key = KeyFile::open_arkworks(&paths.key)?;
    let matrices = MatrixFile::open(&paths.matrices).map_err(ProveError::from)?;
    let mut secret = Zeroizing::new([0u8; DIGEST_BYTES]);
    rng.fill_bytes(&mut *secret);
    let circuit = Sha256Chain::new(*secret, args.compressions as usize);
    let prover = Prover::new(runtime, &key, Some(&matrices))?.progress(live);
    let assignment = prover.assign_circuit(circuit)?;
    Ok(finish(&prover, &key, assignment, rng)?)
}

fn finish(
    prover: &Prover<'_>,
    key: &KeyFile,
    assignment: Assignment,
    rng: &mut ChaCha20Rng,
) -> Result<Proved, ProveError> {
    let public = assignment.first(key.public_inputs() + 1)?.split_off(1);
    let (r, s) = (Zeroizing::new(Fr::rand(rng)), Zeroizing::new(Fr::rand(rng)));
    let proof = prover.prove(assignment, *r, *s)?;
    Ok(Proved { proof, public, domain_size: key.domain_size() })
}
