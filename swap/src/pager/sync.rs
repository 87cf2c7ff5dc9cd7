//! The pager's lock and signal: those of the arena, with what a panic means here.
//!
//! A panic while the lock is held ends the process, since what it guards may be half changed.
//!
//! Must never: allocate, or let a thread go on with tables that are half changed.

use plimsoll_arena::sync;

use super::sys::die;

pub(crate) use plimsoll_arena::sync::Signal;

/// A panic of a holder ends the process.
#[derive(Debug)]
pub(crate) enum EndProcess {}

impl sync::OnPanic for EndProcess {
    const HOOK: Option<fn()> = Some(end_process);
}

fn end_process() {
    die(format_args!("a panic while the page tables were being changed"));
}

pub(crate) type Lock<T> = sync::Lock<T, EndProcess>;

pub(crate) type Guard<'a, T> = sync::Guard<'a, T, EndProcess>;
