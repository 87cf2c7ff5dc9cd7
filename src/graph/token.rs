//! Values between tasks: tokens, how a task gets at them, and how large they are.
//!
//! ```text
//!   Token<T> --read()---> Read<T>   the task gets &T, beside other readers
//!            --take()---> Take<T>   the task gets T, once every reader has ended
//!
//!   slot     empty -> whole (T) -> shared (Arc<T>, once somebody reads it) -> empty
//! ```
//!
//! A token is neither `Clone` nor made without its value's task: who takes it moves it, so there is
//! no second taker, and no circle.

use super::shape::Use;
use crate::spill::{Hint, Lanes, Spillable};
use plimsoll_arena::sync::unpoisoned;
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

/// A value that can leave memory between two uses, and come back.
///
/// [`Spillable`] does, and lists of values that do.
pub trait Leaves {
    /// Hears the distance to the next use: the value with the largest leaves first.
    fn next_use(&self, distance: u64);
    /// Starts to read it in, if there is room.
    fn prefetch(&self);
    /// Hears that nobody needs it soon.
    fn write_back(&self);
}

impl<T: Lanes> Leaves for Spillable<T> {
    fn next_use(&self, distance: u64) {
        self.hint(Hint::NextUse(distance));
    }

    fn prefetch(&self) {
        Spillable::prefetch(self);
    }

    fn write_back(&self) {
        Spillable::write_back(self);
    }
}

impl<V: Leaves> Leaves for Vec<V> {
    fn next_use(&self, distance: u64) {
        self.iter().for_each(|value| value.next_use(distance));
    }

    fn prefetch(&self) {
        self.iter().for_each(Leaves::prefetch);
    }

    fn write_back(&self) {
        self.iter().for_each(Leaves::write_back);
    }
}

/// How to tell a value where it will be needed.
struct Hooks<T> {
    next_use: fn(&T, u64),
    prefetch: fn(&T),
    write_back: fn(&T),
}

impl<T> Clone for Hooks<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Hooks<T> {}

/// How many bytes a value takes, and whether it can leave memory.
pub struct Size<T> {
    bytes: u64,
    away_bytes: Option<u64>,
    whole: bool,
    hooks: Option<Hooks<T>>,
}

impl<T> fmt::Debug for Size<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, away_bytes, whole, hooks: _ } = self;
        write!(f, "Size {{ bytes: {bytes}, away_bytes: {away_bytes:?}, whole: {whole} }}")
    }
}

impl<T> Size<T> {
    /// A value of `bytes` that stays in memory from the start of its maker to the end of its last
    /// user.
    #[must_use]
    pub fn stays(bytes: u64) -> Self {
        Self { bytes, away_bytes: None, whole: true, hooks: None }
    }

    /// A value of `bytes` that may leave memory between two uses.
    #[must_use]
    pub fn spills(bytes: u64) -> Self
    where
        T: Leaves,
    {
        let hooks =
            Hooks { next_use: T::next_use, prefetch: T::prefetch, write_back: T::write_back };
        Self { bytes, away_bytes: Some(0), whole: true, hooks: Some(hooks) }
    }

    /// Says that the value packs: while it is away, its copy keeps `bytes` of memory.
    #[must_use]
    pub fn packs_to(mut self, bytes: u64) -> Self {
        self.away_bytes = self.away_bytes.map(|_| bytes.min(self.bytes));
        self
    }

    /// Says that the task makes the value in parts that may leave at once: its room has what of
    /// them is in memory. A value that stays is made whole.
    #[must_use]
    pub fn in_parts(mut self) -> Self {
        self.whole = self.away_bytes.is_none();
        self
    }

    pub(super) fn figures(&self) -> (u64, Option<u64>, bool) {
        (self.bytes, self.away_bytes, self.whole)
    }
}

type AnyValue = Box<dyn Any + Send>;

/// Where a value is between the task that makes it and those that use it.
pub(super) struct ValueSlot<T> {
    /// A `T`, or an `Arc<T>` once somebody has read it.
    value: Mutex<Option<AnyValue>>,
    hooks: Option<Hooks<T>>,
    _made_of: PhantomData<fn() -> T>,
}

impl<T: Send + 'static> ValueSlot<T> {
    pub(super) fn new(size: &Size<T>) -> Arc<Self> {
        Arc::new(Self { value: Mutex::new(None), hooks: size.hooks, _made_of: PhantomData })
    }

    pub(super) fn put(&self, value: T) {
        *unpoisoned(self.value.lock()) = Some(Box::new(value));
    }

    /// Takes the value out. `None` when there is none, or when somebody still reads it.
    pub(super) fn take(&self) -> Option<T> {
        let value = unpoisoned(self.value.lock()).take()?;
        match value.downcast::<T>() {
            Ok(whole) => Some(*whole),
            Err(value) => Arc::into_inner(*value.downcast::<Arc<T>>().ok()?),
        }
    }

    fn share(&self) -> Option<Arc<T>>
    where
        T: Sync,
    {
        let mut value = unpoisoned(self.value.lock());
        let shared = match value.take()?.downcast::<T>() {
            Ok(whole) => Arc::new(*whole),
            Err(shared) => *shared.downcast::<Arc<T>>().ok()?,
        };
        *value = Some(Box::new(Arc::clone(&shared)));
        Some(shared)
    }

    fn tell(&self, tell: impl FnOnce(&T, &Hooks<T>)) {
        let value = unpoisoned(self.value.lock());
        let (Some(value), Some(hooks)) = (value.as_ref(), self.hooks) else { return };
        let whole = value.downcast_ref::<T>();
        let shared = value.downcast_ref::<Arc<T>>().map(|shared| &**shared);
        if let Some(value) = whole.or(shared) {
            tell(value, &hooks);
        }
    }
}

