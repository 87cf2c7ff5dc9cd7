//! A packed witness, and damage to it that its checksums do not show.
//!
//! Where the parts are stands in docs/columns-format.md. It is written down here a second time, so
//! that a reader and this test cannot be wrong in the same way.

use plimsoll::columns::{Column, LaneSpec, Writer};
use plimsoll::limit::LimitSpec;
use plimsoll::{Runtime, Secrecy};
use plimsoll_swap::checksum::checksum;
use std::ops::Range;
use std::path::Path;

const HEAD_START_BYTES: usize = 24;
const COLUMN_BYTES: usize = 8;
const FRAME_BYTES: usize = 64;
const ENTRY_BYTES: usize = 24;
const END_BYTES: usize = 64;

/// Packs a witness whose values are the last `values` bytes of `wtns`: in two blocks, and with a
/// column of no use behind them.
pub(crate) fn pack(wtns: &[u8], values: usize) -> Vec<u8> {
    let runtime = Runtime::builder().limit(LimitSpec::None).build().unwrap();
    let columns = vec![
        Column::integers("head", 1).unwrap(),
        Column::new("values", 32, LaneSpec::U256).unwrap(),
        Column::integers("tail", 1).unwrap(),
    ];
    let name = Path::new("good");
    let mut writer = Writer::new(Vec::new(), name, columns, &runtime, Secrecy::Secret).unwrap();
    let (head, values) = wtns.split_at(wtns.len() - values);
    let half = values.len() / 64 * 32;
    for (column, bytes) in [(0, head), (1, &values[..half]), (2, &[]), (1, &values[half..])] {
        writer.write(column, bytes).unwrap();
    }
    writer.finish().unwrap()
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte))
}

/// Offset and length of each number of head, frames, index and end; and the frames.
pub(crate) fn parts(bytes: &[u8]) -> (Vec<(usize, usize)>, Vec<Range<usize>>) {
    let mut numbers = vec![(0, 4), (4, 2), (6, 2), (8, 4), (12, 4), (16, 4), (20, 4)];
    let columns = number(&bytes[12..16]);
    let mut at = HEAD_START_BYTES;
    for _ in 0..columns {
        numbers.extend([(at, 4), (at + 4, 1), (at + 5, 1), (at + 6, 2)]);
        at += COLUMN_BYTES + usize::from(bytes[at + 5]);
    }
    let end = bytes.len() - END_BYTES;
    let index = number(&bytes[end + 8..end + 16]);
    numbers.extend((0..columns).map(|column| (index + column * 8, 8)));
    let mut frames = Vec::new();
    let mut frame = number(&bytes[8..12]);
    for entry in (index + columns * 8..end).step_by(ENTRY_BYTES) {
        numbers.extend([(entry, 4), (entry + 4, 4), (entry + 8, 4), (entry + 12, 4)]);
        let fields = [(4, 2), (6, 1), (7, 1), (8, 8), (16, 8), (24, 8), (32, 8), (40, 4), (44, 4)];
        numbers.extend(fields.map(|(at, width)| (frame + at, width)));
        let stored = number(&bytes[entry + 8..entry + 12]);
        frames.push(frame..frame + stored);
        frame += stored;
    }
    numbers.extend([(end + 4, 2), (end + 6, 2), (end + 8, 8), (end + 16, 8), (end + 24, 8)]);
    (numbers, frames)
}

fn put(bytes: &mut [u8], at: usize, number: u64) {
    if let Some(slot) = bytes.get_mut(at..at.saturating_add(8)) {
        slot.copy_from_slice(&number.to_le_bytes());
    }
}

fn sum_of(bytes: &[u8], range: Range<usize>) -> u64 {
    bytes.get(range).map_or(0, checksum)
}

/// Makes every checksum right again, as somebody would who wrote the file by hand; `frames` is
/// where they were before the damage. What was cut off has none.
pub(crate) fn seal(bytes: &mut [u8], frames: &[Range<usize>]) {
    let Some(end) = bytes.len().checked_sub(END_BYTES) else { return };
    let index = number(&bytes[end + 8..end + 16]).min(end);
    let head = number(&bytes[8..12]).min(end);
    let entries = end.saturating_sub(frames.len() * ENTRY_BYTES);
    for (i, frame) in frames.iter().enumerate() {
        let payload = sum_of(bytes, frame.start + FRAME_BYTES..frame.end);
        put(bytes, frame.start + 48, payload);
        let header = sum_of(bytes, frame.start..frame.start + 56);
        put(bytes, frame.start + 56, header);
        put(bytes, entries + i * ENTRY_BYTES + 16, header);
    }
    let sum = sum_of(bytes, 0..head.saturating_sub(8));
    put(bytes, head.saturating_sub(8), sum);
    put(bytes, end + 32, sum);
    let sum = sum_of(bytes, index..end);
    put(bytes, end + 40, sum);
    let sum = sum_of(bytes, end..end + 56);
    put(bytes, end + 56, sum);
}
