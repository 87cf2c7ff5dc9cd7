//! `plimsoll shard` and `plimsoll join`: the sums of a proof in parts, for any queue.

use super::counts::threads;
use super::failure::Failure;
use super::files::{Outputs, open_witness};
use super::needs::{make_folder, on_threads};
use super::random::Random;
use super::report::print;
use super::spill::{SpillArgs, auto_unless_set};
use ark_bn254::Fr;
use ark_ff::UniformRand;
use clap::Args;
use plimsoll::files::staged::StagedFile;
use plimsoll::groth16::circom::json::write_proof_and_public;
use plimsoll::groth16::error::ProveError;
use plimsoll::groth16::key::{KeyFile, Query};
use plimsoll::groth16::prover::{Prover, fingerprint};
use plimsoll::groth16::shard::{Shard, query_named};
use plimsoll::limit::LimitSpec;
use plimsoll::tiles::Share;
use std::io::Write;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// A shard tells about the witness: it is its owner's.
const MODE: u32 = 0o600;

pub(super) const SHARD_HELP: &str = "\
A shard that is there already, of the same key and part, is not made again.

Example: sixteen jobs for each of A, B1, B2, L and one for H, then the proof:
  plimsoll shard --zkey c.zkey --wtns w.wtns --query A --part 3/16 --out a-3.json
  plimsoll shard --zkey c.zkey --wtns w.wtns --query H --part 1/1 --out h.json
  plimsoll join --zkey c.zkey --wtns w.wtns --out . a-*.json b1-*.json b2-*.json l-*.json h.json";

#[derive(Debug, Args)]
pub(super) struct ShardArgs {
    /// Key of a circom circuit.
    #[arg(long, value_name = "FILE")]
    zkey: PathBuf,

    /// Witness of the circuit.
    #[arg(long, value_name = "FILE")]
    wtns: PathBuf,

    /// The sum: A, B1, B2, L or H. Each shard of H makes the whole quotient first: cut it into few.
    #[arg(long, value_name = "QUERY", value_parser = query)]
    query: Query,

    /// Which part of how many: 3/16 is the third of sixteen.
    #[arg(long, value_name = "PART/PARTS", value_parser = part)]
    part: Share,

    /// File for the shard; it is for its owner only.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// Memory limit, as of `plimsoll prove`.
    #[arg(long, value_name = "SIZE")]
    limit: Option<LimitSpec>,

    /// Threads; as many as there are cores by default.
    #[arg(long, value_name = "N", value_parser = threads())]
    threads: Option<u64>,

    #[command(flatten)]
    spill: SpillArgs,
}

#[derive(Debug, Args)]
pub(super) struct JoinArgs {
    /// Key of a circom circuit.
    #[arg(long, value_name = "FILE")]
    zkey: PathBuf,

    /// Witness of the circuit, for its public inputs.
    #[arg(long, value_name = "FILE")]
    wtns: PathBuf,

    /// Folder for proof.json and public.json.
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,

    /// Seed for the proof's randomness. For tests: whoever knows it can learn the witness.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// The shards: each part of each of the five queries once.
    #[arg(value_name = "SHARD", required = true)]
    shards: Vec<PathBuf>,
}

fn query(text: &str) -> Result<Query, String> {
    query_named(text).ok_or_else(|| "write A, B1, B2, L or H".to_owned())
}

fn part(text: &str) -> Result<Share, String> {
    let wrong = || "write a part and a number of parts, as in 3/16".to_owned();
    let (part, parts) = text.split_once('/').ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<usize>().map_err(|_| wrong());
    let (part, parts) = (number(part)?, number(parts)?);
    part.checked_sub(1).and_then(|part| Share::new(part, parts)).ok_or_else(wrong)
}

/// Makes a shard, unless it is there.
pub(super) fn run(args: &ShardArgs) -> Result<(), Failure> {
    let key = KeyFile::open_zkey(&args.zkey)?;
    let shown = args.out.display();
    if let Ok(text) = std::fs::read_to_string(&args.out)
        && Shard::from_json(&text).is_ok_and(|s| s.is_of(args.query, args.part, fingerprint(&key)))
    {
        return print(&format!("{shown} is there already\n"));
    }
    let runtime = args.spill.runtime(args.limit.or_else(auto_unless_set), None, 0)?;
    let made = on_threads(args.threads.map(|n| n as usize), || {
        let witness = open_witness(&key, &args.wtns, &runtime)?;
        let prover = Prover::new(&runtime, &key, None)?;
        let assignment = prover.assign_witness(&witness)?;
        Ok::<Shard, Failure>(prover.shard(&assignment, args.query, args.part)?)
    })??;
    let text = made.to_json();
    let staged = StagedFile::write(&args.out, MODE, |out| out.write_all(text.as_bytes()));
    let cannot = |why: String| Failure::Input(format!("{shown}: cannot be written: {why}"));
    let staged = staged.map_err(|why| cannot(why.to_string()))?;
    staged.commit().map_err(|why| cannot(why.to_string()))?;
    print(&format!("wrote {shown}\n"))
}

/// Makes the proof of its shards.
pub(super) fn run_join(args: &JoinArgs) -> Result<(), Failure> {
    let key = KeyFile::open_zkey(&args.zkey)?;
    let read = |path: &PathBuf| {
        let named = |why: String| Failure::Input(format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|why| named(why.to_string()))?;
        Shard::from_json(&text).map_err(|why| named(why.to_string()))
    };
    let shards = args.shards.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    make_folder(&args.out, "--out")?;
    let out = Outputs::in_folder(&args.out)?;
    let runtime = plimsoll::Runtime::builder().build()?;
    let witness = open_witness(&key, &args.wtns, &runtime)?;
    let mut first = Zeroizing::new(vec![Fr::default(); key.public_inputs() + 1]);
    witness.check_is_of(&key).and_then(|()| witness.read(0, &mut first))?;
    let mut random = Random::new(args.seed);
    let r = Zeroizing::new(Fr::rand(random.rng()));
    let s = Zeroizing::new(Fr::rand(random.rng()));
    random.wipe();
    let prover = Prover::new(&runtime, &key, None)?;
    let proof = prover.join(&shards, &first[1..], *r, *s).map_err(|why| match why {
        ProveError::NotVerified => Failure::NotValid,
        other => other.into(),
    })?;
    let [proof_path, public_path] = out.paths();
    write_proof_and_public(proof_path, &proof, public_path, &first[1..])?;
    print(&format!("wrote {} and {}\n", proof_path.display(), public_path.display()))
}
