//! A graph in the making: values that are given, tasks, and what is wanted in the end.

use super::context::{Cancel, Context};
use super::error::GraphError;
use super::schedule::{Schedule, Stamp};
use super::shape::{Bound, GraphShape, TaskShape, Use, ValueShape};
use super::token::{AnySlot, Declared, Inputs, Size, Token, ValueSlot};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A task's function, with its values about it.
pub(super) type TaskFn<'env, E> = Box<dyn FnOnce(&Context<'_>) -> Result<(), E> + Send + 'env>;

/// Tasks that say what they use, make and need, to be scheduled under a budget and run.
///
/// `E` is the error of the tasks. Tasks may borrow what lives for `'env`.
pub struct Graph<'env, E> {
    pub(super) name: String,
    stamp: Stamp,
    pub(super) shape: GraphShape,
    pub(super) slots: Vec<Arc<dyn AnySlot>>,
    pub(super) bodies: Vec<TaskFn<'env, E>>,
    pub(super) cancel: Cancel,
}

impl<E> fmt::Debug for Graph<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("name", &self.name)
            .field("tasks", &self.shape.tasks.len())
            .finish_non_exhaustive()
    }
}

impl<'env, E> Graph<'env, E> {
    /// Makes a graph without tasks.
    #[must_use]
    pub fn new(name: &str) -> Self {
        static GRAPHS: AtomicU64 = AtomicU64::new(0);
        let graph = GRAPHS.fetch_add(1, Ordering::Relaxed);
        Self {
            name: name.to_owned(),
            stamp: Stamp { graph, revision: 0 },
            shape: GraphShape::default(),
            slots: Vec::new(),
            bodies: Vec::new(),
            cancel: Cancel::default(),
        }
    }

    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Returns what cancels the run of this graph.
    #[must_use]
    pub fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }

    /// Adds a value that there is already.
    pub fn given<T: Send + 'static>(&mut self, name: &str, size: Size<T>, value: T) -> Token<T> {
        let token = self.value(name, &size, None);
        token.slot.put(value);
        token
    }

    /// Begins a task that uses `inputs`: what [`Token::read`] and [`Token::take`] return, a tuple
    /// or a list of these. It is bound by the cores and needs no room, until the returned [`Task`]
    /// says otherwise; [`Task::makes`] adds it to the graph.
    pub fn task<I: Inputs + 'env>(&mut self, name: &str, inputs: I) -> Task<'_, 'env, E, I> {
        let (bound, least, best, has_tail) = (Bound::Cores, 0, 0, false);
        let name = name.to_owned();
        Task { graph: self, name, inputs, bound, least, best, has_tail }
    }

    /// Keeps a value for the caller, who takes it from [`Ran`](super::Ran) when all tasks have
    /// ended.
    ///
    /// # Errors
    ///
    /// [`GraphError::Elsewhere`] for a value of another graph.
    pub fn want<T: Send + 'static>(&mut self, token: Token<T>) -> Result<Wanted<T>, GraphError> {
        if token.graph != self.stamp.graph {
            return Err(GraphError::Elsewhere { graph: self.name.clone() });
        }
        let value = &mut self.shape.values[token.value];
        // A reader that is declared later could not share it with the caller.
        (value.wanted, value.taken) = (true, true);
        self.stamp.revision += 1;
        Ok(Wanted { token })
    }

    /// Says what the graph will do with `budget_bytes` for its values and rooms. Runs nothing, and
    /// looks at nothing but the graph.
    ///
    /// # Errors
    ///
    /// [`GraphError::DoesNotFit`] with the smallest budget that would do.
    pub fn schedule(&self, budget_bytes: u64) -> Result<Schedule, GraphError> {
        Schedule::new(&self.name, self.stamp, &self.shape, budget_bytes)
    }

    fn value<T: Send + 'static>(
        &mut self,
        name: &str,
        size: &Size<T>,
        maker: Option<usize>,
    ) -> Token<T> {
        let slot = ValueSlot::new(size);
        let (bytes, away, _) = size.figures();
        let (users, taken, wanted) = (Vec::new(), false, false);
        let name = name.to_owned();
        self.shape.values.push(ValueShape { name, bytes, away, maker, users, taken, wanted });
        self.slots.push(Arc::clone(&slot) as Arc<dyn AnySlot>);
        self.stamp.revision += 1;
        Token { slot, graph: self.stamp.graph, value: self.shape.values.len() - 1 }
    }

    /// Checks what a task declared, and puts two uses of one value together.
    fn uses(&self, task: &str, declared: Declared) -> Result<Vec<Use>, GraphError> {
        let mut uses: Vec<Use> = Vec::new();
        for (graph, used) in declared.uses {
            if graph != self.stamp.graph {
                return Err(GraphError::Foreign { task: task.to_owned() });
            }
            let value = &self.shape.values[used.value];
            let other = uses.iter_mut().find(|other| other.value == used.value);
            let taken_here = other.as_ref().is_some_and(|other| other.takes || used.takes);
            if value.taken || taken_here {
                let (task, maker) = (task.to_owned(), value.name.clone());
                return Err(GraphError::Taken { task, maker });
            }
            match other {
                Some(other) => other.whole |= used.whole,
                None => uses.push(used),
            }
        }
        Ok(uses)
    }

    /// Tasks that must have ended before one with these uses starts.
    fn after(&self, uses: &[Use]) -> Vec<usize> {
        let of = |used: &Use| {
            let value = &self.shape.values[used.value];
            let readers: &[usize] = if used.takes { &value.users } else { &[] };
            value.maker.into_iter().chain(readers.iter().copied()).collect::<Vec<_>>()
        };
        let mut after: Vec<usize> = uses.iter().flat_map(of).collect();
        after.sort_unstable();
        after.dedup();
        after
    }
}

