//! The large blocks of a run, by names on which two runs of one program agree.
//!
//! ```text
//!   placed(where, bytes)  -> live, and named: its bytes, and how many of as many came before it
//!   freed(where)          -> live no more
//!   a granule             -> the live block that holds it
//! ```
//!
//! Where blocks lie differs from run to run; in which order a program asks for them does not, or
//! hardly.
//!
//! Invariant: live blocks do not overlap, and are sorted by where they lie. Pure.
//!
//! Must never: allocate after it was made. What finds no room has no name.

use plimsoll_arena::os::OsError;

use super::proofs::{LARGE_BYTES, Proofs};
use super::space::GRANULE_BYTES;
use super::tables::{Table, ZeroValid};

/// Live blocks that are known at once.
const LIVE_MAX: usize = 1 << 13;

/// Sizes that are counted; a power of two.
const SIZES_MAX: usize = 1 << 12;

/// A block by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockName {
    pub(crate) bytes: u64,
    /// How many blocks of as many bytes came before it.
    pub(crate) nth: u32,
}

/// A block in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveBlock {
    first: u32,
    granules: u32,
    pub(crate) name: BlockName,
    /// One more than its first place in a plan, or zero.
    planned: u32,
}

// SAFETY: integers.
unsafe impl ZeroValid for LiveBlock {}

impl LiveBlock {
    /// A plan has its granules from a place on.
    pub(crate) fn plan_at(&mut self, place: u32) {
        self.planned = place + 1;
    }

    /// No plan has it.
    pub(crate) fn forget(&mut self) {
        self.planned = 0;
    }

    /// Its bytes, if it is large.
    fn large(&self) -> u64 {
        if self.name.bytes >= LARGE_BYTES { self.name.bytes } else { 0 }
    }

    fn past(&self) -> u64 {
        u64::from(self.first) + u64::from(self.granules)
    }
}

/// How many blocks of a size came.
#[derive(Clone, Copy, Debug)]
struct SizeCount {
    bytes: u64,
    count: u32,
}

// SAFETY: integers.
unsafe impl ZeroValid for SizeCount {}

/// Blocks of two MiB and more, as they come and go.
pub(crate) struct Blocks {
    live: Table<LiveBlock>,
    len: usize,
    sizes: Table<SizeCount>,
    /// Bytes of large ones in use.
    large_bytes: u64,
    proofs: Proofs,
}

impl Blocks {
    pub(crate) fn new() -> Result<Self, OsError> {
        let (live, sizes) = (Table::new(LIVE_MAX)?, Table::new(SIZES_MAX)?);
        Ok(Self { live, len: 0, sizes, large_bytes: 0, proofs: Proofs::new() })
    }

    /// A block spans these bytes from a granule on, from now on. Returns it, if there was room.
    pub(crate) fn placed(&mut self, granule: u64, bytes: u64) -> Option<&mut LiveBlock> {
        let granules = u32::try_from(bytes.div_ceil(GRANULE_BYTES as u64)).ok()?;
        let first = u32::try_from(granule).ok()?;
        let nth = self.count(bytes)?;
        let past = granule + u64::from(granules);
        let at = self.live().partition_point(|block| block.past() <= granule);
        // What it lies over is gone, whether somebody said so or not: it may be what it was before
        // it became longer.
        let over = self.live()[at..].partition_point(|block| u64::from(block.first) < past);
        self.large_bytes -= self.live()[at..at + over].iter().map(LiveBlock::large).sum::<u64>();
        self.proofs.came(bytes, self.large_bytes);
        if over == 0 && self.len == LIVE_MAX {
            return None;
        }
        self.live.copy_within(at + over..self.len, at + 1);
        self.len = self.len + 1 - over;
        let name = BlockName { bytes, nth };
        self.live[at] = LiveBlock { first, granules, name, planned: 0 };
        self.large_bytes += self.live[at].large();
        Some(&mut self.live[at])
    }

