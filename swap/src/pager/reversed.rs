//! Who reads the rows of an array in bit-reversed order, and which rows come next.
//!
//! A transform leaves its results in that order, and what follows a transform reads them by it:
//!
//! ```text
//!   time    0   1    2    3     4    5     6     7   ...     of N = 2^n rows
//!   row     0  N/2  N/4  3N/4  N/8  5N/8  3N/8  7N/8 ...     time with its n bits reversed
//! ```
//!
//! By address these are scattered reads. But the block that holds the array is known, and the bits
//! of time, lowest first, are those of the place within the block, highest first, whatever the
//! length of a row. A block is therefore cut in 2^k cells of a granule at least:
//!
//! ```text
//!   place = cell * bytes / 2^k + inner        time = the k bits of cell, reversed
//! ```
//!
//! While time runs through its k low bits, `inner` stays; one that reads on is known by a time that
//! grows in small steps, which no scattered reader does for long. What comes next is brought in
//! batches. All but one of a batch go to where they will be read, so that most reads cost no fault;
//! the *marker*, in the middle, waits in its frame, and its touch brings the next batch.
//!
//! Invariant: what is brought ahead of a reader is at most `WIDTH_MAX` rows. Pure: no clock, no
//! system call.
//!
//! Must never: be needed. A wrong guess costs a read.

use super::space::GRANULE_BYTES;

/// Blocks that are known at once: the largest of those in use.
const BLOCKS: usize = 32;

/// Blocks below this many granules (64 MiB) are not looked at: their times are too short to tell a
/// reader from chance.
const GRANULES_MIN: u64 = 1 << 10;

/// Readers that are known at once: a few a thread, and the false ones.
const READERS: usize = 32;

/// The most that time may grow between two faults of a reader nobody is sure of, and how far a
/// fault may be behind a reader: a few rows are read side by side, column by column.
const STEP_MAX: u64 = 12;

/// How far apart in their cells two places of a reader may be: rows of threads side by side.
const INNER_MAX: u64 = GRANULE_BYTES as u64 / 2;

/// Of a block with few times, the step is at most one in so many of them: a scattered fault agrees
/// with a reader by chance once in so many times.
const TIMES_PER_STEP: u64 = 256;

/// Faults that have to agree, and time that has to pass, before anything is brought. Butterflies
/// of a transform look like a reader for as many steps as a pass has legs, 16 at most.
const FAULTS_MIN: u32 = 5;
const TIME_MIN: u64 = 16;

/// Faults after which what an earlier one told of the step is forgotten, once or twice as many.
const GENERATION: u32 = 4;

/// Rows of the first batch, and of the widest: at 64 KiB a row 4 MiB, 2.5 ms of a disk of
/// 1.6 GB/s.
const WIDTH_MIN: u64 = 8;
const WIDTH_MAX: u64 = 64;

/// How far a fault may be ahead of what was asked for: rows that are there are read unseen.
const SLACK: u64 = 256;

/// An array's block: bytes from the start of the range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Block {
    start: u64,
    bytes: u64,
}

impl Block {
    fn end(&self) -> u64 {
        self.start + self.bytes
    }

    /// Of the number of cells.
    fn log_cells(&self) -> u32 {
        (self.bytes / GRANULE_BYTES as u64).max(1).ilog2()
    }

    fn cell_start(&self, cell: u64) -> u64 {
        ((u128::from(cell) * u128::from(self.bytes)) >> self.log_cells()) as u64
    }

    /// The time of a place, and how far it is into its cell.
    fn time(&self, offset: u64) -> (u64, u64) {
        let place = offset - self.start;
        let cell = (u128::from(place) << self.log_cells()) / u128::from(self.bytes);
        let cell = cell as u64;
        (reversed(cell, self.log_cells()), place - self.cell_start(cell))
    }

    /// The place of a time; times past the last begin again.
    fn offset(&self, time: u64, inner: u64) -> u64 {
        let cell = reversed(time & ((1 << self.log_cells()) - 1), self.log_cells());
        (self.start + self.cell_start(cell) + inner).min(self.end() - 1)
    }
}

/// The lowest `bits` bits of a number, in reverse; `bits` is 1 at least.
fn reversed(number: u64, bits: u32) -> u64 {
    number.reverse_bits() >> (u64::BITS - bits)
}

/// Somebody who may be reading a block in this order. Times count on where those of the block
/// begin again.
#[derive(Clone, Copy, Debug, Default)]
struct Reader {
    block: Block,
    /// When it was first seen.
    began: u64,
    /// The latest time it was seen at.
    time: u64,
    /// The latest time that was asked for.
    asked: u64,
    inner: u64,
    /// The bits of how far it went between faults: the generation before this one, and this one.
    went: [u64; 2],
    width: u64,
    faults: u32,
    used: u64,
}

impl Reader {
    fn is_sure(&self) -> bool {
        self.faults >= FAULTS_MIN && self.time - self.began >= TIME_MIN * self.step()
    }

    /// Time between two of its rows: an array that is half of its block, or a quarter, is read at
    /// every second time of the block, or every fourth.
    fn step(&self) -> u64 {
        let went = self.went[0] | self.went[1];
        went & went.wrapping_neg()
    }

