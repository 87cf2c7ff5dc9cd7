//! Many proofs at once have the bytes that each has alone; what they hold comes back.

use ark_bn254::Fr;
use ark_ff::UniformRand;
use plimsoll::Runtime;
use plimsoll::groth16::batch::Batch;
use plimsoll::groth16::circuit::SquaringChain;
use plimsoll::groth16::error::ProveError;
use plimsoll::permit::Permit;
use plimsoll::spill::SpillOptions;
use plimsoll_test_support::{Keys, ark_proof, bytes, randomness};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::sync::Mutex;

fn circuit(seed: u64) -> SquaringChain {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    SquaringChain::new(Fr::rand(&mut rng), 5000)
}

#[test]
fn proofs_of_a_batch_have_the_bytes_of_proofs_made_alone() {
    let keys = Keys::make(circuit(0));
    let ark = keys.ark();
    let (key, matrices) = keys.open();
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let runtime = Runtime::builder()
        .own_limit()
        .limit_bytes(8 << 30)
        .spill(SpillOptions::new(folder.path()))
        .build()
        .expect("a runtime");
    let begun = Mutex::new(Vec::new());
    for at_most in [1, 3] {
        let batch = Batch::new(&runtime, &key, Some(&matrices)).expect("it fits").at_most(at_most);
        let seeds: Vec<u64> = (0..6).collect();
        let made = batch.run(&seeds, |job, seed| {
            begun.lock().expect("no panic").push(job.index);
            if *seed == 3 {
                return Err(ProveError::Unsatisfied { row: 3 });
            }
            let (r, s) = randomness(*seed);
            let prover = job.prover()?;
            let assignment = prover.assign_circuit(circuit(*seed))?;
            let proof = prover.prove(assignment, r, s)?;
            assert_eq!(job.permit.is_some(), at_most > 1);
            if let Some(report) = job.permit.map(Permit::report) {
                assert!(report.peak_bytes > 0 && report.outgrown_bytes == 0, "{report:?}");
            }
            Ok(bytes(&proof))
        });
        assert_eq!(made.len(), seeds.len());
        for (seed, made) in seeds.into_iter().zip(made) {
            let (r, s) = randomness(seed);
            match made {
                Ok(made) => assert!(made == ark_proof(&ark, circuit(seed), r, s), "seed {seed}"),
                Err(error) => assert_eq!((seed, error.is_short_of_memory()), (3, false), "{error}"),
            }
        }
        let mut order = std::mem::take(&mut *begun.lock().expect("no panic"));
        if at_most > 1 {
            order.sort_unstable();
        }
        assert_eq!(order, [0, 1, 2, 3, 4, 5]);
        assert_eq!(runtime.waiting_for_permits(), 0);
    }
    // Every permit is back: nothing is held.
    let held: u64 =
        runtime.held().iter().filter(|h| h.name.starts_with("vec")).map(|h| h.bytes).sum();
    assert_eq!(held, 0, "{:?}", runtime.held());
}

#[test]
fn a_proof_that_panics_gives_its_permit_back() {
    let keys = Keys::make(circuit(0));
    let (key, matrices) = keys.open();
    let runtime = Runtime::builder().own_limit().build().expect("a runtime");
    let batch = Batch::new(&runtime, &key, Some(&matrices)).expect("it fits").at_most(2);
    let ran = Mutex::new(0);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        batch.run(&[0, 1, 2, 3], |job, _| -> Result<(), ProveError> {
            *ran.lock().expect("no panic under it") += 1;
            let _assignment = job.prover()?.assign_circuit(circuit(0))?;
            assert!(job.index != 1, "the second fails");
            Ok(())
        })
    }));
    assert!(panicked.is_err());
    // One thread of two is gone; the other has made the rest.
    assert_eq!(ran.into_inner().expect("no panic under it"), 4);
    let before = runtime.counted_bytes();
    let limit = before + (1 << 30);
    runtime.set_limit_bytes(Some(limit));
    assert!(runtime.try_permit("all", (1 << 30) - (1 << 28)).expect("no error").is_some());
}
