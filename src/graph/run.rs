//! Runs a schedule: a few plain threads outside of rayon's pool, which start tasks in its order.
//!
//! ```text
//!   runner   door: one at a time waits for the next start -> stage -> task -> lets go -> ends
//!   rayon    what tasks do in parallel, in the pool that the caller is in
//! ```
//!
//! A runner holds the door from the moment it waits for the next start until that task's stage has
//! begun, so stages begin in the schedule's order. A task that ends drops what nobody needs any
//! more before its bytes are taken off the books.
//!
//! Invariants: a task starts when its bytes are booked, and waits for no bytes after that; the
//! first failure ends the run: no task starts, those that run are asked to stop, every value is
//! dropped.
//!
//! Must never: hold the state's lock while a task, a value or the runtime's ladder is at work.

use super::booking::{Admission, Blocked, RUNNING_MAX};
use super::build::{Graph, TaskFn, Wanted};
use super::context::{Cancel, Context, Control};
use super::error::{GraphError, RunError};
use super::idle::Idle;
use super::leave::{distance, places};
use super::schedule::Schedule;
use super::token::AnySlot;
use crate::runtime::Runtime;
use crate::stage::{Stage, StageReport};
use plimsoll_arena::sync::unpoisoned;
use rayon::Scope;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

/// How long a worker of the pool, in which the caller is, sleeps when it finds no work.
const NAP: Duration = Duration::from_millis(1);

/// Steps of a hint: distances are weighted by what a value frees for each byte that moves.
const HINT_STEPS: u64 = 16;

/// A graph that has run: its reports, and the values that were wanted.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ran {
    name: String,
    graph: u64,
    /// The stages, in the order of their starts.
    pub stages: Vec<StageReport>,
    /// Wall time in seconds.
    pub wall_seconds: f64,
    /// Core-seconds that nobody used.
    pub idle_core_seconds: f64,
}

impl Ran {
    /// Returns a value that was wanted.
    ///
    /// # Errors
    ///
    /// [`GraphError::Elsewhere`] for a value of another graph.
    pub fn take<T: Send + 'static>(&self, wanted: Wanted<T>) -> Result<T, GraphError> {
        let own = Some(&wanted.token.slot).filter(|_| wanted.token.graph == self.graph);
        let value = own.and_then(|slot| slot.take());
        value.ok_or_else(|| GraphError::Elsewhere { graph: self.name.clone() })
    }
}

fn message_of(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no message".to_owned())
}

struct RunState<'s, 'env, E> {
    admission: Admission<'s>,
    bodies: Vec<Option<TaskFn<'env, E>>>,
    failure: Option<RunError<E>>,
    reports: Vec<Option<StageReport>>,
    idle: Idle,
    /// Runners that have not returned.
    runners: usize,
}

struct Run<'s, 'env, E> {
    schedule: &'s Schedule,
    runtime: &'s Runtime,
    slots: &'s [Arc<dyn AnySlot>],
    cancel: &'s Cancel,
    threads: usize,
    places: Vec<usize>,
    stops: AtomicBool,
    /// Held by the runner that starts a task, or waits to.
    door: Mutex<()>,
    state: Mutex<RunState<'s, 'env, E>>,
    changed: Condvar,
}

