//! Readers in bit-reversed order and in others, with room for a part of what they read.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const GRANULE: u64 = GRANULE_BYTES as u64;

/// What happened to one who read through an array.
#[derive(Debug, Default)]
struct Seen {
    touches: usize,
    faults: usize,
    markers: usize,
    /// Granules that were brought ahead, and those of them that nobody came to.
    ahead: usize,
    in_vain: usize,
}

/// Reads places in order, with room for `kept` granules, the oldest of which goes.
fn read(reversed: &mut Reversed, places: impl Iterator<Item = u64>, kept: usize) -> Seen {
    let (mut seen, mut clock) = (Seen::default(), 0u64);
    // Granule -> when it came, whether it is a marker, whether somebody came to it.
    let mut there: BTreeMap<u64, (u64, bool, bool)> = BTreeMap::new();
    let mut queue: BTreeSet<(u64, u64)> = BTreeSet::new();
    for place in places {
        seen.touches += 1;
        let granule = place / GRANULE;
        let known = there.get_mut(&granule);
        let asks = known.as_ref().is_none_or(|(_, marker, _)| *marker);
        match known {
            None => seen.faults += 1,
            Some(known) => {
                seen.markers += usize::from(known.1);
                (known.1, known.2) = (false, true);
            }
        }
        if !asks {
            continue;
        }
        let missing = !there.contains_key(&granule);
        let batch = reversed.touched(place, missing).1;
        let ahead = batch.into_iter().flat_map(Batch::rows);
        let own = std::iter::once((place, false, true));
        for (place, marker, came) in own.chain(ahead.map(|(place, at)| (place, at, false))) {
            let granule = place / GRANULE;
            if there.contains_key(&granule) {
                continue;
            }
            clock += 1;
            seen.ahead += usize::from(!came);
            there.insert(granule, (clock, marker, came));
            queue.insert((clock, granule));
            while there.len() > kept {
                let (_, oldest) = queue.pop_first().expect("as many as are there");
                let (.., came) = there.remove(&oldest).expect("in both");
                seen.in_vain += usize::from(!came);
            }
        }
    }
    seen
}

/// The starts of `1 << log_rows` rows in bit-reversed order.
fn rows(start: u64, log_rows: u32, row_bytes: u64) -> impl Iterator<Item = u64> {
    (0..1 << log_rows).map(move |time| start + reversed(time, log_rows) * row_bytes)
}

fn block(start: u64, bytes: u64) -> Reversed {
    let mut reversed = Reversed::new();
    reversed.placed(start, bytes);
    reversed
}

#[test]
fn rows_of_any_length_come_before_they_are_asked_for() {
    for (log_rows, row_bytes) in [(22, 32), (19, 500), (16, 10_532), (14, 65_536), (12, 99_000)] {
        let bytes = row_bytes << log_rows;
        let mut known = block(7 * GRANULE, bytes);
        let seen = read(&mut known, rows(7 * GRANULE, log_rows, row_bytes), 400);
        eprintln!("2^{log_rows} rows of {row_bytes}: {seen:?}");
        assert!(seen.ahead > 1000, "{row_bytes}: {seen:?}");
        assert!(seen.faults * 20 < seen.ahead, "{row_bytes}: {seen:?}");
        assert!(seen.in_vain * 20 < seen.ahead, "{row_bytes}: {seen:?}");
    }
}

#[test]
fn an_array_that_is_a_part_of_its_block_is_read_at_every_second_time() {
    let (log_rows, row_bytes) = (15, 10_532u64);
    for parts in [2, 4] {
        let start = 3 * GRANULE;
        let mut known = block(start, (row_bytes << log_rows) * parts);
        let seen = read(&mut known, rows(start, log_rows, row_bytes), 400);
        assert!(seen.faults * 20 < seen.ahead, "one of {parts}: {seen:?}");
        assert!(seen.in_vain * 20 < seen.ahead, "one of {parts}: {seen:?}");
    }
}

#[test]
fn stray_reads_near_a_reader_of_every_second_time_are_forgotten() {
    let (log_rows, row_bytes) = (15, 10_532u64);
    let bytes = (row_bytes << log_rows) * 2;
    let whole = Block { start: 0, bytes };
    for strays in [1, 4, 16] {
        let every = (1 << log_rows) / strays;
        let turns = rows(0, log_rows, row_bytes).enumerate().flat_map(|(at, place)| {
            // Of the half that nobody reads, a little ahead of the reader.
            let (time, inner) = whole.time(place);
            let stray = (at % every == every / 2).then(|| whole.offset(time + 5, inner));
            [Some(place), stray].into_iter().flatten()
        });
        let seen = read(&mut block(0, bytes), turns, 400);
        eprintln!("{strays} strays: {seen:?}");
        assert!(seen.faults * 20 < seen.ahead, "{strays}: {seen:?}");
        // Of a few batches each.
        assert!(seen.in_vain < 400 + strays * 250, "{strays}: {seen:?}");
    }
}

