//! Recording what a run touches (`PLIMSOLL_PLAN=learn:FILE`).
//!
//! ```text
//!   fault, rescue, row, block   --note, under the lock-->  ring  --a worker, a frame--> file
//! ```
//!
//! What is in data is touched unseen. While a run is recorded, three quarters of the budget are
//! therefore limbo, where a touch is seen and costs a move: the trace has what a run with a quarter
//! of the budget would miss.
//!
//! Where events come faster than they are written, they are lost and counted. A file that is full,
//! or cannot be written, ends the recording, and nothing else.
//!
//! Must never: allocate once the file is open, wait for the file under the lock, or note what is in
//! a page.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use plimsoll_arena::os::OsError;

use super::entry::Word;
use super::ids::{ChunkId, Id};
use super::space::{Mask, runs};
use super::sys::say;
use super::tables::Ring;
use super::trace::{EVENT_WORDS, FRAME_BYTES, FRAME_WORDS, Seen, TraceEvent, header, seal_frame};

/// The longest file that is written: 16 million touches.
pub(crate) const FILE_BYTES_MAX: u64 = 128 << 20;

/// Words that wait to be written, at most: 256 KiB.
const WORDS: usize = 1 << 15;

/// The events that wait to be written, of a run that is recorded.
#[derive(Default)]
pub(crate) struct Record {
    words: Option<Ring<Word>>,
    lost: u32,
}

impl Record {
    /// One that records.
    pub(crate) fn on() -> Result<Self, OsError> {
        Ok(Self { words: Some(Ring::new(WORDS)?), lost: 0 })
    }

    pub(crate) fn is_on(&self) -> bool {
        self.words.is_some()
    }

    pub(crate) fn note(&mut self, event: TraceEvent) {
        let Some(ring) = &mut self.words else { return };
        let (words, count) = event.encode();
        if ring.len() + EVENT_WORDS > WORDS {
            self.lost = self.lost.saturating_add(count as u32);
            return;
        }
        for word in &words[..count] {
            ring.push(Word(*word));
        }
    }

    /// Notes that somebody came to granules of a chunk.
    pub(crate) fn touch(&mut self, chunk: ChunkId, mask: Mask, seen: Seen, write: bool) {
        if !self.is_on() {
            return;
        }
        for (first, count) in runs(mask) {
            let granule = chunk.index() as u64 * u64::from(Mask::BITS) + first as u64;
            self.note(TraceEvent::Touch { granule, granules: count as u32, seen, write });
        }
    }

    /// Takes the words of one frame, and what was lost before them. Returns how many words.
    pub(crate) fn take(&mut self, into: &mut [u64; FRAME_WORDS]) -> (usize, u32) {
        let Some(ring) = &mut self.words else { return (0, 0) };
        let mut count = 0;
        while count < FRAME_WORDS
            && let Some(Word(word)) = ring.pop()
        {
            into[count] = word;
            count += 1;
        }
        (count, std::mem::take(&mut self.lost))
    }
}

/// The file of a recording.
#[derive(Debug)]
pub(crate) struct Recorder {
    file: File,
    /// Bytes that still may be written.
    room: AtomicU64,
}

impl Recorder {
    /// One that writes to a new file.
    pub(crate) fn to(mut file: File, budget: u64) -> std::io::Result<Self> {
        let header = header(budget);
        file.write_all(&header)?;
        Ok(Self { file, room: AtomicU64::new(FILE_BYTES_MAX - header.len() as u64) })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Bytes that were written.
    pub(crate) fn bytes(&self) -> u64 {
        FILE_BYTES_MAX - self.room.load(Ordering::Relaxed)
    }

    /// Writes what waits; `take` gives the words of one frame. Returns whether there will be more:
    /// not where the file is full, or cannot be written. One worker's at a time, without the lock.
    pub(crate) fn save(&self, take: impl Fn(&mut [u64; FRAME_WORDS]) -> (usize, u32)) -> bool {
        let (mut words, mut frame) = ([0; FRAME_WORDS], [0; FRAME_BYTES]);
        loop {
            let (count, lost) = take(&mut words);
            if count == 0 {
                return true;
            }
            let bytes = seal_frame(&words[..count], lost, &mut frame);
            let room = self.room.load(Ordering::Relaxed);
            let Some(room) = room.checked_sub(bytes.len() as u64) else {
                say(format_args!(
                    "the trace of touches is {FILE_BYTES_MAX} bytes long, and ends here"
                ));
                return false;
            };
            self.room.store(room, Ordering::Relaxed);
            if (&self.file).write_all(bytes).is_err() {
                say(format_args!("the trace of touches cannot be written, and ends here"));
                return false;
            }
        }
    }
}
