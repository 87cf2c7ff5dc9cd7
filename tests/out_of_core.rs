//! Proofs below the memory that everything at once takes: the same bytes, under the limit of the
//! plan, through every tier; and what happens when the disk fails.
//!
//! A limit is over the memory of the whole process, so one test runs at a time.
#![cfg(feature = "groth16")]

use ark_bn254::Fr;
use ark_ff::{One, UniformRand};
use ark_relations::gr1cs::ConstraintSynthesizer;
use plimsoll::groth16::assignment::Assignment;
use plimsoll::groth16::circom::wtns::WitnessFile;
use plimsoll::groth16::circuit::{Sha256Chain, SquaringChain};
use plimsoll::groth16::error::ProveError;
use plimsoll::groth16::key::KeyFile;
use plimsoll::groth16::plan::{CHUNK_LEN_MIN, ProofPlan, Shape};
use plimsoll::groth16::prover::{Progress, Prover};
use plimsoll::meter::Meter;
use plimsoll::spill::{SpillOptions, SpillStats, SpillTier};
use plimsoll::{Error, Runtime};
use plimsoll_arena::process::skipped;
use plimsoll_swap::backend::{FaultPlan, Faulty};
use plimsoll_swap::file::{RamDisk, SpillFile};
use plimsoll_swap::store::{Encryption, Store};
use plimsoll_test_support::{Keys, ark_proof, bytes, randomness, settled, threads};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::collections::HashSet;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What the process may grow by between planning here and planning in the prover. In core takes 10
/// MiB and more above that at the sizes of these tests.
const DRIFT_BYTES: usize = 4 << 20;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/tmp").expect("a folder on a disk")
}

/// A circuit whose witness is full-size field elements: nothing of it packs.
fn uniform() -> SquaringChain {
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    SquaringChain::new(Fr::rand(&mut rng), 132_000)
}

/// Its key, made once: that takes longer than a proof.
fn uniform_keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| Keys::make(uniform()))
}

/// What ark-groth16 makes of it, made once, too.
fn uniform_proof() -> &'static [u8] {
    static PROOF: OnceLock<Vec<u8>> = OnceLock::new();
    PROOF.get_or_init(|| {
        let (r, s) = randomness(1);
        ark_proof(&uniform_keys().ark(), uniform(), r, s)
    })
}

/// What a proof was, and whether it was made out of core.
struct Made {
    bytes: Vec<u8>,
    out_of_core: bool,
}

/// Limits from the smallest (0) to the smallest that does without spilling (100).
fn limit(keys: &Keys, share: usize) -> usize {
    let (key, matrices) = keys.open();
    plimsoll_arena::os::trim_heap();
    let used = Meter::live().expect("meter").rss_bytes().expect("RSS") as usize + DRIFT_BYTES;
    let shape = Shape::of(&key, Some(&matrices));
    let threads = rayon::current_num_threads();
    let least = ProofPlan::smallest(&shape, used, threads, true);
    assert!(least.split().is_some(), "out of core takes less");
    let in_core = ProofPlan::in_core(&shape, used, CHUNK_LEN_MIN, threads).minimum_bytes();
    let least = least.minimum_bytes();
    least + (in_core - least) / 100 * share
}

fn runtime(limit: usize, options: SpillOptions) -> Runtime {
    Runtime::builder()
        .own_limit()
        .limit_bytes(limit as u64)
        .spill(options)
        .build()
        .expect("runtime")
}

fn prove<C>(runtime: &Runtime, keys: &Keys, circuit: C) -> Result<Made, ProveError>
where
    C: ConstraintSynthesizer<Fr>,
{
    let (key, matrices) = keys.open();
    let prover = Prover::new(runtime, &key, Some(&matrices))?;
    let out_of_core = prover.plan().split().is_some();
    let (r, s) = randomness(1);
    let assignment = prover.assign_circuit(circuit)?;
    prover.prove(assignment, r, s).map(|proof| Made { bytes: bytes(&proof), out_of_core })
}