#[test]
fn threads_that_read_side_by_side_are_told_apart_or_taken_together() {
    let (log_rows, row_bytes) = (16, 10_532u64);
    let all: Vec<u64> = rows(0, log_rows, row_bytes).collect();
    for threads in [2, 3, 8] {
        let part = all.len() / threads;
        // Each falls behind the one before it by a little, and by more and more.
        let turns = (0..part).flat_map(|at| {
            let all = &all;
            (0..threads).map(move |thread| all[thread * part + at * (64 - thread) / 64])
        });
        let mut known = block(0, row_bytes << log_rows);
        let seen = read(&mut known, turns, 2000);
        eprintln!("{threads} threads: {seen:?}");
        assert!(seen.faults * 8 < seen.ahead, "{threads}: {seen:?}");
        assert!(seen.in_vain * 8 < seen.ahead, "{threads}: {seen:?}");
    }
}

#[test]
fn other_orders_bring_nothing() {
    let bytes = 1u64 << 30;
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let scattered: Vec<u64> = (0..50_000).map(|_| random.gen_range(0..bytes)).collect();
    let in_order = (0..bytes / 4096).map(|page| page * 4096);
    let strided = (0..64 * 500).map(|at| at % 500 * (bytes / 500) + at / 500 * 4096);
    // The legs of a butterfly, each a share of the array from the next, one step after another.
    let butterflies =
        |legs: u64| (0..40_000).map(move |at| at % legs * (bytes / legs) + at / legs * GRANULE);
    let cases: Vec<(&str, Vec<u64>)> = vec![
        ("scattered", scattered),
        ("in order", in_order.collect()),
        ("strided", strided.collect()),
        ("2 legs", butterflies(2).collect()),
        ("4 legs", butterflies(4).collect()),
        ("16 legs", butterflies(16).collect()),
    ];
    for (name, places) in cases {
        let seen = read(&mut block(0, bytes), places.into_iter(), 400);
        assert!(seen.ahead * 50 <= seen.faults, "{name}: {seen:?}");
    }
}

#[test]
fn scattered_reads_of_small_blocks_and_behind_a_reader_bring_next_to_nothing() {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for log_bytes in [26, 27, 28, 30] {
        let bytes = 1u64 << log_bytes;
        for after_a_reader in [false, true] {
            let mut known = block(0, bytes);
            if after_a_reader {
                let seen = read(&mut known, rows(0, 15, bytes >> 15), 400);
                assert!(seen.faults * 10 < seen.ahead, "2^{log_bytes}: {seen:?}");
            }
            let scattered = (0..100_000).map(|_| random.gen_range(0..bytes));
            let seen = read(&mut known, scattered, 200);
            eprintln!("2^{log_bytes}, {after_a_reader}: {seen:?}");
            assert!(seen.ahead * 20 <= seen.faults, "2^{log_bytes}, {after_a_reader}: {seen:?}");
        }
    }
}

#[test]
fn a_new_block_takes_the_place_of_those_it_overlaps_and_the_largest_stay() {
    let mut reversed = Reversed::new();
    let least = GRANULES_MIN * GRANULE;
    reversed.placed(0, least - GRANULE);
    assert_eq!(reversed.blocks, [Block::default(); BLOCKS]);
    for at in 0..BLOCKS as u64 * 2 {
        reversed.placed(at * 4 * least, least * (1 + at % 3));
    }
    let sizes: Vec<u64> = reversed.blocks.iter().map(|block| block.bytes / least).collect();
    assert!(sizes.iter().all(|size| *size >= 2), "{sizes:?}");
    reversed.placed(0, BLOCKS as u64 * 8 * least);
    let left = |known: &Reversed| known.blocks.iter().filter(|block| block.bytes > 0).count();
    assert_eq!(left(&reversed), 1);
    // Shortened, or freed: what is left of it is told anew.
    reversed.gone(7 * least, GRANULE);
    assert_eq!(left(&reversed), 0);
}

#[test]
fn places_and_times_are_each_others_inverse() {
    let mut random = ChaCha8Rng::seed_from_u64(4);
    for _ in 0..10_000 {
        let start = random.gen_range(0..1u64 << 45);
        let block = Block { start, bytes: random.gen_range(GRANULE..1 << 42) };
        let offset = start + random.gen_range(0..block.bytes);
        let (time, inner) = block.time(offset);
        assert!(time < 1 << block.log_cells());
        assert_eq!(block.offset(time, inner), offset, "{block:?}");
    }
}
