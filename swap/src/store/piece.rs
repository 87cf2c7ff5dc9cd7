//! One piece: where it goes, how it is written and read, how it is freed.
//!
//! ```text
//!   save_piece --> packed in RAM
//!              `-> write_raw | write_frame -> write: room, request, poison --> SavedFrame
//!   load_piece <-- packed, or read, opened, checked, decoded
//!   free       --> room or memory given back, memory wiped first
//! ```
//!
//! Invariants:
//!
//! * a piece holds one set of scratch buffers at most, and asks for no second while it has one.
//! * after an error nothing is kept: the extent is freed before the error is returned.
//! * `packed_bytes` equals the payloads of the packed pieces, and so does what the ledger has of
//!   them, charged and settled alike.
//!
//! Never: hold a lock while a frame is written or read; hand out bytes that were not checked.

use super::inner::{Content, Inner, Tiers};
use super::saved::{Packed, Piece, Place, SavedFrame};
use crate::Error;
use crate::backend::Backend;
use crate::checksum::{self, checksum};
use crate::codec::{CodecId, LaneSpec, decode, encode, is_uniform};
use crate::error::corrupt;
use crate::extent::Extent;
use crate::frame::{FRAME_ALIGN_BYTES, HEADER_BYTES, Header, Placement, Stamp, restore};
use crate::scratch::{FRAME_RAW_BYTES, FrameBuffer, Scratch};
use plimsoll_arena::sync::unpoisoned;
use std::sync::atomic::Ordering;
use zeroize::Zeroize;

/// A piece is packed in RAM if that takes at most this share of it, in quarters.
const WORTH_PACKING_QUARTERS: usize = 3;

/// Most bytes of a piece that is written from its own pages. A disk is fastest with long requests
/// (`cargo bench --bench spill`).
const RAW_PIECE_BYTES: usize = 4 << 20;

/// From this size on, a raw piece is written and read in two requests, so that the checksum
/// overlaps with one of them. For smaller pieces a second request takes longer.
const TWO_PARTS_BYTES_MIN: usize = 1 << 20;

/// Quarters of a raw piece that are written before the checksum of the whole piece is computed. The
/// disk then has the tail to write, which takes longer than the checksum.
const WRITE_FRONT_QUARTERS: usize = 2;

/// Quarters of a raw piece that are read first. Their checksum is computed while the tail is being
/// read; nothing overlaps with the tail's own checksum.
const READ_FRONT_QUARTERS: usize = 3;

/// Bytes of a raw piece's front. The rest is the tail.
fn front_bytes(bytes: usize, quarters: usize) -> usize {
    match bytes < TWO_PARTS_BYTES_MIN {
        true => bytes,
        false => (bytes / 4 * quarters).next_multiple_of(FRAME_ALIGN_BYTES),
    }
}

impl Inner {
    /// Decides by a sample what is known of a vector's bytes. A vector of several pieces is sampled
    /// here once. If it is not uniform, each of its pieces is sampled again; a single piece is
    /// sampled later only.
    pub(super) fn look(spec: LaneSpec, bytes: &[u8], content: Content) -> Content {
        let is_cut = bytes.len() > FRAME_RAW_BYTES;
        match content {
            Content::Unknown if is_cut && is_uniform(spec, bytes) => Content::Uniform,
            _ => content,
        }
    }

    /// How long the pieces of a vector are.
    pub(super) fn piece_bytes(&self, bytes: &[u8], content: Content) -> usize {
        if content == Content::Uniform && self.key.is_none() && is_aligned(bytes) {
            return bytes.len().clamp(FRAME_RAW_BYTES, RAW_PIECE_BYTES);
        }
        FRAME_RAW_BYTES
    }

    pub(super) fn save_piece(
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
        let encoded = encode(spec, bytes, scratch.encoded.lend());
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
                checksum: checksum(payload),
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
    ) -> Result<SavedFrame, Error> {
        let what = (CodecId::Raw, spec.kind());
        let placement = Placement::OwnPages;
        let header = || Header::new(what, placement, stamp, bytes.len(), bytes);
        if self.key.is_some() || !is_aligned(bytes) {
            return self.write_frame(&mut scratch.frame, &header()?, bytes);
        }
        let head = &mut scratch.head;
        let (front, tail) = bytes.split_at(front_bytes(bytes.len(), WRITE_FRONT_QUARTERS));
        let frame_bytes = placement.offset_bytes() + bytes.len();
        let extent = self.write(frame_bytes, |backend, at| {
            let mut write_front = || {
                head.fill(0);
                head[..HEADER_BYTES].copy_from_slice(&header()?.to_bytes());
                backend.write_both_at(at, head, front)
            };
            if tail.is_empty() {
                return write_front();
            }
            let tail_at = at + (placement.offset_bytes() + front.len()) as u64;
            let mut written = Ok(());
            backend.write_while(tail_at, tail, &mut || written = write_front())?;
            written
        })?;
        Ok(SavedFrame { extent, frame_bytes, stamp, placement, sealed: None })
    }

    /// Writes a piece through a buffer that holds the whole frame.
    fn write_frame(
        &self,
        buffer: &mut FrameBuffer,
        header: &Header,
        payload: &[u8],
    ) -> Result<SavedFrame, Error> {
        // At most a piece, its header's block and padding: the buffer is made for that.
        let frame_bytes = header.frame_bytes() as usize;
        let frame = buffer.first(frame_bytes);
        header.write(payload, frame)?;
        let sealed = self.key.as_ref().map(|key| key.seal(frame)).transpose()?;
        let extent = self.write(frame_bytes, |backend, at| backend.write_at(at, frame))?;
        let (stamp, placement) = (header.stamp(), header.placement());
        Ok(SavedFrame { extent, frame_bytes, stamp, placement, sealed })
    }

