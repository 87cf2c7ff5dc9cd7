//! What leaves memory and how: sealed, or not at all because 32 bytes say it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::tests::{GRANULE_WORDS, built, check, seed, words};
use super::*;
use crate::Error;
use crate::backend::{Backend, Memory};
use crate::extent::Extent;
use crate::store::Encryption;

const MIB: usize = 1 << 20;

/// A word that every granule of a test holds.
const MARK: u64 = 0x5EC2_E75E_C2E7_5EC2;

/// Memory that counts the marks in what is written to it.
struct Spy {
    memory: Memory,
    marks: Arc<AtomicU64>,
}

impl Backend for Spy {
    fn read_at(&self, offset_bytes: u64, out: &mut [u8]) -> Result<(), Error> {
        self.memory.read_at(offset_bytes, out)
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), Error> {
        let marks = bytes.as_chunks::<8>().0.iter().filter(|word| **word == MARK.to_ne_bytes());
        self.marks.fetch_add(marks.count() as u64, Relaxed);
        self.memory.write_at(offset_bytes, bytes)
    }

    fn reserve(&self, extent: Extent) -> Result<(), Error> {
        self.memory.reserve(extent)
    }

    fn release(&self, extent: Extent) -> Result<(), Error> {
        self.memory.release(extent)
    }

    fn len_bytes(&self) -> u64 {
        self.memory.len_bytes()
    }
}

/// A pager of 64 MiB under 4 whose file is watched, and the marks that the file has seen.
fn watched(encryption: Encryption) -> Option<(Pager, Arc<AtomicU64>)> {
    let marks = Arc::new(AtomicU64::new(0));
    let spy = Spy { memory: Memory::new(64 * MIB as u64), marks: Arc::clone(&marks) };
    let builder = Pager::builder().range_bytes(64 * MIB).budget_bytes(4 * MIB);
    let pager = built(builder.backend(Box::new(spy)).encryption(encryption))?;
    Some((pager, marks))
}

/// Fills every granule with marks and its number, three times over, and reads it back.
fn mark_and_read(pager: &Pager) {
    let words = words(pager);
    for round in 0..3 {
        for (i, granule) in words.chunks(GRANULE_WORDS).enumerate() {
            for (j, word) in granule.iter().enumerate() {
                word.store(if j % 2 == 0 { MARK } else { (i * 7 + j) as u64 + round }, Relaxed);
            }
        }
        for (i, granule) in words.chunks(GRANULE_WORDS).enumerate() {
            for (j, word) in granule.iter().enumerate() {
                let expected = if j % 2 == 0 { MARK } else { (i * 7 + j) as u64 + round };
                assert_eq!(word.load(Relaxed), expected, "granule {i}, word {j}");
            }
        }
    }
    check(pager);
}

#[test]
fn nothing_of_the_contents_reaches_a_sealed_file() {
    let Some((pager, marks)) = watched(Encryption::On) else { return };
    mark_and_read(&pager);
    let stats = pager.stats();
    assert!(stats.sealed_bytes > 100 * MIB as u64 && stats.sealed_bytes == stats.written_bytes);
    assert_eq!(marks.load(Relaxed), 0);
    // The same program without: the spy sees what there is to see.
    let Some((pager, marks)) = watched(Encryption::Off) else { return };
    mark_and_read(&pager);
    assert!(marks.load(Relaxed) > 0 && pager.stats().sealed_bytes == 0);
}

/// What a granule of the storm holds: zeros, one lane of 32 bytes over and over, the same but for
/// one word, or words that differ.
fn expected(kind: u8, salt: u64, word: usize) -> u64 {
    let mix = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    match kind {
        0 => 0,
        1 => mix(salt),
        2 => mix(salt + word as u64 % 4),
        3 if word == (salt as usize) % GRANULE_WORDS => 5,
        3 => mix(salt + word as u64 % 4),
        _ => mix(salt << 20 | word as u64),
    }
}