    /// A block that begins at a granule is gone. What begins elsewhere is a part of one.
    pub(crate) fn freed(&mut self, granule: u64) {
        let found = self.live().binary_search_by_key(&granule, |block| u64::from(block.first));
        if let Ok(at) = found {
            self.large_bytes -= self.live[at].large();
            self.proofs.went(self.large_bytes);
            self.live.copy_within(at + 1..self.len, at);
            self.len -= 1;
        }
    }

    fn live(&self) -> &[LiveBlock] {
        &self.live[..self.len]
    }

    pub(crate) fn live_mut(&mut self) -> &mut [LiveBlock] {
        &mut self.live[..self.len]
    }

    /// What they tell of proofs.
    pub(crate) fn proofs(&self) -> &Proofs {
        &self.proofs
    }

    /// The place of a granule in a plan.
    pub(crate) fn place(&self, granule: u64) -> Option<u32> {
        let block = self.holding(granule)?;
        Some(block.planned.checked_sub(1)? + (granule - u64::from(block.first)) as u32)
    }

    /// The block that holds a granule.
    fn holding(&self, granule: u64) -> Option<&LiveBlock> {
        let at = self.live().partition_point(|block| block.past() <= granule);
        self.live().get(at).filter(|block| u64::from(block.first) <= granule)
    }

    /// How many blocks of a size came before; one more has come.
    fn count(&mut self, bytes: u64) -> Option<u32> {
        let start = (bytes.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
        for step in 0..SIZES_MAX {
            let size = &mut self.sizes[(start + step) % SIZES_MAX];
            if size.bytes == bytes || size.bytes == 0 {
                size.bytes = bytes;
                size.count = size.count.saturating_add(1);
                return Some(size.count - 1);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const GRANULE: u64 = GRANULE_BYTES as u64;

    #[test]
    fn blocks_are_found_by_their_granules_as_in_a_plain_map() {
        let mut rng = ChaCha8Rng::seed_from_u64(super::super::tests::seed());
        let mut blocks = Blocks::new().expect("pages");
        let mut plain: BTreeMap<u64, (u64, BlockName)> = BTreeMap::new();
        let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
        for _ in 0..20_000 {
            let granule = rng.gen_range(0..2000);
            if rng.gen_bool(0.4) {
                blocks.freed(granule);
                plain.remove(&granule);
            } else {
                let bytes = rng.gen_range(1..40) * GRANULE - 5;
                let past = granule + bytes.div_ceil(GRANULE);
                plain.retain(|first, (granules, _)| *first >= past || first + *granules <= granule);
                let nth = counts.entry(bytes).or_default();
                let name = BlockName { bytes, nth: *nth };
                *nth += 1;
                plain.insert(granule, (past - granule, name));
                assert_eq!(blocks.placed(granule, bytes).map(|block| block.name), Some(name));
            }
            let asked = rng.gen_range(0..2100);
            let before = plain.range(..=asked).next_back();
            let right = before.filter(|(first, (granules, _))| asked < *first + granules);
            let found = blocks.holding(asked).map(|block| (u64::from(block.first), block.name));
            assert_eq!(found, right.map(|(first, (_, name))| (*first, *name)));
        }
        assert_eq!(blocks.live().len(), plain.len());
    }

    #[test]
    fn what_finds_no_room_has_no_name_and_loses_nothing_else() {
        let mut blocks = Blocks::new().expect("pages");
        for i in 0..LIVE_MAX as u64 {
            assert!(blocks.placed(i * 2, GRANULE).is_some());
        }
        assert!(blocks.placed(1 << 20, GRANULE).is_none());
        assert!(blocks.placed(4, GRANULE).is_some(), "over one that was there");
        assert_eq!(blocks.holding(4).map(|block| block.name.nth), Some(LIVE_MAX as u32 + 1));
        let mut sizes = 1;
        while blocks.placed(8, GRANULE + sizes).is_some() {
            sizes += 1;
        }
        assert_eq!(sizes as usize, SIZES_MAX);
    }
}