/// Threads and a share for [`limit`]: from the smallest limit up, on one thread and two in turns.
const RUNS: [(usize, usize); 4] = [(1, 0), (2, 10), (1, 30), (2, 60)];

/// Proves at several limits, each on so many threads; returns what the tiers did in each proof that
/// was made out of core.
fn sweep<C>(
    keys: &Keys,
    (circuit, expected): (&C, &[u8]),
    options: &SpillOptions,
    runs: &[(usize, usize)],
) -> Vec<SpillStats>
where
    C: ConstraintSynthesizer<Fr> + Clone + Send + Sync,
{
    let mut all = Vec::new();
    for &(count, share) in runs {
        let (made, stats) = threads(count).install(|| {
            let runtime = runtime(limit(keys, share), options.clone());
            let made = prove(&runtime, keys, circuit.clone()).expect("proof");
            let stats = settled(&runtime);
            assert!(runtime.pool().check() && runtime.secret_pool().check());
            (made, stats)
        });
        assert_eq!(made.bytes, expected, "{count} threads, {share} % above the smallest");
        let kept = (stats.resident_bytes, stats.packed_bytes, stats.file_bytes);
        assert_eq!(kept, (0, 0, 0), "nothing is kept");
        if made.out_of_core {
            all.push(stats);
        }
    }
    assert!(all.len() >= 2, "the smallest limits ask for it: {}", all.len());
    all
}

/// Why a tier cannot keep a witness that does not pack: none is set up, or it is zram, which takes
/// as much of the memory for it.
fn unusable(tier: SpillTier) -> Option<String> {
    let store = Store::builder().spill_tier(tier).build();
    match store.map(|store| store.takes_secrets()) {
        _ if tier != SpillTier::Kernel => None,
        Err(why) => Some(why.to_string()),
        Ok(Ok(())) => Some("zram takes as much memory as it saves of such a witness".to_owned()),
        Ok(Err(_)) => None,
    }
}

#[test]
fn bytes_are_the_same_at_every_limit_for_a_witness_that_does_not_pack() {
    let _alone = alone();
    let keys = uniform_keys();
    let folder = folder();
    for tier in SpillTier::ALL {
        let options = SpillOptions::new(folder.path()).tier(tier);
        let options = match tier {
            // Sealed: where the swap is on a disk, no other witness goes there.
            SpillTier::Kernel => options.encryption(Encryption::On),
            _ => options,
        };
        if let Some(why) = unusable(tier) {
            skipped(&format!("the spill tier `{}`", tier.name()), why);
            continue;
        }
        // What a limit asks of the tier differs little between the two smallest and the others.
        let runs = if tier == SpillTier::File { &RUNS[..] } else { &RUNS[..2] };
        let stats = sweep(keys, (&uniform(), uniform_proof()), &options, runs);
        let moved = stats.iter().all(|s| s.spilled_total > 0 && s.loaded_total > 0);
        assert!(moved, "{tier:?}: {stats:?}");
        assert!(stats.iter().any(|s| s.read_ahead_hits > 0), "{tier:?}: {stats:?}");
        let left = std::fs::read_dir(folder.path()).expect("the folder").count();
        assert_eq!(left, 0, "{tier:?}: the spill file has no name");
    }
}

#[test]
fn bytes_are_the_same_at_every_limit_for_a_witness_of_bits_encrypted() {
    let _alone = alone();
    let circuit = Sha256Chain::new([9; 32], 6);
    let keys = Keys::make(circuit.clone());
    let folder = folder();
    let options = SpillOptions::new(folder.path()).encryption(Encryption::On);
    let (r, s) = randomness(1);
    let expected = ark_proof(&keys.ark(), circuit.clone(), r, s);
    let stats = sweep(&keys, (&circuit, &expected), &options, &RUNS);
    assert!(stats.iter().all(|s| s.packed_total > 0 && s.spilled_total > 0), "{stats:?}");
}

