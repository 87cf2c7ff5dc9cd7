//! What ranks do together. All of it is made of one step: send a message and receive one.
//!
//! ```text
//!   pass         to one rank, from one rank, at the same time             the only step there is
//!   tell_all     a few bytes to every other rank, and from every other    all sent, then received
//!   agree        everybody hears how everybody is: all go on, or none
//!   gather       rank 0 gets what the others have                         one message each
//!   broadcast    the others get what rank 0 has
//!   transpose    every rank has tiles for every other rank
//! ```
//!
//! Between two steps a rank may look whether a refusal waits for it, and break off what it is at.
//! It goes on to the `agree` that comes next anyway, so no message is sent that is not expected. A
//! rank that fails has told every other rank before it waits for any: each of them hears of it when
//! it looks, whether the others still work or wait.
//!
//! Step `s` of a transposition, of `ranks - 1`: each rank sends to the one `s` after it, and
//! receives from the one `s` before it. So a rank holds one tile on its way out and one on its way
//! in, whatever the number of ranks.
//!
//! Invariants:
//!
//! * all ranks make the same calls in the same order, with as many passes: nobody waits for a
//!   message that is not sent;
//! * a rank that fails goes on to send empty messages until the next `agree`, which is at most
//!   [`AGREE_EVERY`] passes away. There all ranks get the same [`Refusal`];
//! * a message has [`MESSAGE_BYTES_MAX`] bytes at most: tiles, never vectors.
//!
//! It must never hold a message for longer than the call, nor know what is in it.

use super::error::{ExchangeError, Refusal, RefusalKind, WHY_BYTES_MAX};
use zeroize::Zeroizing;

/// Bytes of a message at most. Counts of MPI have 31 bits; a tile that a disk reads at full speed
/// has 2 MiB.
pub const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// Tiles that a rank sends between two looks at how the others are: 32 MiB at most, which no
/// network takes more than seconds for.
pub const AGREE_EVERY: usize = 16;

/// What a rank says that can go on.
pub(super) const WELL: [u8; 1] = [0];

/// Where the words of a refusal begin in a message: after its kind and a space.
const REFUSED_AT: usize = 2;

const _: () = assert!(REFUSED_AT > WELL.len());

/// Bytes that [`Exchange::tell_all`] carries at most: a refusal.
pub const TOLD_BYTES_MAX: usize = REFUSED_AT + WHY_BYTES_MAX;

/// Which rank this is of those on one machine, which share its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// The number of this rank among them, from zero.
    pub rank: usize,
    /// How many they are.
    pub ranks: usize,
}

/// What one transposition sends from here, and what it brings.
///
/// The tiles for a rank are numbered. All are of one length, and all ranks give the same
/// [`Transposition::tiles_most`].
pub trait Transposition {
    /// Tiles that go to rank `to`.
    fn tiles_to(&self, to: usize) -> usize;
    /// Tiles that come from rank `from`.
    fn tiles_from(&self, from: usize) -> usize;
    /// The most tiles that any rank has for any other.
    fn tiles_most(&self) -> usize;
    /// Fills the outgoing buffer with tile `tile` for rank `to`.
    ///
    /// # Errors
    ///
    /// What this rank tells the others.
    fn pack(&mut self, to: usize, tile: usize) -> Result<(), Refusal>;
    /// Keeps what the incoming buffer has: tile `tile` of rank `from`.
    ///
    /// # Errors
    ///
    /// What this rank tells the others.
    fn unpack(&mut self, from: usize, tile: usize) -> Result<(), Refusal>;
    /// The outgoing buffer, to be read, and the incoming one, to be written.
    fn buffers(&mut self) -> (&[u8], &mut [u8]);
}

