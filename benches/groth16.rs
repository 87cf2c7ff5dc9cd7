//! A Groth16 proof in core, against ark-groth16: same circuit, same key file, same r and s.
//!
//! Each proof is made in a process of its own, from files: the key is loaded the way each side
//! loads it (ours streams it, the peer deserializes it, unchecked, which is its fastest way), the
//! circuit is run, the proof is made. Runs alternate, and the median of each side is printed:
//! seconds from start to proof, and VmHWM. The bytes of the two proofs must be the same.
//!
//! `cargo bench --bench groth16` runs 2^18 and 2^20; `-- 16 18` runs other sizes; `--test` or
//! PLIMSOLL_BENCH_SMOKE=1 runs 2^12 once.

use ark_bn254::{Bn254, Fr};
use ark_ff::UniformRand;
use ark_groth16::{Groth16, Proof, ProvingKey};
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use plimsoll::Runtime;
use plimsoll::groth16::circuit::SquaringChain;
use plimsoll::groth16::key::KeyFile;
use plimsoll::groth16::prover::Prover;
use plimsoll::groth16::r1cs::MatrixFile;
use plimsoll::groth16::setup::setup;
use plimsoll::meter::Meter;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Rounds of ours and peer, alternating.
const ROUNDS: usize = 3;

const SEED: u64 = 2024;

struct Inputs {
    circuit: SquaringChain,
    r: Fr,
    s: Fr,
}

fn inputs(log_n: u32) -> Inputs {
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    let circuit = SquaringChain::filling(Fr::rand(&mut rng), log_n);
    Inputs { circuit, r: Fr::rand(&mut rng), s: Fr::rand(&mut rng) }
}

fn paths(folder: &Path, log_n: u32) -> (PathBuf, PathBuf) {
    (folder.join(format!("chain-{log_n}.pk")), folder.join(format!("chain-{log_n}.matrices")))
}

fn make_key(folder: &Path, log_n: u32) {
    let (key, matrices) = paths(folder, log_n);
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    setup(inputs(log_n).circuit, &mut rng, &key, &matrices).expect("setup");
}

fn prove_ours(folder: &Path, log_n: u32) -> Proof<Bn254> {
    let (key, matrices) = paths(folder, log_n);
    let inputs = inputs(log_n);
    let runtime = Runtime::builder().build().expect("runtime");
    let key = KeyFile::open_arkworks(&key).expect("key");
    let matrices = MatrixFile::open(&matrices).expect("matrices");
    let prover = Prover::new(&runtime, &key, Some(&matrices)).expect("prover");
    let assignment = prover.assign_circuit(inputs.circuit).expect("assignment");
    let proof = prover.prove(assignment, inputs.r, inputs.s).expect("proof");
    for stage in runtime.take_stages() {
        eprintln!(
            "#   {:<9} {:>7.3} s  cpu {:>4.0}%  peak {:>6} MiB  faults {}",
            stage.name,
            stage.wall_seconds,
            stage.cpu_use * 100.0,
            stage.peak_bytes >> 20,
            stage.minor_faults
        );
    }
    proof
}

fn prove_peer(folder: &Path, log_n: u32) -> Proof<Bn254> {
    let inputs = inputs(log_n);
    let file = std::fs::File::open(paths(folder, log_n).0).expect("key");
    let reader = std::io::BufReader::with_capacity(1 << 20, file);
    let key = ProvingKey::<Bn254>::deserialize_uncompressed_unchecked(reader).expect("key");
    Groth16::<Bn254>::create_proof_with_reduction(inputs.circuit, &key, inputs.r, inputs.s)
        .expect("proof")
}

/// Runs one side in this process and prints what the parent reads.
fn child(side: &str, folder: &Path, log_n: u32) {
    let started = Instant::now();
    let proof = match side {
        "setup" => return make_key(folder, log_n),
        "ours" => prove_ours(folder, log_n),
        _ => prove_peer(folder, log_n),
    };
    let seconds = started.elapsed().as_secs_f64();
    let peak = Meter::live().and_then(|meter| meter.peak_rss_bytes()).expect("VmHWM");
    let mut bytes = Vec::new();
    proof.serialize_compressed(&mut bytes).expect("bytes of a proof");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{seconds} {peak} {hex}");
}

struct Run {
    seconds: f64,
    peak: f64,
    proof: String,
}

fn run(side: &str, folder: &Path, log_n: u32) -> Option<Run> {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program)
        .env("PLIMSOLL_BENCH_CHILD", side)
        .env("PLIMSOLL_BENCH_FOLDER", folder)
        .env("PLIMSOLL_BENCH_LOG_N", log_n.to_string())
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("a child process");
    assert!(output.status.success(), "{side} failed at 2^{log_n}");
    let text = String::from_utf8(output.stdout).expect("text");
    let mut words = text.split_whitespace();
    Some(Run {
        seconds: words.next()?.parse().expect("seconds"),
        peak: words.next()?.parse().expect("bytes"),
        proof: words.next()?.to_owned(),
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn line(case: &str, unit: &str, ours: f64, peer: f64) {
    let ratio = ours / peer;
    println!(
        "bench=groth16 case={case} ours={ours:.3} peer={peer:.3} ratio={ratio:.3} unit={unit} \
         peer_name=ark-groth16"
    );
}

fn compare(folder: &Path, log_n: u32, rounds: usize) {
    run("setup", folder, log_n);
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(run("ours", folder, log_n).expect("a result"));
        peers.push(run("peer", folder, log_n).expect("a result"));
    }
    let proofs = ours.iter().chain(&peers).map(|run| &run.proof);
    assert!(proofs.into_iter().all(|proof| *proof == ours[0].proof), "the proofs differ");
    let case = format!("in-core/2^{log_n}");
    let seconds = |runs: &[Run]| median(runs.iter().map(|run| run.seconds).collect());
    let peak = |runs: &[Run]| median(runs.iter().map(|run| run.peak).collect());
    line(&case, "s", seconds(&ours), seconds(&peers));
    line(&case, "bytes", peak(&ours), peak(&peers));
}

fn main() {
    if let Ok(side) = std::env::var("PLIMSOLL_BENCH_CHILD") {
        let folder = PathBuf::from(std::env::var("PLIMSOLL_BENCH_FOLDER").expect("folder"));
        let log_n = std::env::var("PLIMSOLL_BENCH_LOG_N").expect("size");
        return child(&side, &folder, log_n.parse().expect("a number"));
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let smoke = std::env::var_os("PLIMSOLL_BENCH_SMOKE").is_some()
        || arguments.iter().any(|argument| argument == "--test");
    let mut sizes: Vec<u32> = arguments.iter().filter_map(|a| a.parse().ok()).collect();
    if smoke {
        sizes = vec![12];
    } else if sizes.is_empty() {
        sizes = vec![18, 20];
    }
    println!("# threads={}", rayon::current_num_threads());
    let folder = tempfile::tempdir().expect("a folder for keys");
    for log_n in sizes {
        compare(folder.path(), log_n, if smoke { 1 } else { ROUNDS });
    }
}
