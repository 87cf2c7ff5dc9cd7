//! The shape of a Groth16 proof, over stages that only wait for each other.

use super::random::Nothing;
use crate::graph::{Context, Graph, GraphError, Schedule, Size, Wanted};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// A vector of the domain.
const VECTOR: u64 = 32 * MIB;

/// The quotient out of core, and in memory.
const QUOTIENT: (u64, u64) = (10 * MIB, 3 * VECTOR);

/// What a stage does: the test's part.
trait Stages: Sync {
    fn quotient(&self, _task: &Context<'_>) {}
    fn sum(&self, _task: &Context<'_>) {}
}

struct Quiet;

impl Stages for Quiet {}

/// The proof's graph: its value is how many sums were put together.
fn proof(stages: &dyn Stages) -> Result<(Graph<'_, ()>, Wanted<usize>), GraphError> {
    let mut graph = Graph::new("groth16");
    let witness = graph.task("witness", ()).needs(MIB);
    let witness = witness.makes(Size::spills(VECTOR).in_parts(), |_, ()| Ok(Nothing::new()))?;
    let quotient = graph.task("quotient", witness.read_parts());
    let quotient = quotient.needs_between(QUOTIENT.0, QUOTIENT.1).of_disk();
    let quotient = quotient.makes(Size::spills(VECTOR).in_parts(), |task, _witness| {
        stages.quotient(task);
        Ok(Nothing::new())
    })?;
    let mut sums = Vec::new();
    for name in ["msm L", "msm A", "msm B1", "msm B2"] {
        let sum = graph.task(name, witness.read_parts()).needs(6 * MIB).tail();
        let sum = sum.makes(Size::stays(96), |task, _witness| {
            stages.sum(task);
            Ok(1)
        })?;
        sums.push(sum.take());
    }
    let sum = graph.task("msm H", quotient.take_parts()).needs(6 * MIB).tail();
    let sum = sum.makes(Size::stays(96), |task, _quotient| {
        stages.sum(task);
        Ok(1)
    })?;
    let proof = graph.task("proof", (witness.take_parts(), sum.take(), sums)).needs(MIB);
    let proof = proof
        .makes(Size::stays(256), |_, (_witness, sum, sums): (_, usize, Vec<usize>)| {
            Ok(sum + sums.iter().sum::<usize>())
        })?;
    let proof = graph.want(proof)?;
    Ok((graph, proof))
}

fn schedule(budget: u64) -> Schedule {
    let (graph, _proof) = proof(&Quiet).expect("a sound graph");
    graph.schedule(budget).expect("it fits")
}

#[test]
fn a_tight_budget_puts_the_sums_beside_the_quotient() {
    let schedule = schedule(24 * MIB);
    assert_eq!(schedule.smallest_bytes(), 10 * MIB, "the quotient before the sums");
    let steps = schedule.steps();
    let names: Vec<&str> = steps.iter().map(|step| &*step.task).collect();
    let order = ["witness", "quotient", "msm L", "msm A", "msm B1", "msm B2", "msm H", "proof"];
    assert_eq!(names, order, "\n{schedule}");
    assert!(steps[1].is_of_disk && steps[1].room_bytes < QUOTIENT.1);
    for step in &steps[2..6] {
        assert!(step.beside.contains(&"quotient".to_owned()), "\n{schedule}");
    }
    assert_eq!(steps[6].beside, Vec::<String>::new(), "H waits for the quotient\n{schedule}");
    assert!(schedule.peak_bytes() <= 24 * MIB);
}

#[test]
fn the_quotient_gets_what_overlap_leaves() {
    let room = |budget: u64| {
        let steps = schedule(budget).steps();
        let quotient = steps.iter().find(|step| step.task == "quotient");
        let quotient = quotient.expect("it is planned");
        (quotient.room_bytes, quotient.is_of_disk)
    };
    assert_eq!(room(11 * MIB), (11 * MIB, true), "no sum fits beside it");
    let (tight, roomy) = (room(24 * MIB), room(64 * MIB));
    assert!(tight.1 && roomy.1 && tight.0 < roomy.0, "{tight:?} {roomy:?}");
    assert_eq!(roomy.0, 58 * MIB - 5 * 96, "all but a sum, and what the four make");
    assert_eq!(room(3 * VECTOR), (3 * VECTOR, false), "all in memory, and no disk");
}

#[test]
fn the_text_shows_order_overlap_rooms_and_the_smallest_budget() {
    let text = schedule(24 * MIB).to_string();
    let expected = "\
graph \"groth16\": 8 tasks in 24.00 MiB, at most 24.00 MiB booked; the smallest budget is 10.00 MiB
     task     bound                room     booked
   1 witness  cores =          1.00 MiB   1.00 MiB
   2 quotient disk   =====    18.00 MiB  18.00 MiB  of 96.00 MiB at best
   3 msm L    cores   =        6.00 MiB  24.00 MiB
   4 msm A    cores    =       6.00 MiB  24.00 MiB
   5 msm B1   cores     =      6.00 MiB  24.00 MiB
   6 msm B2   cores      =     6.00 MiB  24.00 MiB
   7 msm H    cores       =    6.00 MiB   6.00 MiB
   8 proof    cores        =   1.00 MiB   1.00 MiB
";
    assert_eq!(text, expected, "\n{text}");
}

/// The quotient ends when every other sum has begun; each sum but the last ends when the next has
/// begun, in its tail.
struct Meeting {
    begun: (Mutex<Sender<String>>, Mutex<Receiver<String>>),
}

impl Stages for Meeting {
    fn quotient(&self, task: &Context<'_>) {
        assert!(!task.has_best());
        let begun = self.begun.1.lock().expect("one quotient");
        for _sum in 0..4 {
            begun.recv_timeout(Duration::from_secs(60)).expect("a sum runs beside the quotient");
        }
    }

    fn sum(&self, task: &Context<'_>) {
        let begun = self.begun.0.lock().expect("a sum at a time");
        begun.send(task.name().to_owned()).expect("somebody listens");
    }
}

#[test]
fn a_run_overlaps_as_the_schedule_says() {
    let (tell, told) = channel();
    let meeting = Meeting { begun: (Mutex::new(tell), Mutex::new(told)) };
    let (graph, wanted) = proof(&meeting).expect("a sound graph");
    let schedule = graph.schedule(24 * MIB).expect("it fits");
    let runtime = super::runs::packing();
    let ran = graph.run(&schedule, &runtime).expect("it runs");
    assert_eq!(ran.take(wanted).expect("made"), 5);
    let planned: Vec<String> = schedule.steps().into_iter().map(|step| step.task).collect();
    let stages: Vec<String> = ran.stages.iter().map(|stage| stage.name.clone()).collect();
    assert_eq!(stages, planned, "each task is a stage");
    assert_eq!(runtime.take_stages().len(), planned.len());
}
