//! `plimsoll prove`.

use super::args::ProveArgs;
use super::failure::Failure;
use super::files::{Outputs, open_witness};
use super::keys::KeyPaths;
use super::live::{Live, ProgressKind};
use super::needs::on_threads;
use super::pictures::Pictures;
use super::proved::{Proved, finish, known_limits, over_the_limit};
use super::random::Random;
use super::ranks::RankOf;
use super::report::{ProofReport, RankRow, print, tell};
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
        RankOf::refuse("a batch")?;
        return super::batch::run(args, zkey, batch);
    }
    if args.at_once.is_some() {
        return Err(Failure::Input("--at-once is for batches; name one with --batch".to_owned()));
    }
    if args.shared_limit.is_some() {
        RankOf::refuse("a proof with --shared-limit")?;
    }
    let mut rank = RankOf::join()?;
    let Err(failure) = run_rank(args, &mut rank) else { return Ok(()) };
    if rank.count() == 1 {
        return Err(failure);
    }
    // Before this rank ends: the launcher ends the others when the first has ended.
    if rank.is_first() || !failure.is_of_all() {
        tell(format_args!("error: {failure}"));
        if args.json && rank.is_first() {
            let _ = print(&failure.json());
        }
    }
    let exit = failure.exit_code();
    drop(rank);
    Err(Failure::Told { exit })
}

/// What is there before a proof begins.
struct Begun {
    out: Option<Outputs>,
    runtime: Runtime,
    key_seconds: f64,
}

/// Finds what may be wrong with the command line before a key is made; rank 0 makes it.
fn begin(args: &ProveArgs, rank: &mut RankOf) -> Result<Begun, Failure> {
    let out = rank.is_first().then(|| args.files.outputs()).transpose()?.flatten();
    Pictures::check(args)?;
    let runtime = args.runtime(rank)?;
    let key_seconds = match args.files.circom() {
        Some(_) => 0.0,
        None if !rank.is_first() => 0.0,
        None => KeyPaths::of(args.compressions, args.key_dir.as_deref())?.make_if_missing(
            args.compressions,
            args.threads,
            args.is_quiet(),
        )?,
    };
    Ok(Begun { out, runtime, key_seconds })
}

fn run_rank(args: &ProveArgs, rank: &mut RankOf) -> Result<(), Failure> {
    let begun = begin(args, rank);
    let Begun { out, runtime, key_seconds } = rank.all(begun)?;
    let started = Instant::now();
    let mut random = Random::new(args.seed);
    let mut pictures = Pictures::start(args, &runtime)?;
    let progress = if rank.is_first() { args.progress_kind() } else { Some(ProgressKind::None) };
    let live = Live::start(progress, &runtime);
    let attempt = Attempt { runtime: &runtime, live: &live, limits: OnceLock::new() };
    let threads = args.threads.map(|n| n as usize);
    let proved = on_threads(threads, || attempt.prove(rank, args, random.rng()));
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
    let written = out.as_ref().map_or(Ok(()), |out| {
        write_proof_and_public(&out.proof, &proved.proof, &out.public, &proved.public)
    });
    rank.all(written.map_err(Failure::from))?;
    let peak_rss_bytes = runtime.meter().peak_rss_bytes().map_err(plimsoll::Error::from)?;
    pictures.write_or_warn(peak_rss_bytes, limits);
    let limit_bytes = runtime.limit_bytes().unwrap_or(u64::MAX);
    let kept = match peak_rss_bytes > limit_bytes {
        true => Err(over_the_limit(peak_rss_bytes, limit_bytes)),
        false => Ok(()),
    };
    if let Err(failure) = rank.all(kept) {
        out.iter().for_each(Outputs::remove);
        return Err(failure);
    }
    let Some(ranks) = rank_rows(rank, [limit_bytes, peak_rss_bytes, proved.sent_bytes])? else {
        return Ok(());
    };
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
        ranks,
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

/// Brings what each rank took to rank 0; none of a proof by one.
fn rank_rows(rank: &mut RankOf, mine: [u64; 3]) -> Result<Option<Vec<RankRow>>, Failure> {
    if rank.count() == 1 {
        return Ok(Some(Vec::new()));
    }
    let bytes = mine.map(u64::to_le_bytes).concat();
    let row = |(rank, bytes): (usize, Vec<u8>)| {
        let mut numbers = bytes.as_chunks().0.iter().map(|number| u64::from_le_bytes(*number));
        let mut next = || numbers.next().unwrap_or(0);
        RankRow { rank, limit_bytes: next(), peak_rss_bytes: next(), sent_bytes: next() }
    };
    Ok(rank.gather(&bytes)?.map(|all| all.into_iter().enumerate().map(row).collect()))
}

/// What a proof is made with, whichever circuit it is of.
struct Attempt<'a> {
    runtime: &'a Runtime,
    live: &'a Live,
    /// The limits that would do, once the key is read.
    limits: OnceLock<KnownLimits>,
}