impl<E: Send> Graph<'_, E> {
    /// Runs the tasks in the order of `schedule`, each in a [stage](Runtime::stage) of `runtime`,
    /// and returns when all have ended.
    ///
    /// Parallel work of the tasks goes to the rayon pool that the caller is in.
    ///
    /// # Errors
    ///
    /// The first task's error or panic, with its name; [`RunError::Cancelled`];
    /// [`RunError::Stage`] when the runtime has less memory than the schedule counts on;
    /// [`GraphError::Stale`] and [`GraphError::NowhereToSpill`] before anything runs. All values
    /// are dropped then.
    pub fn run(self, schedule: &Schedule, runtime: &Runtime) -> Result<Ran, RunError<E>> {
        let graph = self.name.clone();
        if schedule.stamp != self.stamp() {
            return Err(self.refused(GraphError::Stale { graph }));
        }
        let leaving_bytes = schedule.leaving_bytes();
        if leaving_bytes > 0 && !runtime.can_spill() {
            return Err(self.refused(GraphError::NowhereToSpill { graph, leaving_bytes }));
        }
        runtime.tell_planned(|| schedule.planned());
        let values = &schedule.shape.values;
        for (slot, _) in self.slots.iter().zip(values).filter(|(_, value)| !value.is_needed()) {
            slot.clear();
        }
        let started = Instant::now();
        let threads = rayon::current_num_threads();
        let rooms = &schedule.plan.rooms;
        let (order, budget) = (&schedule.order, schedule.budget_bytes);
        let run = Run {
            schedule,
            runtime,
            slots: &self.slots,
            cancel: &self.cancel,
            threads,
            places: places(schedule.plan.starts.iter(), order.len()),
            stops: AtomicBool::new(false),
            door: Mutex::new(()),
            state: Mutex::new(RunState {
                admission: Admission::new(&schedule.shape, order, rooms, budget),
                bodies: self.bodies.into_iter().map(Some).collect(),
                failure: None,
                reports: vec![None; order.len()],
                idle: Idle::new(threads),
                runners: 0,
            }),
            changed: Condvar::new(),
        };
        match rayon::current_thread_index() {
            Some(_) => rayon::in_place_scope(|pool| run.run_all(Some(pool))),
            None => run.run_all(None),
        }
        let Run { state, .. } = run;
        let mut state = unpoisoned(state.into_inner());
        state.idle.event(Vec::new(), None);
        if let Some(failure) = state.failure {
            drop(state.bodies);
            self.slots.iter().for_each(|slot| slot.clear());
            return Err(failure);
        }
        let mut reports = state.reports;
        let stages = order.iter().filter_map(|task| reports[*task].take()).collect();
        let (wall_seconds, idle_core_seconds) =
            (started.elapsed().as_secs_f64(), state.idle.total_seconds);
        let graph = schedule.stamp.graph;
        Ok(Ran { name: self.name, graph, stages, wall_seconds, idle_core_seconds })
    }

    /// Drops all values before anything runs.
    fn refused(self, why: GraphError) -> RunError<E> {
        self.slots.iter().for_each(|slot| slot.clear());
        why.into()
    }
}