    /// A fault further on. The step is that of its latest few: one stray fault is forgotten.
    fn goes_on(&mut self, ahead: u64, inner: u64) {
        if self.faults.is_multiple_of(GENERATION) {
            self.went = [self.went[1], 0];
        }
        self.went[1] |= ahead;
        self.time += ahead;
        self.inner = inner;
        self.faults = self.faults.saturating_add(1);
    }

    /// How far `time`, which is one of the block's, is ahead of this reader, or behind it if less
    /// than zero; `None` if it is not this reader's.
    fn ahead(&self, time: u64) -> Option<i64> {
        let times = 1 << self.block.log_cells();
        let ahead = time.wrapping_sub(self.time) & (times - 1);
        let step_max = STEP_MAX.min(times / TIMES_PER_STEP);
        let forward = match self.is_sure() {
            true => self.asked.saturating_sub(self.time) + SLACK.min(times / 16),
            false => step_max,
        };
        if ahead <= forward {
            return Some(ahead as i64);
        }
        let behind = times - ahead;
        (behind <= step_max * self.step().max(1)).then_some(-(behind as i64))
    }
}

/// The blocks and readers of one pager.
#[derive(Debug)]
pub(crate) struct Reversed {
    blocks: [Block; BLOCKS],
    readers: [Reader; READERS],
    clock: u64,
}

/// Rows to bring ahead of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    block: Block,
    inner: u64,
    from: u64,
    step: u64,
    rows: u64,
    /// Which of the rows waits.
    marker: u64,
}

impl Batch {
    /// Where each row begins, in the order they will be read, and whether it is the marker.
    pub(crate) fn rows(self) -> impl Iterator<Item = (u64, bool)> {
        (0..self.rows).map(move |row| {
            let time = self.from + row * self.step;
            (self.block.offset(time, self.inner), row == self.marker)
        })
    }
}

impl Reversed {
    pub(crate) const fn new() -> Self {
        let block = Block { start: 0, bytes: 0 };
        let reader = Reader {
            block,
            began: 0,
            time: 0,
            asked: 0,
            inner: 0,
            went: [0; 2],
            width: 0,
            faults: 0,
            used: 0,
        };
        Self { blocks: [block; BLOCKS], readers: [reader; READERS], clock: 0 }
    }

    /// From now on a block spans these bytes of the range.
    pub(crate) fn placed(&mut self, start: u64, bytes: u64) {
        let block = Block { start, bytes };
        self.gone(start, bytes);
        if bytes / GRANULE_BYTES as u64 >= GRANULES_MIN
            && let Some(smallest) = self.blocks.iter_mut().min_by_key(|block| block.bytes)
            && smallest.bytes < bytes
        {
            *smallest = block;
        }
    }

    /// What is known to lie in these bytes does no more.
    pub(crate) fn gone(&mut self, start: u64, bytes: u64) {
        for known in &mut self.blocks {
            if known.start < start + bytes && start < known.end() {
                *known = Block::default();
            }
        }
    }

    /// Somebody came to `offset` and found it a marker, on its way, or `missing`. Returns whether
    /// it is one who reads in this order, and what to bring ahead of it.
    pub(crate) fn touched(&mut self, offset: u64, missing: bool) -> (bool, Option<Batch>) {
        let holds = |block: &&Block| block.start <= offset && offset < block.end();
        let Some(&block) = self.blocks.iter().find(holds) else { return (false, None) };
        let (time, inner) = block.time(offset);
        self.clock += 1;
        let clock = self.clock;
        let near = |reader: &&mut Reader| {
            reader.block == block
                && reader.inner.abs_diff(inner) <= INNER_MAX
                && (reader.is_sure() || clock - reader.used <= READERS as u64)
        };
        let readers = self.readers.iter_mut().filter(near);
        let known = readers.filter_map(|reader| Some((reader.ahead(time)?, reader)));
        // The nearest: those that have ended are still known.
        let nearest =
            known.min_by_key(|(ahead, reader)| (ahead.unsigned_abs(), u64::MAX - reader.used));
        let Some((ahead, reader)) = nearest else {
            let fresh = Reader {
                block,
                began: time,
                time,
                asked: time,
                inner,
                went: [0; 2],
                faults: 1,
                width: WIDTH_MIN,
                used: clock,
            };
            if let Some(oldest) = self.readers.iter_mut().min_by_key(|reader| reader.used) {
                *oldest = fresh;
            }
            return (false, None);
        };
        reader.used = clock;
        if ahead > 0 {
            reader.goes_on(ahead as u64, inner);
        }
        if !reader.is_sure() {
            return (false, None);
        }
        if missing {
            // What was asked for is gone, or was asked for by one who ended here.
            reader.asked = reader.asked.min(reader.time);
        }
        let step = reader.step();
        let known = reader.asked.saturating_sub(reader.time) / step;
        // A batch of a few is not worth its way.
        if ahead <= 0 || known > reader.width / 2 {
            return (true, None);
        }
        let (from, rows) = (reader.time + (known + 1) * step, reader.width - known);
        reader.asked = reader.time + reader.width * step;
        reader.width = (reader.width * 2).min(WIDTH_MAX);
        // An odd number of steps from here: else the step could not be told by its touch.
        let marker = rows / 2 + (rows / 2 + known) % 2;
        (true, Some(Batch { block, inner: reader.inner, from, step, rows, marker }))
    }
}

#[cfg(test)]
#[path = "tests_reversed.rs"]
mod tests;
