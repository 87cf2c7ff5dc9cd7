//! The two sides of the bench, each in a process of its own, and what a process answers.

use ark_bn254::{Bn254, Fr};
use ark_ff::UniformRand;
use ark_groth16::{Groth16, Proof, ProvingKey};
use ark_relations::gr1cs::{ConstraintSynthesizer, ConstraintSystemRef, SynthesisError};
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use plimsoll::Runtime;
use plimsoll::groth16::batch::Batch;
use plimsoll::groth16::circuit::{Sha256Chain, SquaringChain};
use plimsoll::groth16::error::ProveError;
use plimsoll::groth16::key::KeyFile;
use plimsoll::groth16::plan::{CHUNK_LEN_MAX, ProofPlan, Shape};
use plimsoll::groth16::prover::Prover;
use plimsoll::groth16::r1cs::MatrixFile;
use plimsoll::groth16::setup::setup;
use plimsoll::meter::Meter;
use plimsoll::permit::Permit;
use plimsoll::spill::SpillOptions;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

const SEED: u64 = 2024;

/// Proofs of a batch.
pub(crate) const BATCH: usize = 8;

/// Domain of one SHA-256 compression, which is over half full.
const SHA256_LOG_N: u32 = 15;

/// What is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A chain of squarings: its witness is full-size field elements.
    Chain,
    /// A chain of SHA-256: its witness is bits.
    Sha256,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Sha256 => "sha256",
        }
    }
}

/// A circuit and the size of its domain.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) kind: Kind,
    pub(crate) log_n: u32,
    /// Where its key is.
    pub(crate) folder: PathBuf,
}

#[derive(Clone)]
enum Circuit {
    Chain(SquaringChain),
    Sha256(Sha256Chain),
}

impl ConstraintSynthesizer<Fr> for Circuit {
    fn generate_constraints(self, cs: ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        match self {
            Self::Chain(circuit) => circuit.generate_constraints(cs),
            Self::Sha256(circuit) => circuit.generate_constraints(cs),
        }
    }
}

impl Case {
    /// The circuit, r and s.
    fn inputs(&self) -> (Circuit, Fr, Fr) {
        let mut rng = ChaCha20Rng::seed_from_u64(SEED);
        let secret = Fr::rand(&mut rng);
        let circuit = match self.kind {
            Kind::Chain => Circuit::Chain(SquaringChain::filling(secret, self.log_n)),
            Kind::Sha256 => {
                let compressions = 1 << self.log_n.saturating_sub(SHA256_LOG_N);
                Circuit::Sha256(Sha256Chain::new([7; 32], compressions))
            }
        };
        (circuit, Fr::rand(&mut rng), Fr::rand(&mut rng))
    }

    fn paths(&self) -> (PathBuf, PathBuf) {
        let name = format!("{}-{}", self.kind.name(), self.log_n);
        (self.folder.join(format!("{name}.pk")), self.folder.join(format!("{name}.matrices")))
    }

    fn make_key(&self) {
        let (key, matrices) = self.paths();
        let mut rng = ChaCha20Rng::seed_from_u64(SEED);
        setup(self.inputs().0, &mut rng, &key, &matrices).expect("setup");
    }

    fn open(&self) -> (KeyFile, MatrixFile) {
        let (key, matrices) = self.paths();
        (KeyFile::open_arkworks(&key).expect("key"), MatrixFile::open(&matrices).expect("matrices"))
    }

    /// The smallest limit that the plan names for this process.
    fn smallest(&self) -> usize {
        let (key, matrices) = self.open();
        let used = Meter::live().and_then(|meter| meter.rss_bytes()).expect("statm") as usize;
        let (shape, threads) = (Shape::of(&key, Some(&matrices)), rayon::current_num_threads());
        ProofPlan::smallest(&shape, used, threads, true).minimum_bytes()
    }

