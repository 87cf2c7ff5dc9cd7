//! What a run touched, as a file: the format, which holds addresses within the pager's range and
//! never data.
//!
//! ```text
//!   header   "PLIMPLAN" | version u32 | bytes of a granule u32 | budget u64 | checksum u64
//!   frame    words u32 | lost u32 | checksum u64 | words, 8 bytes each          (again and again)
//!
//!   word     bits 0..2 kind
//!            touch    2 how, 1 write, 6 granules less one, 53 the first granule
//!            placed   62 the first granule, and a second word: bytes of the block
//!            freed    the same
//! ```
//!
//! Numbers are little-endian, and granules are counted from the start of the range, so nothing
//! tells where the process was mapped. The checksum of a frame is of its words, and of their number
//! and what was lost, so a file that was cut or changed anywhere is told from a good one: what is
//! before the damage is used, the rest is not.
//!
//! Invariant: `decode(encode(event)) == event`.
//!
//! Must never: hold a byte of a block, or trust a number that it has read.

use super::space::GRANULE_BYTES;
use crate::checksum::checksum;

/// The first bytes of a file.
const MAGIC: [u8; 8] = *b"PLIMPLAN";

/// The format of this file.
const VERSION: u32 = 1;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 16;

/// Words of a frame, at most.
pub(crate) const FRAME_WORDS: usize = 1 << 10;

/// Bytes of a frame, at most.
pub(crate) const FRAME_BYTES: usize = FRAME_HEADER_BYTES + FRAME_WORDS * 8;

/// Words of the longest event.
pub(crate) const EVENT_WORDS: usize = 2;

const TOUCH: u64 = 1;
const PLACED: u64 = 2;
const FREED: u64 = 3;

/// How a touch was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was in no memory: a thread waited for it.
    Demand,
    /// It had left data a short while ago.
    Limbo,
    /// It had been read ahead.
    Ahead,
    /// It was brought into data before its reader came, so nobody saw the touch itself.
    Row,
}

/// One thing that happened. Granules are counted from the start of the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceEvent {
    /// Somebody came to granules.
    Touch {
        /// The first.
        granule: u64,
        /// How many, 1 to 64.
        granules: u32,
        /// How it was seen.
        seen: Seen,
        /// Somebody wrote to it at once; a later write is not seen.
        write: bool,
    },
    /// A block was handed out, or was made longer or shorter where it is.
    Placed {
        /// Its first granule.
        granule: u64,
        /// Its length.
        bytes: u64,
    },
    /// A block, or a part of one, was freed.
    Freed {
        /// Its first granule.
        granule: u64,
        /// Its length.
        bytes: u64,
    },
}

impl TraceEvent {
    /// The words of an event, and how many of them count.
    pub(crate) fn encode(self) -> ([u64; EVENT_WORDS], usize) {
        match self {
            Self::Touch { granule, granules, seen, write } => {
                let seen = match seen {
                    Seen::Demand => 0,
                    Seen::Limbo => 1,
                    Seen::Ahead => 2,
                    Seen::Row => 3,
                };
                let count = u64::from(granules.clamp(1, 64) - 1);
                let word = TOUCH | seen << 2 | u64::from(write) << 4 | count << 5 | granule << 11;
                ([word, 0], 1)
            }
            Self::Placed { granule, bytes } => ([PLACED | granule << 2, bytes], 2),
            Self::Freed { granule, bytes } => ([FREED | granule << 2, bytes], 2),
        }
    }

    fn decode(word: u64, mut next: impl FnMut() -> Option<u64>) -> Option<Self> {
        Some(match word & 3 {
            TOUCH => Self::Touch {
                granule: word >> 11,
                granules: (word >> 5 & 63) as u32 + 1,
                seen: match word >> 2 & 3 {
                    0 => Seen::Demand,
                    1 => Seen::Limbo,
                    2 => Seen::Ahead,
                    _ => Seen::Row,
                },
                write: word >> 4 & 1 == 1,
            },
            PLACED => Self::Placed { granule: word >> 2, bytes: next()? },
            FREED => Self::Freed { granule: word >> 2, bytes: next()? },
            _ => return None,
        })
    }
}

