//! The slots of the spill file: which are free, and for how many the file has space.
//!
//! ```text
//!   free    given back                              -> taken first
//!   fresh   reserved and never used                 -> taken next, in order
//!   then    one worker reserves a segment; the others wait for it
//! ```
//!
//! Invariants: `used <= reserved`; a slot is a chunk's, or free, or was never used. At most one
//! segment is being reserved at a time.
//!
//! Must never: reserve space itself, which waits; whoever is told [`Next::Reserve`] reserves it.

use plimsoll_arena::os::OsError;

use super::ids::{Id, SlotId};
use super::tables::Ring;

/// Slots of an extent that is reserved at once: 64 MiB.
pub(crate) const SEGMENT_SLOTS: usize = 32;

/// Which slot is next.
pub(crate) enum Next {
    /// This one is the caller's now.
    Slot(SlotId),
    /// A worker reserves space: when it has, there is one.
    Wait,
    /// The caller is to reserve space for the segment of this number, and to say so.
    Reserve(usize),
}

/// The slots of one file.
pub(crate) struct Slots {
    free: Ring<Option<SlotId>>,
    used: usize,
    reserved: usize,
    is_reserving: bool,
}

impl Slots {
    /// Room for `len` slots, none of which has space in the file.
    pub(crate) fn new(len: usize) -> Result<Self, OsError> {
        Ok(Self { free: Ring::new(len)?, used: 0, reserved: 0, is_reserving: false })
    }

    /// Slots for which the file has space.
    pub(crate) fn reserved(&self) -> u64 {
        self.reserved as u64
    }

    /// Takes a slot, if there is one.
    pub(crate) fn take(&mut self) -> Next {
        if let Some(slot) = self.free.pop().flatten() {
            return Next::Slot(slot);
        }
        if self.used < self.reserved {
            self.used += 1;
            return Next::Slot(SlotId::of(self.used - 1));
        }
        if std::mem::replace(&mut self.is_reserving, true) {
            return Next::Wait;
        }
        Next::Reserve(self.reserved / SEGMENT_SLOTS)
    }

    /// The file has space for one more segment.
    pub(crate) fn segment_reserved(&mut self) {
        self.is_reserving = false;
        self.reserved += SEGMENT_SLOTS;
    }

    /// Nobody's chunk is in this slot any more.
    pub(crate) fn give_back(&mut self, slot: SlotId) {
        // There are as many places as slots.
        let kept = self.free.push(Some(slot));
        debug_assert!(kept, "a slot was given back twice");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_had_once_and_one_worker_reserves() {
        let mut slots = Slots::new(2 * SEGMENT_SLOTS).expect("pages");
        assert!(matches!(slots.take(), Next::Reserve(0)));
        assert!(matches!(slots.take(), Next::Wait));
        slots.segment_reserved();
        for index in 0..SEGMENT_SLOTS {
            assert!(matches!(slots.take(), Next::Slot(slot) if slot.index() == index));
        }
        slots.give_back(SlotId::of(7));
        assert!(matches!(slots.take(), Next::Slot(slot) if slot.index() == 7));
        assert!(matches!(slots.take(), Next::Reserve(1)));
        assert_eq!(slots.reserved(), SEGMENT_SLOTS as u64);
    }
}
