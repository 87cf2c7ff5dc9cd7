//! Rows that are read, and swapped, in bit-reversed order with half of the memory.

use std::sync::atomic::Ordering::Relaxed;

use super::tests::{check, pager, pattern, words};
use super::*;

const LOG_ROWS: u32 = 13;

/// 84 MiB of rows that are no multiple of a page.
const ROW_WORDS: usize = 1344;

const ROWS: usize = 1 << LOG_ROWS;

const MIB: usize = 1 << 20;

/// An array of rows, row `i` holding the pattern of its words, most of it in the file.
fn array() -> Option<Pager> {
    let pager = pager(96 * MIB, 40 * MIB)?;
    pager.array(pager.base(), ROWS * ROW_WORDS * 8);
    for (i, word) in words(&pager)[..ROWS * ROW_WORDS].iter().enumerate() {
        word.store(pattern(i, 1), Relaxed);
    }
    Some(pager)
}

fn reversed(row: usize) -> usize {
    row.reverse_bits() >> (usize::BITS - LOG_ROWS)
}

#[test]
fn rows_in_bit_reversed_order_come_before_they_are_asked_for() {
    let Some(pager) = array() else { return };
    let before = pager.stats();
    std::thread::scope(|scope| {
        for half in 0..2 {
            let words = words(&pager);
            scope.spawn(move || {
                for time in half * ROWS / 2..(half + 1) * ROWS / 2 {
                    let start = reversed(time) * ROW_WORDS;
                    for (i, word) in words[start..][..ROW_WORDS].iter().enumerate() {
                        let i = start + i;
                        assert_eq!(word.load(Relaxed), pattern(i, 1), "word {i}");
                    }
                }
            });
        }
    });
    let after = pager.stats();
    let read = after.read_bytes - before.read_bytes;
    let ahead = after.rows_ahead_bytes - before.rows_ahead_bytes;
    eprintln!("read {read}, rows ahead {ahead}, {} faults", after.faults - before.faults);
    assert!(ahead * 2 > read, "{ahead} of {read} bytes came ahead: {after:?}");
    check(&pager);
}

#[test]
fn rows_that_are_swapped_in_bit_reversed_order_are_where_they_belong() {
    let Some(pager) = array() else { return };
    let words = words(&pager);
    for row in 0..ROWS {
        let other = reversed(row);
        for i in 0..if row < other { ROW_WORDS } else { 0 } {
            let (here, there) = (&words[row * ROW_WORDS + i], &words[other * ROW_WORDS + i]);
            let word = here.load(Relaxed);
            here.store(there.load(Relaxed), Relaxed);
            there.store(word, Relaxed);
        }
    }
    for row in 0..ROWS {
        for i in 0..ROW_WORDS {
            let expected = pattern(reversed(row) * ROW_WORDS + i, 1);
            assert_eq!(words[row * ROW_WORDS + i].load(Relaxed), expected, "row {row}, word {i}");
        }
    }
    let stats = pager.stats();
    assert!(stats.rows_ahead_bytes > 0 && stats.written_bytes > 0, "{stats:?}");
    check(&pager);
}
