//! Random graphs, and what is held in them by definition.

use crate::graph::booking::TaskState;
use crate::graph::shape::GraphShape;
use crate::graph::{Graph, Size, Token};
use crate::spill::Spillable;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// A value that says it can leave, and takes nothing.
pub(super) type Nothing = Vec<Spillable<u8>>;

/// The seeds of a test: the one of the environment, or `few`; under `PLIMSOLL_STRESS` as many as
/// the claim says.
pub(super) fn seeds(few: u64, all: u64) -> std::ops::Range<u64> {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok());
    match (seed, std::env::var_os("PLIMSOLL_STRESS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(_)) => 0..all,
        (None, None) => 0..few,
    }
}

pub(super) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn size(rng: &mut ChaCha20Rng) -> Size<Nothing> {
    let bytes = rng.gen_range(0..1000);
    match rng.gen_range(0..4) {
        0 | 1 => Size::stays(bytes),
        2 => Size::spills(bytes).packs_to(rng.gen_range(0..=bytes)),
        _ if rng.r#gen() => Size::spills(bytes).in_parts(),
        _ => Size::spills(bytes),
    }
}

/// A graph of `count` tasks that do nothing.
pub(super) fn graph(rng: &mut ChaCha20Rng, count: usize) -> Graph<'static, ()> {
    let mut graph: Graph<'static, ()> = Graph::new("random");
    let mut tokens: Vec<Token<Nothing>> = Vec::new();
    for number in 0..rng.gen_range(0..3) {
        let size = size(rng);
        tokens.push(graph.given(&format!("given {number}"), size, Vec::new()));
    }
    for number in 0..count {
        let (mut reads, mut takes) = (Vec::new(), Vec::new());
        for _ in 0..rng.gen_range(0..4) {
            if tokens.is_empty() {
                break;
            }
            let at = rng.gen_range(0..tokens.len());
            match rng.gen_range(0..6) {
                0 | 1 => reads.push(tokens[at].read()),
                2 => reads.push(tokens[at].read_parts()),
                // What this task reads it must not take.
                _ if !reads.is_empty() => {}
                3 => takes.push(tokens.swap_remove(at).take_parts()),
                _ => takes.push(tokens.swap_remove(at).take()),
            }
        }
        let least = rng.gen_range(0..500);
        let best = least + [0, rng.gen_range(0..2000)][rng.gen_range(0..2)];
        let mut task = graph.task(&format!("task {number}"), (reads, takes));
        task = task.needs_between(least, best);
        if rng.gen_range(0..3) == 0 {
            task = task.of_disk();
        }
        if rng.gen_range(0..4) == 0 {
            task = task.tail();
        }
        tokens.push(task.makes(size(rng), |_, _| Ok(Vec::new())).expect("a sound task"));
    }
    for token in tokens {
        if rng.gen_range(0..5) == 0 {
            let _wanted = graph.want(token).expect("of this graph");
        }
    }
    graph
}

/// What must be in memory, by definition, when tasks are in these states.
pub(super) fn held(shape: &GraphShape, states: &[TaskState], rooms: &[u64]) -> u64 {
    let runs = |task: usize| matches!(states[task], TaskState::Runs | TaskState::Tail);
    let rooms = (0..states.len()).filter(|task| runs(*task)).map(|task| rooms[task]);
    let mut held: u64 = rooms.sum();
    for (number, value) in shape.values.iter().enumerate() {
        let maker = value.maker.map(|maker| states[maker]);
        let made_now = value.maker.is_some_and(&runs);
        let used_later = value.users.iter().any(|task| states[*task] != TaskState::Ended);
        let lives = maker != Some(TaskState::Waits) && (made_now || used_later || value.wanted);
        if !lives {
            continue;
        }
        let whole = |task: &usize| {
            let uses = &shape.tasks[*task].uses;
            runs(*task) && uses.iter().any(|used| used.value == number && used.whole)
        };
        let made_whole = value.maker.is_some_and(|maker| shape.tasks[maker].makes_whole);
        let pinned = value.users.iter().any(whole) || made_now && made_whole;
        held += match value.away {
            Some(away) if !pinned => away,
            _ => value.bytes,
        };
    }
    held
}
