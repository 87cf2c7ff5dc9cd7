//! The store: takes bytes, keeps them packed in RAM or in the spill file, gives them back exactly.
//!
//! ```text
//!   save(bytes)   for each piece of 512 KiB:
//!                   uniform, or the sample says so  -> raw frame, from the caller's own pages
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
//! * after a failed write the file takes no more (*poisoned*): what it holds can still be read, and
//!   packing goes on. A full disk or quota is no failed write; nothing was written.
//! * bytes packed in RAM are charged to the ledger and at most `packed_limit_bytes`.
//! * with encryption on, no byte reaches the backend but sealed.
//!
//! It runs inside the reclaim ladder. Never: wait for a lock that is held while memory is charged,
//! ask for relief, allocate more than the packed bytes themselves, show data in an error.

mod builder;
mod saved;

pub use builder::StoreBuilder;
pub use saved::Saved;

use crate::Error;
use crate::backend::{AlignedBytes, Backend};
use crate::codec::{CodecId, LaneSpec, decode, encode};
use crate::error::corrupt;
use crate::frame::{FRAME_ALIGN_BYTES, Header, Placement, Stamp, restore};
use crate::scratch::{FRAME_RAW_BYTES, Scratch, Scratches};
use crate::seal::{Key, Sealed};
use crate::space::Space;
use plimsoll_arena::Ledger;
use saved::{Frame, Packed, Piece, Place};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xxhash_rust::xxh3::xxh3_64;
use zeroize::Zeroize;

/// Sets of scratch buffers: two I/O threads and one who waits for his bytes.
const SCRATCHES: usize = 3;

/// A piece is packed in RAM if that takes at most this share of it, in quarters.
const WORTH_PACKING_QUARTERS: usize = 3;

/// What is known of the bytes to save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing: a sample decides whether packing is tried.
    Unknown,
    /// They look random: packing is not tried.
    Uniform,
}

/// Where bytes may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiers {
    /// Packed in RAM, or to the file.
    Any,
    /// To the file.
    FileOnly,
}

/// Where bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// All of them packed in RAM.
    Packed,
    /// Some or all of them in the file.
    File,
}

/// Whether the file holds ciphertext only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Frames are written as they are. The file has no name and mode 0600.
    #[default]
    Off,
    /// Frames are sealed with a key that is drawn for this store and never leaves it.
    On,
}

/// What a store holds and did, in bytes.
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

#[derive(Default)]
struct Counters {
    packed_raw: AtomicU64,
    packed_saves: AtomicU64,
    file_saves: AtomicU64,
    written: AtomicU64,
    read: AtomicU64,
    failed: AtomicU64,
}

struct Inner {
    backend: Option<Arc<dyn Backend>>,
    space: Mutex<Space>,
    key: Option<Key>,
    scratches: Scratches,
    poison: Mutex<Option<Error>>,
    packed_limit_bytes: usize,
    packed_bytes: AtomicUsize,
    ledger: Option<Arc<Ledger>>,
    owners: AtomicU64,
    counters: Counters,
}

/// See the module's header. Clones share everything.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Returns the settings of a store: packed in RAM only, not encrypted.
    #[must_use]
    pub fn builder() -> StoreBuilder {
        StoreBuilder::default()
    }

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
        let inner = &self.inner;
        let owner = inner.owners.fetch_add(1, Ordering::Relaxed);
        let pieces = Vec::with_capacity(bytes.len().div_ceil(FRAME_RAW_BYTES));
        let mut saved = Saved { store: Arc::clone(inner), raw_bytes: bytes.len(), owner, pieces };
        for (number, piece) in bytes.chunks(FRAME_RAW_BYTES).enumerate() {
            let place = inner.save_piece(spec, piece, content, tiers, saved.stamp(number));
            let place = place.inspect_err(|_| {
                inner.counters.failed.fetch_add(1, Ordering::Relaxed);
            })?;
            saved.pieces.push(Piece { raw_bytes: piece.len(), place });
        }
        Ok(saved)
    }

    /// Fills `out` with the bytes of `saved`.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] when `out` has another length; [`Error::Corrupt`] when what is stored is
    /// not what was saved; [`Error::Io`]. `out` is then unspecified, and `saved` as it was.
    pub fn load(&self, saved: &Saved, out: &mut [u8]) -> Result<(), Error> {
        if out.len() != saved.raw_bytes {
            return Err(Error::Length { expected: saved.raw_bytes, found: out.len() });
        }
        let mut rest = out;
        for piece in &saved.pieces {
            let (mine, left) = std::mem::take(&mut rest).split_at_mut(piece.raw_bytes);
            rest = left;
            self.inner.load_piece(&piece.place, mine)?;
        }
        Ok(())
    }

    /// Moves what is packed in RAM to the file.
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
            file_bytes: lock(&inner.space).live_bytes(),
            packed_saves: read(&c.packed_saves),
            file_saves: read(&c.file_saves),
            written_bytes: read(&c.written),
            read_bytes: read(&c.read),
            failed_saves: read(&c.failed),
        }
    }

    /// Returns whether the file takes no more since a write failed.
    #[must_use]
    pub fn poisoned(&self) -> bool {
        lock(&self.inner.poison).is_some()
    }
}

