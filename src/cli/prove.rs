//! `plimsoll prove`.

use super::args::ProveArgs;
use super::failure::Failure;
use super::files::{Outputs, open_witness};
use super::keys::KeyPaths;
use super::live::Live;
use super::needs::on_threads;
use super::pictures::Pictures;
use super::proved::{Proved, finish, known_limits, over_the_limit};
use super::random::Random;
use super::report::{ProofReport, print, tell};
use plimsoll::Runtime;
use plimsoll::groth16::batch::Batch;
use plimsoll::groth16::circom::json::write_proof_and_public;
use plimsoll::groth16::circom::r1cs::R1csFile;
use plimsoll::groth16::circom::wtns::WitnessFile;
use plimsoll::groth16::circuit::{DIGEST_BYTES, Sha256Chain};
use plimsoll::groth16::error::ProveError;
use plimsoll::groth16::key::KeyFile;
use plimsoll::groth16::prover::Prover;
use plimsoll::groth16::r1cs::MatrixFile;
use plimsoll::record::KnownLimits;
use rand::RngCore;
use rand_chacha::ChaCha20Rng;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;
use zeroize::Zeroizing;

pub(super) fn run(args: &ProveArgs) -> Result<(), Failure> {
    if let Some((zkey, batch)) = args.files.batch() {
        return super::batch::run(args, zkey, batch);
    }
    if args.at_once.is_some() {
        return Err(Failure::Input("--at-once is for batches; name one with --batch".to_owned()));
    }
    // What may be wrong with the command line is found before a key is made.
    let out = args.files.outputs()?;
    Pictures::check(args)?;
    let runtime = args.runtime()?;
    let key_seconds = match args.files.circom() {
        Some(_) => 0.0,
        None => KeyPaths::of(args.compressions, args.key_dir.as_deref())?.make_if_missing(
            args.compressions,
            args.threads,
            args.is_quiet(),
        )?,
    };
    let started = Instant::now();
    let mut random = Random::new(args.seed);
    let mut pictures = Pictures::start(args, &runtime)?;
    let live = Live::start(args.progress_kind(), &runtime);
    let attempt = Attempt { runtime: &runtime, live: &live, limits: OnceLock::new() };
    let proved = on_threads(args.threads.map(|n| n as usize), || match args.files.circom() {
        Some((zkey, wtns)) => {
            let r1cs = args.files.r1cs.as_deref();
            attempt.prove_circom([zkey, wtns], r1cs, random.rng())
        }
        None => attempt.prove_built_in(args, random.rng()),
    });
    random.wipe();
    let limits = attempt.limits.into_inner();
    live.finish();
    // A run that failed is the one to look at.
    pictures.stop();
    let (proved, used) = match proved.and_then(|proved| proved) {
        Ok(proved) => proved,
        Err(failure) => {
            pictures.write_or_warn(runtime.meter().peak_rss_bytes().unwrap_or(0), limits);
            return Err(failure);
        }
    };
    runtime.reclaim_all();
    if let Some(out) = &out {
        write_proof_and_public(&out.proof, &proved.proof, &out.public, &proved.public)?;
    }
    let peak_rss_bytes = runtime.meter().peak_rss_bytes().map_err(plimsoll::Error::from)?;
    pictures.write_or_warn(peak_rss_bytes, limits);
    let limit_bytes = runtime.limit_bytes().unwrap_or(u64::MAX);
    if peak_rss_bytes > limit_bytes {
        out.iter().for_each(Outputs::remove);
        return Err(over_the_limit(peak_rss_bytes, limit_bytes));
    }
    let report = ProofReport {
        verified: true,
        limit_bytes,
        limit_source: runtime.limit().map_or_else(String::new, |limit| limit.to_string()),
        peak_rss_bytes,
        in_core_limit_bytes: limits.map(|limits| limits.in_core_bytes),
        smallest_limit_bytes: limits.map(|limits| limits.smallest_bytes),
        over_limit: runtime.over_limit().0,
        key_seconds,
        wall_seconds: started.elapsed().as_secs_f64(),
        domain_size: proved.domain_size,
        stages: used.take_stages(),
        spill: used.spill_stats(),
    };
    if args.json {
        return print(&report.json()?);
    }
    let mut text = report.table() + &pictures.said();
    if let Some(out) = &out {
        text += &format!("wrote {} and {}\n", out.proof.display(), out.public.display());
    }
    print(&text)
}

