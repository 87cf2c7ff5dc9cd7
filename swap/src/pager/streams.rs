//! Who reads on: which faults continue an earlier one, and how much to bring for them.
//!
//! ```text
//!   fault at g, nobody expected it      -> window 1, a new stream that expects g + 1
//!   fault at g, a stream expects it     -> window x 4, up to the widest; expects g + window
//!   first touch of what was read ahead  -> the stream goes on from there, without a stall
//! ```
//!
//! Scattered rows therefore cost one granule each, and a stream that begins inside a chunk is at
//! full width after three faults. A window of a chunk and more makes the pager bring whole chunks
//! as huge pages, and read ahead of the stream.
//!
//! Streams are told apart by address alone: the threads of a parallel loop each have their own
//! part. The one unused longest gives way to a new one.
//!
//! Invariant: `1 <= window <= widest`. Pure: no clock, no system call.
//!
//! Must never: trust a window beyond the range; the caller cuts it.

use super::space::GRANULES;

/// Streams known at once: a few times the threads of a prover's machine matters little, since a
/// forgotten stream costs three small reads.
const STREAMS: usize = 64;

/// Chunks of the widest window: 16 MiB, which at 2 GB/s is 8 ms of disk ahead of the reader.
const WINDOW_CHUNKS_MAX: u64 = 8;

/// A window is at most a share of the budget: several streams must not push out what was read ahead
/// for each other.
const SHARE: u64 = 16;

#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    /// The granule that would continue it.
    expects: u64,
    window: u32,
    used: u64,
}

impl Stream {
    fn continues(&self, granule: u64, widest: u32) -> bool {
        let behind = self.expects.wrapping_sub(granule);
        behind == 0 || (self.window >= GRANULES as u32 && behind <= u64::from(widest))
    }
}

/// The streams of one pager. Granules are counted from the start of the data range.
#[derive(Debug)]
pub(crate) struct Streams {
    streams: [Stream; STREAMS],
    clock: u64,
}

/// What to bring for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Granules from the fault on.
    pub(crate) granules: u32,
    /// Which stream it is.
    stream: usize,
}

impl Streams {
    pub(crate) const fn new() -> Self {
        let none = Stream { expects: u64::MAX, window: 1, used: 0 };
        Self { streams: [none; STREAMS], clock: 0 }
    }

    /// The widest window under a budget, in granules: whole chunks.
    pub(crate) fn widest(budget: u64) -> u32 {
        let chunks = budget / SHARE / GRANULES as u64;
        chunks.clamp(1, WINDOW_CHUNKS_MAX) as u32 * GRANULES as u32
    }

    /// Whether a fault at `granule` would go on a stream, or begins one at a granule's neighbour.
    pub(crate) fn continues(&self, granule: u64, widest: u32) -> bool {
        self.streams.iter().any(|stream| stream.continues(granule, widest))
    }

    /// A fault at `granule` that needs pages.
    pub(crate) fn fault(&mut self, granule: u64, widest: u32) -> Window {
        self.clock += 1;
        let found = self.streams.iter().position(|stream| stream.continues(granule, widest));
        let index = found.unwrap_or_else(|| self.oldest());
        let stream = &mut self.streams[index];
        stream.window = if found.is_some() { (stream.window * 4).min(widest) } else { 1 };
        stream.used = self.clock;
        stream.expects = granule + 1;
        Window { granules: stream.window, stream: index }
    }

    /// What was brought for a window ended before `granule`.
    pub(crate) fn brought(&mut self, window: Window, granule: u64) {
        self.streams[window.stream].expects = granule;
    }

    /// The first touch of something read ahead, at `granule`. Returns where its stream goes on
    /// reading, and up to where.
    pub(crate) fn advance(&mut self, granule: u64, widest: u32) -> Option<(u64, u64)> {
        self.clock += 1;
        let clock = self.clock;
        let near = |stream: &&mut Stream| {
            stream.window >= GRANULES as u32
                && granule < stream.expects
                && stream.expects - granule <= u64::from(widest) + GRANULES as u64
        };
        let stream = self.streams.iter_mut().find(near)?;
        stream.used = clock;
        stream.window = (stream.window * 2).min(widest);
        let from = stream.expects;
        let to = (granule + 1).next_multiple_of(GRANULES as u64) + u64::from(stream.window);
        stream.expects = to.max(from);
        (to > from).then_some((from, to))
    }

    fn oldest(&self) -> usize {
        let oldest = self.streams.iter().enumerate().min_by_key(|(_, stream)| stream.used);
        // There is at least one.
        oldest.map_or(0, |(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDEST: u32 = 4 * GRANULES as u32;

    #[test]
    fn windows_are_a_share_of_the_budget() {
        let chunk = GRANULES as u64;
        let widest = |chunks: u64| Streams::widest(chunks * chunk) / GRANULES as u32;
        assert_eq!([1, 16, 40, 64, 128, 1000].map(widest), [1, 1, 2, 4, 8, 8]);
    }

    #[test]
    fn scattered_faults_stay_small_and_a_stream_widens() {
        let mut streams = Streams::new();
        for i in 0..100 {
            assert_eq!(streams.fault(i * 977 % 65_536, WIDEST).granules, 1);
        }
        let (mut at, mut widths) = (1 << 20, Vec::new());
        for _ in 0..5 {
            let window = streams.fault(at, WIDEST);
            at += u64::from(window.granules);
            streams.brought(window, at);
            widths.push(window.granules);
        }
        assert_eq!(widths, [1, 4, 16, 64, 128]);
    }

    #[test]
    fn touching_what_was_read_ahead_reads_on_without_a_fault() {
        let mut streams = Streams::new();
        let mut at = 0;
        for _ in 0..4 {
            let window = streams.fault(at, WIDEST);
            at += u64::from(window.granules);
            streams.brought(window, at);
        }
        assert_eq!(at, 85);
        let (from, to) = streams.advance(64, WIDEST).expect("a wide stream");
        assert_eq!((from, to), (85, 96 + 128));
        assert_eq!(streams.advance(65, WIDEST), None, "already asked for");
        assert_eq!(streams.advance(1 << 30, WIDEST), None, "nobody reads there");
    }
}