impl Inner {
    fn save_piece(
        &self,
        spec: LaneSpec,
        bytes: &[u8],
        content: Content,
        tiers: Tiers,
        stamp: Stamp,
    ) -> Result<Place, Error> {
        let mut scratch = self.scratches.borrow();
        let scratch = &mut *scratch;
        if content == Content::Uniform {
            return self.write_raw(scratch, spec, bytes, stamp).map(Place::File);
        }
        let encoded = encode(spec, bytes, &mut scratch.encoded);
        if encoded.codec() == CodecId::Raw {
            return self.write_raw(scratch, spec, bytes, stamp).map(Place::File);
        }
        let (codec, payload) = (encoded.codec(), encoded.payload());
        let small = payload.len() * 4 <= bytes.len() * WORTH_PACKING_QUARTERS;
        if tiers == Tiers::Any && small && self.charge_packed(payload.len()) {
            self.counters.packed_raw.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            self.counters.packed_saves.fetch_add(1, Ordering::Relaxed);
            return Ok(Place::Packed(Packed {
                codec,
                header_lanes: spec,
                payload: payload.into(),
                checksum: xxh3_64(payload),
            }));
        }
        let what = (codec, spec.kind());
        let header = Header::new(what, Placement::Packed, stamp, bytes.len(), payload)?;
        self.write_frame(&mut scratch.frame, &header, payload).map(Place::File)
    }

    /// Counts and charges bytes to be packed, if the tier has room for them.
    fn charge_packed(&self, bytes: usize) -> bool {
        let add = |now: usize| now.checked_add(bytes).filter(|n| *n <= self.packed_limit_bytes);
        let (order, relaxed) = (Ordering::Relaxed, Ordering::Relaxed);
        if self.packed_bytes.fetch_update(order, relaxed, add).is_err() {
            return false;
        }
        if let Some(ledger) = &self.ledger {
            if !ledger.charge_exchange(bytes) {
                self.packed_bytes.fetch_sub(bytes, Ordering::Relaxed);
                return false;
            }
            ledger.settle(bytes);
        }
        true
    }

    /// Writes a piece as it is: from its own pages where the disk takes them.
    fn write_raw(
        &self,
        scratch: &mut Scratch,
        spec: LaneSpec,
        bytes: &[u8],
        stamp: Stamp,
    ) -> Result<Frame, Error> {
        let what = (CodecId::Raw, spec.kind());
        let header = Header::new(what, Placement::OwnPages, stamp, bytes.len(), bytes)?;
        if self.key.is_some() || !is_aligned(bytes) {
            return self.write_frame(&mut scratch.frame, &header, bytes);
        }
        scratch.head.fill(0);
        let header_bytes = header.to_bytes();
        scratch.head[..header_bytes.len()].copy_from_slice(&header_bytes);
        let head = &*scratch.head;
        self.write(&header, None, |backend, at| backend.write_both_at(at, head, bytes))
    }

    /// Writes a piece through a buffer that holds the whole frame.
    fn write_frame(
        &self,
        buffer: &mut AlignedBytes,
        header: &Header,
        payload: &[u8],
    ) -> Result<Frame, Error> {
        // At most a piece, its header's block and padding: the buffer is made for that.
        let frame = &mut buffer[..header.frame_bytes() as usize];
        header.write(payload, frame)?;
        let sealed = self.key.as_ref().map(|key| key.seal(frame)).transpose()?;
        self.write(header, sealed, |backend, at| backend.write_at(at, frame))
    }