/// The header of a file that is written under a budget of so many granules.
pub(crate) fn header(budget: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&(GRANULE_BYTES as u32).to_le_bytes());
    bytes[16..24].copy_from_slice(&budget.to_le_bytes());
    let sum = checksum(&bytes[..24]);
    bytes[24..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Puts words into a frame. Returns the bytes of `frame` that are to be written.
pub(crate) fn seal_frame<'a>(
    words: &[u64],
    lost: u32,
    frame: &'a mut [u8; FRAME_BYTES],
) -> &'a [u8] {
    let count = words.len().min(FRAME_WORDS);
    let end = FRAME_HEADER_BYTES + count * 8;
    for (place, word) in frame[FRAME_HEADER_BYTES..end].chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    frame[..4].copy_from_slice(&(count as u32).to_le_bytes());
    frame[4..8].copy_from_slice(&lost.to_le_bytes());
    let sum = frame_sum(&frame[..8], &frame[FRAME_HEADER_BYTES..end]);
    frame[8..16].copy_from_slice(&sum.to_le_bytes());
    &frame[..end]
}

fn frame_sum(numbers: &[u8], words: &[u8]) -> u64 {
    checksum(words) ^ checksum(numbers).rotate_left(1)
}

/// Why a file is no trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceFault {
    /// The header is not one of a trace.
    #[error("this is no trace of touches; make one with PLIMSOLL_PLAN=learn:FILE")]
    Header,
    /// It was written by another version.
    #[error("the trace has format {version}, and this program reads 1; make it anew")]
    Version {
        /// The format of the file.
        version: u32,
    },
    /// Granules of another size.
    #[error("the trace has granules of {bytes} bytes, and this program 65536; make it anew")]
    Granules {
        /// The size in the file.
        bytes: u32,
    },
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The budget, in granules, when the pager was made.
    pub budget_granules: u64,
    /// In order of time.
    pub events: Vec<TraceEvent>,
    /// Words that found no room while the run was recorded.
    pub lost: u64,
    /// Whether the file ends in the middle of a frame, or is damaged from some frame on.
    pub cut: bool,
}

impl Trace {
    /// Reads the bytes of a file.
    ///
    /// # Errors
    ///
    /// [`TraceFault`] where the header is not one of a trace. Damage behind it ends the trace.
    pub fn parse(bytes: &[u8]) -> Result<Self, TraceFault> {
        let mut events = Events::of(bytes)?;
        let list = events.by_ref().collect();
        let (lost, cut) = (events.lost, events.cut);
        Ok(Self { budget_granules: events.budget_granules, events: list, lost, cut })
    }
}

/// The events of a file, one after the other; they end where it is damaged. Allocates nothing.
#[derive(Clone, Debug)]
pub(crate) struct Events<'a> {
    pub(crate) budget_granules: u64,
    /// Words that were lost, in the frames so far.
    pub(crate) lost: u64,
    /// The file ended in the middle, or was damaged.
    pub(crate) cut: bool,
    /// Words of this frame.
    words: &'a [[u8; 8]],
    /// Frames after this one.
    rest: &'a [u8],
}

impl<'a> Events<'a> {
    /// Those of the bytes of a file.
    pub(crate) fn of(bytes: &'a [u8]) -> Result<Self, TraceFault> {
        let (header, rest) = bytes.split_first_chunk().ok_or(TraceFault::Header)?;
        let header: &[u8; HEADER_BYTES] = header;
        let sum = checksum(&header[..24]).to_le_bytes();
        if header[..8] != MAGIC || header[24..] != sum {
            return Err(TraceFault::Header);
        }
        let (version, granule_bytes) = (number(header, 8), number(header, 12));
        if version != VERSION {
            return Err(TraceFault::Version { version });
        }
        if granule_bytes as usize != GRANULE_BYTES {
            return Err(TraceFault::Granules { bytes: granule_bytes });
        }
        let budget_granules = u64::from(number(header, 16)) | u64::from(number(header, 20)) << 32;
        Ok(Self { budget_granules, lost: 0, cut: false, words: &[], rest })
    }

    fn word(&mut self) -> Option<u64> {
        while self.words.is_empty() && !self.rest.is_empty() {
            let Some(TraceFrame { words, lost, rest }) = frame(self.rest) else {
                (self.cut, self.rest) = (true, &[]);
                return None;
            };
            self.lost += u64::from(lost);
            (self.words, self.rest) = (words, rest);
        }
        let (word, words) = self.words.split_first()?;
        self.words = words;
        Some(u64::from_le_bytes(*word))
    }
}

