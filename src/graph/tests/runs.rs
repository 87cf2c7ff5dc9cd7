//! Runs: memory as planned, tails, pools of threads, hints, and every way to end early.

use super::random::{rng, seeds};
use crate::error::Error;
use crate::graph::{Context, Graph, GraphError, Leaves, RunError, Size, Token};
use crate::runtime::Runtime;
use crate::spill::SpillOptions;
use plimsoll_arena::{PoolVec, Secrecy};
use rand::Rng;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Long enough for any machine; only a failing test waits for it.
const LONG: Duration = Duration::from_secs(60);

fn runtime() -> Runtime {
    Runtime::builder().own_limit().build().expect("a runtime")
}

/// A runtime with somewhere to spill to, and no limit.
pub(super) fn packing() -> Runtime {
    let options = SpillOptions::packed_only();
    Runtime::builder().own_limit().spill(options).build().expect("a runtime")
}

/// The smallest vector that is a pool's own.
const BLOCK: usize = 64 << 10;

/// A graph of vectors that are really made, of the sizes that it says.
fn vectors(seed: u64, lanes: bool) -> Graph<'static, Error> {
    let mut rng = rng(seed);
    let mut graph: Graph<'static, Error> = Graph::new("vectors");
    let mut tokens: Vec<(Token<PoolVec<u8>>, u8)> = Vec::new();
    for number in 0..rng.gen_range(1..16u8) {
        let (mut reads, mut takes, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rng.gen_range(0..3) {
            if tokens.is_empty() {
                break;
            }
            let at = rng.gen_range(0..tokens.len());
            if takes.is_empty() && rng.r#gen() {
                reads.push(tokens[at].0.read());
                expected.push(tokens[at].1);
            } else if reads.is_empty() {
                let (token, content) = tokens.swap_remove(at);
                takes.push(token.take());
                expected.push(content);
            }
        }
        let (room, bytes) = (rng.gen_range(1..6usize) * BLOCK, rng.gen_range(1..6usize) * BLOCK);
        let mut task = graph.task(&format!("task {number}"), (reads, takes)).needs(room as u64);
        if lanes && rng.r#gen() {
            task = task.of_disk();
        }
        let made = task.makes(Size::stays(bytes as u64), move |task, (reads, takes)| {
            let vectors = task.vectors(Secrecy::Public);
            let _room: PoolVec<u8> = vectors.zeroed(room)?;
            let made = vectors.filled(bytes, number)?;
            let contents = reads.iter().map(|read| read[0]);
            let contents: Vec<u8> = contents.chain(takes.iter().map(|taken| taken[0])).collect();
            assert_eq!(contents, expected, "each value is its maker's");
            Ok(made)
        });
        tokens.push((made.expect("a sound task"), number));
    }
    graph
}

#[test]
fn the_measured_peak_is_the_planned_one() {
    for seed in seeds(30, 400) {
        for lanes in [false, true] {
            let (runtime, graph) = (runtime(), vectors(seed, lanes));
            let smallest = graph.schedule(u64::MAX).expect("no limit").smallest_bytes();
            let schedule = graph.schedule(smallest + seed * (BLOCK as u64 / 8)).expect("it fits");
            graph.run(&schedule, &runtime).unwrap_or_else(|why| panic!("SEED={seed}: {why}"));
            let peak = runtime.ledger().asked().peak_bytes() as u64;
            match lanes {
                false => assert_eq!(peak, schedule.peak_bytes(), "SEED={seed}\n{schedule}"),
                true => assert!(peak <= schedule.peak_bytes(), "SEED={seed}\n{schedule}"),
            }
            assert_eq!(runtime.pool().stats().live_bytes, 0, "SEED={seed}: nothing is left");
        }
    }
}

#[test]
fn a_tail_leaves_the_cores_to_the_next_task() {
    let (tell, told) = channel();
    let mut graph: Graph<'_, ()> = Graph::new("tail");
    let sum = graph.task("sum", ()).tail();
    let sum = sum.makes(Size::stays(8), move |task, ()| {
        task.tail();
        told.recv_timeout(LONG).map_err(|_| ())
    });
    let next = graph.task("next", ());
    let next = next.makes(Size::stays(8), move |task, ()| {
        // Not declared: it has no effect, and no task is there to start.
        task.tail();
        tell.send(7).map_err(|_| ())
    });
    let (sum, next) = (sum.expect("sound"), next.expect("sound"));
    let sum = graph.want(sum).expect("of this graph");
    drop(next);
    let schedule = graph.schedule(16).expect("it fits");
    assert_eq!(schedule.peak_bytes(), 16, "both at once");
    let ran = graph.run(&schedule, &runtime()).expect("the next one runs in the tail");
    assert_eq!(ran.take(sum).expect("made"), 7);
}

