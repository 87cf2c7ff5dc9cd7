//! A Groth16 proof, in core and under limits, against ark-groth16 in core: same circuit, same key
//! file, same r and s.
//!
//! Each proof is made in a process of its own, from files: the key is loaded the way each side
//! loads it (ours streams it, the peer deserializes it, unchecked, which is its fastest way), the
//! circuit is run, the proof is made. Runs alternate, and the median of each side is printed:
//! seconds from start to proof, and VmHWM. The bytes of the two proofs must be the same.
//!
//! `limit-P/8` and `limit-P/16` give ours an eighth and a sixteenth of the peer's peak of the same
//! run; `-- sweep` gives it 100 to 6 % of that, and `-- sweep --svg FILE` draws the curve. The
//! circuit's witness is full-size field elements: nothing of it packs, what does not fit goes to
//! the spill file, in PLIMSOLL_BENCH_SPILL, default /var/tmp.
//!
//! `cargo bench --bench groth16` runs 2^18 in core and 2^20 with limits; `-- 16 18` runs other
//! sizes; `--test` or PLIMSOLL_BENCH_SMOKE=1 runs 2^12 once.

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
use plimsoll::spill::SpillOptions;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Rounds of ours and peer, alternating.
const ROUNDS: usize = 3;

const SEED: u64 = 2024;

/// Domains from this one on are also proved under limits: smaller ones are mostly the program.
const LIMITED_LOG_N: u32 = 20;

