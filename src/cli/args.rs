//! Arguments, and what `--help` says of them.

use super::check::{self, CheckArgs};
use super::compare::{self, CompareArgs};
use super::counts::{compressions, constraints, threads};
use super::doctor::DoctorArgs;
use super::failure::Failure;
use super::files::ProofFiles;
use super::live::ProgressKind;
use super::pack::{self, PackArgs, UnpackArgs};
use super::ranks::RankOf;
use super::shard::{JoinArgs, ShardArgs};
use super::spill::{SpillArgs, auto_unless_set};
use super::trace::{self, TraceArgs};
use super::verify::{VerifyArgs, VkeyArgs};
use super::zram::ZramArgs;
use clap::{Args, Parser, Subcommand};
use plimsoll::Runtime;
use plimsoll::limit::{LimitSpec, parse_bytes};
use plimsoll::permit::SharedLimit;
use std::path::PathBuf;

/// Makes large zero-knowledge proofs inside a memory limit.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, about, max_term_width = 100)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make and verify a Groth16 proof inside a memory limit.
    ///
    /// Without files it proves a built-in circuit: a chain of SHA-256 compressions, over BN254. Its
    /// key is made at the first run and kept in the cache folder.
    #[command(after_help = PROVE_HELP)]
    Prove(Box<ProveArgs>),
    /// Check a proof against a verifying key, as `snarkjs groth16 verify` does.
    #[command(after_help = super::verify::VERIFY_HELP)]
    Verify(VerifyArgs),
    /// Take the verifying key out of a circom key, as `snarkjs zkey export verificationkey` does.
    Vkey(VkeyArgs),
    /// Make one part of one of a proof's five sums, for a queue of jobs.
    #[command(after_help = super::shard::SHARD_HELP)]
    Shard(ShardArgs),
    /// Make a proof of the shards of all its sums.
    Join(JoinArgs),
    /// Make the key of the built-in circuit.
    Setup(SetupArgs),
    /// Say what memory a proof will need, stage by stage, and the smallest limit that will do.
    Plan(PlanArgs),
    /// Pack a witness or a trace: the same bytes in a fraction of the space, checksummed.
    #[command(after_help = pack::PACK_HELP)]
    Pack(PackArgs),
    /// Unpack what `plimsoll pack` made.
    #[command(after_help = pack::UNPACK_HELP)]
    Unpack(UnpackArgs),
    /// Say what is wrong with this machine for a prover, and the command that mends it.
    #[command(after_help = DOCTOR_HELP)]
    Doctor(DoctorArgs),
    /// Run a command a few times, and fail if its memory peak rose above a baseline.
    #[command(after_help = check::HELP)]
    Check(CheckArgs),
    /// Show a recorded run, or compare two: time and memory, stage by stage.
    #[command(after_help = compare::HELP)]
    Report(CompareArgs),
    /// Say what policies of eviction would read and write for a recorded run of a paged program.
    #[command(after_help = trace::HELP)]
    Trace(TraceArgs),
    /// Set up, watch and take away compressed swap in RAM: plan, up, status, down, selftest.
    ///
    /// The words go to a shell script; `plimsoll zram --help` says which it takes.
    #[command(disable_help_flag = true)]
    Zram(ZramArgs),
}

impl Command {
    /// Says whether a failure is to be told as JSON, too.
    pub(super) fn wants_json(&self) -> bool {
        match self {
            Command::Prove(args) => args.json,
            Command::Plan(args) => args.json,
            Command::Verify(args) => args.json,
            Command::Pack(args) => args.files.json,
            Command::Unpack(args) => args.files.json,
            Command::Trace(args) => args.json,
            _ => false,
        }
    }
}

const DOCTOR_HELP: &str = "\
Exit codes: 0 all is well; 1 something to look at; 2 something does not work, or bad arguments.";

const PROVE_HELP: &str = "\
Exit codes: 0 proof made and verified; 1 over the limit, or the witness is no solution; 2 bad input.

Examples:
  plimsoll prove
  plimsoll prove --limit 512MiB --json
  plimsoll prove --compressions 32 --limit 64MiB --spill-dir /nvme
  plimsoll prove --limit 64MiB --report run.html --timeline run.json
  plimsoll prove --zkey circuit.zkey --wtns witness.wtns --limit 75% --out .
  plimsoll prove circuit.zkey witness.wtns proof.json public.json
  plimsoll prove --zkey circuit.zkey --batch proofs.txt --limit 4GiB
  generate-witness input.json | plimsoll prove --zkey circuit.zkey --wtns -
  mpirun -n 4 plimsoll prove --zkey circuit.zkey --wtns witness.wtns --limit 8GiB";

#[derive(Debug, Args)]
pub(super) struct ProveArgs {
    /// SHA-256 compressions of the built-in circuit, about 26 thousand constraints each.
    #[arg(long, default_value_t = 8, value_parser = compressions())]
    pub(super) compressions: u64,

    #[command(flatten)]
    pub(super) files: ProofFiles,

    /// Memory limit of the whole process: 12GiB, 8Gi, 800MB, 75% (of the machine or its cgroup),
    /// auto (what these allow), none. Default: $PLIMSOLL_LIMIT, or auto. Of several ranks each has
    /// it; those on one machine share a percentage, and auto.
    #[arg(long, value_name = "SIZE")]
    pub(super) limit: Option<LimitSpec>,

    /// Wait until memory is free behind other `plimsoll prove` of this user that share SIZE by this
    /// NAME. One that is killed gives its part back at once. Without --limit, SIZE is this
    /// process's limit, too.
    #[arg(long, value_name = "NAME=SIZE", value_parser = named_size)]
    pub(super) shared_limit: Option<(String, u64)>,

