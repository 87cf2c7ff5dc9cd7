//! What the tests of allocators inside the global one share.

use std::hint::black_box;

const MIB: usize = 1 << 20;

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim_end_matches("kB").trim().parse::<usize>().expect("a number") << 10
}

/// Frees 64 MiB of small blocks, all but one in 4096, and looks at what is resident before and
/// after `reclaim`.
pub(crate) fn a_reclaim_lowers_what_is_resident(reclaim: impl FnOnce() -> usize) {
    // The first large block starts the allocator, without which nothing is purged.
    drop(black_box(vec![1u8; MIB]));
    let mut blocks: Vec<Vec<u8>> = (0..16 << 10).map(|_| vec![7u8; 4096]).collect();
    let full = resident_bytes();
    let mut at = 0;
    blocks.retain(|_| {
        at += 1;
        at % 4096 == 0
    });
    let freed = resident_bytes();
    black_box(reclaim());
    let purged = resident_bytes();
    eprintln!("{} MiB full, {} freed, {} purged", full / MIB, freed / MIB, purged / MIB);
    assert!(full - purged >= 48 * MIB, "{full} full, {freed} freed, {purged} purged");
    assert!(freed - purged >= 16 * MIB, "the hook did it: {freed} freed, {purged} purged");
    assert!(blocks.iter().flatten().all(|byte| *byte == 7));
}
