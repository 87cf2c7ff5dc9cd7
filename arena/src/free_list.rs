//! A lock-free stack of block indices, most recently used first.
//!
//! ```text
//!   head: [ tag | index+1 ] ---> link[index] ---> link[..] ---> 0
//! ```
//!
//! The links live in the region's address table, so pushing a block writes nothing into the block
//! itself: a cached block keeps its bytes, its zeroes and its page residence untouched. The tag
//! grows with every change of the head; a head that was popped and pushed back in between (the ABA
//! case) is therefore a different number, and the exchange fails as it must.
//!
//! Last in, first out is the point: the block released last is the one whose lines are still in
//! the cache and whose translation is still in the TLB. crossbeam-queue's queues are first in,
//! first out, which walks through every cached block before it returns to a warm one.
//!
//! Source: R. K. Treiber, "Systems Programming: Coping with Parallelism", IBM RJ 5118, 1986.

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Where the links of a free list live.
pub(crate) trait Links {
    /// The link of block `index`: the next index plus one, or zero at the end.
    fn link(&self, index: u32) -> &AtomicU32;
}

/// A lock-free stack of block indices. Holding an index popped from it proves that nobody else
/// holds that index.
pub(crate) struct FreeList {
    head: AtomicU64,
}

const fn pack(tag: u32, top: u32) -> u64 {
    ((tag as u64) << 32) | top as u64
}

const fn unpack(head: u64) -> (u32, u32) {
    ((head >> 32) as u32, head as u32)
}

impl FreeList {
    pub(crate) fn new() -> Self {
        Self { head: AtomicU64::new(0) }
    }

    /// Puts `index` on top.
    pub(crate) fn push(&self, links: &impl Links, index: u32) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            let (tag, top) = unpack(head);
            links.link(index).store(top, Ordering::Relaxed);
            let new = pack(tag.wrapping_add(1), index + 1);
            // Release: pairs with the Acquire in `pop` and `take_all`, so that who pops the index
            // sees the link, and the block's record, as the pusher left them.
            match self.head.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Takes the index pushed last.
    pub(crate) fn pop(&self, links: &impl Links) -> Option<u32> {
        // Acquire, here and on failure: pairs with the Release in `push`.
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let (tag, top) = unpack(head);
            let index = top.checked_sub(1)?;
            // The link may be stale when another thread took `index` meanwhile; then the tag has
            // moved and the exchange fails.
            let next = links.link(index).load(Ordering::Relaxed);
            let new = pack(tag.wrapping_add(1), next);
            match self.head.compare_exchange_weak(head, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(index),
                Err(now) => head = now,
            }
        }
    }

    /// Takes the whole stack and returns it turned over: oldest first, as a chain that only the
    /// caller holds.
    pub(crate) fn take_all(&self, links: &impl Links) -> Chain {
        let mut head = self.head.load(Ordering::Acquire);
        let mut top = loop {
            let (tag, top) = unpack(head);
            let new = pack(tag.wrapping_add(1), 0);
            // Acquire: pairs with the Release of every push in the chain (each push is a
            // read-modify-write, so they all belong to one release sequence).
            match self.head.compare_exchange_weak(head, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => break top,
                Err(now) => head = now,
            }
        };
        let mut turned = 0;
        while let Some(index) = top.checked_sub(1) {
            let link = links.link(index);
            top = link.load(Ordering::Relaxed);
            link.store(turned, Ordering::Relaxed);
            turned = index + 1;
        }
        Chain { first: turned }
    }
}

/// A detached chain of indices, oldest first. Holding it proves that no other thread can reach
/// them.
pub(crate) struct Chain {
    first: u32,
}

