//! The store: takes bytes, keeps them packed in RAM or in the spill file, gives them back exactly.
//!
//! ```text
//!   save(bytes)   for each piece of 512 KiB, or 4 MiB where no buffer is needed:
//!                   uniform, or a sample says so    -> raw frame, from the caller's own pages
//!                   packs to 3/4 or less, and room  -> packed in RAM
//!                   packs otherwise                 -> packed frame
//!                 -> Saved: where each piece is; dropped, it frees them
//!   load(saved)   header, stamp, checksum, then decode; a flipped bit is an error, never a value
//!   demote(saved) packed in RAM -> packed frames
//! ```
//!
//! Invariants:
//!
//! * `save` returns `Ok` after every byte is where it will be read from; until then, and after any
//!   error, the caller's bytes are the only copy and nothing of the attempt is kept.
//! * after a failed write the file takes no more (*poisoned*). The store can still read what the
//!   file holds, and packing goes on. A full disk or quota is no failed write, because nothing was
//!   written.
//! * bytes packed in RAM are charged to the ledger and at most `packed_limit_bytes`.
//! * with encryption on, no byte reaches the backend but sealed.
//!
//! It runs inside the reclaim ladder. Never: wait for a lock that is held while memory is charged,
//! ask for relief, allocate more than the packed bytes themselves, show data in an error.

mod builder;
mod hands;
mod inner;
mod piece;
mod saved;

pub use builder::StoreBuilder;
pub use hands::Hands;
pub use inner::{Content, Encryption, SpillTier, Tier, Tiers};
pub use saved::Saved;

use crate::Error;
use crate::backend::{Backend, Kept};
use crate::codec::LaneSpec;
use inner::Inner;
use plimsoll_arena::sync::unpoisoned;
use saved::{Piece, Place};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Memory of one set of scratch buffers. A store has a set for each I/O thread and one more, so
/// that a thread that waits for its bytes never waits for the writes of the I/O threads.
pub const SCRATCH_BYTES: usize = crate::scratch::SET_BYTES;

/// What a store holds and has done, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Bytes that packed pieces take in RAM now.
    pub packed_bytes: u64,
    /// Raw bytes of those pieces.
    pub packed_raw_bytes: u64,
    /// Bytes of the file in use now.
    pub file_bytes: u64,
    /// Pieces that were packed in RAM so far.
    pub packed_saves: u64,
    /// Frames that were written so far.
    pub file_saves: u64,
    /// Bytes of frames that were written so far.
    pub written_bytes: u64,
    /// Bytes of frames that were read so far.
    pub read_bytes: u64,
    /// Saves that failed so far.
    pub failed_saves: u64,
}