/// Percent of the peer's peak, for the sweep.
const SWEEP: [f64; 8] = [100.0, 80.0, 60.0, 50.0, 40.0, 25.0, 12.5, 6.0];

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
    let mut builder = Runtime::builder();
    if let Ok(limit) = std::env::var("PLIMSOLL_BENCH_LIMIT") {
        let folder = std::env::var_os("PLIMSOLL_BENCH_SPILL").unwrap_or("/var/tmp".into());
        let limit = limit.parse().expect("bytes");
        builder = builder.limit_bytes(limit).spill(SpillOptions::new(folder));
    }
    let runtime = builder.build().expect("runtime");
    let key = KeyFile::open_arkworks(&key).expect("key");
    let matrices = MatrixFile::open(&matrices).expect("matrices");
    let prover = Prover::new(&runtime, &key, Some(&matrices)).expect("prover");
    let assignment = prover.assign_circuit(inputs.circuit).expect("assignment");
    let proof = prover.prove(assignment, inputs.r, inputs.s).expect("proof");
    for stage in runtime.take_stages() {
        eprintln!(
            "#   {:<9} {:>7.3} s  cpu {:>4.0}%  peak {:>6} MiB  faults {:>6}  spilled {:>4} MiB  \
             brought back {:>4} MiB  stalled {:.2} s",
            stage.name,
            stage.wall_seconds,
            stage.cpu_use * 100.0,
            stage.peak_bytes >> 20,
            stage.minor_faults,
            stage.spilled_bytes >> 20,
            stage.loaded_bytes >> 20,
            stage.stalled_seconds,
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

fn run(side: &str, folder: &Path, log_n: u32, limit: Option<u64>) -> Option<Run> {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    if let Some(limit) = limit {
        command.env("PLIMSOLL_BENCH_LIMIT", limit.to_string());
    }
    let output = command
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

fn seconds(runs: &[Run]) -> f64 {
    median(runs.iter().map(|run| run.seconds).collect())
}

fn peak(runs: &[Run]) -> f64 {
    median(runs.iter().map(|run| run.peak).collect())
}

fn check_same(runs: &[Run], proof: &str) {
    assert!(runs.iter().all(|run| run.proof == proof), "the proofs differ");
}

fn compare(folder: &Path, log_n: u32, rounds: usize) {
    run("setup", folder, log_n, None);
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(run("ours", folder, log_n, None).expect("a result"));
        peers.push(run("peer", folder, log_n, None).expect("a result"));
    }
    check_same(&ours, &peers[0].proof);
    let case = format!("in-core/2^{log_n}");
    line(&case, "s", seconds(&ours), seconds(&peers));
    line(&case, "bytes", peak(&ours), peak(&peers));
    if log_n < LIMITED_LOG_N {
        return;
    }
    for part in [8, 16] {
        let limit = peak(&peers) as u64 / part;
        let once = |_| run("ours", folder, log_n, Some(limit)).expect("a result");
        let limited: Vec<Run> = (0..rounds).map(once).collect();
        check_same(&limited, &peers[0].proof);
        let case = format!("limit-P/{part}/2^{log_n}");
        line(&case, "s", seconds(&limited), seconds(&peers));
        line(&case, "bytes", peak(&limited), peak(&peers));
        let kept = peak(&limited) <= limit as f64;
        println!("# limit {limit} bytes, kept: {kept}");
        assert!(kept, "the limit was not kept");
    }
}

/// Proves at every share of the peer's peak; prints a line for each, and draws them.
fn sweep(folder: &Path, log_n: u32, picture: Option<&Path>) {
    run("setup", folder, log_n, None);
    let peer = run("peer", folder, log_n, None).expect("a result");
    let mut points = Vec::new();
    for share in SWEEP {
        let limit = (peer.peak * share / 100.0) as u64;
        let ours = run("ours", folder, log_n, Some(limit)).expect("a result");
        assert_eq!(ours.proof, peer.proof, "the proofs differ");
        assert!(ours.peak <= limit as f64, "the limit was not kept");
        let case = format!("limit-{share}%/2^{log_n}");
        line(&case, "s", ours.seconds, peer.seconds);
        line(&case, "bytes", ours.peak, peer.peak);
        points.push((share, ours.seconds / peer.seconds, ours.peak / peer.peak * 100.0));
    }
    for (share, time, _) in &points {
        println!("# {share:>5} %  {:<60} {time:.2}", "=".repeat((time * 40.0) as usize));
    }
    if let Some(path) = picture {
        std::fs::write(path, curve(log_n, &points)).expect("the picture is written");
    }
}

/// Draws time and peak, of ark-groth16's, over the limit, in percent of its peak.
fn curve(log_n: u32, points: &[(f64, f64, f64)]) -> String {
    let (left, bottom, wide, high) = (60.0, 280.0, 560.0, 240.0);
    let x = |share: f64| left + wide * (share.ln() - 5f64.ln()) / (100f64.ln() - 5f64.ln());
    let y = |value: f64| bottom - high * value / 1.25;
    let path = |value: &dyn Fn(&(f64, f64, f64)) -> f64| {
        let places = points.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(value(p))));
        places.collect::<Vec<_>>().join(" ")
    };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 660 340\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"660\" height=\"340\" fill=\"white\"/>\n\
         <text x=\"60\" y=\"22\">Groth16, 2^{log_n} constraints: time and peak of ours under a \
         limit, over ark-groth16's in core</text>\n"
    );
    for value in [0.0, 0.25, 0.5, 0.75, 1.0, 1.25] {
        let at = y(value);
        text += &format!(
            "<line x1=\"{left}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>\n",
            left + wide,
            left - 8.0,
            at + 4.0
        );
    }
    for (share, _, _) in points {
        let at = x(*share);
        text += &format!(
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{share}%</text>\n",
            bottom + 18.0
        );
    }
    let (time, memory) = (path(&|p| p.1), path(&|p| p.2 / 100.0));
    text += &format!(
        "<polyline points=\"{time}\" fill=\"none\" stroke=\"#c0392b\" stroke-width=\"2\"/>\n\
         <polyline points=\"{memory}\" fill=\"none\" stroke=\"#2471a3\" stroke-width=\"2\" \
         stroke-dasharray=\"5 3\"/>\n\
         <text x=\"60\" y=\"326\">limit, of ark-groth16's peak (log scale)</text>\n\
         <text x=\"400\" y=\"326\" fill=\"#c0392b\">time</text>\n\
         <text x=\"450\" y=\"326\" fill=\"#2471a3\">peak memory (dashed)</text>\n</svg>\n"
    );
    text
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
    if arguments.iter().any(|argument| argument == "sweep") {
        let at = arguments.iter().position(|argument| argument == "--svg");
        let picture = at.and_then(|at| arguments.get(at + 1)).map(PathBuf::from);
        let log_n = arguments.iter().find_map(|a| a.parse().ok()).unwrap_or(LIMITED_LOG_N);
        return sweep(folder.path(), log_n, picture.as_deref());
    }
    for log_n in sizes {
        compare(folder.path(), log_n, if smoke { 1 } else { ROUNDS });
    }
}
