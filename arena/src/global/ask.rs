//! Asking the process's allocator to give back, by code that has no reference to it.
//!
//! ```text
//!   reclaim_process -> request of this thread -> std::alloc::dealloc -> Global::release -> answer
//!                                                     another allocator: no answer
//! ```
//!
//! A `Global` may be any value: a static, or one that is dropped or moved a moment later. So nobody
//! keeps its address; it is asked through the door that it serves, as a program's vectors are. A
//! block is taken, a request is left in the thread, and the block is given back: who gets it back
//! sees the request.
//!
//! Invariant: a request lives inside one call of [`reclaim_process`], on one thread.
//!
//! Must never: touch the block, or be called from inside an allocator.

use super::inner::InnerPurge;
use super::{BLOCK_BYTES_MIN, Global, PageSource};
use std::alloc::Layout;
use std::cell::Cell;
use std::hint::black_box;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// So many bytes of cached pages.
    Cached(usize),
    /// All that [`Global::reclaim`] gives, the inner allocator's too.
    Everything,
}

thread_local! {
    /// Without a destructor, as all that an allocator looks at.
    static ASKED: Cell<Option<Ask>> = const { Cell::new(None) };
    static FREED: Cell<usize> = const { Cell::new(0) };
}

/// Has the process's allocator give back; returns the bytes of its blocks that it gave, or `None`
/// when it is no [`Global`], or one that may not be used in a child of `fork`.
///
/// It takes the locks that a free takes, so it is for reclaim points, not for the inside of an
/// allocator.
#[must_use]
pub fn reclaim_process(ask: Ask) -> Option<usize> {
    let layout = Layout::from_size_align(BLOCK_BYTES_MIN, 8).ok()?;
    // SAFETY: the layout has a size.
    let block = black_box(unsafe { std::alloc::alloc(layout) });
    if block.is_null() {
        return None;
    }
    ASKED.set(Some(ask));
    // SAFETY: allocated above with this layout, and never touched.
    unsafe { std::alloc::dealloc(block, layout) };
    ASKED.replace(None).is_none().then(|| FREED.take())
}

impl<A: InnerPurge, P: PageSource> Global<A, P> {
    /// After a block came home: gives back what this thread asks for, if it does.
    #[inline]
    pub(super) fn answer(&self) {
        if ASKED.get().is_some() {
            self.answer_request();
        }
    }

    #[cold]
    fn answer_request(&self) {
        let freed = match ASKED.take() {
            Some(Ask::Cached(bytes)) => self.purge(bytes),
            Some(Ask::Everything) => self.reclaim(usize::MAX),
            None => 0,
        };
        FREED.set(freed);
    }
}