impl Iterator for Events<'_> {
    type Item = TraceEvent;

    fn next(&mut self) -> Option<TraceEvent> {
        let first = self.word()?;
        let event = TraceEvent::decode(first, || self.word());
        if event.is_none() {
            (self.cut, self.words, self.rest) = (true, &[], &[]);
        }
        event
    }
}

/// The first frame of some bytes.
struct TraceFrame<'a> {
    words: &'a [[u8; 8]],
    /// Words that were lost before these.
    lost: u32,
    /// What is behind it.
    rest: &'a [u8],
}

/// The first frame, unless it is cut or damaged.
fn frame(bytes: &[u8]) -> Option<TraceFrame<'_>> {
    let (header, rest) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>()?;
    let count = number(header, 0) as usize;
    let sum = u64::from(number(header, 8)) | u64::from(number(header, 12)) << 32;
    if count > FRAME_WORDS {
        return None;
    }
    let (body, rest) = rest.split_at_checked(count * 8)?;
    let frame = TraceFrame { words: body.as_chunks().0, lost: number(header, 4), rest };
    (frame_sum(&header[..8], body) == sum).then_some(frame)
}

fn number<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// A file of `count` events of all kinds, and the events.
    fn file(count: u64) -> (Vec<u8>, Vec<TraceEvent>) {
        let seen = [Seen::Demand, Seen::Limbo, Seen::Ahead, Seen::Row];
        let events: Vec<TraceEvent> = (0..count)
            .map(|i| match i % 7 {
                0 => TraceEvent::Placed { granule: i * 77, bytes: i << 20 },
                1 => TraceEvent::Freed { granule: i * 77, bytes: i << 20 },
                _ => TraceEvent::Touch {
                    granule: i * 31,
                    granules: (i % 64) as u32 + 1,
                    seen: seen[i as usize % 4],
                    write: i % 3 == 0,
                },
            })
            .collect();
        let mut bytes = header(40).to_vec();
        for events in events.chunks(100) {
            let mut words = Vec::new();
            for event in events {
                let (encoded, count) = event.encode();
                words.extend_from_slice(&encoded[..count]);
            }
            bytes.extend_from_slice(seal_frame(&words, 0, &mut [0; FRAME_BYTES]));
        }
        (bytes, events)
    }

    #[test]
    fn a_trace_is_read_as_it_was_written() {
        let (bytes, events) = file(1000);
        let trace = Trace::parse(&bytes).expect("a trace");
        assert_eq!((trace.budget_granules, trace.lost, trace.cut), (40, 0, false));
        assert_eq!(trace.events, events);
    }

    #[test]
    fn a_trace_that_was_cut_anywhere_is_its_beginning() {
        let (bytes, events) = file(220);
        for end in 0..bytes.len() {
            match Trace::parse(&bytes[..end]) {
                Ok(trace) => assert_eq!(trace.events, events[..trace.events.len()], "{end}"),
                Err(why) => assert!(end < HEADER_BYTES && why == TraceFault::Header),
            }
        }
    }

    #[test]
    fn a_trace_with_a_bit_changed_is_its_beginning() {
        let seed = super::super::tests::seed();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (bytes, events) = file(400);
        for _ in 0..10_000 {
            let mut damaged = bytes.clone();
            let at = rng.gen_range(0..damaged.len());
            damaged[at] ^= 1 << rng.gen_range(0..8);
            if let Ok(trace) = Trace::parse(&damaged) {
                assert!(trace.cut && at >= HEADER_BYTES, "byte {at}");
                assert_eq!(trace.events, events[..trace.events.len()]);
            }
        }
    }

    #[test]
    fn what_is_no_trace_of_this_format_is_refused_by_name() {
        assert_eq!(Trace::parse(b"no trace"), Err(TraceFault::Header));
        let changed = |at: usize, to: u8| {
            let mut bytes = header(1);
            bytes[at] = to;
            let sum = checksum(&bytes[..24]);
            bytes[24..].copy_from_slice(&sum.to_le_bytes());
            Trace::parse(&bytes)
        };
        assert_eq!(changed(8, 2), Err(TraceFault::Version { version: 2 }));
        assert_eq!(changed(14, 2), Err(TraceFault::Granules { bytes: 2 << 16 }));
    }
}
