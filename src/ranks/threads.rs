//! Ranks of one process, and the only one of all.
//!
//! ```text
//!   box[to][from]    empty --put--> a message --take--> empty        one message at most
//! ```
//!
//! A rank that passes a message waits until the box is empty, puts it there, and waits for the
//! message that it expects. Since all ranks make the same passes in the same order, the rank that
//! is furthest behind never waits for a box to become empty: nobody waits for ever.
//!
//! A rank that is dropped is gone: whoever waits for it gets an error, not silence.
//!
//! The boxes hold witness; they are wiped when they are taken or dropped.

use super::error::ExchangeError;
use super::exchange::{Exchange, Local, TOLD_BYTES_MAX};
use plimsoll_arena::sync::unpoisoned;
use std::sync::{Arc, Condvar, Mutex};
use zeroize::Zeroizing;

/// The only rank.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Exchange for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn ranks(&self) -> usize {
        1
    }

    fn local(&self) -> Local {
        Local { rank: 0, ranks: 1 }
    }

    fn pass(
        &mut self,
        to: Option<(usize, &[u8])>,
        from: Option<(usize, &mut [u8])>,
    ) -> Result<usize, ExchangeError> {
        match to.map(|to| to.0).or(from.map(|from| from.0)) {
            Some(rank) => Err(ExchangeError::NoSuchRank { rank, ranks: 1 }),
            None => Ok(0),
        }
    }

    fn sent_bytes(&self) -> u64 {
        0
    }
}

/// The boxes of all ranks, and who is gone.
pub(super) struct Boxes {
    ranks: usize,
    messages: Vec<Option<Zeroizing<Vec<u8>>>>,
    gone: Vec<bool>,
}

/// What a step of a pass found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PassStep {
    /// It is done: so many bytes came.
    Done(usize),
    /// It must wait for the other rank.
    Waits,
}

impl Boxes {
    pub(super) fn new(ranks: usize) -> Self {
        Self {
            ranks,
            messages: (0..ranks * ranks).map(|_| None).collect(),
            gone: vec![false; ranks],
        }
    }

    /// Puts a message into the box of `to` for what `from` sends.
    pub(super) fn put(
        &mut self,
        from: usize,
        to: usize,
        message: &[u8],
    ) -> Result<PassStep, ExchangeError> {
        let place = self.place(to, from)?;
        if self.gone[to] {
            return Err(ExchangeError::Gone { rank: to });
        }
        if self.messages[place].is_some() {
            return Ok(PassStep::Waits);
        }
        self.messages[place] = Some(Zeroizing::new(message.to_vec()));
        Ok(PassStep::Done(0))
    }

    /// Takes the message of `from` out of the box of `to`.
    pub(super) fn take(
        &mut self,
        from: usize,
        to: usize,
        buffer: &mut [u8],
    ) -> Result<PassStep, ExchangeError> {
        let place = self.place(to, from)?;
        let Some(message) = self.messages[place].take() else {
            // What it sent before it went is still there to be taken.
            return if self.gone[from] {
                Err(ExchangeError::Gone { rank: from })
            } else {
                Ok(PassStep::Waits)
            };
        };
        let (found, expected) = (message.len(), buffer.len());
        match buffer.get_mut(..found) {
            Some(buffer) => buffer.copy_from_slice(&message),
            None => return Err(ExchangeError::Length { rank: from, expected, found }),
        }
        Ok(PassStep::Done(found))
    }

    /// Says whether a message of more than `len` bytes waits for `to`, or can come no more.
    pub(super) fn has_longer_than(&self, to: usize, len: usize) -> bool {
        (0..self.ranks).filter(|from| *from != to).any(|from| {
            let message = self.messages.get(to * self.ranks + from).and_then(Option::as_ref);
            message.map_or(self.gone[from], |message| message.len() > len)
        })
    }

    pub(super) fn leave(&mut self, rank: usize) {
        self.gone[rank] = true;
    }

    fn place(&self, to: usize, from: usize) -> Result<usize, ExchangeError> {
        let ranks = self.ranks;
        match [to, from].into_iter().find(|rank| *rank >= ranks) {
            Some(rank) => Err(ExchangeError::NoSuchRank { rank, ranks }),
            None => Ok(to * ranks + from),
        }
    }
}

