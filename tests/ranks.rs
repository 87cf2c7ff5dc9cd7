//! One proof by several ranks: the bytes of one alone, whatever the ranks and their limits; and one
//! rank's fault is everybody's, wherever it comes.
//!
//! Ranks are threads here. Each has a permit of its own, which is a limit for vectors.
#![cfg(feature = "groth16")]

use ark_bn254::Fr;
use plimsoll::Runtime;
use plimsoll::groth16::circom::wtns::WitnessFile;
use plimsoll::groth16::circuit::SquaringChain;
use plimsoll::groth16::error::ProveError;
use plimsoll::groth16::key::{KeyFile, Query};
use plimsoll::groth16::plan::{ProofPlan, Shape};
use plimsoll::groth16::prover::{Progress, Prover, fingerprint};
use plimsoll::groth16::shard::Shard;
use plimsoll::ntt::Ranks;
use plimsoll::ranks::{Alone, Exchange, ExchangeError, Local, Refusal, RefusalKind, Threads};
use plimsoll::spill::{SpillOptions, SpillStats};
use plimsoll::tiles::Share;
use plimsoll_test_support::{Keys, ark_proof, bytes, randomness, threads};
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

fn circuit(log_n: u32) -> SquaringChain {
    SquaringChain::filling(Fr::from(3u64), log_n)
}

fn on_ranks<T: Send>(ranks: usize, work: impl Fn(Threads) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let on_one = move |rank| threads(1).install(|| work(rank));
        let threads: Vec<_> =
            Threads::new(ranks).into_iter().map(|rank| scope.spawn(move || on_one(rank))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

fn runtime(options: SpillOptions) -> Runtime {
    Runtime::builder().own_limit().spill(options).build().expect("a runtime")
}

/// A rank's proof, with what its spill tier did and the tiles that it sent.
struct Made {
    proof: Vec<u8>,
    spilled: SpillStats,
    sent_bytes: u64,
}

/// Makes a rank's part of a proof in vectors of `part` times the smallest permit.
fn prove(
    exchange: &mut dyn Exchange,
    (keys, log_n): (&Keys, u32),
    options: SpillOptions,
    part: f64,
) -> Result<Made, ProveError> {
    let (key, matrices) = keys.open();
    let runtime = runtime(options);
    let shape = Shape::of(&key, Some(&matrices));
    let ranks = Ranks { count: exchange.ranks(), ..Ranks::ALONE };
    let share = Share::new(exchange.rank(), exchange.ranks()).expect("a rank");
    let threads = rayon::current_num_threads();
    let smallest = ProofPlan::smallest_of_ranks(&shape, [0, threads], true, ranks)?;
    let permit_bytes = (smallest.vector_bytes() as f64 * part) as u64;
    let permit = runtime.permit("rank", permit_bytes).expect("no limit");
    let prover = Prover::over(permit.runtime(), &key, Some(&matrices), exchange)?;
    let (r, s) = randomness(1);
    let assignment = prover.assign_circuit(circuit(log_n))?;
    let proof = prover.prove(assignment, r, s)?;
    let report = permit.report();
    assert!(report.peak_bytes <= permit_bytes, "{report:?}");
    let planned = prover.plan().sent_bytes(&shape, share);
    assert_eq!(prover.sent_bytes(), planned, "the plan says what is sent");
    let spilled = permit.runtime().spill_stats();
    Ok(Made { proof: bytes(&proof), spilled, sent_bytes: planned })
}

#[test]
fn bytes_are_those_of_one_alone_for_any_number_of_ranks_at_three_limits() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let options = SpillOptions::new(folder.path());
    for (log_n, parts) in [(10, &[1.0][..]), (12, &[1.0, 1.5, 8.0])] {
        let keys = Keys::make(circuit(log_n));
        let (r, s) = randomness(1);
        let expected = ark_proof(&keys.ark(), circuit(log_n), r, s);
        for &part in parts {
            let alone = prove(&mut Alone, (&keys, log_n), options.clone(), part).expect("a proof");
            assert!(alone.proof == expected && alone.sent_bytes == 0, "alone, {part}");
            for ranks in [2, 3, 4, 8] {
                let all = on_ranks(ranks, |mut exchange| {
                    prove(&mut exchange, (&keys, log_n), options.clone(), part).expect("a proof")
                });
                for (rank, made) in all.iter().enumerate() {
                    let at = format!("2^{log_n}, rank {rank} of {ranks}, {part} of the least");
                    assert!(made.proof == expected, "{at}");
                    assert!(made.sent_bytes > 0, "{at}");
                }
            }
        }
    }
}

#[test]
fn tiles_that_do_not_fit_leave_on_either_side_of_a_turn() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let log_n = 15;
    let keys = Keys::make(circuit(log_n));
    let (r, s) = randomness(1);
    let expected = ark_proof(&keys.ark(), circuit(log_n), r, s);
    let all = on_ranks(2, |mut exchange| {
        let options = SpillOptions::new(folder.path()).packed_limit_bytes(0);
        prove(&mut exchange, (&keys, log_n), options, 1.0).expect("a proof")
    });
    for made in all {
        assert!(made.proof == expected, "another proof");
        assert!(made.spilled.spilled_total > 0 && made.spilled.loaded_total > 0);
    }
}

