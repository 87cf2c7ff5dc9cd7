//! Runs by a plan, a right one or any other: the bytes are right, and a wrong plan is soon left.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use nix::libc;
use plimsoll_arena::process::skipped;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use super::ids::{ChunkId, Id};
use super::plan::{NEVER, Plan};
use super::queues::DataQueue;
use super::replay::{Course, PASSED_MAX, Replay};
use super::space::{ALL, GRANULES, Mask};
use super::tests::{GRANULE_WORDS, built, check, pattern, seed, words};
use super::trace::{EVENT_WORDS, Events, FRAME_BYTES, header, seal_frame};
use super::*;
use crate::file::RamDisk;

const MIB: usize = 1 << 20;

/// A vector that is large enough to begin a proof.
const VECTOR: usize = 80 * MIB;
const VECTOR_GRANULES: usize = VECTOR / GRANULE_BYTES;

fn pager_by(plan: Option<PlanUse>) -> Option<Pager> {
    let folder = std::env::temp_dir();
    let builder = Pager::builder().range_bytes(96 * MIB).budget_bytes(24 * MIB);
    let builder = builder.folder(&folder).ram_disk(RamDisk::Accept);
    built(match plan {
        Some(plan) => builder.plan(plan),
        None => builder,
    })
}

/// The order in which a proof comes to the granules of its vector: each round another one.
fn rounds(count: u64) -> Vec<Vec<usize>> {
    let order = |round| {
        let mut granules: Vec<usize> = (0..VECTOR_GRANULES).collect();
        granules.shuffle(&mut ChaCha8Rng::seed_from_u64(round));
        granules
    };
    (0..count).map(order).collect()
}

/// Reads and writes the granules of one round, which other threads leave alone.
fn go_through(words: &[std::sync::atomic::AtomicU64], granules: &[usize], round: u64) {
    for granule in granules {
        for i in (granule * GRANULE_WORDS..(granule + 1) * GRANULE_WORDS).step_by(509) {
            let expected = if round == 0 { 0 } else { pattern(i, round) };
            assert_eq!(words[i].load(Relaxed), expected, "word {i}, round {round}");
            words[i].store(pattern(i, round + 1), Relaxed);
        }
    }
}

/// A proof in a vector that comes and goes. Each thread goes through its part of every round;
/// `swapped`, the second part is gone through first.
fn prove(pager: &Pager, rounds: &[Vec<usize>], threads: usize, swapped: bool) {
    pager.live(pager.base(), VECTOR);
    // SAFETY: nobody else uses the range, and its contents are of no use yet.
    unsafe { pager.discard(pager.base(), VECTOR) };
    pager.placed(pager.base(), VECTOR);
    let words = words(pager);
    for (round, granules) in rounds.iter().enumerate() {
        std::thread::scope(|scope| {
            let mut parts: Vec<&[usize]> =
                granules.chunks(granules.len().div_ceil(threads)).collect();
            if swapped {
                parts.reverse();
            }
            for part in parts {
                let work = move || go_through(words, part, round as u64);
                if threads > 1 {
                    scope.spawn(work);
                } else {
                    work();
                }
            }
        });
    }
    check(pager);
    // SAFETY: the proof is over, and nobody uses its vector.
    unsafe { pager.dead(pager.base(), VECTOR) };
}

/// A proof that was recorded.
struct Learnt {
    path: PathBuf,
    rounds: Vec<Vec<usize>>,
    /// Goes with its files.
    folder: TempDir,
}

/// Records a proof of so many rounds, if there can be a pager.
fn learn(count: u64, threads: usize) -> Option<Learnt> {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, rounds) = (folder.path().join("run.trace"), rounds(count));
    let pager = pager_by(Some(PlanUse::Learn(path.clone())))?;
    prove(&pager, &rounds, threads, false);
    Some(Learnt { path, rounds, folder })
}

fn course(pager: &Pager) -> Course {
    pager.engine().core.lock().replay.course()
}