/// A task in the making, which [`Task::makes`] adds to its graph.
#[must_use = "a task is added to its graph by `makes`"]
pub struct Task<'g, 'env, E, I> {
    graph: &'g mut Graph<'env, E>,
    name: String,
    inputs: I,
    bound: Bound,
    least: u64,
    best: u64,
    has_tail: bool,
}

impl<E, I> fmt::Debug for Task<'_, '_, E, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'env, E, I: Inputs + 'env> Task<'_, 'env, E, I> {
    /// Sets the bytes that the task needs beyond its values: vectors and buffers of its own.
    pub fn needs(self, bytes: u64) -> Self {
        self.needs_between(bytes, bytes)
    }

    /// Sets the bytes that the task needs at least beyond its values, and those above which more
    /// are of no use. [`Context::room_bytes`] tells the task what it got.
    pub fn needs_between(mut self, least_bytes: u64, best_bytes: u64) -> Self {
        (self.least, self.best) = (least_bytes, best_bytes);
        self
    }

    /// Says that the task waits for the disk, so that one of the cores may run beside it. A task
    /// with a `least` below its `best` waits for the disk only if it gets less than its best.
    pub fn of_disk(mut self) -> Self {
        self.bound = Bound::Disk;
        self
    }

    /// Says that the task has a serial end, and calls [`Context::tail`] when it comes to it. From
    /// then on it leaves the cores to the next task.
    pub fn tail(mut self) -> Self {
        self.has_tail = true;
        self
    }

    /// Adds the task to its graph: `run` gets the values in the shape of the inputs, `&T` for what
    /// is read and `T` for what is taken, and makes a value of `size`. A value that nobody uses or
    /// wants is dropped.
    ///
    /// # Errors
    ///
    /// [`GraphError::Foreign`], [`GraphError::Taken`] or [`GraphError::Needs`]; the graph is then
    /// as it was, but a value that was to be taken is nobody's any more.
    pub fn makes<T, F>(self, size: Size<T>, run: F) -> Result<Token<T>, GraphError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&Context<'_>, I::Given<'a>) -> Result<T, E> + Send + 'env,
    {
        let Self { graph, name, mut inputs, bound, least, best, has_tail } = self;
        if least > best {
            return Err(GraphError::Needs { task: name, least_bytes: least, best_bytes: best });
        }
        let mut declared = Declared::default();
        inputs.declare(&mut declared);
        let uses = graph.uses(&name, declared)?;
        let after = graph.after(&uses);
        let task = graph.shape.tasks.len();
        for used in &uses {
            let value = &mut graph.shape.values[used.value];
            value.users.push(task);
            value.taken |= used.takes;
        }
        let made = graph.value(&name, &size, Some(task));
        let slot = Arc::clone(&made.slot);
        graph.bodies.push(Box::new(move |context| {
            slot.put(run(context, inputs.give())?);
            Ok(())
        }));
        let (_, _, makes_whole) = size.figures();
        let makes = made.value;
        graph.shape.tasks.push(TaskShape {
            name,
            bound,
            least,
            best,
            has_tail,
            uses,
            makes,
            makes_whole,
            after,
        });
        Ok(made)
    }
}

/// A value that the caller takes when the graph has run.
#[must_use = "`Ran::take` returns the value"]
pub struct Wanted<T> {
    pub(super) token: Token<T>,
}

impl<T> fmt::Debug for Wanted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wanted").field("token", &self.token).finish()
    }
}
