//! Which bytes of the spill file are free: pure arithmetic, no file.
//!
//! ```text
//!   0                                                 end            quota
//!   | live | free | live | live | free | live | live   |  never used   |
//! ```
//!
//! Lengths are rounded up to blocks of 4 KiB. An extent comes from the shortest free hole that is
//! long enough, the lowest of these; if there is none, from the end. Freed extents join
//! their free neighbours; a hole that would reach the end lowers the end instead, so the last
//! extent is always live and growth starts right behind it.
//!
//! Invariants:
//!
//! * `live + free = end <= quota`, in blocks; holes are disjoint, never adjacent, below the end.
//! * the holes by place and the holes by length are the same set.
//! * the same calls give the same extents.
//!
//! Best fit keeps long holes whole; see Wilson et al., "Dynamic Storage Allocation", IWMM 1995.
//!
//! Must never: hand out a byte twice, or take back what is not exactly a live extent.

use std::collections::{BTreeMap, BTreeSet};

use crate::Error;
use crate::frame::FRAME_ALIGN_BYTES;

/// Bytes of a block, the unit of extents: a frame's alignment.
pub const BLOCK_BYTES: u64 = FRAME_ALIGN_BYTES as u64;

/// A range of the file, both numbers multiples of [`BLOCK_BYTES`]; `bytes` is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Extent {
    offset_bytes: u64,
    bytes: u64,
}

impl Extent {
    /// The range from one block to another; both are multiples of [`BLOCK_BYTES`].
    pub(crate) fn between(offset_bytes: u64, end_bytes: u64) -> Self {
        Self { offset_bytes, bytes: end_bytes - offset_bytes }
    }

    /// The first byte.
    pub fn offset_bytes(&self) -> u64 {
        self.offset_bytes
    }

    /// The length.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first byte past it.
    pub fn end_bytes(&self) -> u64 {
        self.offset_bytes + self.bytes
    }
}

/// The free and live extents of one file.
#[derive(Clone, Debug)]
pub struct ExtentMap {
    /// Live: first block to blocks.
    live: BTreeMap<u64, u64>,
    /// Free: first block to blocks.
    holes: BTreeMap<u64, u64>,
    /// Free: blocks, first block.
    by_length: BTreeSet<(u64, u64)>,
    live_blocks: u64,
    end: u64,
    quota: u64,
}

impl ExtentMap {
    /// An empty file that may grow to `quota_bytes`, rounded down to blocks.
    pub fn new(quota_bytes: u64) -> Self {
        Self {
            live: BTreeMap::new(),
            holes: BTreeMap::new(),
            by_length: BTreeSet::new(),
            live_blocks: 0,
            end: 0,
            quota: quota_bytes.min(i64::MAX as u64) / BLOCK_BYTES,
        }
    }

    /// An extent of at least `bytes`, rounded up to blocks; one block for zero.
    ///
    /// # Errors
    ///
    /// [`Error::Quota`] if no hole is long enough and the file may not grow by what is missing.
    /// Nothing has changed.
    pub fn alloc(&mut self, bytes: u64) -> Result<Extent, Error> {
        let blocks = bytes.div_ceil(BLOCK_BYTES).max(1);
        let first = match self.by_length.range((blocks, 0)..).next().copied() {
            Some((hole, first)) => {
                self.remove_hole(first, hole);
                if hole > blocks {
                    self.insert_hole(first + blocks, hole - blocks);
                }
                first
            }
            // The last extent is live, so growth starts at the end.
            None if blocks <= self.quota - self.end => {
                self.end += blocks;
                self.end - blocks
            }
            None => return Err(self.over_quota(bytes)),
        };
        self.live.insert(first, blocks);
        self.live_blocks += blocks;
        Ok(Extent { offset_bytes: first * BLOCK_BYTES, bytes: blocks * BLOCK_BYTES })
    }

    /// Takes an extent back.
    ///
    /// # Errors
    ///
    /// [`Error::NotLive`] if it is not exactly a live extent of this map. Nothing has changed.
    pub fn free(&mut self, extent: Extent) -> Result<(), Error> {
        let (mut first, blocks) = (extent.offset_bytes / BLOCK_BYTES, extent.bytes / BLOCK_BYTES);
        if self.live.get(&first) != Some(&blocks) {
            return Err(Error::NotLive { offset_bytes: extent.offset_bytes, bytes: extent.bytes });
        }
        self.live.remove(&first);
        self.live_blocks -= blocks;
        let mut past = first + blocks;
        if let Some((&before, &hole)) = self.holes.range(..first).next_back()
            && before + hole == first
        {
            self.remove_hole(before, hole);
            first = before;
        }
        if let Some(&hole) = self.holes.get(&past) {
            self.remove_hole(past, hole);
            past += hole;
        }
        if past == self.end {
            self.end = first;
        } else {
            self.insert_hole(first, past - first);
        }
        Ok(())
    }

    /// Bytes in live extents.
    pub fn live_bytes(&self) -> u64 {
        self.live_blocks * BLOCK_BYTES
    }

    /// Bytes of holes below the end.
    pub fn free_bytes(&self) -> u64 {
        (self.end - self.live_blocks) * BLOCK_BYTES
    }

    /// The end of the last live extent: what the file's length must be at least.
    pub fn end_bytes(&self) -> u64 {
        self.end * BLOCK_BYTES
    }

