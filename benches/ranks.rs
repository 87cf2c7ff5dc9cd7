//! One proof by several ranks: what each holds, what all compute, and what goes between them.
//!
//! `cargo bench --bench ranks` proves a chain of squarings of 2^20 on 1, 2 and 4 ranks, which are
//! threads of one process; `-- 16` another size; `--test` or PLIMSOLL_BENCH_SMOKE=1 2^10. Each rank
//! works on one thread, in a permit of its own, so that a peak is that of a rank's vectors.
//!
//! One rank computes at a time, and hands on when it waits for a message: ranks on machines of
//! their own do not share caches, and four on two cores compute more for that alone. No wall time
//! of one machine says anything about several, so there is none here. Lines that begin with `#` say
//! what each rank computes in each stage.

use ark_bn254::{Bn254, Fr};
use ark_ff::UniformRand;
use ark_groth16::Proof;
use nix::sys::resource::{UsageWho, getrusage};
use plimsoll::Runtime;
use plimsoll::groth16::circuit::SquaringChain;
use plimsoll::groth16::key::KeyFile;
use plimsoll::groth16::plan::Shape;
use plimsoll::groth16::prover::{Progress, Prover};
use plimsoll::groth16::r1cs::MatrixFile;
use plimsoll::groth16::setup::setup;
use plimsoll::ranks::{Exchange, ExchangeError, Local, Threads};
use plimsoll::tiles::Share;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};

const LOG_N: u32 = 20;

/// Vectors of the quotient that a rank has a share of: a, b and c.
const SHARED_VECTORS: u64 = 3;

/// What a rank holds beside its share and the witness: buckets, a chunk of points, roots, stripes.
const BESIDE_BYTES: u64 = 48 << 20;

/// What the ranks may compute together, of what one does.
const CORE_SECONDS_MAX: f64 = 1.1;

/// Whose turn it is to compute: somebody's or nobody's.
#[derive(Default)]
struct Turn {
    is_taken: Mutex<bool>,
    given_back: Condvar,
}

impl Turn {
    fn take(&self) {
        let taken = self.is_taken.lock().expect("no panic");
        let mut taken = self.given_back.wait_while(taken, |taken| *taken).expect("no panic");
        *taken = true;
    }

    fn give_back(&self) {
        *self.is_taken.lock().expect("no panic") = false;
        self.given_back.notify_one();
    }
}

/// A rank that computes only while no other does.
struct OneAtATime<'a> {
    inner: Threads,
    turn: &'a Turn,
}

impl<'a> OneAtATime<'a> {
    fn new(inner: Threads, turn: &'a Turn) -> Self {
        turn.take();
        Self { inner, turn }
    }
}

impl Drop for OneAtATime<'_> {
    fn drop(&mut self) {
        self.turn.give_back();
    }
}

impl Exchange for OneAtATime<'_> {
    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn ranks(&self) -> usize {
        self.inner.ranks()
    }

    fn local(&self) -> Local {
        self.inner.local()
    }

    fn pass(
        &mut self,
        to: Option<(usize, &[u8])>,
        from: Option<(usize, &mut [u8])>,
    ) -> Result<usize, ExchangeError> {
        self.turn.give_back();
        let passed = self.inner.pass(to, from);
        self.turn.take();
        passed
    }

    fn tell_all(
        &mut self,
        told: &[u8],
        hear: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), ExchangeError> {
        self.turn.give_back();
        let all = self.inner.tell_all(told, hear);
        self.turn.take();
        all
    }

    fn sent_bytes(&self) -> u64 {
        self.inner.sent_bytes()
    }

    fn has_longer_than(&mut self, len: usize) -> bool {
        self.inner.has_longer_than(len)
    }
}

/// What one rank says of its proof.
struct Row {
    proof: Proof<Bn254>,
    peak_bytes: u64,
    sent_bytes: u64,
    planned_bytes: u64,
    stages: Vec<StageTime>,
}

/// What a rank computes from the beginning of a stage to that of the next: name and seconds.
type StageTime = (String, f64);

/// Notes the processor time of the only thread of a rank when a stage begins.
#[derive(Default)]
struct StageClock(Mutex<Vec<StageTime>>);

impl StageClock {
    fn begin(&self, name: &str) {
        self.0.lock().expect("no panic").push((name.to_owned(), thread_seconds()));
    }

    /// The stages that were begun; the first is what comes before any.
    fn stages(&self) -> Vec<StageTime> {
        let begun = self.0.lock().expect("no panic");
        let ends = begun.iter().skip(1).map(|(_, at)| *at).chain([thread_seconds()]);
        begun.iter().zip(ends).map(|((name, at), end)| (name.clone(), end - at)).collect()
    }
}

impl Progress for StageClock {
    fn stage(&self, name: &str, _index: usize, _count: usize) {
        self.begin(name);
    }

    fn advance(&self, _done: usize, _total: usize) {}
}

fn circuit(log_n: u32) -> SquaringChain {
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    SquaringChain::filling(Fr::rand(&mut rng), log_n)
}