/// One rank's way to the others.
///
/// ```
/// use plimsoll::ranks::{Exchange, Threads};
///
/// let sums = std::thread::scope(|scope| {
///     let sum = |mut exchange: Threads| {
///         let mine = [exchange.rank() as u8 + 1];
///         let all = exchange.gather(&mine)?; // rank 0 gets what the others have
///         let mut sum = vec![all.into_iter().flatten().map(|one| one[0]).sum()];
///         exchange.broadcast(&mut sum)?;
///         Ok::<u8, plimsoll::ranks::ExchangeError>(sum[0])
///     };
///     let ranks = Threads::new(3).into_iter().map(|rank| scope.spawn(move || sum(rank)));
///     let ranks: Vec<_> = ranks.collect();
///     ranks.into_iter().map(|rank| rank.join().expect("no panic")).collect::<Result<Vec<_>, _>>()
/// })?;
/// assert_eq!(sums, [6, 6, 6]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Exchange: Send {
    /// The number of this rank, from zero.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn ranks(&self) -> usize;

    /// Which of the ranks on this machine this is.
    fn local(&self) -> Local;

    /// Sends a message to a rank, and receives one of a rank, at the same time; either may be left
    /// out. Returns the bytes received, which are the first of the buffer.
    ///
    /// # Errors
    ///
    /// [`ExchangeError::Gone`] when the other rank has ended, [`ExchangeError::Length`] when its
    /// message does not fit the buffer.
    fn pass(
        &mut self,
        to: Option<(usize, &[u8])>,
        from: Option<(usize, &mut [u8])>,
    ) -> Result<usize, ExchangeError>;

    /// Bytes that this rank has sent.
    fn sent_bytes(&self) -> u64;

    /// Says whether a message of more than `len` bytes waits here to be received, from any rank.
    /// It stays where it is. An exchange that cannot look says no: its ranks hear each other only
    /// when they pass messages.
    fn has_longer_than(&mut self, len: usize) -> bool {
        let _ = len;
        false
    }

    /// Sends `told` to every other rank, and gives `hear` the number of each other rank with what
    /// that rank told. Each sends [`TOLD_BYTES_MAX`] bytes at most.
    ///
    /// An exchange that can send without waiting for the receiver should send all before it waits
    /// for any, as `Threads` and `Mpi` do. This default makes one pass after the other, so a
    /// refusal goes no further while the rank before this one is at work.
    ///
    /// # Errors
    ///
    /// Those of [`Exchange::pass`].
    fn tell_all(
        &mut self,
        told: &[u8],
        hear: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), ExchangeError> {
        let (rank, ranks) = (self.rank(), self.ranks());
        let mut heard = [0; TOLD_BYTES_MAX];
        for step in 1..ranks {
            let (to, from) = ((rank + step) % ranks, (rank + ranks - step) % ranks);
            let len = self.pass(Some((to, told)), Some((from, &mut heard)))?;
            hear(from, &heard[..len]);
        }
        Ok(())
    }

    /// Says whether a rank has a refusal for this one. To be asked only where the next step of all
    /// ranks is [`Exchange::agree`]: answer it with [`RefusalKind::CalledOff`].
    fn is_called_off(&mut self) -> bool {
        self.has_longer_than(WELL.len())
    }

    /// Tells all ranks how this one is, and hears how they are. All get the same answer.
    ///
    /// # Errors
    ///
    /// [`ExchangeError::Refused`] with the refusal of the lowest rank that has one of its own.
    fn agree(&mut self, mine: Result<(), Refusal>) -> Result<(), ExchangeError> {
        let rank = self.rank();
        let mut told = WELL.to_vec();
        if let Err(refusal) = &mine {
            // Longer than what a rank says that is well: it may be looked for.
            told = vec![refusal.kind as u8, b' '];
            let end = (0..=WHY_BYTES_MAX).rev().find(|end| refusal.why.is_char_boundary(*end));
            told.extend_from_slice(
                refusal.why.get(..end.unwrap_or(0)).unwrap_or_default().as_bytes(),
            );
        }
        let mut lowest = mine.err().map(|refusal| Refusal { rank, ..refusal });
        self.tell_all(&told, &mut |from, heard| {
            if let [kind, _, why @ ..] = heard {
                let kind = RefusalKind::of(*kind);
                let why = String::from_utf8_lossy(why).into_owned();
                let found = Refusal { rank: from, kind, why };
                if lowest.as_ref().is_none_or(|lowest| found.place() < lowest.place()) {
                    lowest = Some(found);
                }
            }
        })?;
        lowest.map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    /// Sends `bytes` to rank 0, which gets those of all ranks, in order; `None` on the others.
    ///
    /// # Errors
    ///
    /// Those of [`Exchange::pass`]; [`ExchangeError::Length`] for more than a message.
    fn gather(&mut self, bytes: &[u8]) -> Result<Option<Vec<Vec<u8>>>, ExchangeError> {
        let (rank, ranks) = (self.rank(), self.ranks());
        check_len(rank, bytes.len())?;
        if rank > 0 {
            self.pass(Some((0, bytes)), None)?;
            return Ok(None);
        }
        let mut all = vec![bytes.to_vec()];
        let mut heard = Zeroizing::new(vec![0; if ranks > 1 { MESSAGE_BYTES_MAX } else { 0 }]);
        for from in 1..ranks {
            let len = self.pass(None, Some((from, &mut heard)))?;
            all.push(heard[..len].to_vec());
        }
        Ok(Some(all))
    }

    /// Gives every rank the bytes of rank 0, in place of its own.
    ///
    /// # Errors
    ///
    /// Those of [`Exchange::pass`]; [`ExchangeError::Length`] for more than a message.
    fn broadcast(&mut self, bytes: &mut Vec<u8>) -> Result<(), ExchangeError> {
        if self.rank() > 0 {
            bytes.clear();
            bytes.resize(MESSAGE_BYTES_MAX, 0);
            let len = self.pass(None, Some((0, bytes)))?;
            bytes.truncate(len);
            return Ok(());
        }
        check_len(0, bytes.len())?;
        (1..self.ranks()).try_for_each(|to| self.pass(Some((to, bytes)), None).map(|_| ()))
    }

    /// Sends every rank its tiles, and keeps those that come.
    ///
    /// # Errors
    ///
    /// [`ExchangeError::Refused`] on every rank when a tile cannot be packed or kept on one.
    fn transpose(&mut self, tiles: &mut dyn Transposition) -> Result<(), ExchangeError> {
        let (rank, ranks) = (self.rank(), self.ranks());
        let mut mine = Ok(());
        for step in 1..ranks {
            let (to, from) = ((rank + step) % ranks, (rank + ranks - step) % ranks);
            for tile in 0..tiles.tiles_most() {
                if tile % AGREE_EVERY == 0 {
                    self.agree(std::mem::replace(&mut mine, Ok(())))?;
                }
                let (sends, brings) = (tile < tiles.tiles_to(to), tile < tiles.tiles_from(from));
                if sends && mine.is_ok() {
                    mine = tiles.pack(to, tile);
                }
                let (out, back) = tiles.buffers();
                let expected = back.len();
                let out = if mine.is_ok() { out } else { &[] };
                let len = self.pass(sends.then_some((to, out)), brings.then_some((from, back)))?;
                // Nothing comes from a rank that failed: it says so at the next `agree`.
                if brings && mine.is_ok() && len > 0 {
                    mine = match len == expected {
                        true => tiles.unpack(from, tile),
                        false => Err(wrong_length(rank, from, [expected, len])),
                    };
                }
            }
        }
        self.agree(mine)
    }
}

fn check_len(rank: usize, found: usize) -> Result<(), ExchangeError> {
    let expected = MESSAGE_BYTES_MAX;
    if found <= expected { Ok(()) } else { Err(ExchangeError::Length { rank, expected, found }) }
}

fn wrong_length(rank: usize, from: usize, [expected, found]: [usize; 2]) -> Refusal {
    let why = ExchangeError::Length { rank: from, expected, found }.to_string();
    Refusal { rank, kind: RefusalKind::Input, why }
}