/// A pass: a message is put, then one is taken. `wait` makes a step, when it can be made.
pub(super) fn pass_by_boxes(
    rank: usize,
    to: Option<(usize, &[u8])>,
    from: Option<(usize, &mut [u8])>,
    mut wait: impl FnMut(&mut BoxStep<'_>) -> Result<usize, ExchangeError>,
) -> Result<usize, ExchangeError> {
    if let Some((to, message)) = to {
        wait(&mut |boxes| boxes.put(rank, to, message))?;
    }
    match from {
        Some((from, buffer)) => wait(&mut |boxes| boxes.take(from, rank, buffer)),
        None => Ok(0),
    }
}

/// Tells all others and hears them: every message is put before the first one is taken.
pub(super) fn tell_by_boxes(
    [rank, ranks]: [usize; 2],
    told: &[u8],
    hear: &mut dyn FnMut(usize, &[u8]),
    mut wait: impl FnMut(&mut BoxStep<'_>) -> Result<usize, ExchangeError>,
) -> Result<(), ExchangeError> {
    let others = (1..ranks).map(|step| (rank + step) % ranks);
    for to in others.clone() {
        wait(&mut |boxes| boxes.put(rank, to, told))?;
    }
    let mut heard = [0; TOLD_BYTES_MAX];
    for from in others {
        let len = wait(&mut |boxes| boxes.take(from, rank, &mut heard))?;
        hear(from, &heard[..len]);
    }
    Ok(())
}

/// What is done while the boxes are locked.
type BoxStep<'a> = dyn FnMut(&mut Boxes) -> Result<PassStep, ExchangeError> + 'a;

struct BoxRoom {
    boxes: Mutex<Boxes>,
    changed: Condvar,
}

/// One of several ranks in one process. Each goes to a thread of its own.
pub struct Threads {
    rank: usize,
    ranks: usize,
    room: Arc<BoxRoom>,
    sent_bytes: u64,
}

impl std::fmt::Debug for Threads {
    /// Leaves the messages out: they may be a witness.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Threads").field("rank", &self.rank).finish_non_exhaustive()
    }
}

impl Threads {
    /// Makes `ranks` ranks, in order.
    #[must_use]
    pub fn new(ranks: usize) -> Vec<Self> {
        let (boxes, changed) = (Mutex::new(Boxes::new(ranks)), Condvar::new());
        let room = Arc::new(BoxRoom { boxes, changed });
        (0..ranks)
            .map(|rank| Self { rank, ranks, room: Arc::clone(&room), sent_bytes: 0 })
            .collect()
    }

    /// Waits until `step` is done.
    fn wait(
        &self,
        mut step: impl FnMut(&mut Boxes) -> Result<PassStep, ExchangeError>,
    ) -> Result<usize, ExchangeError> {
        let mut boxes = unpoisoned(self.room.boxes.lock());
        loop {
            match step(&mut boxes)? {
                PassStep::Done(len) => {
                    self.room.changed.notify_all();
                    return Ok(len);
                }
                PassStep::Waits => boxes = unpoisoned(self.room.changed.wait(boxes)),
            }
        }
    }
}

impl Exchange for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.ranks
    }

    fn local(&self) -> Local {
        Local { rank: self.rank, ranks: self.ranks }
    }

    fn pass(
        &mut self,
        to: Option<(usize, &[u8])>,
        from: Option<(usize, &mut [u8])>,
    ) -> Result<usize, ExchangeError> {
        let sent = to.map_or(0, |(_, message)| message.len());
        let received = pass_by_boxes(self.rank, to, from, |step| self.wait(step))?;
        self.sent_bytes += sent as u64;
        Ok(received)
    }

    fn tell_all(
        &mut self,
        told: &[u8],
        hear: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), ExchangeError> {
        tell_by_boxes([self.rank, self.ranks], told, hear, |step| self.wait(step))?;
        self.sent_bytes += (told.len() * (self.ranks - 1)) as u64;
        Ok(())
    }

    fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    fn has_longer_than(&mut self, len: usize) -> bool {
        unpoisoned(self.room.boxes.lock()).has_longer_than(self.rank, len)
    }
}

impl Drop for Threads {
    /// The rank is gone; who waits for it is told.
    fn drop(&mut self) {
        unpoisoned(self.room.boxes.lock()).leave(self.rank);
        self.room.changed.notify_all();
    }
}