fn count(_task: &Context<'_>, _nothing: ()) -> Result<usize, ()> {
    Ok(rayon::join(rayon::current_num_threads, || 0).0)
}

#[test]
fn tasks_work_in_the_pool_of_the_caller() {
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        let mut graph: Graph<'_, ()> = Graph::new("pool");
        let one = graph.task("one", ()).makes(Size::stays(8), count).expect("sound");
        let two = graph.task("two", ()).of_disk().makes(Size::stays(8), count).expect("sound");
        let wanted = [one, two].map(|token| graph.want(token).expect("of this graph"));
        let schedule = graph.schedule(16).expect("it fits");
        let runtime = runtime();
        let ran = pool.install(|| graph.run(&schedule, &runtime)).expect("it runs");
        for wanted in wanted {
            assert_eq!(ran.take(wanted).expect("made"), threads);
        }
    }
}

/// A value that writes down what it hears.
struct Told(&'static str, Arc<Mutex<Vec<String>>>);

impl Told {
    fn note(&self, what: &str) {
        self.1.lock().expect("no panic").push(format!("{} {what}", self.0));
    }
}

impl Leaves for Told {
    fn next_use(&self, distance: u64) {
        self.note(&distance.to_string());
    }

    fn prefetch(&self) {
        self.note("prefetch");
    }

    fn write_back(&self) {
        self.note("write back");
    }
}

#[test]
fn values_hear_of_their_next_use_before_it() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mut graph: Graph<'_, ()> = Graph::new("hints");
    let value = |name| Told(name, Arc::clone(&heard));
    let late = graph.given("late", Size::spills(100), value("late"));
    let soon = graph.given("soon", Size::spills(100).packs_to(20), value("soon"));
    let read = graph.task("first", soon.read()).makes(Size::stays(1), |_, _| Ok(()));
    let needy = graph.task("needy", read.expect("sound").take()).needs(100);
    let needy = needy.makes(Size::stays(1), |_, ()| Ok(())).expect("sound");
    let small = graph.task("small", needy.take()).makes(Size::stays(1), |_, ()| Ok(()));
    let last = graph.task("last", (soon.take(), late.take(), small.expect("sound").take()));
    let last = last.makes(Size::stays(1), |_, (_soon, _late, ())| Ok(())).expect("sound");
    drop(last);
    let schedule = graph.schedule(222).expect("it fits");
    let steps = schedule.steps();
    let left: Vec<_> = steps.iter().map(|step| (&step.leave, &step.come)).collect();
    assert_eq!(left[1].0[0].value, "soon", "packed, it moves a fifth\n{schedule}");
    assert_eq!(steps[2].prefetch, ["soon"], "\n{schedule}");
    graph.run(&schedule, &packing()).expect("it runs");
    let heard = heard.lock().expect("no panic").clone();
    // Distances in steps of 16; four times as much is freed as moves where 80 of 100 are.
    let expected = [
        "late 48",
        "soon 0",
        "soon write back",
        "late 32",
        "soon 128",
        "late 16",
        "soon 64",
        "soon prefetch",
        "late 0",
        "soon 0",
    ];
    assert_eq!(heard, expected, "\n{schedule}");
}

/// A chain of which the middle one fails in some way, and what is left of its values.
fn failing(
    runtime: &Runtime,
    fail: impl FnOnce(&Graph<'_, String>) -> Box<dyn FnOnce() -> Result<(), String> + Send>,
) -> RunError<String> {
    let mut graph: Graph<'_, String> = Graph::new("failing");
    let fail = fail(&graph);
    let first = graph.task("first", ()).makes(Size::stays(1 << 16), |task, ()| {
        let vectors = task.vectors(Secrecy::Public);
        vectors.zeroed::<u8>(1 << 16).map_err(|why| why.to_string())
    });
    let first = first.expect("sound");
    let middle = graph.task("middle", first.read()).makes(Size::stays(8), |_, _| fail());
    let last = graph.task("last", (first.take(), middle.expect("sound").take()));
    let last = last.makes(Size::stays(1 << 16), |_, (first, ())| Ok(first)).expect("sound");
    let last = graph.want(last).expect("of this graph");
    let schedule = graph.schedule(1 << 20).expect("it fits");
    let error = graph.run(&schedule, runtime).expect_err("the middle fails");
    drop(last);
    assert_eq!(runtime.pool().stats().live_bytes, 0, "everything is given back");
    error
}

#[test]
fn a_failure_names_its_task_and_gives_everything_back() {
    let runtime = runtime();
    let error = failing(&runtime, |_| Box::new(|| Err("no luck".to_owned())));
    assert_eq!(error.to_string(), "task \"middle\": no luck");
    let error = failing(&runtime, |_| Box::new(|| panic!("at {}", 7)));
    let RunError::Panicked { task, message } = &error else { panic!("{error}") };
    assert_eq!((&**task, &**message), ("middle", "at 7"));
    let cancelled = |graph: &Graph<'_, String>| -> Box<dyn FnOnce() -> Result<(), String> + Send> {
        let cancel = graph.cancel();
        Box::new(move || {
            cancel.cancel();
            Ok(())
        })
    };
    let error = failing(&runtime, cancelled);
    assert!(matches!(&error, RunError::Cancelled { task } if task == "last"), "{error}");
}