/// Threads that write granules of all kinds in their own part, and read all of them again.
fn storm_of_kinds(pager: &Pager, threads: usize, steps: usize, seed: u64) {
    let words = words(pager);
    let granules = words.len() / GRANULE_WORDS;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let mut rng = ChaCha8Rng::seed_from_u64(seed ^ (thread as u64) << 32);
                let mine: Vec<usize> = (thread..granules).step_by(threads).collect();
                let mut held = vec![(0u8, 0u64); mine.len()];
                for step in 0..steps {
                    let which = rng.gen_range(0..mine.len());
                    let granule = &words[mine[which] * GRANULE_WORDS..][..GRANULE_WORDS];
                    let (kind, salt) = held[which];
                    for (i, word) in granule.iter().enumerate() {
                        let want = expected(kind, salt, i);
                        assert_eq!(word.load(Relaxed), want, "step {step}, word {i} of {which}");
                    }
                    if rng.gen_bool(0.6) {
                        held[which] = (rng.gen_range(0..5), rng.gen_range(1..1 << 30));
                        let (kind, salt) = held[which];
                        for (i, word) in granule.iter().enumerate() {
                            word.store(expected(kind, salt, i), Relaxed);
                        }
                    }
                }
            });
        }
    });
    check(pager);
}

#[test]
fn granules_that_repeat_and_others_come_back_as_they_were() {
    let seed = seed();
    for encryption in [Encryption::Off, Encryption::On] {
        for (threads, budget) in [(1, GRANULE_BYTES), (4, 2 * MIB), (6, 36 * MIB)] {
            let backend: Box<dyn Backend> = Box::new(Memory::new(64 * MIB as u64));
            let builder = Pager::builder().range_bytes(48 * MIB).budget_bytes(budget);
            let Some(pager) = built(builder.backend(backend).encryption(encryption)) else {
                return;
            };
            storm_of_kinds(&pager, threads, 2400 / threads, seed);
            let stats = pager.stats();
            assert!(stats.repeating_bytes > 0 && stats.written_bytes > 0, "{stats:?}");
        }
    }
}

#[test]
fn what_repeats_costs_no_reads_and_no_writes() {
    // Room to fill in: a granule that is half full does not repeat, and is written if it must go.
    let builder = Pager::builder().range_bytes(64 * MIB).budget_bytes(80 * MIB);
    let Some(pager) = built(builder.backend(Box::new(Memory::new(64 * MIB as u64)))) else {
        return;
    };
    let words = words(&pager);
    for (i, word) in words.iter().enumerate() {
        word.store(3 + i as u64 % 4, Relaxed);
    }
    pager.set_budget(4 * MIB);
    for _ in 0..2 {
        for (i, word) in words.iter().enumerate() {
            assert_eq!(word.load(Relaxed), 3 + i as u64 % 4, "word {i}");
        }
    }
    let stats = pager.stats();
    assert_eq!((stats.written_bytes, stats.read_bytes, stats.file_bytes), (0, 0, 0), "{stats:?}");
    assert!(stats.repeating_bytes >= 60 * MIB as u64, "{stats:?}");
    pager.engine().check();
}

#[test]
fn discarded_lanes_are_zero_and_changed_ones_are_written() {
    let Some((pager, _)) = watched(Encryption::On) else { return };
    let words = words(&pager);
    words.iter().for_each(|word| word.store(9, Relaxed));
    pager.reclaim(64 * MIB);
    // SAFETY: this test does not look at the contents again.
    unsafe { pager.discard(pager.base(), 8 * MIB) };
    assert!(words[..MIB].iter().all(|word| word.load(Relaxed) == 0));
    for granule in words[MIB..].chunks(GRANULE_WORDS) {
        granule[77].store(8, Relaxed);
    }
    pager.reclaim(64 * MIB);
    assert!(pager.stats().written_bytes >= 56 * MIB as u64, "{:?}", pager.stats());
    for (i, granule) in words[MIB..].chunks(GRANULE_WORDS).enumerate() {
        for (j, word) in granule.iter().enumerate() {
            assert_eq!(word.load(Relaxed), if j == 77 { 8 } else { 9 }, "granule {i}, word {j}");
        }
    }
    check(&pager);
}