    /// Takes room for a frame and tells `write` where to fill it.
    fn write(
        &self,
        frame_bytes: usize,
        write: impl FnOnce(&dyn Backend, u64) -> Result<(), Error>,
    ) -> Result<Extent, Error> {
        let frame_bytes = frame_bytes as u64;
        let Some(backend) = self.backend.as_deref() else {
            return Err(Error::NoFile { asked_bytes: frame_bytes });
        };
        if let Some(why) = unpoisoned(self.poison.lock()).as_ref() {
            return Err(Error::Poisoned { why: Box::new(why.clone()) });
        }
        let extent = unpoisoned(self.space.lock()).take(backend, frame_bytes)?;
        if let Err(why) = write(backend, extent.offset_bytes()) {
            self.give_back(backend, extent);
            if !why.is_want_of_swap() {
                unpoisoned(self.poison.lock()).get_or_insert(why.clone());
            }
            return Err(why);
        }
        self.counters.file_saves.fetch_add(1, Ordering::Relaxed);
        self.counters.written.fetch_add(frame_bytes, Ordering::Relaxed);
        Ok(extent)
    }

    /// Writes a packed piece to the file; the piece stays what it is.
    pub(super) fn write_packed(
        &self,
        packed: &Packed,
        raw: usize,
        stamp: Stamp,
    ) -> Result<SavedFrame, Error> {
        packed.check()?;
        let mut scratch = self.scratches.borrow();
        let what = (packed.codec, packed.header_lanes.kind());
        let header = Header::new(what, Placement::Packed, stamp, raw, &packed.payload)?;
        self.write_frame(&mut scratch.frame, &header, &packed.payload)
    }

    pub(super) fn load_piece(&self, place: &Place, out: &mut [u8]) -> Result<(), Error> {
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
        if frame.placement == Placement::OwnPages && frame.sealed.is_none() {
            return read_raw(backend, at, frame.stamp, &mut scratch, out);
        }
        let buffer = scratch.frame.first(frame.frame_bytes);
        backend.read_at(at, buffer)?;
        match (&frame.sealed, &self.key) {
            (Some(sealed), Some(key)) => key.open(sealed, buffer)?,
            (None, _) => {}
            (Some(_), None) => return corrupt("the piece is sealed and there is no key"),
        }
        restore(buffer, frame.stamp, out)
    }

    pub(super) fn free(&self, piece: Piece) {
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
                    self.give_back(backend, frame.extent);
                }
            }
        }
    }

    fn give_back(&self, backend: &dyn Backend, extent: Extent) {
        // Before anybody else can have it.
        backend.forget(extent);
        unpoisoned(self.space.lock()).give_back(backend, extent);
    }
}

/// Reads the frame of a raw piece at `at`: into its own pages where the disk takes them, else
/// through a buffer.
fn read_raw(
    backend: &dyn Backend,
    at: u64,
    stamp: Stamp,
    scratch: &mut Scratch,
    out: &mut [u8],
) -> Result<(), Error> {
    let Scratch { head, frame: buffer, .. } = scratch;
    let mut parts = checksum::Parts::new();
    let payload_at = at + FRAME_ALIGN_BYTES as u64;
    if is_aligned(out) {
        let (front, tail) = out.split_at_mut(front_bytes(out.len(), READ_FRONT_QUARTERS));
        backend.read_both_at(at, head, front)?;
        let tail_at = payload_at + front.len() as u64;
        if tail.is_empty() {
            parts.add(front);
        } else {
            backend.read_while(tail_at, tail, &mut || parts.add(front))?;
            parts.add(tail);
        }
    } else {
        backend.read_at(at, head)?;
        read_through(backend, payload_at, buffer, out)?;
        parts.add(out);
    }
    let header = Header::read(head)?;
    header.expect(stamp)?;
    if header.codec() != CodecId::Raw || header.placement() != Placement::OwnPages {
        return corrupt("the header is not that of a raw piece");
    }
    if head[HEADER_BYTES..].iter().any(|byte| *byte != 0) {
        return corrupt("the frame's gap is not zero");
    }
    header.check(out.len(), parts.checksum())
}

/// Reads a part of a payload at `at` through a buffer that holds less of it.
fn read_through(
    backend: &dyn Backend,
    mut at: u64,
    buffer: &mut FrameBuffer,
    out: &mut [u8],
) -> Result<(), Error> {
    for part in out.chunks_mut(FRAME_RAW_BYTES) {
        let stored = buffer.first(part.len().next_multiple_of(FRAME_ALIGN_BYTES));
        backend.read_at(at, stored)?;
        at += stored.len() as u64;
        let (bytes, padding) = stored.split_at(part.len());
        if padding.iter().any(|byte| *byte != 0) {
            return corrupt("the frame's padding is not zero");
        }
        part.copy_from_slice(bytes);
    }
    Ok(())
}

/// Whether the disk takes a piece from where it is.
fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(FRAME_ALIGN_BYTES)
        && bytes.len().is_multiple_of(FRAME_ALIGN_BYTES)
}
