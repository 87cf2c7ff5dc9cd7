//! Our side: a proof in a process of its own, and what that answers.

use crate::common;
use ark_bn254::Fr;
use ark_ff::UniformRand;
use ark_serialize::CanonicalSerialize;
use plimsoll::Runtime;
use plimsoll::groth16::circom::json::write_proof_and_public;
use plimsoll::groth16::circom::wtns::WitnessFile;
use plimsoll::groth16::key::KeyFile;
use plimsoll::groth16::plan::{ProofPlan, Shape};
use plimsoll::groth16::prover::Prover;
use plimsoll::meter::Meter;
use plimsoll::spill::SpillOptions;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

const SEED: u64 = 2024;

/// In a child: what to do, `prove` or `smallest`.
const CHILD_VARIABLE: &str = "PLIMSOLL_BENCH_CHILD";
const LIMIT_VARIABLE: &str = "PLIMSOLL_BENCH_LIMIT";
const CASE_VARIABLE: &str = "PLIMSOLL_BENCH_CASE";
const KEYS_VARIABLE: &str = "PLIMSOLL_BENCH_KEYS";

/// A circuit with its key and witness.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The stem of its files.
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
}

/// What was seen of a proof.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    pub(crate) seconds: f64,
    /// Largest resident set, bytes.
    pub(crate) peak: f64,
    /// Of that, what is no file's; where the process is ours.
    pub(crate) anonymous: f64,
    /// Bytes read by system calls, page cache or not; where the process is ours.
    pub(crate) read: f64,
    pub(crate) spilled: f64,
    /// Its bytes in hex; where the process is ours.
    pub(crate) proof: String,
}

impl Case {
    pub(crate) fn path(&self, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", self.name))
    }

    pub(crate) fn zkey(&self) -> PathBuf {
        self.path("zkey")
    }

    pub(crate) fn wtns(&self) -> PathBuf {
        self.path("wtns")
    }

    /// The smallest limit that the plan of a process like ours names.
    pub(crate) fn smallest(&self) -> u64 {
        self.child("smallest", None).trim().parse().expect("bytes")
    }

    /// Makes a proof in a process of its own, under a limit.
    pub(crate) fn prove(&self, limit: Option<u64>) -> Run {
        let text = self.child("prove", limit);
        let mut words = text.split_whitespace();
        let mut number =
            || words.next().and_then(|word| word.parse().ok()).expect("numbers of a run");
        let (seconds, peak, anonymous) = (number(), number(), number());
        let (read, spilled) = (number(), number());
        let proof = words.next().expect("a proof").to_owned();
        Run { seconds, peak, anonymous, read, spilled, proof }
    }

    fn child(&self, what: &str, limit: Option<u64>) -> String {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        if let Some(limit) = limit {
            command.env(LIMIT_VARIABLE, limit.to_string());
        }
        let output = command
            .env(CHILD_VARIABLE, what)
            .env(CASE_VARIABLE, &self.name)
            .env(KEYS_VARIABLE, &self.folder)
            .stderr(Stdio::inherit())
            .output()
            .expect("a child process");
        assert!(output.status.success(), "{what} failed: {self:?} under {limit:?}");
        String::from_utf8(output.stdout).expect("text")
    }
}

/// Does what this process was started for, if it is a child.
pub(crate) fn child() -> bool {
    let Ok(what) = std::env::var(CHILD_VARIABLE) else { return false };
    let word = |name: &str| std::env::var(name).expect("set by the parent");
    let case = Case { name: word(CASE_VARIABLE), folder: word(KEYS_VARIABLE).into() };
    match what.as_str() {
        "smallest" => println!("{}", smallest(&case)),
        _ => prove(&case),
    }
    true
}

/// What a process may take more when it proves than this one that only plans.
const DRIFT_BYTES: usize = 1 << 20;

fn smallest(case: &Case) -> usize {
    let key = KeyFile::open_zkey(&case.zkey()).expect("key");
    let used = Meter::live().and_then(|meter| meter.rss_bytes()).expect("statm") as usize;
    let used = used + DRIFT_BYTES;
    let threads = rayon::current_num_threads();
    ProofPlan::smallest(&Shape::of(&key, None), used, threads, true).minimum_bytes()
}

fn prove(case: &Case) {
    let started = Instant::now();
    let mut builder = Runtime::builder();
    if let Ok(limit) = std::env::var(LIMIT_VARIABLE) {
        let limit = limit.parse().expect("bytes");
        builder = builder.limit_bytes(limit).spill(SpillOptions::new(common::folder()));
    }
    let runtime = builder.build().expect("runtime");
    let key = KeyFile::open_zkey(&case.zkey()).expect("key");
    let witness = WitnessFile::open(&case.wtns()).expect("witness");
    let prover = Prover::new(&runtime, &key, None).expect("prover");
    let assignment = prover.assign_witness(&witness).expect("assignment");
    let public = assignment.first(key.public_inputs() + 1).expect("public inputs").split_off(1);
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    let (r, s) = (Fr::rand(&mut rng), Fr::rand(&mut rng));
    let proof = prover.prove(assignment, r, s).expect("proof");
    let seconds = started.elapsed().as_secs_f64();
    let peak = common::peak_rss_bytes();
    let anonymous = peak.saturating_sub(common::file_rss_bytes());
    for stage in runtime.take_stages() {
        eprintln!("#   {stage}");
    }
    // Not beside a fixture of the tests, which are not ours to write to.
    if !case.path("circom").exists() {
        let [proof_path, public_path] = ["proof.json", "public.json"].map(|f| case.folder.join(f));
        write_proof_and_public(&proof_path, &proof, &public_path, &public).expect("proof written");
    }
    let mut bytes = Vec::new();
    proof.serialize_compressed(&mut bytes).expect("bytes of a proof");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let spilled = runtime.spill_stats().spilled_total;
    println!("{seconds} {peak} {anonymous} {} {spilled} {hex}", bytes_read());
}

/// Bytes that this process read by system calls so far.
fn bytes_read() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").expect("this bench needs /proc");
    let line = text.lines().find_map(|line| line.strip_prefix("rchar:"));
    line.and_then(|number| number.trim().parse().ok()).expect("a number")
}