#[test]
fn a_run_by_the_plan_of_an_equal_one_reads_less() {
    let Some(Learnt { path, rounds, folder: _folder }) = learn(8, 1) else { return };
    let read = |plan: Option<PlanUse>| {
        let pager = pager_by(plan).expect("a pager, as before");
        // The second proof of a process goes by the same plan.
        prove(&pager, &rounds, 1, false);
        prove(&pager, &rounds, 1, false);
        (pager.stats(), course(&pager))
    };
    let (free, none) = read(None);
    let (planned, course) = read(Some(PlanUse::Follow(path)));
    eprintln!("{free:?}\n{planned:?}");
    assert_eq!((none, course), (Course::Free, Course::Planned));
    assert_eq!((free.planned_bytes, free.plan_waste_bytes), (0, 0));
    assert!(planned.planned_bytes > planned.unplanned_bytes);
    assert!(planned.read_bytes < free.read_bytes * 9 / 10);
}

#[test]
fn threads_that_swap_their_order_get_their_bytes() {
    let Some(Learnt { path, rounds, folder: _folder }) = learn(4, 2) else { return };
    for threads in [2, 1] {
        let pager = pager_by(Some(PlanUse::Follow(path.clone()))).expect("a pager, as before");
        prove(&pager, &rounds, threads, true);
        let stats = pager.stats();
        assert!(stats.planned_bytes + stats.unplanned_bytes > 0, "the plan is looked at");
    }
}

#[test]
fn a_damaged_plan_costs_no_byte() {
    let Some(Learnt { path, rounds, folder }) = learn(3, 1) else { return };
    let whole = std::fs::read(&path).expect("a trace");
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    for _ in 0..8 {
        let mut bytes = whole.clone();
        if rng.gen_bool(0.5) {
            bytes.truncate(rng.gen_range(32..bytes.len()));
        } else {
            bytes[rng.gen_range(32..whole.len())] ^= 1 << rng.gen_range(0..8);
        }
        std::fs::write(&path, bytes).expect("a file");
        let pager = pager_by(Some(PlanUse::Follow(path.clone()))).expect("a pager, as before");
        prove(&pager, &rounds, 1, false);
    }
    std::fs::write(&path, &whole[1..]).expect("a file");
    let builder = Pager::builder().folder(folder.path()).ram_disk(RamDisk::Accept);
    let refused = builder.plan(PlanUse::Follow(path.clone())).build().expect_err("no plan");
    let BuildError::Plan { why: PlanError::Trace(TraceFault::Header), .. } = &refused else {
        panic!("{refused}");
    };
    assert!(refused.to_string().contains("run.trace: this is no trace"), "{refused}");
}

/// Waits for what a worker will do when it looks around.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "waited for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_folder_of_plans_is_filled_used_and_rid_of_what_is_wrong() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let auto = || PlanUse::Auto(folder.path().to_owned());
    let plan = folder.path().join(format!("{VECTOR}.plan"));
    let rounds = rounds(4);
    let Some(pager) = pager_by(Some(auto())) else { return };
    prove(&pager, &rounds, 1, false);
    wait_until("the plan of the first proof", || plan.exists());
    assert_eq!(course(&pager), Course::Free, "it is learnt");
    let mode = std::fs::metadata(&plan).expect("the plan").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    pager.placed(pager.base(), VECTOR);
    wait_until("the plan of the first proof to be used", || course(&pager) == Course::Planned);
    prove(&pager, &rounds, 1, false);
    assert!(pager.stats().planned_bytes > 0);
    drop(pager);

    let pager = pager_by(Some(auto())).expect("a pager, as before");
    pager.placed(pager.base(), VECTOR);
    wait_until("the plan in the folder to be used", || course(&pager) == Course::Planned);
    // Something else, for long: a few granules, over and over, each round in another order.
    let few: Vec<usize> = (0..600).collect();
    let mut round = 0;
    while course(&pager) != Course::Left {
        let mut order = few.clone();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(77 + round));
        go_through(words(&pager), &order, round);
        round += 1;
        assert!(round < 400, "the plan is not left: {:?}", pager.stats());
    }
    wait_until("the wrong plan to be removed", || !plan.exists());
    check(&pager);

    std::fs::write(&plan, "no plan").expect("a file");
    let pager = pager_by(Some(auto())).expect("a pager, as before");
    prove(&pager, &rounds, 1, false);
    wait_until("a plan in the place of what was none", || {
        std::fs::read(&plan).is_ok_and(|bytes| Trace::parse(&bytes).is_ok())
    });
}

