//! A value and its lock: one word, no queue in memory, no thread-local.
//!
//! ```text
//!   0 free  --lock-->  1 held  --another waits-->  2 held, someone sleeps
//!   ^                     |                             |
//!   +------- unlock ------+------ unlock, wake one -----+
//! ```
//!
//! `std`'s mutex would do, but it promises nothing to code inside `malloc`. This one promises that
//! it neither allocates nor panics, and a child of `fork` can read from its word whether a thread
//! that is gone held it ([`Lock::is_held`]).
//!
//! What becomes of a panic while the lock is held is a parameter. The allocator's holders do not
//! panic ([`NoHook`]). The pager ends the process, since what its lock guards may be half changed.
//!
//! Source: U. Drepper, "Futexes are tricky", 2011, section 6.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::futex::{wait, wake};
use super::{AtomicU32, Ordering};

pub(super) const FREE: u32 = 0;
pub(super) const HELD: u32 = 1;
pub(super) const AWAITED: u32 = 2;

/// Turns spent before sleeping: longer than the longest ordinary hold of the allocator's locks,
/// some 100 ns, and as long as most of the pager's.
const SPINS: u32 = if cfg!(loom) { 0 } else { 100 };

/// What is done when a thread panics that holds a lock.
pub trait OnPanic {
    /// Called by a guard that is dropped in a panic, while its thread still holds the lock; not by
    /// one that was made during a panic. Without one the lock is let go, and nothing is looked at.
    const HOOK: Option<fn()>;
}

/// Nothing is done when a holder panics.
#[derive(Debug)]
pub enum NoHook {}

impl OnPanic for NoHook {
    const HOOK: Option<fn()> = None;
}

/// A value and its lock, for code that runs inside `malloc`: it neither allocates nor panics.
#[derive(Debug)]
pub struct Lock<T, P = NoHook> {
    pub(super) word: AtomicU32,
    value: UnsafeCell<T>,
    on_panic: PhantomData<P>,
}

// SAFETY: the value is reached through a guard, and there is one guard at a time.
unsafe impl<T: Send, P> Sync for Lock<T, P> {}

/// Proof that the lock is held, and the right to its value; drop lets it go.
#[derive(Debug)]
#[must_use = "the lock is let go when the guard is dropped"]
pub struct Guard<'a, T, P: OnPanic = NoHook> {
    pub(super) lock: &'a Lock<T, P>,
    /// Whether the thread was in a panic already: it only frees what it has.
    panicking: bool,
    /// A guard may be shared between threads if the value may.
    value: PhantomData<&'a mut T>,
}

impl<T, P: OnPanic> Lock<T, P> {
    /// A free lock.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Self {
        Self { word: AtomicU32::new(FREE), value: UnsafeCell::new(value), on_panic: PhantomData }
    }

    /// The same: loom's atomics are made while it runs.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self { word: AtomicU32::new(FREE), value: UnsafeCell::new(value), on_panic: PhantomData }
    }

    /// Says whether any thread holds the lock now.
    pub fn is_held(&self) -> bool {
        self.word.load(Ordering::Relaxed) != FREE
    }

    /// Waits until the lock is free, and takes it.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T, P> {
        // Acquire: pairs with the Release in the guard's drop.
        if self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
            lock_slowly(&self.word);
        }
        let panicking = P::HOOK.is_some() && std::thread::panicking();
        Guard { lock: self, panicking, value: PhantomData }
    }
}

#[cold]
fn lock_slowly(word: &AtomicU32) {
    for _ in 0..SPINS {
        // Acquire, here and below: as in `lock`.
        if word.load(Ordering::Relaxed) == FREE
            && word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
        {
            return;
        }
        std::hint::spin_loop();
    }
    while word.swap(AWAITED, Ordering::Acquire) != FREE {
        wait(word, AWAITED, None);
    }
}

impl<T, P: OnPanic> Deref for Guard<'_, T, P> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T, P: OnPanic> DerefMut for Guard<'_, T, P> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only one, and borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T, P: OnPanic> Drop for Guard<'_, T, P> {
    #[inline]
    fn drop(&mut self) {
        if let Some(hook) = P::HOOK
            && std::thread::panicking()
            && !self.panicking
        {
            hook();
        }
        // Release: pairs with the Acquire of the next holder.
        if self.lock.word.swap(FREE, Ordering::Release) == AWAITED {
            wake(&self.lock.word, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::AtomicU32 as Count;

    #[test]
    fn threads_take_turns() {
        let rounds = if cfg!(miri) { 20 } else { 20_000 };
        let count = Lock::<u64>::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..rounds).for_each(|_| *count.lock() += 1));
            }
        });
        assert!(!count.is_held());
        assert_eq!(*count.lock(), 4 * rounds);
    }

    static ABANDONED: Count = Count::new(0);

    struct Counted;

    impl OnPanic for Counted {
        const HOOK: Option<fn()> = Some(|| _ = ABANDONED.fetch_add(1, Ordering::Relaxed));
    }

    /// Takes the lock while its thread is in a panic.
    struct Late<'a>(&'a Lock<u32, Counted>);

    impl Drop for Late<'_> {
        fn drop(&mut self) {
            *self.0.lock() += 1;
        }
    }

    #[test]
    fn the_hook_is_called_for_who_held_the_lock_when_the_panic_began() {
        let lock = Lock::<u32, Counted>::new(0);
        let panics = |act: &dyn Fn()| catch_unwind(AssertUnwindSafe(act)).is_err();
        assert!(panics(&|| {
            let _late = Late(&lock);
            panic!("a panic that is expected");
        }));
        *lock.lock() += 1;
        assert_eq!((ABANDONED.load(Ordering::Relaxed), *lock.lock()), (0, 2));
        assert!(panics(&|| {
            let _held = lock.lock();
            panic!("a panic that is expected");
        }));
        assert_eq!(ABANDONED.load(Ordering::Relaxed), 1);
        assert!(!lock.is_held(), "a hook that returns leaves a free lock");
    }
}
