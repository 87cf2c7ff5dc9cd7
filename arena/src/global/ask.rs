//! Asking the process's allocator to give back, by code that has no reference to it.
//!
//! ```text
//!   reclaim_process -> request of this thread -> std::alloc::dealloc -> Global::release -> answer
//!                                                     another allocator: no answer
//! ```
//!
//! A `Global` may be any value: a static, or one that is dropped or moved a moment later. So nobody
//! keeps its address. Instead the caller allocates a block from the process's allocator, leaves a
//! request in a thread-local, and frees the block. If the allocator is a `Global`, it sees the
//! request when it gets the block back.
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
    /// It has no destructor, like everything that an allocator reads.
    static ASKED: Cell<Option<Ask>> = const { Cell::new(None) };
    static FREED: Cell<usize> = const { Cell::new(0) };
}

/// Has the process's allocator give memory back. Returns the bytes of its blocks that it gave back,
/// or `None` when it is no [`Global`], or one that may not be used in a child of `fork`.
///
/// This takes the locks that a free takes, so it is for reclaim points, and not for use inside an
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
    /// Gives back what this thread asks for, if it asks for anything. Called after a block was
    /// freed.
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