    fn prove_ours(&self) -> (Proof<Bn254>, Tiers) {
        let (circuit, r, s) = self.inputs();
        let mut builder = Runtime::builder();
        if let Ok(limit) = std::env::var("PLIMSOLL_BENCH_LIMIT") {
            let folder = std::env::var_os("PLIMSOLL_BENCH_SPILL").unwrap_or("/var/tmp".into());
            let limit = limit.parse().expect("bytes");
            builder = builder.limit_bytes(limit).spill(SpillOptions::new(folder));
        }
        let runtime = builder.build().expect("runtime");
        let (key, matrices) = self.open();
        let prover = Prover::new(&runtime, &key, Some(&matrices)).expect("prover");
        let assignment = prover.assign_circuit(circuit).expect("assignment");
        let proof = prover.prove(assignment, r, s).expect("proof");
        for stage in runtime.take_stages() {
            eprintln!(
                "#   {:<9} {:>7.3} s  cpu {:>4.0}%  peak {:>6} MiB  faults {:>6}  \
                 packed {:>4} MiB  spilled {:>4} MiB  brought back {:>4} MiB  stalled {:.2} s",
                stage.name,
                stage.wall_seconds,
                stage.cpu_use * 100.0,
                stage.peak_bytes >> 20,
                stage.minor_faults,
                stage.packed_bytes >> 20,
                stage.spilled_bytes >> 20,
                stage.loaded_bytes >> 20,
                stage.stalled_seconds,
            );
        }
        let stats = runtime.spill_stats();
        let tiers = Tiers {
            packed: stats.packed_total,
            spilled: stats.spilled_total,
            loaded: stats.loaded_total,
            read_ahead_hits: stats.read_ahead_hits,
        };
        (proof, tiers)
    }

    /// The limit that fits two proofs and a half in core.
    fn limit_of_a_batch(&self) -> usize {
        let (key, matrices) = self.open();
        let shape = Shape::of(&key, Some(&matrices));
        let used = Meter::live().and_then(|meter| meter.rss_bytes()).expect("statm") as usize;
        let threads = rayon::current_num_threads();
        let plan = ProofPlan::in_core(&shape, used, CHUNK_LEN_MAX, threads);
        plan.base_bytes() + plan.vector_bytes() * 5 / 2
    }

    /// Makes [`BATCH`] proofs under the limit, at most so many at a time.
    fn prove_batch(&self, at_most: usize) -> Vec<Proof<Bn254>> {
        let limit = std::env::var("PLIMSOLL_BENCH_LIMIT").expect("set by the parent");
        let builder = Runtime::builder().limit_bytes(limit.parse().expect("bytes"));
        let runtime = builder.build().expect("runtime");
        let (key, matrices) = self.open();
        let batch = Batch::new(&runtime, &key, Some(&matrices)).expect("it fits").at_most(at_most);
        let made = batch.run(&[(); BATCH], |job, ()| {
            let (circuit, r, s) = self.inputs();
            let begun = Instant::now();
            let prover = job.prover()?;
            let assignment = prover.assign_circuit(circuit)?;
            let proof = prover.prove(assignment, r, s)?;
            let (index, seconds) = (job.index, begun.elapsed().as_secs_f64());
            eprintln!("#   proof {index}: {seconds:.3} s, {:?}", job.permit.map(Permit::report));
            Ok::<_, ProveError>(proof)
        });
        made.into_iter().map(|proof| proof.expect("proof")).collect()
    }

    fn prove_peer(&self) -> Proof<Bn254> {
        let (circuit, r, s) = self.inputs();
        let file = std::fs::File::open(self.paths().0).expect("key");
        let reader = std::io::BufReader::with_capacity(1 << 20, file);
        let key = ProvingKey::<Bn254>::deserialize_uncompressed_unchecked(reader).expect("key");
        Groth16::<Bn254>::create_proof_with_reduction(circuit, &key, r, s).expect("proof")
    }