impl Attempt<'_> {
    fn prove(
        &self,
        rank: &mut RankOf,
        args: &ProveArgs,
        rng: &mut ChaCha20Rng,
    ) -> Result<(Proved, Runtime), Failure> {
        match args.files.circom() {
            Some(files) => self.prove_circom(rank, files.into(), args.files.r1cs.as_deref(), rng),
            None => self.prove_built_in(rank, args, rng),
        }
    }

    /// Runs `prove` with a prover of the runtime, or of a permit where a limit is shared with other
    /// processes. Returns the runtime that it was, too.
    fn with_prover(
        &self,
        rank: &mut RankOf,
        key: &KeyFile,
        matrices: Option<&MatrixFile>,
        prove: impl FnOnce(Prover<'_>) -> Result<Proved, Failure>,
    ) -> Result<(Proved, Runtime), Failure> {
        let runtime = self.runtime;
        if rank.count() == 1 {
            let known = known_limits(runtime, key, matrices)?;
            self.limits.get_or_init(|| known);
        }
        if runtime.shared_limit().is_none() {
            let prover = Prover::over(runtime, key, matrices, rank.exchange())?;
            let proved = prove(prover.progress(self.live))?;
            return Ok((proved, runtime.clone()));
        }
        let waits = || tell(format_args!("waiting for memory that other processes share"));
        Batch::new(runtime, key, matrices)?.one(waits, |job| {
            Ok((prove(job.prover()?.progress(self.live))?, job.runtime().clone()))
        })
    }

    fn prove_circom(
        &self,
        rank: &mut RankOf,
        [zkey, wtns]: [&Path; 2],
        r1cs: Option<&Path>,
        rng: &mut ChaCha20Rng,
    ) -> Result<(Proved, Runtime), Failure> {
        let open = || {
            let key = KeyFile::open_zkey(zkey)?;
            let circuit = r1cs.map(R1csFile::open).transpose()?;
            let witness = open_witness(&key, wtns, self.runtime)?;
            Ok((key, circuit, witness))
        };
        let opened = open();
        let (key, circuit, witness) = rank.all(opened)?;
        self.with_prover(rank, &key, None, |prover| {
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
        rank: &mut RankOf,
        args: &ProveArgs,
        rng: &mut ChaCha20Rng,
    ) -> Result<(Proved, Runtime), Failure> {
        let open = || {
            let paths = KeyPaths::of(args.compressions, args.key_dir.as_deref())?;
            let key = KeyFile::open_arkworks(&paths.key)?;
            Ok((key, MatrixFile::open(&paths.matrices).map_err(ProveError::from)?))
        };
        let (key, matrices) = rank.all(open())?;
        // All ranks prove the same: rank 0 draws.
        let mut drawn = Zeroizing::new(vec![0u8; DIGEST_BYTES]);
        rng.fill_bytes(&mut drawn);
        rank.broadcast(&mut drawn)?;
        let mut secret = Zeroizing::new([0u8; DIGEST_BYTES]);
        secret.iter_mut().zip(drawn.iter()).for_each(|(to, from)| *to = *from);
        self.with_prover(rank, &key, Some(&matrices), |prover| {
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
