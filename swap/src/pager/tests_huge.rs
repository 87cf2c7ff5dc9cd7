//! Huge pages stay huge on their way, and nothing of them is lost when they are taken apart.

use std::sync::atomic::Ordering::Relaxed;

use plimsoll_arena::process::skipped;

use super::ids::{ChunkId, FrameId, Id};
use super::space::ALL;
use super::tests::{check, pager, pattern, words};
use super::*;

const MIB: usize = 1 << 20;

const HUGE: &str = "AnonHugePages:";

/// Kilobytes of some kind in a range of addresses: other tests' do not count.
fn smaps_kilobytes(first: usize, bytes: usize, kind: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps").expect("smaps");
    let (mut inside, mut sum) = (false, 0);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let head = words.next().unwrap_or("");
        if let Some((start, end)) = head.split_once('-') {
            let number = |text| usize::from_str_radix(text, 16).expect("an address");
            inside = number(start) < first + bytes && first < number(end);
        } else if inside && head == kind {
            sum += words.next().and_then(|n| n.parse::<u64>().ok()).expect("a number");
        }
    }
    sum
}

/// Kilobytes of huge pages in a range of 64 MiB.
fn huge_kilobytes(pager: &Pager) -> u64 {
    smaps_kilobytes(pager.base().as_ptr().addr(), 64 * MIB, HUGE)
}

#[test]
fn huge_pages_stay_huge_through_limbo_and_through_the_file() {
    let Some(pager) = pager(64 * MIB, 96 * MIB) else { return };
    if !probe().huge_pages {
        skipped("huge pages", "transparent huge pages are switched off");
        return;
    }
    let touch = || {
        let words = words(&pager);
        for i in (0..words.len()).step_by(512) {
            words[i].fetch_add(i as u64 + 1, Relaxed);
        }
    };
    touch();
    let fresh = huge_kilobytes(&pager);
    pager.cold(pager.base(), 64 * MIB);
    touch();
    let rescued = huge_kilobytes(&pager);
    pager.cold(pager.base(), 64 * MIB);
    pager.reclaim(64 * MIB);
    let (ahead, before) = (pager.stats().read_ahead_bytes, pager.stats().read_bytes);
    pager.will_need(pager.base(), 64 * MIB);
    // Faults would bring single granules in: let the read-ahead come first, however slow it is.
    for _ in 0..2000 {
        if pager.stats().read_bytes - before >= 8 * MIB as u64 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    touch();
    let read = huge_kilobytes(&pager);
    let ahead = (pager.stats().read_ahead_bytes - ahead) >> 10;
    eprintln!("KiB: fresh {fresh}, rescued {rescued}, read {read}; read ahead {ahead}");
    check(&pager);
    if fresh < 32 << 10 {
        let why = format_args!("the kernel gave {fresh} KiB of 65536 before the trip");
        skipped("huge pages", why);
        return;
    }
    assert!(rescued >= 32 << 10 && read >= 32 << 10);
}

/// A huge page that is moved onto a page table is taken apart, and of a new one the kernel keeps
/// nothing: each page of it costs a fault again.
#[test]
fn a_frame_that_had_small_pages_takes_a_huge_one() {
    let Some(pager) = pager(64 * MIB, 96 * MIB) else { return };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    if (numbers.next(), numbers.next()) < (Some(6), Some(14)) {
        skipped("huge pages", format_args!("Linux {} keeps page tables", release.trim()));
        return;
    }
    let space = &pager.engine().space;
    // Of more frames than chunks, the last ones are not used here.
    let frames = [60, 61].map(FrameId::of);
    let kilobytes = |kind| {
        let first = space.frame_at(frames[0], 0).as_ptr().addr();
        smaps_kilobytes(first, CHUNK_BYTES * frames.len(), kind)
    };
    for (worker, frame) in frames.into_iter().enumerate() {
        space.bear_huge(worker);
        space.adopt_huge(frame, worker);
        space.release(frame, ALL);
    }
    space.bear_huge(0);
    space.adopt_huge(frames[0], 0);
    if kilobytes(HUGE) == 0 {
        skipped("huge pages", "the kernel gave none");
        return;
    }
    // Part of it is given back, so that small ones are left; then the rest leaves singly.
    // SAFETY: the pages are there, and nobody else uses this frame.
    unsafe { space.mark(frames[0], 1) };
    space.release(frames[0], !1);
    space.shift((frames[1], 0), (frames[0], 0));
    assert_eq!((kilobytes(HUGE), kilobytes("Rss:")), (0, GRANULE_BYTES as u64 >> 10));
    space.bear_huge(0);
    space.adopt_huge(frames[0], 0);
    space.release(frames[1], 1);
    assert_eq!((kilobytes(HUGE), kilobytes("Rss:")), (2048, 2048));
    space.release(frames[0], ALL);
}

/// Spare pages of a huge page are kept when another page of it leaves alone, though they are zero.
#[test]
fn a_huge_page_that_is_taken_apart_keeps_its_spare_pages() {
    let Some(pager) = pager(64 * MIB, 96 * MIB) else { return };
    let (engine, words) = (pager.engine(), words(&pager));
    // In order, so that whole chunks come. The second half of each chunk stays zero.
    for i in (0..16 * MIB / 8).step_by(512) {
        if i * 8 % CHUNK_BYTES < MIB {
            words[i].store(pattern(i, 1), Relaxed);
        }
        assert_eq!(words[i].load(Relaxed) == 0, i * 8 % CHUNK_BYTES >= MIB);
    }
    let huge = |chunk: &ChunkId| engine.core.lock().chunk(*chunk).is_huge();
    let Some(chunk) = (0..8).map(ChunkId::of).find(huge) else {
        skipped("huge pages", "no chunk came as a whole");
        return;
    };
    // SAFETY: inside the range.
    let start = unsafe { pager.base().add(chunk.index() * CHUNK_BYTES) };
    pager.cold(start, CHUNK_BYTES);
    // SAFETY: inside the range.
    let half = unsafe { start.add(MIB) };
    // SAFETY: nobody relies on this half.
    unsafe { pager.discard(half, MIB) };
    let (spare, away) = (16, FrameId::of(61));
    let mut core = engine.core.lock();
    let frame = core.chunk(chunk).its_frame();
    let first = engine.space.frame_at(frame, 0).as_ptr().addr();
    if smaps_kilobytes(first, CHUNK_BYTES, HUGE) == 0 {
        skipped("huge pages", "the kernel gave none");
        return;
    }
    core.take_apart(&engine.space, frame, 0);
    engine.space.shift((away, 0), (frame, spare));
    let left = smaps_kilobytes(first, CHUNK_BYTES, "Rss:");
    engine.space.shift((frame, spare), (away, 0));
    assert_eq!(left, CHUNK_BYTES as u64 >> 10, "KiB that the frames keep");
    drop(core);
    check(&pager);
}