#[test]
fn a_stage_that_does_not_fit_ends_the_run() {
    let runtime = runtime();
    runtime.set_limit_bytes(Some(1));
    let mut graph: Graph<'_, ()> = Graph::new("large");
    let large = graph.task("large", ()).needs(1 << 40).makes(Size::stays(8), |_, ()| Ok(0));
    let large = graph.want(large.expect("sound")).expect("of this graph");
    let schedule = graph.schedule(u64::MAX).expect("no limit");
    match graph.run(&schedule, &runtime) {
        Err(RunError::Stage { task, error }) => {
            assert!(task == "large" && error.is_short_of_memory(), "{error}");
        }
        other => panic!("{other:?}"),
    }
    drop(large);
}

#[test]
fn what_is_wrong_with_a_graph_is_told_by_type() {
    let mut graph: Graph<'_, ()> = Graph::new("one");
    let mut other: Graph<'_, ()> = Graph::new("other");
    let value = graph.given("value", Size::stays(8), 1u64);
    let foreign = other.task("foreign", value.read()).makes(Size::stays(8), |_, _| Ok(()));
    assert_eq!(foreign.expect_err("of another").to_string().find("task \"foreign\""), Some(0));
    let stray = other.given("stray", Size::stays(8), 1u64);
    assert!(matches!(graph.want(stray), Err(GraphError::Elsewhere { .. })));

    let late = value.read();
    let taker = graph.task("taker", value.take()).makes(Size::stays(8), |_, value| Ok(value));
    let taker = taker.expect("sound");
    let reader = graph.task("reader", late).makes(Size::stays(8), |_, value| Ok(*value));
    assert!(matches!(reader, Err(GraphError::Taken { task, maker })
        if task == "reader" && maker == "value"));
    let both = graph.task("both", (taker.read(), taker.take()));
    let both = both.makes(Size::stays(8), |_, (read, taken)| Ok(*read + taken));
    assert!(matches!(both, Err(GraphError::Taken { .. })));
    let needs = graph.task("needs", ()).needs_between(2, 1).makes(Size::stays(8), |_, ()| Ok(()));
    assert!(matches!(needs, Err(GraphError::Needs { least_bytes: 2, best_bytes: 1, .. })));

    let before = graph.schedule(1 << 20).expect("it fits");
    let more = graph.task("more", ()).makes(Size::stays(8), |_, ()| Ok(())).expect("sound");
    drop(more);
    assert!(matches!(graph.run(&before, &runtime()),
        Err(RunError::Graph(GraphError::Stale { graph })) if graph == "one"));
}

#[test]
fn a_plan_that_spills_is_refused_where_nothing_can() {
    let mut graph: Graph<'_, ()> = Graph::new("spilling");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let cold = Told("cold", Arc::clone(&heard));
    let cold = graph.given("cold", Size::spills(100), cold);
    let needy = graph.task("needy", ()).needs(100).makes(Size::stays(0), |_, ()| Ok(()));
    let last = graph.task("last", (cold.take(), needy.expect("sound").take()));
    let last = last.makes(Size::stays(0), |_, _| Ok(())).expect("sound");
    drop(last);
    let schedule = graph.schedule(100).expect("it fits, one at a time");
    assert_eq!(schedule.leaving_bytes(), 100);
    assert!(matches!(
        graph.run(&schedule, &runtime()),
        Err(RunError::Graph(GraphError::NowhereToSpill { leaving_bytes: 100, .. }))
    ));
    assert_eq!(Arc::strong_count(&heard), 1, "what was given is dropped");
}

#[test]
fn a_graph_without_tasks_runs() {
    let mut graph: Graph<'_, ()> = Graph::new("empty");
    let value = graph.given("value", Size::stays(8), 7);
    let value = graph.want(value).expect("of this graph");
    let schedule = graph.schedule(8).expect("it fits");
    let ran = graph.run(&schedule, &runtime()).expect("it runs");
    assert_eq!((ran.stages.len(), ran.take(value).expect("given")), (0, 7));
}
