//! Graphs of spillable vectors under limits that bind: the right contents, and the limit is kept.

use super::{LEN, MIB, alone, folder, runtime, seeds};
use plimsoll::graph::{Graph, Size, Token};
use plimsoll::spill::{SpillOptions, SpillStats};
use plimsoll::{Error, Runtime, Secrecy, Spillable};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

const BYTES: u64 = (LEN * size_of::<u64>()) as u64;

/// Where contents are compared.
const PLACES: [usize; 3] = [0, LEN / 3, LEN - 1];

/// Looks random, so that it does not pack.
fn noise(number: u64, at: usize) -> u64 {
    (number << 32 | at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        ^ (at as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// A value, and what it has at [`PLACES`].
type Known = (Token<Spillable<u64>>, [u64; 3]);

/// A task that adds up vectors and noise, with half a vector as its room.
fn add_task(
    graph: &mut Graph<'static, Error>,
    number: u64,
    rng: &mut ChaCha20Rng,
    all: &mut Vec<Known>,
) {
    let mut expected = PLACES.map(|at| noise(number, at));
    let (mut reads, mut takes) = (Vec::new(), Vec::new());
    for _ in 0..rng.gen_range(0..3usize) {
        if all.is_empty() {
            break;
        }
        let at = rng.gen_range(0..all.len());
        for (sum, more) in expected.iter_mut().zip(all[at].1) {
            *sum = sum.wrapping_add(more);
        }
        if takes.is_empty() && rng.r#gen() {
            reads.push(all[at].0.read());
        } else if reads.is_empty() {
            takes.push(all.swap_remove(at).0.take());
        } else {
            reads.push(all[at].0.read());
        }
    }
    let mut task = graph.task(&format!("task {number}"), (reads, takes)).needs(BYTES / 2);
    if rng.r#gen() {
        task = task.of_disk();
    }
    let made = task.makes(Size::spills(BYTES), move |task, (reads, takes)| {
        let vectors = task.vectors(Secrecy::Public);
        let room = vectors.zeroed::<u64>(LEN / 2)?;
        let mut made = vectors.zeroed::<u64>(LEN)?;
        made.iter_mut().enumerate().for_each(|(at, value)| *value = noise(number, at));
        for added in reads.into_iter().chain(&takes) {
            let added = added.read()?;
            made.iter_mut().zip(&*added).for_each(|(sum, more)| *sum = sum.wrapping_add(*more));
        }
        drop(room);
        Ok(task.runtime().spillable(made))
    });
    all.push((made.expect("a sound task"), expected));
}

fn program(seed: u64) -> SpillStats {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut graph: Graph<'static, Error> = Graph::new("sums");
    let mut all = Vec::new();
    for number in 0..30 {
        add_task(&mut graph, number, &mut rng, &mut all);
    }
    let (tokens, expected): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    let wanted: Result<Vec<_>, _> = tokens.into_iter().map(|token| graph.want(token)).collect();
    let smallest = graph.schedule(u64::MAX).expect("no limit").smallest_bytes();
    let schedule = graph.schedule(smallest + rng.gen_range(0..2 * BYTES)).expect("it fits");
    assert!(schedule.leaving_bytes() > 0, "the budget binds\n{schedule}");

    let folder = folder();
    let runtime: Runtime = runtime(
        // The program grows a little meanwhile. All that is made takes 7.5 MiB.
        schedule.budget_bytes() as usize + 3 * MIB,
        SpillOptions::new(folder.path()).packed_limit_bytes(MIB / 4),
    );
    let ran = graph.run(&schedule, &runtime);
    let ran = ran.unwrap_or_else(|why| panic!("SEED={seed}: {why}\n{schedule}"));
    assert_eq!(runtime.over_limit().0, 0, "SEED={seed}: held + foreign <= limit");
    assert_eq!(ran.stages.len(), 30, "SEED={seed}: every task ran once");
    for (wanted, expected) in wanted.expect("of this graph").into_iter().zip(expected) {
        let value = ran.take(wanted).expect("made").take().expect("it comes back");
        assert_eq!(PLACES.map(|at| value[at]), expected, "SEED={seed}");
    }
    runtime.spill_stats()
}

#[test]
fn graphs_keep_to_a_limit_that_binds() {
    let _alone = alone();
    let mut spilled = 0;
    for seed in seeds(10) {
        println!("SEED={seed}");
        spilled += program(seed).spilled_total;
    }
    assert!(spilled > 0, "vectors left memory");
}
