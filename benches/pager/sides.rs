//! The two sides: memory of a pager, and a file of as many bytes on the same disk.
//!
//! ```text
//!   Data     fill --> words --> read in order, or rows at random; each word is compared
//!   RawFile  blocks, in order or at random, by as many threads
//! ```

use plimsoll_swap::backend::{AlignedBytes, Backend};
use plimsoll_swap::extent::ExtentMap;
use plimsoll_swap::file::{RamDisk, SpillFile};
use plimsoll_swap::pager::{Pager, PagerBuilder};
use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

const ROW_BYTES: usize = 10 << 10;

/// A word of noise.
pub(crate) fn noise(i: usize) -> u64 {
    (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Two bits as elements of BabyBear in Montgomery form.
pub(crate) fn bits(i: usize) -> u64 {
    const ONE: u64 = 0x0FFF_FFFE;
    let bit = |at: u32| noise(i) >> at & 1;
    (bit(40) * ONE) | ((bit(50) * ONE) << 32)
}

/// A pager and its range, as words.
pub(crate) struct Data {
    pub(crate) pager: Pager,
    filled: Cell<fn(usize) -> u64>,
}

impl Data {
    pub(crate) fn new(builder: PagerBuilder) -> Self {
        let pager = builder.build().expect("a pager, since the probe found what it needs");
        Self { pager, filled: Cell::new(|_| 0) }
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        let words = self.pager.range_bytes() / 8;
        // SAFETY: mapped for the pager's life, zero at first; atomics may be shared.
        unsafe { std::slice::from_raw_parts(self.pager.base().as_ptr().cast(), words) }
    }

    /// Fills everything. Returns the seconds it took.
    pub(crate) fn fill(&self, word: fn(usize) -> u64) -> f64 {
        let start = Instant::now();
        self.words().iter().enumerate().for_each(|(i, at)| at.store(word(i), Relaxed));
        self.filled.set(word);
        start.elapsed().as_secs_f64()
    }

    /// Reads a word of each cache line, in order, and compares. Returns the seconds it took.
    pub(crate) fn read(&self, threads: usize) -> f64 {
        let (words, filled) = (self.words(), self.filled.get());
        let part = words.len() / threads;
        let start = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    for i in (thread * part..(thread + 1) * part).step_by(8) {
                        assert_eq!(words[i].load(Relaxed), filled(i), "word {i}");
                    }
                });
            }
        });
        start.elapsed().as_secs_f64()
    }

    /// Reads `rows` rows at random places, all words of each. Returns the seconds it took.
    pub(crate) fn read_rows(&self, threads: usize, rows: usize, round: u64) -> f64 {
        let (words, filled) = (self.words(), self.filled.get());
        let row_words = ROW_BYTES / 8;
        let start = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..threads as u64 {
                scope.spawn(move || {
                    let mut places = Places::new(7 + thread + 100 * round);
                    for _ in 0..rows / threads {
                        let first = places.next(words.len() / row_words) * row_words;
                        for (i, word) in words.iter().enumerate().skip(first).take(row_words) {
                            assert_eq!(word.load(Relaxed), filled(i), "word {i}");
                        }
                    }
                });
            }
        });
        start.elapsed().as_secs_f64()
    }
}

/// Places at random, the same for the same seed.
struct Places(u64);

impl Places {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
        (self.0 >> 33) as usize % below
    }
}

/// A file as large as the data, on the same disk and opened the same way.
pub(crate) struct RawFile {
    file: SpillFile,
    bytes: usize,
}

impl RawFile {
    pub(crate) fn new(folder: &Path, bytes: usize) -> Self {
        let block = 4 << 20;
        let file = SpillFile::open(folder, RamDisk::Accept).expect("a folder to spill to");
        let mut map = ExtentMap::new(bytes as u64);
        let extent = map.alloc(bytes as u64).expect("room");
        file.reserve(extent).expect("room on the disk");
        let mut buffer = AlignedBytes::zeroed(block);
        for at in (0..bytes).step_by(block) {
            buffer[0] = (at / block) as u8;
            file.write_at(at as u64, &buffer).expect("a write");
        }
        Self { file, bytes }
    }

    /// Bytes a second of reading `total` in blocks, at random places or in order, into one block of
    /// memory a thread.
    pub(crate) fn rate(&self, threads: usize, block: usize, total: usize, random: bool) -> f64 {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    let mut buffer = AlignedBytes::zeroed(block);
                    let mut places = Places::new(77 + thread as u64);
                    for i in 0..total / block / threads {
                        let blocks = self.bytes / block;
                        let in_order = (i * threads + thread) % blocks;
                        let place = if random { places.next(blocks) } else { in_order };
                        self.file.read_at((place * block) as u64, &mut buffer).expect("a read");
                    }
                });
            }
        });
        total as f64 / start.elapsed().as_secs_f64()
    }

    /// The same in order by two threads into `memory` bytes, one block after the other: no cache
    /// holds what is written to, as with a pager.
    pub(crate) fn rate_into(&self, memory: usize, block: usize, total: usize) -> f64 {
        let mut halves = [(); 2].map(|()| AlignedBytes::zeroed(memory / 2));
        halves.iter_mut().for_each(|half| half.fill(1));
        let start = Instant::now();
        std::thread::scope(|scope| {
            for (thread, half) in halves.iter_mut().enumerate() {
                scope.spawn(move || {
                    let places = half.len() / block;
                    for i in 0..total / block / 2 {
                        let into = &mut half[i % places * block..][..block];
                        let place = (i * 2 + thread) % (self.bytes / block);
                        self.file.read_at((place * block) as u64, into).expect("a read");
                    }
                });
            }
        });
        total as f64 / start.elapsed().as_secs_f64()
    }
}