    /// Runs `side` in a process of its own; `None` where it has nothing to answer.
    pub(crate) fn run(&self, side: &str, limit: Option<u64>) -> Option<Run> {
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        if let Some(limit) = limit {
            command.env("PLIMSOLL_BENCH_LIMIT", limit.to_string());
        }
        let output = command
            .env("PLIMSOLL_BENCH_CHILD", side)
            .env("PLIMSOLL_BENCH_CIRCUIT", self.kind.name())
            .env("PLIMSOLL_BENCH_FOLDER", &self.folder)
            .env("PLIMSOLL_BENCH_LOG_N", self.log_n.to_string())
            .stderr(std::process::Stdio::inherit())
            .output()
            .expect("a child process");
        assert!(output.status.success(), "{side} failed: {self:?} under {limit:?}");
        Run::parse(&String::from_utf8(output.stdout).expect("text"))
    }
}

/// What left memory and came back, in bytes; read-ahead in vectors.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tiers {
    pub(crate) packed: u64,
    pub(crate) spilled: u64,
    pub(crate) loaded: u64,
    pub(crate) read_ahead_hits: u64,
}

impl Tiers {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            packed: self.packed + other.packed,
            spilled: self.spilled + other.spilled,
            loaded: self.loaded + other.loaded,
            read_ahead_hits: self.read_ahead_hits + other.read_ahead_hits,
        }
    }
}

/// What a process answered.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) seconds: f64,
    /// VmHWM; of the side `smallest`, the limit.
    pub(crate) peak: f64,
    pub(crate) proof: String,
    pub(crate) tiers: Tiers,
}

impl Run {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let run = Self {
            seconds: words.next()?.parse().expect("seconds"),
            peak: words.next()?.parse().expect("bytes"),
            proof: words.next()?.to_owned(),
            tiers: Tiers::default(),
        };
        let mut count = || words.next().and_then(|word| word.parse().ok()).expect("a count");
        let (packed, spilled, loaded, read_ahead_hits) = (count(), count(), count(), count());
        Some(Self { tiers: Tiers { packed, spilled, loaded, read_ahead_hits }, ..run })
    }
}

/// Runs one side in this process, if it was started for that, and prints what the parent reads.
pub(crate) fn child() -> bool {
    let Ok(side) = std::env::var("PLIMSOLL_BENCH_CHILD") else { return false };
    let word = |name: &str| std::env::var(name).expect("set by the parent");
    let kind = match word("PLIMSOLL_BENCH_CIRCUIT").as_str() {
        "sha256" => Kind::Sha256,
        _ => Kind::Chain,
    };
    let log_n = word("PLIMSOLL_BENCH_LOG_N").parse().expect("a number");
    let case = Case { kind, log_n, folder: word("PLIMSOLL_BENCH_FOLDER").into() };
    let started = Instant::now();
    let (proofs, tiers) = match side.as_str() {
        "setup" => {
            case.make_key();
            return true;
        }
        "smallest" => {
            println!("0 {} none 0 0 0 0", case.smallest());
            return true;
        }
        "limit-of-a-batch" => {
            println!("0 {} none 0 0 0 0", case.limit_of_a_batch());
            return true;
        }
        "ours" => {
            let (proof, tiers) = case.prove_ours();
            (vec![proof], tiers)
        }
        "batch" => (case.prove_batch(rayon::current_num_threads()), Tiers::default()),
        "one-by-one" => (case.prove_batch(1), Tiers::default()),
        _ => (vec![case.prove_peer()], Tiers::default()),
    };
    let seconds = started.elapsed().as_secs_f64();
    let peak = Meter::live().and_then(|meter| meter.peak_rss_bytes()).expect("VmHWM");
    let mut bytes = Vec::new();
    for proof in proofs {
        proof.serialize_compressed(&mut bytes).expect("bytes of a proof");
    }
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let Tiers { packed, spilled, loaded, read_ahead_hits } = tiers;
    println!("{seconds} {peak} {hex} {packed} {spilled} {loaded} {read_ahead_hits}");
    true
}