impl Chain {
    /// Takes the oldest index off the chain.
    pub(crate) fn pop(&mut self, links: &impl Links) -> Option<u32> {
        let index = self.first.checked_sub(1)?;
        self.first = links.link(index).load(Ordering::Relaxed);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Table(Vec<AtomicU32>);

    impl Links for Table {
        fn link(&self, index: u32) -> &AtomicU32 {
            &self.0[index as usize]
        }
    }

    fn table(len: usize) -> Table {
        Table((0..len).map(|_| AtomicU32::new(0)).collect())
    }

    #[test]
    fn last_in_is_first_out_and_the_chain_is_oldest_first() {
        let links = table(4);
        let list = FreeList::new();
        assert_eq!(list.pop(&links), None);
        for index in [2, 0, 3] {
            list.push(&links, index);
        }
        assert_eq!(list.pop(&links), Some(3));
        list.push(&links, 1);
        let mut chain = list.take_all(&links);
        assert_eq!(list.pop(&links), None);
        let order: Vec<_> = std::iter::from_fn(|| chain.pop(&links)).collect();
        assert_eq!(order, [2, 0, 1]);
    }

    #[test]
    fn threads_never_hold_the_same_index() {
        let links = table(8);
        let list = FreeList::new();
        (0..8).for_each(|index| list.push(&links, index));
        let owned: Vec<_> = (0..8).map(|_| AtomicU32::new(0)).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..if cfg!(miri) { 50 } else { 20_000 } {
                        let Some(index) = list.pop(&links) else { continue };
                        let before = owned[index as usize].fetch_add(1, Ordering::Relaxed);
                        assert_eq!(before, 0, "two owners of block {index}");
                        owned[index as usize].fetch_sub(1, Ordering::Relaxed);
                        list.push(&links, index);
                    }
                });
            }
        });
        let mut left: Vec<_> = std::iter::from_fn(|| list.pop(&links)).collect();
        left.sort_unstable();
        assert_eq!(left, (0..8).collect::<Vec<_>>());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    struct Shared {
        list: FreeList,
        links: [AtomicU32; 2],
        /// What each holder writes without synchronisation of its own: loom panics when two hold
        /// a record at once, and when one does not see what the last one left.
        records: [UnsafeCell<u32>; 2],
    }

    // SAFETY: a record is touched only by who popped its index.
    unsafe impl Sync for Shared {}

    impl Shared {
        fn write_record(&self, index: u32) {
            // SAFETY: the caller popped the index; loom checks that this is enough.
            self.records[index as usize].with_mut(|record| unsafe { *record += 1 });
        }
    }

    impl Links for Shared {
        fn link(&self, index: u32) -> &AtomicU32 {
            &self.links[index as usize]
        }
    }

    fn shared() -> Arc<Shared> {
        let links = [AtomicU32::new(0), AtomicU32::new(0)];
        let records = [UnsafeCell::new(0), UnsafeCell::new(0)];
        let shared = Shared { list: FreeList::new(), links, records };
        shared.list.push(&shared, 0);
        shared.list.push(&shared, 1);
        Arc::new(shared)
    }

    fn hold_and_return(shared: &Shared, rounds: usize) {
        for _ in 0..rounds {
            if let Some(index) = shared.list.pop(shared) {
                shared.write_record(index);
                shared.list.push(shared, index);
            }
        }
    }

    fn assert_all_returned(shared: &Shared) {
        let mut left = [shared.list.pop(shared), shared.list.pop(shared)];
        left.sort_unstable();
        assert_eq!(left, [Some(0), Some(1)]);
        assert_eq!(shared.list.pop(shared), None);
    }

    #[test]
    fn pop_and_push_race() {
        loom::model(|| {
            let shared = shared();
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || hold_and_return(&other, 2));
            hold_and_return(&shared, 1);
            thread.join().expect("the other thread passed");
            assert_all_returned(&shared);
        });
    }

    /// The ABA case: the other thread takes both and puts the first back, so the old head stands
    /// on another link while this thread may be between its load and its exchange.
    #[test]
    fn a_head_that_came_back_is_not_the_old_one() {
        loom::model(|| {
            let shared = shared();
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || {
                let (first, second) = (other.list.pop(&*other), other.list.pop(&*other));
                first.into_iter().for_each(|index| other.list.push(&*other, index));
                second.into_iter().for_each(|index| {
                    other.write_record(index);
                    other.list.push(&*other, index);
                });
            });
            hold_and_return(&shared, 1);
            thread.join().expect("the other thread passed");
            assert_all_returned(&shared);
        });
    }

    #[test]
    fn reclaim_races_with_pop() {
        loom::model(|| {
            let shared = shared();
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || hold_and_return(&other, 1));
            let mut chain = shared.list.take_all(&*shared);
            while let Some(index) = chain.pop(&*shared) {
                shared.write_record(index);
                shared.list.push(&*shared, index);
            }
            thread.join().expect("the other thread passed");
            assert_all_returned(&shared);
        });
    }
}