    /// Threads; as many as there are cores by default.
    #[arg(long, value_name = "N", value_parser = threads())]
    pub(super) threads: Option<u64>,

    /// Proofs of a batch at a time, at most; as many as there are threads by default, and never
    /// more than four for each thread. The limit decides how many of these fit.
    #[arg(long, value_name = "N", value_parser = threads(), requires = "batch")]
    pub(super) at_once: Option<u64>,

    /// Seed for the proof's randomness. For tests: whoever knows it can learn the witness.
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,

    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(super) json: bool,

    /// Show no progress; the same as --progress none.
    #[arg(long, short)]
    pub(super) quiet: bool,

    /// How progress is shown, on standard error. By default: bars on a terminal, else lines, and
    /// nothing with --json.
    #[arg(long, value_name = "KIND", conflicts_with = "quiet")]
    pub(super) progress: Option<ProgressKind>,

    /// Write a timeline of the run: stages, memory by tier, CPU. Opens in ui.perfetto.dev.
    #[arg(long, value_name = "FILE.json")]
    pub(super) timeline: Option<PathBuf>,

    /// Write a report of the run: one page with its charts and what to do next.
    #[arg(long, value_name = "FILE.html")]
    pub(super) report: Option<PathBuf>,

    /// Folder where keys of the built-in circuit are kept; plimsoll's own in the user's cache
    /// folder by default.
    #[arg(long, value_name = "DIR")]
    pub(super) key_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(super) spill: SpillArgs,
}

/// Reads NAME=SIZE.
fn named_size(text: &str) -> Result<(String, u64), String> {
    let (name, size) =
        text.split_once('=').ok_or("write a name, = and a size, as in gpu0=64GiB")?;
    Ok((name.to_owned(), parse_bytes(size).map_err(|why| why.to_string())?))
}

impl ProveArgs {
    /// Makes the runtime of the command, or of the rank that it is. Ranks of one machine have equal
    /// parts of a limit that is a machine's.
    pub(super) fn runtime(&self, rank: &RankOf) -> Result<Runtime, Failure> {
        // What is shared is also the most that this process may take.
        let most = self.shared_limit.as_ref().map(|(_, bytes)| LimitSpec::Bytes(*bytes));
        let shared = self.shared_limit.as_ref();
        let shared = shared.map(|(name, bytes)| SharedLimit::join(name, *bytes)).transpose();
        let shared = shared.map_err(plimsoll::Error::from)?;
        let limit = self.limit.or(most).or_else(auto_unless_set);
        let runtime = self.spill.runtime(limit, shared, rank.library_bytes())?;
        let parts = rank.local_count() as u64;
        let is_of_machine = matches!(limit, Some(LimitSpec::Auto | LimitSpec::Share(_)));
        if let (true, Some(bytes)) = (is_of_machine && parts > 1, runtime.limit_bytes()) {
            runtime.set_limit_bytes(Some(bytes / parts));
        }
        Ok(runtime)
    }

    /// Returns how progress is shown, if the command line says it.
    pub(super) fn progress_kind(&self) -> Option<ProgressKind> {
        let is_none = self.quiet || (self.json && self.progress.is_none());
        if is_none { Some(ProgressKind::None) } else { self.progress }
    }

    /// Says whether no line for people is shown on the way.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.progress_kind(), Some(ProgressKind::None | ProgressKind::Json))
    }
}

#[derive(Debug, Args)]
pub(super) struct SetupArgs {
    /// SHA-256 compressions of the built-in circuit.
    #[arg(long, default_value_t = 8, value_parser = compressions())]
    pub(super) compressions: u64,

    /// Folder where keys are kept.
    #[arg(long, value_name = "DIR")]
    pub(super) key_dir: Option<PathBuf>,

    /// Refuse to begin if the generator, which keeps the whole key on the heap, needs more. That is
    /// 16 MiB and 0.8 to 1 KiB a constraint; the report and the refusal say it in MiB.
    #[arg(long, value_name = "SIZE")]
    pub(super) limit: Option<LimitSpec>,

    /// Do nothing if the key is there by the time no other setup is at work on it.
    #[arg(long, hide = true)]
    pub(super) if_missing: bool,

    /// Seed for the key's randomness. For tests: whoever knows it can forge proofs.
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,

    /// Threads; as many as there are cores by default.
    #[arg(long, value_name = "N", value_parser = threads())]
    pub(super) threads: Option<u64>,
}

#[derive(Debug, Args)]
#[group(id = "what", required = false, multiple = false)]
pub(super) struct PlanTarget {
    /// Plan for an arkworks circuit of about this many constraints.
    #[arg(long, value_name = "N", value_parser = constraints())]
    pub(super) constraints: Option<u64>,

    /// Plan for this circom key.
    #[arg(long, value_name = "FILE")]
    pub(super) zkey: Option<PathBuf>,

    /// Plan for the built-in circuit with this many compressions (its key must be made already).
    #[arg(long, value_name = "N", value_parser = compressions())]
    pub(super) compressions: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    pub(super) target: PlanTarget,

    /// Say whether the proof fits under this limit; exit with 1 if it does not.
    #[arg(long, value_name = "SIZE")]
    pub(super) limit: Option<LimitSpec>,

    /// Threads; as many as there are cores by default.
    #[arg(long, value_name = "N", value_parser = threads())]
    pub(super) threads: Option<u64>,

    /// Plan for so many ranks, as `mpirun -n N plimsoll prove` has; the limit is that of each.
    #[arg(long, value_name = "N", value_parser = threads(), default_value = "1")]
    pub(super) ranks: u64,

    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(super) json: bool,

    /// Folder where keys of the built-in circuit are kept.
    #[arg(long, value_name = "DIR")]
    pub(super) key_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(super) spill: SpillArgs,
}