#[test]
fn a_chunk_of_which_a_part_is_locked_goes_on_leaving() {
    let Some(pager) = pager_by(None) else { return };
    let words = words(&pager);
    for i in (0..GRANULES * GRANULE_WORDS).step_by(512) {
        words[i].store(pattern(i, 1), Relaxed);
    }
    let (chunk, locked) = (ChunkId::of(0), 0x0000_0fff);
    let bytes = 12 * GRANULE_BYTES;
    // SAFETY: the first granules of the range, which stays mapped.
    let refused = unsafe { libc::mlock(pager.base().as_ptr().cast(), bytes) } != 0;
    if refused {
        return skipped("a_chunk_of_which_a_part_is_locked_goes_on_leaving", "mlock is refused");
    }
    let engine = pager.engine();
    let queue = {
        let mut core = engine.core.lock();
        assert!(!engine.evict(&mut core, chunk, locked), "locked pages do not move");
        core.queues.queue_of(chunk)
    };
    assert_eq!(queue, Some(DataQueue::Resident), "the rest may leave any time");
    let queue = {
        let mut core = engine.core.lock();
        assert!(engine.evict(&mut core, chunk, ALL), "the rest leaves");
        core.queues.queue_of(chunk)
    };
    assert_eq!(queue, Some(DataQueue::Fixed), "and nothing else can");
    for i in (0..GRANULES * GRANULE_WORDS).step_by(512) {
        assert_eq!(words[i].load(Relaxed), pattern(i, 1));
    }
    check(&pager);
}

/// A file of events.
fn file(events: &[TraceEvent]) -> Vec<u8> {
    let mut bytes = header(40).to_vec();
    for events in events.chunks(300) {
        let mut words = Vec::with_capacity(300 * EVENT_WORDS);
        for event in events {
            let (encoded, count) = event.encode();
            words.extend_from_slice(&encoded[..count]);
        }
        bytes.extend_from_slice(seal_frame(&words, 0, &mut [0; FRAME_BYTES]));
    }
    bytes
}

/// A run of one block in which granules are touched by chance, with a cycle now and then.
fn events(granules: u64, touches: u64, seed: u64) -> Vec<TraceEvent> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let bytes = granules * GRANULE_BYTES as u64;
    let touch = |at: u64| {
        let granule = if at % 700 < 300 { at % granules } else { rng.gen_range(0..granules) };
        TraceEvent::Touch { granule, granules: 1, seen: Seen::Demand, write: false }
    };
    let placed = TraceEvent::Placed { granule: 0, bytes };
    std::iter::once(placed).chain((0..touches).map(touch)).collect()
}

/// Drives a run by a plan, and says after how many touches the plan did not count any more.
fn drive(plan: Plan, events: &[TraceEvent], budget: u64) -> Option<u64> {
    let mut replay = Replay::new().expect("pages");
    replay.follow(plan);
    let (mut touches, mut left_after) = (0, None);
    for event in events {
        match *event {
            TraceEvent::Placed { granule, bytes } => replay.placed(granule, bytes),
            TraceEvent::Freed { granule, .. } => replay.freed(granule),
            TraceEvent::Touch { granule, .. } => {
                let (chunk, mask) =
                    (granule as usize / GRANULES, 1 << (granule as usize % GRANULES));
                replay.touched(chunk, mask, budget);
                touches += 1;
                if left_after.is_none() && !replay.is_on() {
                    left_after = Some(touches);
                }
                let passed = touches as u32 % (PASSED_MAX + 1);
                let asked: Mask = 0x0f0f_00ff;
                let leaving = replay.leaving(chunk, asked, touches % 3 == 0, passed);
                assert_eq!(leaving & !asked, 0);
                assert!(leaving == asked || passed < PASSED_MAX && replay.is_on());
            }
        }
    }
    let counted = replay.planned() + replay.unplanned();
    assert!(counted == touches || counted < touches && replay.course() == Course::Left);
    left_after
}

fn plan_of(events: &[TraceEvent]) -> Plan {
    Plan::of(|| events.iter().copied(), 1 << 20).expect("pages")
}

