//! The queues of chunks with pages in data: who is the next to be evicted.
//!
//! ```text
//!   resident   oldest first       -> the next to be evicted
//!   passing    what only streams through, and is evicted before; see policy.rs
//!   fixed      what the kernel does not move, tried again now and then; see evict.rs
//! ```
//!
//! Invariants, in granules: `passing` counts those in data of the chunks that pass; a chunk is on a
//! queue while anything of it is in data.
//!
//! Beside them are the names of the lists of what is in frames.
//!
//! Must never: look at the granules of a chunk; who changes them says so.

use plimsoll_arena::os::OsError;

use super::ids::ChunkId;
use super::tables::{ListName, Lists};

/// Makes the variants of an enum, in order, the names of lists.
macro_rules! list_names {
    ($name:ident: $($list:ident),*) => {
        impl ListName for $name {
            fn of(number: usize) -> Self {
                [$(Self::$list),*][number]
            }

            fn number(self) -> usize {
                self as usize
            }
        }
    };
}

/// The queues of chunks with pages in data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataQueue {
    Resident,
    Passing,
    Fixed,
}

list_names!(DataQueue: Resident, Passing, Fixed);

/// The queues of chunks with pages in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// The next to be written is first.
    Limbo,
    /// What was read ahead; the next to be dropped is first.
    Ahead,
}

list_names!(Waiting: Limbo, Ahead);

/// The lists of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framed {
    /// Without pages.
    Free,
    /// With an intact huge page and no owner.
    Blank,
    /// With pages that nobody uses, small or what is left of a huge one.
    Spare,
}

list_names!(Framed: Free, Blank, Spare);

/// Which end of a queue.
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// The next to leave.
    First,
    /// The last to leave.
    Last,
}

/// The queues, and what passes.
pub(crate) struct DataQueues {
    lists: Lists<ChunkId, DataQueue, 3>,
    passing: u64,
}

impl DataQueues {
    /// Queues for `len` chunks, none of which is in data.
    pub(crate) fn new(len: usize) -> Result<Self, OsError> {
        Ok(Self { lists: Lists::new(len)?, passing: 0 })
    }

    /// The queue that a chunk is on.
    pub(crate) fn queue_of(&self, chunk: ChunkId) -> Option<DataQueue> {
        self.lists.list_of(chunk)
    }

    /// The first of a queue.
    pub(crate) fn front(&self, queue: DataQueue) -> Option<ChunkId> {
        self.lists.front(queue)
    }

    /// Granules in data of the chunks that pass.
    pub(crate) fn passing(&self) -> u64 {
        self.passing
    }

    /// Puts a chunk on a queue: `before` of its granules were in data, and `now` are.
    pub(crate) fn put(
        &mut self,
        queue: DataQueue,
        chunk: ChunkId,
        end: End,
        before: u64,
        now: u64,
    ) {
        if self.lists.list_of(chunk) == Some(DataQueue::Passing) {
            self.passing -= before;
        }
        match end {
            End::First => self.lists.push_front(queue, chunk),
            End::Last => self.lists.push_back(queue, chunk),
        }
        self.passing += if queue == DataQueue::Passing { now } else { 0 };
    }

    /// `left` granules of a chunk are in data no more; if `is_empty`, none is.
    pub(crate) fn left(&mut self, chunk: ChunkId, left: u64, is_empty: bool) {
        if self.lists.list_of(chunk) == Some(DataQueue::Passing) {
            self.passing -= left;
        }
        if is_empty {
            self.lists.remove(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::Id;
    use super::*;

    #[test]
    fn what_passes_is_counted_on_every_way() {
        let mut queues = DataQueues::new(4).expect("pages");
        let [a, b] = [0, 1].map(ChunkId::of);
        queues.put(DataQueue::Passing, a, End::Last, 0, 5);
        queues.put(DataQueue::Passing, a, End::Last, 5, 9);
        queues.put(DataQueue::Resident, b, End::Last, 0, 3);
        queues.put(DataQueue::Passing, b, End::First, 3, 3);
        assert_eq!((queues.passing(), queues.front(DataQueue::Passing)), (12, Some(b)));
        queues.left(a, 4, false);
        queues.put(DataQueue::Resident, b, End::Last, 3, 3);
        assert_eq!((queues.passing(), queues.queue_of(b)), (5, Some(DataQueue::Resident)));
        queues.left(a, 5, true);
        assert_eq!((queues.passing(), queues.queue_of(a)), (0, None));
    }
}