fn prove(mut exchange: OneAtATime<'_>, [key, matrices]: &[PathBuf; 2], log_n: u32) -> Row {
    let share = Share::new(exchange.rank(), exchange.ranks()).expect("a rank");
    let clock = StageClock::default();
    clock.begin("open");
    let key = KeyFile::open_arkworks(key).expect("the key");
    let matrices = MatrixFile::open(matrices).expect("the matrices");
    let runtime = Runtime::builder().own_limit().build().expect("a runtime");
    // The same for any number of ranks: what they need is what they take.
    let permit = runtime.permit("rank", 1 << 30).expect("no limit");
    let runtime = permit.runtime();
    let prover = Prover::over(runtime, &key, Some(&matrices), &mut exchange).expect("a prover");
    let prover = prover.progress(&clock);
    let assignment = prover.assign_circuit(circuit(log_n)).expect("an assignment");
    let proof = prover.prove(assignment, Fr::from(5u64), Fr::from(6u64)).expect("a proof");
    let planned_bytes = prover.plan().sent_bytes(&Shape::of(&key, Some(&matrices)), share);
    let peak_bytes = permit.report().peak_bytes;
    let (sent_bytes, stages) = (prover.sent_bytes(), clock.stages());
    Row { proof, peak_bytes, sent_bytes, planned_bytes, stages }
}

/// Processor time of this process so far, in seconds.
fn core_seconds() -> f64 {
    seconds_of(UsageWho::RUSAGE_SELF)
}

/// Processor time of this thread so far, in seconds.
fn thread_seconds() -> f64 {
    seconds_of(UsageWho::RUSAGE_THREAD)
}

fn seconds_of(whom: UsageWho) -> f64 {
    let usage = getrusage(whom).expect("the kernel counts");
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

fn line(case: &str, what: &str, unit: &str, (ours, peer): (f64, f64), peer_name: &str) {
    println!(
        "bench=ranks case={case} what={what} ours={ours:.3} peer={peer:.3} ratio={:.3} unit={unit} \
         peer_name={peer_name}",
        ours / peer
    );
}

fn compare(folder: &Path, log_n: u32) {
    let paths = ["chain.pk", "chain.matrices"].map(|name| folder.join(name));
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    setup(circuit(log_n), &mut rng, &paths[0], &paths[1]).expect("setup");
    let vector_bytes = (size_of::<Fr>() as u64) << log_n;
    let mut alone: Option<(Proof<Bn254>, f64, f64)> = None;
    for ranks in [1, 2, 4] {
        let (before, turn) = (core_seconds(), Turn::default());
        let rows: Vec<Row> = std::thread::scope(|scope| {
            let (paths, turn) = (&paths, &turn);
            let ranks = Threads::new(ranks).into_iter().map(|rank| {
                scope.spawn(move || {
                    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build();
                    one.expect("a thread")
                        .install(|| prove(OneAtATime::new(rank, turn), paths, log_n))
                })
            });
            let ranks: Vec<_> = ranks.collect();
            ranks.into_iter().map(|rank| rank.join().expect("no panic")).collect()
        });
        let seconds = core_seconds() - before;
        let peak = rows.iter().map(|row| row.peak_bytes).max().unwrap_or(0);
        let most = (vector_bytes * SHARED_VECTORS).div_ceil(ranks as u64) + vector_bytes;
        let (proof, first_peak, first_seconds) =
            alone.get_or_insert((rows[0].proof.clone(), peak as f64, seconds));
        assert!(rows.iter().all(|row| row.proof == *proof), "the proofs differ");
        let case = format!("2^{log_n}/{ranks}");
        line(&case, "peak-of-a-rank", "bytes", (peak as f64, *first_peak), "one-rank");
        line(&case, "core-seconds", "s", (seconds, *first_seconds), "one-rank");
        if seconds > CORE_SECONDS_MAX * *first_seconds {
            println!("# missed: {case} computes more than {CORE_SECONDS_MAX} of one rank");
        }
        for (at, (stage, _)) in rows[0].stages.iter().enumerate() {
            let each: Vec<_> =
                rows.iter().map(|row| row.stages.get(at).map_or(0.0, |s| s.1)).collect();
            println!("# {case} {stage}: {:.3} s, by rank {each:.3?}", each.iter().sum::<f64>());
        }
        if ranks > 1 {
            if peak > most + BESIDE_BYTES {
                println!("# missed: {case} holds {peak} bytes, more than {most} + {BESIDE_BYTES}");
            }
            let sent = rows.iter().map(|row| row.sent_bytes).sum::<u64>();
            let planned = rows.iter().map(|row| row.planned_bytes).sum::<u64>();
            line(&case, "sent", "bytes", (sent as f64, planned as f64), "plan");
        }
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let is_smoke = words.iter().any(|word| word == "--test")
        || std::env::var_os("PLIMSOLL_BENCH_SMOKE").is_some();
    let sizes: Vec<u32> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder on a disk");
    match (is_smoke, sizes.as_slice()) {
        (true, _) => compare(folder.path(), 10),
        (false, []) => compare(folder.path(), LOG_N),
        (false, sizes) => sizes.iter().for_each(|log_n| compare(folder.path(), *log_n)),
    }
}