    /// The most the end may be.
    pub fn quota_bytes(&self) -> u64 {
        self.quota * BLOCK_BYTES
    }

    fn insert_hole(&mut self, first: u64, blocks: u64) {
        let replaced = self.holes.insert(first, blocks);
        let is_new = self.by_length.insert((blocks, first));
        debug_assert!(replaced.is_none() && is_new, "two holes at block {first}");
    }

    fn remove_hole(&mut self, first: u64, blocks: u64) {
        self.holes.remove(&first);
        self.by_length.remove(&(blocks, first));
    }

    #[cold]
    fn over_quota(&self, asked_bytes: u64) -> Error {
        let hole = self.by_length.last().map_or(0, |&(blocks, _)| blocks);
        Error::Quota {
            asked_bytes,
            live_bytes: self.live_bytes(),
            hole_bytes_max: hole.max(self.quota - self.end) * BLOCK_BYTES,
            quota_bytes: self.quota_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// One flag a block: the naive map.
    struct Bitmap(Vec<bool>);

    impl Bitmap {
        /// Lengths and places of the runs of free blocks below the last live one.
        fn holes(&self) -> Vec<(usize, usize)> {
            let end = self.0.iter().rposition(|&live| live).map_or(0, |last| last + 1);
            let mut holes = Vec::new();
            let mut first = 0;
            for at in 0..end {
                if self.0[at] {
                    if at > first {
                        holes.push((at - first, first));
                    }
                    first = at + 1;
                }
            }
            holes
        }

        fn place(&self, blocks: usize) -> Option<usize> {
            let end = self.0.iter().rposition(|&live| live).map_or(0, |last| last + 1);
            let fits = self.holes().into_iter().filter(|hole| hole.0 >= blocks).min();
            fits.map(|hole| hole.1).or((end + blocks <= self.0.len()).then_some(end))
        }
    }

    fn check(map: &ExtentMap, naive: &Bitmap) {
        let live = naive.0.iter().filter(|&&live| live).count() as u64;
        let mut holes = naive.holes();
        let found: Vec<_> = map.holes.iter().map(|(&at, &n)| (n as usize, at as usize)).collect();
        assert_eq!(found, holes);
        holes.sort_unstable();
        let sorted: Vec<_> =
            map.by_length.iter().map(|&(n, at)| (n as usize, at as usize)).collect();
        assert_eq!(sorted, holes);
        assert_eq!(map.live_bytes(), live * BLOCK_BYTES);
        assert_eq!(map.live_bytes() + map.free_bytes(), map.end_bytes());
        assert!(map.end_bytes() <= map.quota_bytes());
    }

    /// One program of 300 calls.
    fn run(seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let quota = rng.gen_range(1..120usize);
        let longest = rng.gen_range(1..20u64);
        let mut map = ExtentMap::new(quota as u64 * BLOCK_BYTES + rng.gen_range(0..BLOCK_BYTES));
        let mut naive = Bitmap(vec![false; quota]);
        let mut live: Vec<Extent> = Vec::new();
        for _ in 0..300 {
            if live.is_empty() || rng.gen_bool(0.55) {
                let blocks = rng.gen_range(1..=longest);
                let bytes = blocks * BLOCK_BYTES - rng.gen_range(0..BLOCK_BYTES);
                match (map.alloc(bytes), naive.place(blocks as usize)) {
                    (Ok(extent), Some(at)) => {
                        assert_eq!(extent.offset_bytes(), at as u64 * BLOCK_BYTES);
                        assert_eq!(extent.bytes(), blocks * BLOCK_BYTES);
                        naive.0[at..at + blocks as usize].fill(true);
                        live.push(extent);
                    }
                    (Err(Error::Quota { .. }), None) => {}
                    (found, expected) => panic!("{found:?}, naive {expected:?}"),
                }
            } else {
                let extent = live.swap_remove(rng.gen_range(0..live.len()));
                map.free(extent).unwrap();
                let first = (extent.offset_bytes() / BLOCK_BYTES) as usize;
                naive.0[first..first + (extent.bytes() / BLOCK_BYTES) as usize].fill(false);
                assert!(matches!(map.free(extent), Err(Error::NotLive { .. })));
            }
            check(&map, &naive);
        }
        live.into_iter().for_each(|extent| map.free(extent).unwrap());
        assert_eq!((map.end_bytes(), map.free_bytes()), (0, 0));
    }

    #[test]
    fn programs_agree_with_a_bitmap() {
        let one = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        for seed in one.map_or(0..500, |seed| seed..seed + 1) {
            if let Err(why) = std::panic::catch_unwind(|| run(seed)) {
                println!("replay with SEED={seed}");
                std::panic::resume_unwind(why);
            }
        }
    }

    #[test]
    fn extremes_are_errors() {
        let mut map = ExtentMap::new(u64::MAX);
        assert!(map.alloc(u64::MAX).is_err());
        let all = map.alloc(map.quota_bytes()).unwrap();
        let full = map.alloc(0);
        assert!(matches!(full, Err(Error::Quota { hole_bytes_max: 0, .. })), "{full:?}");
        let part = Extent { bytes: BLOCK_BYTES, ..all };
        assert!(matches!(map.free(part), Err(Error::NotLive { .. })));
        map.free(all).unwrap();
        assert_eq!(map.alloc(0).unwrap().bytes(), BLOCK_BYTES);
        assert!(ExtentMap::new(4095).alloc(1).is_err());
    }
}
