//! The smallest budget against every order of the tasks.

use super::random::{graph, held, rng, seeds};
use crate::graph::booking::TaskState;
use crate::graph::shape::GraphShape;
use crate::graph::{Graph, GraphError, Size};
use rand::Rng;

/// The lowest peak of any order, one task at a time with its least room: over all sets.
fn lowest_peak(shape: &GraphShape) -> u64 {
    let count = shape.tasks.len();
    let rooms: Vec<u64> = shape.tasks.iter().map(|task| task.least).collect();
    let states = |set: usize, running: Option<usize>| -> Vec<TaskState> {
        let of = |task| match (set >> task & 1, running == Some(task)) {
            (1, _) => TaskState::Ended,
            (_, true) => TaskState::Runs,
            _ => TaskState::Waits,
        };
        (0..count).map(of).collect()
    };
    let mut lowest = vec![u64::MAX; 1 << count];
    lowest[0] = held(shape, &states(0, None), &rooms);
    for set in 0..1usize << count {
        if lowest[set] == u64::MAX {
            continue;
        }
        for task in (0..count).filter(|task| set >> task & 1 == 0) {
            if shape.tasks[task].after.iter().all(|before| set >> before & 1 == 1) {
                let peak = lowest[set].max(held(shape, &states(set, Some(task)), &rooms));
                let next = set | 1 << task;
                lowest[next] = lowest[next].min(peak);
            }
        }
    }
    lowest[(1 << count) - 1]
}

#[test]
fn the_smallest_budget_is_the_best_of_all_orders() {
    for seed in seeds(60, 1000) {
        let mut rng = rng(seed);
        let count = rng.gen_range(1..=12);
        let graph = graph(&mut rng, count);
        let schedule = graph.schedule(u64::MAX).expect("no limit");
        let (found, best) = (schedule.smallest_bytes(), lowest_peak(&schedule.shape));
        assert_eq!(found, best, "SEED={seed}");
        let schedule = graph.schedule(found).expect("the smallest budget does");
        assert_eq!(schedule.peak_bytes(), found, "SEED={seed}\n{schedule}");
        if let Some(less) = found.checked_sub(1) {
            let refused = graph.schedule(less).expect_err("below the smallest");
            let GraphError::DoesNotFit { smallest_bytes, .. } = refused else {
                panic!("SEED={seed}: {refused}")
            };
            assert_eq!(smallest_bytes, found);
        }
    }
}

/// Trees of many leaves, each of which makes something small of something large: beyond what the
/// search looks at, an order is found that is not much worse.
#[test]
fn a_wide_graph_is_scheduled_too() {
    let mut graph: Graph<'_, ()> = Graph::new("wide");
    let mut small = Vec::new();
    for number in 0..100u64 {
        let large = graph.task(&format!("make {number}"), ()).needs(10);
        let large =
            large.makes(Size::stays(1000 + number), move |_, ()| Ok(number)).expect("sound");
        let fold = graph.task(&format!("fold {number}"), large.take()).needs(10);
        small.push(fold.makes(Size::stays(2), |_, large| Ok(large)).expect("sound").take());
    }
    let sum = graph.task("sum", small);
    let sum = sum.makes(Size::stays(8), |_, all: Vec<u64>| Ok(all.iter().sum::<u64>()));
    let sum = graph.want(sum.expect("sound")).expect("of this graph");
    let schedule = graph.schedule(2000).expect("it fits");
    // The best is 1210: those of which most is left over come first.
    assert!(schedule.smallest_bytes() <= 1331, "{}", schedule.smallest_bytes());
    let runtime = crate::Runtime::builder().own_limit().build().expect("a runtime");
    let ran = graph.run(&schedule, &runtime).expect("it runs");
    assert_eq!(ran.take(sum).expect("made"), 4950);
}