#[test]
fn a_circom_key_is_proved_by_two_ranks() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/circom");
    let key = KeyFile::open_zkey(&fixtures.join("publics.zkey")).expect("a key");
    let witness = WitnessFile::open(&fixtures.join("publics.wtns")).expect("a witness");
    let prove = |exchange: &mut dyn Exchange| {
        let runtime = runtime(SpillOptions::packed_only());
        let prover = Prover::over(&runtime, &key, None, exchange).expect("a prover");
        let (r, s) = randomness(2);
        let assignment = prover.assign_witness(&witness).expect("an assignment");
        bytes(&prover.prove(assignment, r, s).expect("a proof"))
    };
    let expected = prove(&mut Alone);
    let all = on_ranks(2, |mut exchange| prove(&mut exchange));
    assert_eq!(all, [expected.clone(), expected]);
    // There are not that many columns.
    let errors = on_ranks(9, |mut exchange| {
        let runtime = runtime(SpillOptions::packed_only());
        Prover::over(&runtime, &key, None, &mut exchange).expect_err("too many").to_string()
    });
    assert!(errors.iter().all(|why| why.contains("rank 0: ") && why.contains("at most")));
}

/// A rank that fails at its `at`th look at the others.
struct Failing {
    inner: Threads,
    at: Option<usize>,
}

impl Exchange for Failing {
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
        self.inner.pass(to, from)
    }

    fn sent_bytes(&self) -> u64 {
        self.inner.sent_bytes()
    }

    fn agree(&mut self, mine: Result<(), Refusal>) -> Result<(), ExchangeError> {
        let rank = self.rank();
        let fails = self.at == Some(0);
        self.at = self.at.and_then(|at| at.checked_sub(1));
        let why = "planted".to_owned();
        let planted = || Err(Refusal { rank, kind: RefusalKind::Memory, why });
        self.inner.agree(if fails { planted() } else { mine })
    }
}

#[test]
fn a_rank_that_fails_at_any_exchange_ends_all_with_its_error() {
    let log_n = 6;
    let keys = Keys::make(circuit(log_n));
    let mut exchanges = 0;
    for (ranks, bad) in [(2, 1), (3, 0)] {
        for at in 0.. {
            let all = on_ranks(ranks, |inner| {
                let at = (inner.rank() == bad).then_some(at);
                let mut exchange = Failing { inner, at };
                prove(&mut exchange, (&keys, log_n), SpillOptions::packed_only(), 8.0)
            });
            let failed = all.iter().filter(|made| made.is_err()).count();
            if failed == 0 {
                break;
            }
            exchanges += 1;
            for made in all {
                let Err(error) = made else { panic!("{failed} of {ranks} failed at {at}") };
                assert!(error.is_short_of_memory(), "{error}");
                assert_eq!(error.to_string(), format!("rank {bad}: planted"), "at {at}");
            }
        }
    }
    assert!(exchanges > 50, "{exchanges}");
}

/// What the error of a key with a damaged point of L says.
const DAMAGED: &str = "l_query: point";

/// A rank that tells `told` when its refusal is where the next one can see it.
struct Telling {
    inner: Threads,
    told: Sender<()>,
}

impl Exchange for Telling {
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
        let says =
            to.is_some_and(|(_, message)| String::from_utf8_lossy(message).contains(DAMAGED));
        self.inner.pass(to, None)?;
        if says {
            let _ = self.told.send(());
        }
        self.inner.pass(None, from)
    }

    fn sent_bytes(&self) -> u64 {
        self.inner.sent_bytes()
    }
}

/// Goes on from the sum of B1 when another rank has told that it failed.
struct Listening {
    told: Mutex<Receiver<()>>,
    stage: Mutex<String>,
    after: Mutex<Vec<String>>,
}

impl Progress for Listening {
    fn stage(&self, name: &str, _index: usize, _count: usize) {
        name.clone_into(&mut self.stage.lock().expect("no panic"));
    }

    fn advance(&self, _done: usize, _total: usize) {
        let stage = self.stage.lock().expect("no panic").clone();
        let mut after = self.after.lock().expect("no panic");
        if stage == "msm B1" {
            let _ = self.told.lock().expect("no panic").recv();
            after.push(stage);
        } else if !after.is_empty() {
            after.push(stage);
        }
    }
}

/// Damages the last point of L, at the end of the file, which the last rank reads.
fn damage_l(keys: &Keys) {
    let mut bytes = std::fs::read(&keys.key_path).expect("the key");
    let end = bytes.len();
    bytes[end - 32..].fill(0x3f);
    std::fs::write(&keys.key_path, bytes).expect("the key");
}