impl<'s, 'env, E: Send> Run<'s, 'env, E> {
    fn state(&self) -> MutexGuard<'_, RunState<'s, 'env, E>> {
        unpoisoned(self.state.lock())
    }

    /// Makes the runners and waits for them; a worker of `pool` works on for it meanwhile.
    fn run_all<'p>(&'p self, pool: Option<&Scope<'p>>) {
        let count = self.schedule.order.len().min(RUNNING_MAX);
        std::thread::scope(|threads| {
            for number in 0..count {
                self.state().runners += 1;
                let name = format!("plimsoll graph {number}");
                let runner = std::thread::Builder::new().name(name);
                if let Err(error) = runner.spawn_scoped(threads, || self.runner(pool)) {
                    let mut state = self.state();
                    state.runners -= 1;
                    // With one runner, tasks run one by one.
                    if number == 0 {
                        state.failure = Some(RunError::Threads { error });
                    }
                    break;
                }
            }
            while pool.is_some() && self.state().runners > 0 {
                if rayon::yield_now() != Some(rayon::Yield::Executed) {
                    drop(self.changed.wait_timeout(self.state(), NAP));
                }
            }
        });
    }

    fn runner<'p>(&'p self, pool: Option<&Scope<'p>>) {
        let work = catch_unwind(AssertUnwindSafe(|| self.run_tasks(pool)));
        if let Err(payload) = work {
            // A value's own code: when it was dropped, or told of its next use.
            let last = self.state().admission.started().saturating_sub(1);
            let task = self.schedule.order.get(last).map_or_else(String::new, |t| self.name(*t));
            self.fail(RunError::Panicked { task, message: message_of(&*payload) });
        }
        self.state().runners -= 1;
        self.changed.notify_all();
    }

    fn run_tasks<'p>(&'p self, pool: Option<&Scope<'p>>) {
        while let Some((task, body, stage)) = self.next() {
            let result = match pool {
                None => self.perform(task, body),
                Some(pool) => {
                    let (tell, told) = mpsc::channel();
                    pool.spawn(move |_| {
                        // The runner waits until it is told.
                        let _ = tell.send(self.perform(task, body));
                    });
                    told.recv().unwrap_or(Ok(()))
                }
            };
            self.end(task, stage, result);
        }
    }

    /// Waits until the next task may start, and begins its stage. None when there is none.
    fn next(&self) -> Option<(usize, TaskFn<'env, E>, Stage)> {
        let _door = unpoisoned(self.door.lock());
        let (task, body) = self.admitted()?;
        self.tell_values(task);
        let shape = &self.schedule.shape;
        let shape_of_task = &shape.tasks[task];
        let need = self.schedule.plan.rooms[task].saturating_add(shape.made_bytes(shape_of_task));
        match self.runtime.stage(&shape_of_task.name, need) {
            Ok(stage) => Some((task, body, stage.with_threads(self.threads))),
            Err(error) => {
                self.fail(RunError::Stage { task: shape_of_task.name.clone(), error });
                None
            }
        }
    }

    fn admitted(&self) -> Option<(usize, TaskFn<'env, E>)> {
        let mut state = self.state();
        loop {
            let next = state.admission.next();
            if let (Some((_, task)), true) = (next, self.cancel.is_cancelled()) {
                drop(state);
                self.fail(RunError::Cancelled { task: self.name(task) });
                return None;
            }
            if state.failure.is_some() {
                return None;
            }
            match state.admission.start() {
                Ok(task) => {
                    self.note(&mut state);
                    return state.bodies[task].take().map(|body| (task, body));
                }
                Err(Blocked::Over) => return None,
                Err(Blocked::After | Blocked::Lane | Blocked::Bytes) => {
                    state = unpoisoned(self.changed.wait(state));
                }
            }
        }
    }

    fn name(&self, task: usize) -> String {
        self.schedule.shape.tasks[task].name.clone()
    }

    /// Notes which tasks run now, and the first that could.
    fn note(&self, state: &mut RunState<'s, 'env, E>) {
        let books = &state.admission.books;
        let waiting = &self.schedule.order[state.admission.started()..];
        let waiting = waiting.iter().copied().find(|task| books.is_ready(*task));
        state.idle.event(books.running().collect(), waiting);
    }

    /// Tells values when they will be needed, as `task` starts: the next use, weighted.
    fn tell_values(&self, task: usize) {
        let (place, shape) = (self.places[task], &self.schedule.shape);
        let spills = (0..self.slots.len()).filter(|value| shape.values[*value].spills());
        for value in spills {
            let figures = &shape.values[value];
            let distance = distance(shape, &self.places, value, place);
            let weighted = distance.saturating_mul(HINT_STEPS);
            let gain = u128::from(figures.pinned_bytes()) * u128::from(weighted);
            let weight = gain / u128::from(figures.moved_bytes().max(1));
            self.slots[value].next_use(u64::try_from(weight).unwrap_or(u64::MAX));
        }
        for value in &self.schedule.moves[place].prefetch {
            self.slots[*value].prefetch();
        }
    }

    fn perform(&self, task: usize, body: TaskFn<'env, E>) -> Result<(), RunError<E>> {
        let shape = &self.schedule.shape.tasks[task];
        let context = Context {
            runtime: self.runtime,
            control: self,
            task,
            name: &shape.name,
            room_bytes: self.schedule.plan.rooms[task],
            best_bytes: shape.best,
        };
        match catch_unwind(AssertUnwindSafe(|| body(&context))) {
            Ok(Ok(())) => Ok(()),
            // Who cancels hears of that, not of how a task took it.
            _ if self.cancel.is_cancelled() => Err(RunError::Cancelled { task: self.name(task) }),
            Ok(Err(error)) => Err(RunError::Task { task: self.name(task), error }),
            Err(payload) => {
                let message = message_of(&*payload);
                Err(RunError::Panicked { task: self.name(task), message })
            }
        }
    }

    fn end(&self, task: usize, mut stage: Stage, result: Result<(), RunError<E>>) {
        let mut state = self.state();
        self.note(&mut state);
        let could = state.idle.could_have_run(task);
        drop(state);
        if let Some(could) = could {
            stage.could_have_run(&self.name(could));
        }
        let report = stage.finish();
        if let Err(failure) = result {
            return self.fail(failure);
        }
        let gone = self.state().admission.books.let_go(task);
        gone.iter().for_each(|value| self.slots[*value].clear());
        self.send_away(task, &gone);
        let mut state = self.state();
        state.admission.books.end(task, &gone);
        state.reports[task] = Some(report);
        self.note(&mut state);
        drop(state);
        self.changed.notify_all();
    }

    /// Starts to save those values of `task` that leave before their next use.
    fn send_away(&self, task: usize, gone: &[usize]) {
        let shape = &self.schedule.shape;
        let values = shape.tasks[task].uses.iter().map(|used| used.value);
        for value in values.chain([shape.tasks[task].makes]).filter(|value| !gone.contains(value)) {
            let place = self.places[task] + 1;
            let until = place + distance(shape, &self.places, value, place) as usize;
            let until = until.saturating_add(1).min(self.schedule.moves.len());
            let mut soon = self.schedule.moves[place..until].iter().flat_map(|moves| &moves.leave);
            if soon.any(|moved| moved.value == value) {
                self.slots[value].write_back();
            }
        }
    }

    /// Keeps the first failure, and lets nothing start any more.
    fn fail(&self, failure: RunError<E>) {
        self.stops.store(true, Ordering::Relaxed);
        self.state().failure.get_or_insert(failure);
        self.changed.notify_all();
    }
}

impl<E: Send> Control for Run<'_, '_, E> {
    fn tail(&self, task: usize) {
        let mut state = self.state();
        if state.admission.books.tail(task) {
            self.note(&mut state);
            drop(state);
            self.changed.notify_all();
        }
    }

    fn is_stopping(&self) -> bool {
        self.stops.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }
}
