//! Which closure of [`testing`](crate::testing) counts the vectors of a runtime that is built now.

use plimsoll_arena::{Ledger, Watermark};
use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    pub(super) static SCOPE: RefCell<Option<Arc<Watermark>>> = const { RefCell::new(None) };
}

/// Puts the outer scope back when dropped, also by a panic.
pub(super) struct Scope {
    outer: Option<Arc<Watermark>>,
}

impl Drop for Scope {
    fn drop(&mut self) {
        SCOPE.set(self.outer.take());
    }
}

/// Makes the ledger of a runtime count for the closure it is built in, if any.
pub(crate) fn counted(ledger: Ledger) -> Ledger {
    match SCOPE.with_borrow(Clone::clone) {
        Some(mark) => ledger.counting_in(mark),
        None => ledger,
    }
}

impl Scope {
    /// Begins a scope on this thread. One mark serves all scopes of a thread: the inner one is a
    /// lap of it.
    pub(super) fn begin() -> (Self, Arc<Watermark>) {
        let outer = SCOPE.with_borrow(Clone::clone);
        let mark = outer.clone().unwrap_or_default();
        SCOPE.set(Some(Arc::clone(&mark)));
        (Self { outer }, mark)
    }
}