#[test]
fn an_unsatisfied_witness_is_named_out_of_core_too() {
    let _alone = alone();
    let keys = uniform_keys();
    let folder = folder();
    let runtime = runtime(limit(keys, 20), SpillOptions::new(folder.path()));
    let (key, matrices) = keys.open();
    let prover = Prover::new(&runtime, &key, Some(&matrices)).expect("prover");
    let right = prover.assign_circuit(uniform()).expect("assignment");
    let mut values = vec![Fr::default(); right.len()];
    let copied = right.for_each_piece(0..right.len(), 1 << 12, |start, piece| {
        values[start..start + piece.len()].copy_from_slice(piece);
        Ok(())
    });
    copied.expect("it can be read");
    drop(right);
    // Variable 0 is the one, 1 the public input, 2 the secret: variable 60_003 is link 60_001.
    values[60_003] += Fr::one();
    let len = prover.plan().segment_len();
    let wrong = Assignment::try_fill(&runtime, values.len(), len, |start, segment| {
        segment.copy_from_slice(&values[start..start + segment.len()]);
        Ok(())
    });
    drop(std::mem::take(&mut values));
    match prover.prove(wrong.expect("assignment"), Fr::one(), Fr::one()) {
        Err(ProveError::Unsatisfied { row }) => assert!(row == 60_000 || row == 60_001, "{row}"),
        other => panic!("{other:?}"),
    }
}

/// The assignment of a circom fixture in segments of `segment_len`: in more than one, it is not
/// brought together, and the quotient is made out of core.
fn circom_proof(name: &str, segment_len: usize) -> Vec<u8> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/circom");
    let key = KeyFile::open_zkey(&fixtures.join(format!("{name}.zkey"))).expect("a key");
    let witness = WitnessFile::open(&fixtures.join(format!("{name}.wtns"))).expect("a witness");
    let runtime = Runtime::builder().own_limit().build().expect("a runtime");
    let prover = Prover::new(&runtime, &key, None).expect("prover");
    let assignment = Assignment::try_fill(&runtime, witness.len(), segment_len, |start, values| {
        Ok(witness.read(start, values)?)
    });
    let (r, s) = randomness(1);
    bytes(&prover.prove(assignment.expect("assignment"), r, s).expect("a proof that verifies"))
}

#[test]
fn circom_proofs_are_the_same_from_an_assignment_in_segments() {
    let _alone = alone();
    for name in ["multiplier", "publics"] {
        let expected = circom_proof(name, usize::MAX);
        for segment_len in [1, 2, 5] {
            assert_eq!(circom_proof(name, segment_len), expected, "{name}, {segment_len}");
        }
    }
}

/// Looks at every stage for elements of the witness in the spill file, by its descriptor.
struct Spy {
    folder: PathBuf,
    witness: HashSet<[u8; 32]>,
    /// Bytes of the file that were looked at, and elements found in them.
    seen: AtomicU64,
    found: AtomicU64,
}

impl Spy {
    fn new(folder: &Path, witness: HashSet<[u8; 32]>) -> Self {
        let folder = folder.canonicalize().expect("a folder");
        Self { folder, witness, seen: AtomicU64::new(0), found: AtomicU64::new(0) }
    }

    /// Looks at the file as it is now, a little at a time: the limit counts the test's memory too.
    fn look(&self) {
        let descriptors = std::fs::read_dir("/proc/self/fd").expect("procfs");
        let ours = |path: &PathBuf| {
            std::fs::read_link(path).is_ok_and(|target| target.starts_with(&self.folder))
        };
        let file = descriptors.map(|entry| entry.expect("an entry").path()).find(ours);
        let file = std::fs::File::open(file.expect("the spill file")).expect("readable");
        let (mut part, mut at) = (vec![0; 64 << 10], 0);
        loop {
            let bytes = file.read_at(&mut part, at).expect("its bytes");
            if bytes == 0 {
                break;
            }
            // A payload begins at a multiple of 32, and its elements are as in memory.
            let lanes = part[..bytes].chunks_exact(32);
            let found = lanes.filter(|lane| self.witness.contains(*lane)).count();
            self.found.fetch_add(found as u64, Ordering::Relaxed);
            at += bytes as u64;
        }
        self.seen.fetch_max(at, Ordering::Relaxed);
    }
}

