//! The programs that `plimsoll check` checks in these tests. Each is an ignored test, so that it
//! can be run by its name in a process of its own.

use ark_bn254::Fr;
use ark_ff::UniformRand;
use plimsoll::groth16::circuit::SquaringChain;
use plimsoll::groth16::key::KeyFile;
use plimsoll::groth16::prover::{Progress, Prover};
use plimsoll::groth16::r1cs::MatrixFile;
use plimsoll::groth16::setup::setup;
use plimsoll::{PoolVec, Runtime};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::path::Path;
use std::sync::Mutex;

/// `STAGE=BYTES`: that stage takes so many bytes more.
pub(super) const PLANT: &str = "PLIMSOLL_TEST_PLANT";

/// The stages of `three_stages`, with the bytes of vectors that each takes.
pub(super) const STAGES: [(&str, u64); 3] =
    [("load", 6 << 20), ("fold", 16 << 20), ("open", 2 << 20)];

/// Bytes that are planted in `stage`.
fn planted(stage: &str) -> usize {
    let plant = std::env::var(PLANT).unwrap_or_default();
    let Some((name, bytes)) = plant.split_once('=') else { return 0 };
    if name == stage { bytes.parse().expect("a count of bytes") } else { 0 }
}

#[test]
#[ignore = "a program that other tests run"]
fn three_stages() {
    let runtime = Runtime::builder().build().expect("a runtime");
    for (name, bytes) in STAGES {
        let _stage = runtime.stage(name, bytes).expect("no limit");
        let column = |bytes| runtime.pool().try_zeroed::<u8>(bytes).expect("no limit");
        let halves = [column(bytes as usize / 2), column(bytes as usize / 2)];
        drop((halves, (planted(name) > 0).then(|| column(planted(name)))));
    }
}

/// Holds what is planted in a stage from its beginning to the next one's.
struct Plant<'a> {
    runtime: &'a Runtime,
    held: Mutex<Option<PoolVec<u8>>>,
}

impl Progress for Plant<'_> {
    fn stage(&self, name: &str, _index: usize, _count: usize) {
        let mut held = self.held.lock().expect("no panic under it");
        *held = None;
        if planted(name) > 0 {
            *held = Some(self.runtime.pool().try_zeroed(planted(name)).expect("no limit"));
        }
    }

    fn advance(&self, _done: usize, _total: usize) {}
}

/// The key of a small circuit, made once for all runs.
fn key() -> (KeyFile, MatrixFile) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("check-key");
    std::fs::create_dir_all(&folder).expect("a folder");
    let (key, matrices) = (folder.join("chain.pk"), folder.join("chain.matrices"));
    if !matrices.exists() {
        // In a folder of its own first: two programs at once must not see half a key.
        let own = tempfile::tempdir_in(&folder).expect("a folder");
        let made = ["chain.pk", "chain.matrices"].map(|name| own.path().join(name));
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        setup(circuit(), &mut rng, &made[0], &made[1]).expect("a key");
        std::fs::rename(&made[0], &key).expect("renamed");
        std::fs::rename(&made[1], &matrices).expect("renamed");
    }
    let open = (KeyFile::open_arkworks(&key), MatrixFile::open(&matrices));
    (open.0.expect("the key just made"), open.1.expect("the matrices just made"))
}

fn circuit() -> SquaringChain {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    SquaringChain::new(Fr::rand(&mut rng), 20_000)
}

#[test]
#[ignore = "a program that other tests run"]
fn proof() {
    let (key, matrices) = key();
    let threads = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    threads.install(|| {
        let runtime = Runtime::builder().limit_bytes(1 << 30).build().expect("a runtime");
        let plant = Plant { runtime: &runtime, held: Mutex::new(None) };
        let prover = Prover::new(&runtime, &key, Some(&matrices)).expect("a prover");
        let prover = prover.progress(&plant);
        let assignment = prover.assign_circuit(circuit()).expect("an assignment");
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        prover.prove(assignment, Fr::rand(&mut rng), Fr::rand(&mut rng)).expect("a proof");
    });
}