    fn write(
        &self,
        header: &Header,
        sealed: Option<Sealed>,
        write: impl FnOnce(&dyn Backend, u64) -> Result<(), Error>,
    ) -> Result<Frame, Error> {
        let Some(backend) = self.backend.as_deref() else {
            return Err(Error::NoFile { asked_bytes: header.raw_bytes() });
        };
        if let Some(why) = lock(&self.poison).as_ref() {
            return Err(Error::Poisoned { why: Box::new(why.clone()) });
        }
        let frame_bytes = header.frame_bytes();
        let extent = lock(&self.space).take(backend, frame_bytes)?;
        if let Err(why) = write(backend, extent.offset_bytes()) {
            lock(&self.space).give_back(backend, extent);
            lock(&self.poison).get_or_insert(why.clone());
            return Err(why);
        }
        self.counters.file_saves.fetch_add(1, Ordering::Relaxed);
        self.counters.written.fetch_add(frame_bytes, Ordering::Relaxed);
        let (stamp, placement) = (header.stamp(), header.placement());
        Ok(Frame { extent, frame_bytes: frame_bytes as usize, stamp, placement, sealed })
    }

    /// Writes a packed piece to the file; the piece stays what it is.
    fn write_packed(&self, packed: &Packed, raw: usize, stamp: Stamp) -> Result<Frame, Error> {
        packed.check()?;
        let mut scratch = self.scratches.borrow();
        let what = (packed.codec, packed.header_lanes.kind());
        let header = Header::new(what, Placement::Packed, stamp, raw, &packed.payload)?;
        self.write_frame(&mut scratch.frame, &header, &packed.payload)
    }

    fn load_piece(&self, place: &Place, out: &mut [u8]) -> Result<(), Error> {
        let frame = match place {
            Place::Packed(packed) => {
                packed.check()?;
                return decode(packed.codec, &packed.payload, out);
            }
            Place::File(frame) => frame,
        };
        let Some(backend) = self.backend.as_deref() else {
            return corrupt("the piece is in a file that is not there");
        };
        let at = frame.extent.offset_bytes();
        let mut scratch = self.scratches.borrow();
        self.counters.read.fetch_add(frame.frame_bytes as u64, Ordering::Relaxed);
        if frame.placement == Placement::OwnPages && frame.sealed.is_none() && is_aligned(out) {
            let head = &mut scratch.head;
            backend.read_both_at(at, head, out)?;
            let header = Header::read(head)?;
            header.expect(frame.stamp)?;
            if header.codec() != CodecId::Raw || header.placement() != Placement::OwnPages {
                return corrupt("the header is not that of a raw piece");
            }
            if head[crate::frame::HEADER_BYTES..].iter().any(|byte| *byte != 0) {
                return corrupt("the frame's gap is not zero");
            }
            return header.check(out);
        }
        let buffer = &mut scratch.frame[..frame.frame_bytes];
        backend.read_at(at, buffer)?;
        match (&frame.sealed, &self.key) {
            (Some(sealed), Some(key)) => key.open(sealed, buffer)?,
            (None, _) => {}
            (Some(_), None) => return corrupt("the piece is sealed and there is no key"),
        }
        restore(buffer, frame.stamp, out)
    }

    fn free(&self, piece: Piece) {
        match piece.place {
            Place::Packed(mut packed) => {
                let bytes = packed.payload.len();
                packed.payload.zeroize();
                drop(packed);
                self.counters.packed_raw.fetch_sub(piece.raw_bytes as u64, Ordering::Relaxed);
                self.packed_bytes.fetch_sub(bytes, Ordering::Relaxed);
                if let Some(ledger) = &self.ledger {
                    ledger.unsettle(bytes);
                    ledger.uncharge(bytes);
                }
            }
            Place::File(frame) => {
                if let Some(backend) = self.backend.as_deref() {
                    lock(&self.space).give_back(backend, frame.extent);
                }
            }
        }
    }
}

/// Whether the disk takes a piece from where it is.
fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(FRAME_ALIGN_BYTES)
        && bytes.len().is_multiple_of(FRAME_ALIGN_BYTES)
}