/// A slot whatever is in it.
pub(super) trait AnySlot: Send + Sync {
    fn next_use(&self, distance: u64);
    fn prefetch(&self);
    fn write_back(&self);
    fn clear(&self);
}

impl<T: Send + 'static> AnySlot for ValueSlot<T> {
    fn next_use(&self, distance: u64) {
        self.tell(|value, hooks| (hooks.next_use)(value, distance));
    }

    fn prefetch(&self) {
        self.tell(|value, hooks| (hooks.prefetch)(value));
    }

    fn write_back(&self) {
        self.tell(|value, hooks| (hooks.write_back)(value));
    }

    fn clear(&self) {
        let value = unpoisoned(self.value.lock()).take();
        drop(value);
    }
}

/// A value of a graph that is made, or will be. Holding one proves that nobody takes it yet.
#[must_use = "a value that nobody uses is dropped where it was made"]
pub struct Token<T> {
    pub(super) slot: Arc<ValueSlot<T>>,
    pub(super) graph: u64,
    pub(super) value: usize,
}

impl<T> fmt::Debug for Token<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("value", &self.value).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Token<T> {
    /// Lets a task read the value, which is whole in memory meanwhile.
    pub fn read(&self) -> Read<T>
    where
        T: Sync,
    {
        self.reader(true)
    }

    /// Lets a task read the value in parts: of a value that spills, the task's room has what is in
    /// memory.
    pub fn read_parts(&self) -> Read<T>
    where
        T: Sync,
    {
        self.reader(false)
    }

    fn reader(&self, whole: bool) -> Read<T> {
        let used = Use { value: self.value, whole, takes: false };
        Read { used, graph: self.graph, slot: Arc::clone(&self.slot), shared: None }
    }

    /// Lets a task take the value, after every task that reads it. It is whole in memory meanwhile.
    pub fn take(self) -> Take<T> {
        Take { used: Use { value: self.value, whole: true, takes: true }, token: self }
    }

    /// As [`Token::take`], in parts as in [`Token::read_parts`].
    pub fn take_parts(self) -> Take<T> {
        Take { used: Use { value: self.value, whole: false, takes: true }, token: self }
    }
}

/// A task's right to read a value: the task gets `&T`.
#[must_use = "it is for a task"]
pub struct Read<T> {
    used: Use,
    graph: u64,
    slot: Arc<ValueSlot<T>>,
    shared: Option<Arc<T>>,
}

impl<T> fmt::Debug for Read<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Read").field("value", &self.used.value).finish_non_exhaustive()
    }
}

/// A task's right to take a value: the task gets `T`.
#[must_use = "it is for a task"]
pub struct Take<T> {
    used: Use,
    token: Token<T>,
}

impl<T> fmt::Debug for Take<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Take").field("value", &self.used.value).finish_non_exhaustive()
    }
}

/// What a task uses: [`Read`], [`Take`], a tuple or a list of these.
pub trait Inputs: Send {
    /// What the task's function gets.
    type Given<'a>
    where
        Self: 'a;

    /// Adds the graph and the use of each value.
    #[doc(hidden)]
    fn declare(&self, uses: &mut Declared);

    /// Hands out the values.
    #[doc(hidden)]
    fn give(&mut self) -> Self::Given<'_>;
}

/// The values that a task declared, each with the number of its graph.
#[derive(Debug, Default)]
pub struct Declared {
    pub(super) uses: Vec<(u64, Use)>,
}

impl<T: Send + Sync + 'static> Inputs for Read<T> {
    type Given<'a> = &'a T;

    fn declare(&self, declared: &mut Declared) {
        declared.uses.push((self.graph, self.used));
    }

    fn give(&mut self) -> &T {
        self.shared = self.slot.share();
        match &self.shared {
            Some(value) => value,
            None => unreachable!("a task starts when what it reads is made"),
        }
    }
}

impl<T: Send + 'static> Inputs for Take<T> {
    type Given<'a> = T;

    fn declare(&self, declared: &mut Declared) {
        declared.uses.push((self.token.graph, self.used));
    }

    fn give(&mut self) -> T {
        match self.token.slot.take() {
            Some(value) => value,
            None => unreachable!("a task that takes starts when every reader has ended"),
        }
    }
}

impl<I: Inputs> Inputs for Vec<I> {
    type Given<'a>
        = Vec<I::Given<'a>>
    where
        I: 'a;

    fn declare(&self, declared: &mut Declared) {
        self.iter().for_each(|input| input.declare(declared));
    }

    fn give(&mut self) -> Self::Given<'_> {
        self.iter_mut().map(Inputs::give).collect()
    }
}

macro_rules! tuples {
    ($(($($input:ident)*))*) => { $(
        impl<$($input: Inputs),*> Inputs for ($($input,)*) {
            type Given<'a> = ($($input::Given<'a>,)*) where $($input: 'a),*;

            #[allow(unused_variables, reason = "the tuple of none")]
            fn declare(&self, declared: &mut Declared) {
                #[allow(non_snake_case, reason = "a name for each type")]
                let ($($input,)*) = self;
                $($input.declare(declared);)*
            }

            #[allow(clippy::unused_unit, reason = "the tuple of none")]
            fn give(&mut self) -> Self::Given<'_> {
                #[allow(non_snake_case, reason = "a name for each type")]
                let ($($input,)*) = self;
                ($($input.give(),)*)
            }
        }
    )* };
}
tuples! {
    ()
    (A)
    (A B)
    (A B C)
    (A B C D)
    (A B C D E)
    (A B C D E F)
    (A B C D E F G)
    (A B C D E F G H)
}