/// What a proof is made with, whichever circuit it is of.
struct Attempt<'a> {
    runtime: &'a Runtime,
    live: &'a Live,
    /// The limits that would do, once the key is read.
    limits: OnceLock<KnownLimits>,
}

impl Attempt<'_> {
    /// Runs `prove` with a prover of the runtime, or of a permit where a limit is shared with other
    /// processes. Returns the runtime that it was, too.
    fn with_prover(
        &self,
        key: &KeyFile,
        matrices: Option<&MatrixFile>,
        prove: impl FnOnce(Prover<'_>) -> Result<Proved, Failure>,
    ) -> Result<(Proved, Runtime), Failure> {
        let runtime = self.runtime;
        let known = known_limits(runtime, key, matrices)?;
        self.limits.get_or_init(|| known);
        if runtime.shared_limit().is_none() {
            let proved = prove(Prover::new(runtime, key, matrices)?.progress(self.live))?;
            return Ok((proved, runtime.clone()));
        }
        let waits = || tell(format_args!("waiting for memory that other processes share"));
        Batch::new(runtime, key, matrices)?.one(waits, |job| {
            Ok((prove(job.prover()?.progress(self.live))?, job.runtime().clone()))
        })
    }

    fn prove_circom(
        &self,
        [zkey, wtns]: [&Path; 2],
        r1cs: Option<&Path>,
        rng: &mut ChaCha20Rng,
    ) -> Result<(Proved, Runtime), Failure> {
        let key = KeyFile::open_zkey(zkey)?;
        let circuit = r1cs.map(R1csFile::open).transpose()?;
        let witness = open_witness(&key, wtns, self.runtime)?;
        self.with_prover(&key, None, |prover| {
            let assignment = prover.assign_witness(&witness)?;
            key.warnings()
                .iter()
                .chain(&witness.warnings())
                .for_each(|odd| tell(format_args!("warning: {odd}")));
            // A witness that came through a pipe is in memory: it stays for as long as it may be
            // asked for.
            let suspects = circuit.map(|circuit| (circuit, witness));
            match (finish(&prover, &key, assignment, rng), suspects) {
                (Err(ProveError::NotVerified), Some((circuit, witness))) => {
                    Err(who_is_wrong(self.runtime, &circuit, &witness)?)
                }
                (proved, _) => Ok(proved?),
            }
        })
    }

    fn prove_built_in(
        &self,
        args: &ProveArgs,
        rng: &mut ChaCha20Rng,
    ) -> Result<(Proved, Runtime), Failure> {
        let paths = KeyPaths::of(args.compressions, args.key_dir.as_deref())?;
        let key = KeyFile::open_arkworks(&paths.key)?;
        let matrices = MatrixFile::open(&paths.matrices).map_err(ProveError::from)?;
        let mut secret = Zeroizing::new([0u8; DIGEST_BYTES]);
        rng.fill_bytes(&mut *secret);
        self.with_prover(&key, Some(&matrices), |prover| {
            let circuit = Sha256Chain::new(*secret, args.compressions as usize);
            let assignment = prover.assign_circuit(circuit)?;
            Ok(finish(&prover, &key, assignment, rng)?)
        })
    }
}

/// Says whether the witness or the key is at fault for a proof that does not verify.
fn who_is_wrong(
    runtime: &Runtime,
    circuit: &R1csFile,
    witness: &WitnessFile,
) -> Result<Failure, Failure> {
    let r1cs = circuit.path().display().to_string();
    Ok(match circuit.first_unsatisfied(witness, runtime)? {
        Some(row) => Failure::BrokenConstraint { row, r1cs },
        None => Failure::WrongKey { r1cs },
    })
}