#[test]
fn a_sum_is_broken_off_when_another_rank_has_failed_in_one() {
    let log_n = 6;
    let keys = Keys::make(circuit(log_n));
    damage_l(&keys);
    let (told, heard) = channel();
    let (told, heard) = (Mutex::new(Some(told)), Mutex::new(Some(heard)));
    let errors = on_ranks(2, |inner| {
        let (key, matrices) = keys.open();
        let runtime = runtime(SpillOptions::packed_only());
        let (r, s) = randomness(1);
        let work = |exchange: &mut dyn Exchange, progress: &dyn Progress| {
            let prover = Prover::over(&runtime, &key, Some(&matrices), exchange);
            let prover = prover.expect("a prover").progress(progress);
            let assignment = prover.assign_circuit(circuit(log_n)).expect("an assignment");
            prover.prove(assignment, r, s).expect_err("a damaged key").to_string()
        };
        if inner.rank() == 1 {
            let told = told.lock().expect("no panic").take().expect("once");
            let mut exchange = Telling { inner, told };
            return work(&mut exchange, &());
        }
        let told = Mutex::new(heard.lock().expect("no panic").take().expect("once"));
        let listening = Listening { told, stage: Mutex::default(), after: Mutex::default() };
        let mut exchange = inner;
        let error = work(&mut exchange, &listening);
        // None if the other was first, and not one more after it was told.
        let after = listening.after.lock().expect("no panic");
        assert!(after.len() <= 1, "{after:?}");
        error
    });
    assert!(errors[0].starts_with("rank 1: ") && errors[0].contains(DAMAGED), "{errors:?}");
    assert_eq!(errors[0], errors[1]);
}

#[test]
fn ranks_with_other_keys_or_assignments_are_told_before_the_work() {
    let keys = [Keys::make(circuit(6)), Keys::make(circuit(7))];
    let errors = on_ranks(2, |mut exchange| {
        let (key, matrices) = keys[exchange.rank()].open();
        let runtime = runtime(SpillOptions::packed_only());
        let error = Prover::over(&runtime, &key, Some(&matrices), &mut exchange).expect_err("no");
        error.to_string()
    });
    let expected = "rank 1: the key differs from that of rank 0; give all ranks the same";
    assert_eq!(errors, [expected, expected]);
    let errors = on_ranks(3, |mut exchange| {
        let secret = Fr::from(if exchange.rank() == 2 { 4u64 } else { 3 });
        let (key, matrices) = keys[0].open();
        let runtime = runtime(SpillOptions::packed_only());
        let prover = Prover::over(&runtime, &key, Some(&matrices), &mut exchange).expect("one key");
        let assignment = prover.assign_circuit(SquaringChain::filling(secret, 6)).expect("one");
        let (r, s) = randomness(1);
        prover.prove(assignment, r, s).expect_err("two witnesses").to_string()
    });
    assert!(errors.iter().all(|why| why.starts_with("rank 2: the assignment differs")));
}

#[test]
fn shards_of_all_sums_join_to_the_proof_of_one_alone() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/circom");
    let key = KeyFile::open_zkey(&fixtures.join("publics.zkey")).expect("a key");
    let witness = WitnessFile::open(&fixtures.join("publics.wtns")).expect("a witness");
    let runtime = runtime(SpillOptions::packed_only());
    let prover = Prover::new(&runtime, &key, None).expect("a prover");
    let assign = || prover.assign_witness(&witness).expect("an assignment");
    let (r, s) = randomness(3);
    let expected = bytes(&prover.prove(assign(), r, s).expect("a proof"));
    let assignment = assign();
    let public = assignment.first(key.public_inputs() + 1).expect("inputs").split_off(1);
    let mut shards = Vec::new();
    for query in Query::ALL {
        let parts = if query == Query::H { 2 } else { 3 };
        for part in 0..parts {
            let share = Share::new(part, parts).expect("a part");
            let made = prover.shard(&assignment, query, share).expect("a shard");
            assert!(made.is_of(query, share, fingerprint(&key)));
            let read = Shard::from_json(&made.to_json()).expect("its own words");
            assert_eq!(read, made);
            shards.push(read);
        }
    }
    let join = |shards: &[Shard]| prover.join(shards, &public, r, s);
    assert_eq!(bytes(&join(&shards).expect("a proof")), expected);
    shards.reverse();
    assert_eq!(bytes(&join(&shards).expect("in any order")), expected);
    let refused = |shards: &[Shard]| join(shards).expect_err("refused").to_string();
    assert!(refused(&shards[1..]).contains("must be there once"), "one is missing");
    let twice = [&shards[..], &shards[..1]].concat();
    assert!(refused(&twice).contains("must be there once"), "one is there twice");
    assert!(refused(&[]).contains("none to join"));
    // A byte that changed is found before anything is added.
    let text = shards[0].to_json();
    for at in 0..text.trim_end().len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        let damaged = String::from_utf8(bytes).expect("ASCII");
        assert!(Shard::from_json(&damaged).is_err(), "{damaged}");
    }
}