/// Keeps cold bytes packed in RAM or in the spill file, and gives them back exactly.
///
/// Clones share everything.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Store {
    /// Saves `bytes`, whose lanes are `spec`.
    ///
    /// # Errors
    ///
    /// [`Error`]: no room, or a write that failed. Nothing is kept then; the caller's bytes are
    /// the only ones.
    pub fn save(
        &self,
        spec: LaneSpec,
        bytes: &[u8],
        content: Content,
        tiers: Tiers,
    ) -> Result<Saved, Error> {
        self.save_by(Hands::One, spec, bytes, content, tiers)
    }

    /// As [`Store::save`], by one thread or two.
    ///
    /// # Errors
    ///
    /// As [`Store::save`].
    pub fn save_by(
        &self,
        hands: Hands,
        spec: LaneSpec,
        bytes: &[u8],
        content: Content,
        tiers: Tiers,
    ) -> Result<Saved, Error> {
        let inner = &self.inner;
        let owner = inner.owners.fetch_add(1, Ordering::Relaxed);
        let content = Inner::look(spec, bytes, content);
        let piece_bytes = inner.piece_bytes(bytes, content);
        let count = bytes.len().div_ceil(piece_bytes);
        let (store, raw_bytes) = (Arc::clone(inner), bytes.len());
        let mut saved = Saved { store, raw_bytes, owner, piece_bytes, pieces: Vec::new() };
        let mut places: Vec<Option<Piece>> = (0..count).map(|_| None).collect();
        let parts = bytes.chunks(piece_bytes).zip(&mut places).enumerate();
        let done = hands::share(hands.of(raw_bytes, count), parts, |(number, (bytes, piece))| {
            let place = inner.save_piece(spec, bytes, content, tiers, saved.stamp(number));
            let place = place.inspect_err(|_| {
                inner.counters.failed.fetch_add(1, Ordering::Relaxed);
            })?;
            *piece = Some(Piece { raw_bytes: bytes.len(), place });
            Ok(())
        });
        // After an error these are given back, with `saved`.
        saved.pieces = places.into_iter().flatten().collect();
        done.map(|()| saved)
    }

    /// Fills `out` with the bytes of `saved`.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] when `out` has another length; [`Error::Corrupt`] when what is stored is
    /// not what was saved; [`Error::Io`]. `out` is then unspecified, and `saved` as it was.
    pub fn load(&self, saved: &Saved, out: &mut [u8]) -> Result<(), Error> {
        self.load_by(Hands::One, saved, out)
    }

    /// As [`Store::load`], by one thread or two.
    ///
    /// # Errors
    ///
    /// As [`Store::load`].
    pub fn load_by(&self, hands: Hands, saved: &Saved, out: &mut [u8]) -> Result<(), Error> {
        if out.len() != saved.raw_bytes {
            return Err(Error::Length { expected: saved.raw_bytes, found: out.len() });
        }
        // Pieces are made by the same cut.
        let parts = saved.pieces.iter().zip(out.chunks_mut(saved.piece_bytes));
        hands::share(hands.of(saved.raw_bytes, saved.pieces.len()), parts, |(piece, out)| {
            self.inner.load_piece(&piece.place, out)
        })
    }

    /// Moves the pieces that are packed in RAM to the file.
    ///
    /// # Errors
    ///
    /// What `saved` was, whole, and why it could not all be moved.
    pub fn demote(&self, mut saved: Saved) -> Result<Saved, (Saved, Error)> {
        for number in 0..saved.pieces.len() {
            let stamp = saved.stamp(number);
            let piece = &saved.pieces[number];
            let Place::Packed(packed) = &piece.place else { continue };
            match self.inner.write_packed(packed, piece.raw_bytes, stamp) {
                Ok(frame) => {
                    let place = Place::File(frame);
                    let new = Piece { raw_bytes: piece.raw_bytes, place };
                    self.inner.free(std::mem::replace(&mut saved.pieces[number], new));
                }
                Err(error) => return Err((saved, error)),
            }
        }
        Ok(saved)
    }

    /// Returns what the store holds and did.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let (inner, c) = (&self.inner, &self.inner.counters);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreStats {
            packed_bytes: inner.packed_bytes.load(Ordering::Relaxed) as u64,
            packed_raw_bytes: read(&c.packed_raw),
            file_bytes: unpoisoned(inner.space.lock()).live_bytes(),
            packed_saves: read(&c.packed_saves),
            file_saves: read(&c.file_saves),
            written_bytes: read(&c.written),
            read_bytes: read(&c.read),
            failed_saves: read(&c.failed),
        }
    }

    /// Says whether a secret may be spilled now.
    ///
    /// # Errors
    ///
    /// [`Error::SecretSwap`] where it would be on a disk in the clear after this process.
    pub fn takes_secrets(&self) -> Result<(), Error> {
        let inner = &self.inner;
        let leaks = |backend: &Arc<dyn Backend>| backend.kept() == Kept::SwapDisk;
        match inner.key.is_none() && inner.backend.as_ref().is_some_and(leaks) {
            true => Err(Error::SecretSwap),
            false => Ok(()),
        }
    }

    /// Returns whether the file takes no more since a write failed.
    #[must_use]
    pub fn poisoned(&self) -> bool {
        unpoisoned(self.inner.poison.lock()).is_some()
    }
}
