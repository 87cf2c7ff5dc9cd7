//! Schedules of random graphs, run with ends that come at random: the limit holds, nothing waits
//! for ever, every task runs once, and the peak is the plan's.

use super::random::{graph, held, rng, seeds};
use crate::graph::booking::{Admission, Blocked, RUNNING_MAX, TaskState};
use crate::graph::schedule::Schedule;
use rand::Rng;
use rand_chacha::ChaCha20Rng;

fn admission(schedule: &Schedule) -> Admission<'_> {
    let (order, rooms) = (&schedule.order, &schedule.plan.rooms);
    Admission::new(&schedule.shape, order, rooms, schedule.budget_bytes)
}

fn states(schedule: &Schedule, run: &Admission<'_>) -> Vec<TaskState> {
    (0..schedule.order.len()).map(|task| run.books.state(task)).collect()
}

/// What is held, counted anew, which must be what is booked.
fn recount(schedule: &Schedule, run: &Admission<'_>) -> u64 {
    let held = held(&schedule.shape, &states(schedule, run), &schedule.plan.rooms);
    assert_eq!(held, run.books.booked_bytes(), "the books are right");
    held
}

/// Starts what may start; returns the most that was held.
fn start_all(schedule: &Schedule, run: &mut Admission<'_>, starts: &mut Vec<usize>) -> u64 {
    let mut most = recount(schedule, run);
    loop {
        match run.start() {
            Ok(task) => {
                starts.push(task);
                assert!(run.books.running().count() <= RUNNING_MAX);
                most = most.max(recount(schedule, run));
            }
            Err(Blocked::Over) => return most,
            Err(_) => {
                assert!(run.books.running().next().is_some(), "somebody runs, or all have run");
                return most;
            }
        }
    }
}

/// A run whose tasks end, or come to their tails, at random; returns the most that was held.
fn random_run(schedule: &Schedule, rng: &mut ChaCha20Rng) -> u64 {
    let mut run = admission(schedule);
    let (mut starts, mut most) = (Vec::new(), 0);
    loop {
        most = most.max(start_all(schedule, &mut run, &mut starts));
        let running: Vec<usize> = run.books.running().collect();
        if running.is_empty() {
            break;
        }
        let task = running[rng.gen_range(0..running.len())];
        let before = run.books.booked_bytes();
        if rng.r#gen() || !run.books.tail(task) {
            run.books.finish(task);
        }
        assert!(run.books.booked_bytes() <= before, "an end adds nothing");
    }
    assert_eq!(starts, schedule.order, "the order of starts is the schedule's, each task once");
    assert!(states(schedule, &run).iter().all(|state| *state == TaskState::Ended));
    most
}

/// The most that is held in any run: every end at every point.
fn all_runs(schedule: &Schedule, run: &Admission<'_>) -> u64 {
    let mut run = run.clone();
    let mut most = start_all(schedule, &mut run, &mut Vec::new());
    let running: Vec<usize> = run.books.running().collect();
    for task in running {
        let mut ended = run.clone();
        ended.books.finish(task);
        most = most.max(all_runs(schedule, &ended));
        let mut tail = run.clone();
        if tail.books.tail(task) {
            most = most.max(all_runs(schedule, &tail));
        }
    }
    most
}

#[test]
fn whatever_ends_first_the_limit_holds_and_every_task_runs_once() {
    for seed in seeds(400, 10_000) {
        let mut rng = rng(seed);
        let count = rng.gen_range(0..20);
        let graph = graph(&mut rng, count);
        let smallest = graph.schedule(u64::MAX).expect("no limit").smallest_bytes();
        for budget in [smallest, smallest + rng.gen_range(0..4000), u64::MAX] {
            let schedule = graph.schedule(budget).unwrap_or_else(|why| panic!("{seed}: {why}"));
            assert!(schedule.peak_bytes() <= budget, "SEED={seed}");
            let again = graph.schedule(budget).expect("as before");
            assert_eq!(schedule.to_string(), again.to_string(), "SEED={seed}");
            for _ in 0..3 {
                let most = random_run(&schedule, &mut rng);
                assert!(most <= schedule.peak_bytes(), "SEED={seed}: {most} held\n{schedule}");
            }
        }
    }
}

#[test]
fn the_peak_is_that_of_the_worst_run() {
    for seed in seeds(150, 3000) {
        let mut rng = rng(seed);
        let count = rng.gen_range(0..7);
        let graph = graph(&mut rng, count);
        let smallest = graph.schedule(u64::MAX).expect("no limit").smallest_bytes();
        let budget = smallest + rng.gen_range(0..2000);
        let schedule = graph.schedule(budget).expect("it fits");
        let most = all_runs(&schedule, &admission(&schedule));
        assert_eq!(most, schedule.peak_bytes(), "SEED={seed}\n{schedule}");
    }
}

#[test]
fn who_leaves_makes_room_for_what_is_booked() {
    let mut moved = 0;
    for seed in seeds(400, 10_000) {
        let mut rng = rng(seed);
        let graph = graph(&mut rng, 14);
        let smallest = graph.schedule(u64::MAX).expect("no limit").smallest_bytes();
        assert_eq!(graph.schedule(u64::MAX).expect("no limit").leaving_bytes(), 0, "SEED={seed}");
        let schedule = graph.schedule(smallest + rng.gen_range(0..500)).expect("it fits");
        let mut away: Vec<String> = Vec::new();
        for (place, step) in schedule.steps().iter().enumerate() {
            for come in &step.come {
                away.retain(|value| *value != come.value);
            }
            for leave in &step.leave {
                assert!(!away.contains(&leave.value), "SEED={seed}: it left before\n{schedule}");
                away.push(leave.value.clone());
                moved += 1;
            }
            for value in &step.prefetch {
                let next = &schedule.steps()[place + 1];
                assert!(next.come.iter().any(|come| come.value == *value), "SEED={seed}");
            }
        }
    }
    assert!(moved > 100, "{moved} values left");
}