impl Progress for Spy {
    fn stage(&self, _name: &str, _index: usize, _count: usize) {
        self.look();
    }
    fn advance(&self, _done: usize, _total: usize) {}
}

/// Some hundred elements of an assignment, as they are in memory.
fn sample(assignment: &Assignment) -> HashSet<[u8; 32]> {
    let mut lanes = HashSet::new();
    let taken = assignment.for_each_piece(10..assignment.len(), 512, |_, piece| {
        let limbs = piece[0].0.0.map(u64::to_le_bytes);
        lanes.insert(limbs.concat().try_into().expect("four limbs of eight bytes"));
        Ok(())
    });
    taken.expect("it can be read");
    lanes
}

#[test]
fn the_spill_file_shows_the_witness_only_without_encryption() {
    let _alone = alone();
    let keys = uniform_keys();
    let (r, s) = randomness(1);
    for (encryption, readable) in [(Encryption::Off, true), (Encryption::On, false)] {
        let folder = folder();
        let options = SpillOptions::new(folder.path()).encryption(encryption);
        let runtime = runtime(limit(keys, 10), options);
        let (key, matrices) = keys.open();
        let prover = Prover::new(&runtime, &key, Some(&matrices)).expect("prover");
        assert!(prover.plan().split().is_some(), "out of core");
        let assignment = prover.assign_circuit(uniform()).expect("assignment");
        let spy = Spy::new(folder.path(), sample(&assignment));
        let prover = prover.progress(&spy);
        prover.prove(assignment, r, s).expect("proof");
        spy.look();
        assert!(runtime.spill_stats().spilled_total > 0 && spy.witness.len() > 100);
        assert!(
            spy.seen.load(Ordering::Relaxed) > 1 << 20,
            "{encryption:?}: the file was not seen"
        );
        assert_eq!(spy.found.load(Ordering::Relaxed) > 0, readable, "{encryption:?}");
    }
}

/// Whether a proof ended in one of the errors that a failing disk may give.
fn is_disk_error(error: &ProveError) -> bool {
    let text = error.to_string();
    assert!(!text.is_empty());
    match error {
        ProveError::Runtime(error) => {
            matches!(error, Error::Spill(_) | Error::SpillStopped { .. } | Error::OverLimit { .. })
        }
        ProveError::Tiles(_) | ProveError::OutOfCore(_) => true,
        _ => false,
    }
}

#[test]
fn a_failing_disk_gives_an_error_or_the_right_proof() {
    let _alone = alone();
    let keys = uniform_keys();
    let expected = uniform_proof();
    let folder = folder();
    let (mut proved, mut failed) = (0, 0);
    for seed in (0..12).step_by(2) {
        println!("SEED={seed}");
        // From a fault in every tenth call to one in ten thousand.
        let plan = FaultPlan::Seeded { seed, one_in: 10 << seed };
        let file = SpillFile::open(folder.path(), RamDisk::Refuse).expect("a spill file");
        let options = SpillOptions::packed_only().backend(Arc::new(Faulty::new(file, plan)));
        let runtime = runtime(limit(keys, 10), options);
        match prove(&runtime, keys, uniform()) {
            Ok(made) => {
                assert_eq!(made.bytes, expected, "seed {seed}");
                proved += 1;
            }
            Err(error) => {
                assert!(is_disk_error(&error), "seed {seed}: {error:?}");
                failed += 1;
            }
        }
    }
    assert!(proved > 0 && failed > 0, "{proved} proofs, {failed} errors");
}
