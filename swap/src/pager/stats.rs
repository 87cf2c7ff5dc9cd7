//! What a pager says of itself: what it holds now, and what it has counted.
//!
//! Must never: change anything.

use super::core::{CHUNK, Core};
use super::held::Where;
use super::space::GRANULE_BYTES;
use super::thrash::Count;

/// What a pager holds and has done since it was made. Names that end in `_bytes`, or have it before
/// `_peak`, are bytes; the others count events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name says what it counts; docs explain the words")]
pub struct PagerStats {
    pub budget_bytes: u64,
    pub held_bytes: u64,
    pub held_bytes_peak: u64,
    pub data_bytes: u64,
    pub limbo_bytes: u64,
    pub spare_bytes: u64,
    pub file_bytes: u64,
    pub faults: u64,
    pub rescued_bytes: u64,
    pub loads: u64,
    pub read_bytes: u64,
    pub read_ahead_bytes: u64,
    pub read_ahead_used_bytes: u64,
    pub rows_ahead_bytes: u64,
    pub planned_bytes: u64,
    pub unplanned_bytes: u64,
    pub plan_waste_bytes: u64,
    pub zero_filled_bytes: u64,
    pub written_bytes: u64,
    pub clean_bytes: u64,
    pub found_zero_bytes: u64,
    pub repeating_bytes: u64,
    pub sealed_bytes: u64,
    pub packed_bytes: u64,
    pub unpacked_bytes: u64,
    pub cleared_bytes: u64,
    pub packed_now_bytes: u64,
    pub shelf_bytes: u64,
    pub dead_bytes: u64,
    pub fixed_bytes: u64,
    pub overdrafts: u64,
    pub pinned: u64,
    pub busy_retries: u64,
}

impl Core {
    /// What is held and was done.
    pub(crate) fn stats(&self) -> PagerStats {
        let bytes = |granules: u64| granules * GRANULE_BYTES as u64;
        let of = |count: Count| bytes(self.counters.of(count));
        PagerStats {
            budget_bytes: bytes(self.budget()),
            held_bytes: bytes(self.held.total()),
            held_bytes_peak: bytes(self.held.peak()),
            data_bytes: bytes(self.held.at(Where::Data)),
            limbo_bytes: bytes(self.held.at(Where::Limbo) + self.held.at(Where::Ahead)),
            spare_bytes: bytes(self.held.at(Where::Spare)),
            file_bytes: bytes(self.slots.reserved() * CHUNK),
            faults: self.counters.of(Count::Faults),
            rescued_bytes: of(Count::Rescued),
            loads: self.counters.of(Count::Loads),
            read_bytes: of(Count::Loaded),
            read_ahead_bytes: of(Count::ReadAhead),
            read_ahead_used_bytes: of(Count::ReadAheadUsed),
            rows_ahead_bytes: of(Count::RowsAhead),
            planned_bytes: bytes(self.replay.planned()),
            unplanned_bytes: bytes(self.replay.unplanned()),
            plan_waste_bytes: of(Count::PlanWaste),
            zero_filled_bytes: of(Count::ZeroFilled),
            written_bytes: of(Count::Written),
            clean_bytes: of(Count::Clean),
            found_zero_bytes: of(Count::FoundZero),
            repeating_bytes: of(Count::Repeating),
            sealed_bytes: of(Count::Sealed),
            packed_bytes: of(Count::Packed),
            unpacked_bytes: of(Count::Unpacked),
            cleared_bytes: of(Count::Cleared),
            packed_now_bytes: bytes(self.shelves.granules),
            shelf_bytes: bytes(self.held.at(Where::Shelf)),
            dead_bytes: of(Count::Dead),
            fixed_bytes: bytes(self.fixed.granules()),
            overdrafts: self.counters.of(Count::Overdrafts),
            pinned: self.counters.of(Count::Pinned),
            busy_retries: self.counters.of(Count::BusyRetries),
        }
    }
}
