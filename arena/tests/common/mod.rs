//! What the model tests share: a generator, the seed loop, elements with unique contents, and a
//! register of addresses in use.
//!
//! `SEED=7` replays the program of seed 7 alone; `PLIMSOLL_PROGRAMS=3` runs the first three of
//! each test (Miri and Valgrind are some hundred times slower than the machine).

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

/// A fresh seed gives a fresh sequence; the same seed the same one.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The splitmix64 step of Steele, Lea and Flood, "Fast splittable pseudorandom number
    /// generators", 2014.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is above zero.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// A size up to `max`: orders of magnitude are alike likely, edges of granules likelier.
    pub(crate) fn size(&mut self, max: usize) -> usize {
        let granule = 64 << 10;
        match self.below(8) {
            0 => (granule * (1 + self.below(max.div_ceil(granule))) + self.below(3))
                .saturating_sub(1)
                .min(max),
            1 if self.one_in(3) => 0,
            // A few sizes again and again, so that blocks are reused.
            1..4 => [65_536, 100_000, 100_001, 300_000][self.below(4)].min(max),
            _ => {
                let log2 = self.below(max.ilog2() as usize + 1);
                ((1usize << log2) + self.below(1 << log2)).min(max)
            }
        }
    }
}

/// Miri interprets; its programs are fewer, shorter and smaller.
pub(crate) const fn unless_miri(value: usize, under_miri: usize) -> usize {
    if cfg!(miri) { under_miri } else { value }
}

fn number_in(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

struct SayOnPanic<'a> {
    test: &'a str,
    seed: u64,
}

impl Drop for SayOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: replay with SEED={}", self.test, self.seed);
        }
    }
}

/// Runs `program` for seeds `1..=count`, or as the environment says.
pub(crate) fn run_programs(test: &str, count: usize, program: impl Fn(&mut Rng)) {
    let seeds = match (number_in("SEED"), number_in("PLIMSOLL_PROGRAMS")) {
        (Some(seed), _) => seed..=seed,
        (None, Some(count)) => 1..=count,
        (None, None) => 1..=unless_miri(count, 2) as u64,
    };
    for seed in seeds {
        let _say = SayOnPanic { test, seed };
        program(&mut Rng::new(seed));
    }
}

/// An element that can be told from every other.
pub(crate) trait Element:
    Copy + PartialEq + std::fmt::Debug + Send + Sync + 'static
{
    fn make(id: u64) -> Self;
}

impl Element for u8 {
    fn make(id: u64) -> Self {
        (id ^ (id >> 8) ^ (id >> 16)) as u8
    }
}

impl Element for u64 {
    fn make(id: u64) -> Self {
        !id
    }
}

impl Element for [u64; 4] {
    fn make(id: u64) -> Self {
        [id, !id, id.rotate_left(17), id.wrapping_mul(3)]
    }
}

/// Padding and a large alignment: a `Copy` type that is not `Plain`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(128))]
pub(crate) struct Padded {
    id: u64,
    flag: bool,
}

impl Element for Padded {
    fn make(id: u64) -> Self {
        Self { id, flag: id % 3 == 1 }
    }
}

/// As large an alignment as a block has.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(4096))]
pub(crate) struct PageAligned(u64);

impl Element for PageAligned {
    fn make(id: u64) -> Self {
        Self(id)
    }
}

/// Addresses in use, of all threads: two owners of one byte are found when the second comes.
#[derive(Default)]
pub(crate) struct InUse(Mutex<BTreeMap<usize, usize>>);

impl InUse {
    pub(crate) fn enter(&self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let mut map = self.0.lock().expect("no panic under this lock but ours");
        if let Some((start, end)) = map.range(..range.end).next_back() {
            assert!(*end <= range.start, "{range:x?} overlaps {start:x}..{end:x}");
        }
        map.insert(range.start, range.end);
    }

    pub(crate) fn leave(&self, range: Range<usize>) {
        if !range.is_empty() {
            let mut map = self.0.lock().expect("no panic under this lock but ours");
            assert_eq!(map.remove(&range.start), Some(range.end), "left where it entered");
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().expect("no panic under this lock but ours").is_empty()
    }
}