#[test]
fn a_plan_has_the_times_of_each_place_as_a_plain_list_has() {
    let events = events(500, 20_000, 1);
    let plan = plan_of(&events);
    let mut plain = vec![Vec::new(); 500];
    for (time, event) in events.iter().skip(1).enumerate() {
        let TraceEvent::Touch { granule, .. } = *event else { continue };
        plain[granule as usize].push(time as u32 + 1);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    for (place, times) in plain.iter().enumerate() {
        assert_eq!(plan.times(place as u32), times);
        for _ in 0..20 {
            let now = rng.gen_range(0..21_000);
            let next = times.iter().copied().find(|time| *time > now).unwrap_or(NEVER);
            assert_eq!(plan.after(place as u32, now), next);
            let (behind, ahead) = (rng.gen_range(0..900), rng.gen_range(0..900));
            let within = |time: &u32| now <= time + behind && *time <= now + ahead;
            let least =
                times.iter().filter(|time| within(time)).map(|time| time.abs_diff(now)).min();
            let found = plan.nearest(place as u32, now, behind, ahead);
            assert_eq!(found.map(|time| time.abs_diff(now)), least);
            assert!(found.is_none_or(|time| within(&time)));
        }
    }
    assert_eq!((plan.times(500), plan.end()), (&[][..], 20_000));
}

#[test]
fn a_plan_is_followed_by_its_own_run_and_left_by_any_other_within_one_budget() {
    let (budget, own) = (1024, events(4000, 60_000, 1));
    assert_eq!(drive(plan_of(&own), &own, budget), None);
    let others = [
        ("another order", events(4000, 60_000, 2)),
        ("another size", events(5000, 60_000, 1)),
        ("another program", events(33, 60_000, 3)),
    ];
    for (what, other) in others {
        // Half of it is a cycle: that is where the plan has it, whoever asks.
        let other: Vec<_> = match what {
            "another order" => other.into_iter().filter(by_chance()).collect(),
            _ => other,
        };
        let left_after = drive(plan_of(&own), &other, budget).expect(what);
        assert!(left_after <= budget, "{what}: {left_after} touches");
    }
    let mut backwards = own.clone();
    backwards[1..].reverse();
    assert!(drive(plan_of(&own), &backwards, budget).is_some(), "backwards");
}

/// Leaves out the cycles of [`events`].
fn by_chance() -> impl FnMut(&TraceEvent) -> bool {
    let mut at = 0u64;
    move |event| {
        let is_touch = matches!(event, TraceEvent::Touch { .. });
        at += u64::from(is_touch);
        !is_touch || (at - 1) % 700 >= 300
    }
}

#[test]
fn a_plan_that_was_cut_anywhere_is_a_plan_of_the_beginning() {
    let run = events(60, 300, 4);
    let bytes = file(&run);
    for end in 0..bytes.len() {
        if let Ok(events) = Events::of(&bytes[..end]) {
            let plan = Plan::of(|| events.clone(), 1 << 16).expect("pages");
            assert!(plan.end() <= 300);
            drive(plan, &run, 40);
        }
    }
}

#[test]
fn ten_thousand_damaged_plans_are_no_more_than_bad_advice() {
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    let run = events(60, 400, 5);
    let whole = file(&run);
    for damaged in 0..10_000 {
        let bytes = if damaged % 2 == 0 {
            let mut bytes = whole.clone();
            for _ in 0..rng.gen_range(1..4) {
                bytes[rng.gen_range(0..whole.len())] ^= 1 << rng.gen_range(0..8);
            }
            bytes
        } else {
            // Checksums that fit, and numbers of any size.
            let word = |_| rng.r#gen::<u64>() >> rng.gen_range(0..64);
            let words: Vec<u64> = (0..200).map(word).collect();
            let mut bytes = header(40).to_vec();
            bytes.extend_from_slice(seal_frame(&words, 0, &mut [0; FRAME_BYTES]));
            bytes
        };
        let Ok(events) = Events::of(&bytes) else { continue };
        drive(Plan::of(|| events.clone(), 1 << 16).expect("pages"), &run, 40);
    }
}

#[test]
fn what_no_plan_knows_leaves_as_without_one() {
    let mut replay = Replay::new().expect("pages");
    assert_eq!(replay.leaving(3, ALL, false, 0), ALL);
    replay.follow(plan_of(&events(500, 2000, 1)));
    assert_eq!(replay.leaving(3, ALL, true, 0), ALL, "no block lies there");
    assert!(!replay.is_soon(3, ALL));
}
