//! One piece: where it goes, how it is written and read, how it is freed.
//!
//! ```text
//!   save_piece --> packed in RAM
//!              `-> write_raw | write_frame -> write: room, request, poison --> Frame
//!   load_piece <-- packed, or read, opened, checked, decoded
//!   free       --> room or memory given back, memory wiped first
//! ```
//!
//! Invariants:
//!
//! * a piece holds one set of scratch buffers at most, and asks for no second while it has one.
//! * an error keeps nothing: the extent is given back before the error is returned.
//! * `packed_bytes` equals the payloads of the packed pieces, and so does what the ledger has of
//!   them, charged and settled alike.
//!
//! Never: hold a lock while a frame is written or read; hand out bytes that were not checked.

use super::saved::{Frame, Packed, Piece, Place};
use super::{Content, Inner, Tiers, lock};
use crate::Error;
use crate::backend::{AlignedBytes, Backend};
use crate::checksum::{self, checksum};
use crate::codec::{CodecId, LaneSpec, decode, encode};
use crate::error::corrupt;
use crate::frame::{FRAME_ALIGN_BYTES, HEADER_BYTES, Header, Placement, Stamp, restore};
use crate::scratch::{FRAME_RAW_BYTES, Scratch};
use crate::seal::Sealed;
use std::sync::atomic::Ordering;
use zeroize::Zeroize;

/// A piece is packed in RAM if that takes at most this share of it, in quarters.
const WORTH_PACKING_QUARTERS: usize = 3;

/// Most bytes of a piece that is written from its own pages: the disk is a fifth faster than with
/// pieces of 512 KiB (`cargo bench --bench spill`).
const RAW_PIECE_BYTES: usize = 2 << 20;

/// Bytes of a raw piece that are read at a time: while they are checked, the disk reads for another
/// thread.
const READ_PART_BYTES: usize = 1 << 20;
const _: () = assert!(READ_PART_BYTES.is_multiple_of(FRAME_RAW_BYTES));

impl Inner {
    /// How long the pieces of a vector are: two at least, so that two threads can share them.
    pub(super) fn piece_bytes(&self, bytes: &[u8], content: Content) -> usize {
        let as_it_is = content == Content::Uniform && self.key.is_none() && is_aligned(bytes);
        let most = if as_it_is { RAW_PIECE_BYTES } else { FRAME_RAW_BYTES };
        let half = (bytes.len() / 2).next_multiple_of(FRAME_ALIGN_BYTES);
        half.clamp(FRAME_RAW_BYTES, most)
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
    pub(super) fn write_packed(
        &self,
        packed: &Packed,
        raw: usize,
        stamp: Stamp,
    ) -> Result<Frame, Error> {
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
        let buffer = &mut scratch.frame[..frame.frame_bytes];
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
                    lock(&self.space).give_back(backend, frame.extent);
                }
            }
        }
    }
}

/// Reads the frame of a raw piece at `at`, a part at a time: into its own pages where the disk
/// takes them, else through a buffer.
fn read_raw(
    backend: &dyn Backend,
    at: u64,
    stamp: Stamp,
    scratch: &mut Scratch,
    out: &mut [u8],
) -> Result<(), Error> {
    let Scratch { head, frame: buffer, .. } = scratch;
    let into_place = is_aligned(out);
    let mut parts = checksum::Parts::new();
    let mut from = at + FRAME_ALIGN_BYTES as u64;
    for (number, part) in out.chunks_mut(READ_PART_BYTES).enumerate() {
        match (into_place, number) {
            (true, 0) => backend.read_both_at(at, head, part)?,
            (true, _) => backend.read_at(from, part)?,
            (false, _) => {
                if number == 0 {
                    backend.read_at(at, head)?;
                }
                read_through(backend, from, buffer, part)?;
            }
        }
        from += part.len() as u64;
        parts.add(part);
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
    buffer: &mut AlignedBytes,
    out: &mut [u8],
) -> Result<(), Error> {
    for part in out.chunks_mut(FRAME_RAW_BYTES) {
        let stored = &mut buffer[..part.len().next_multiple_of(FRAME_ALIGN_BYTES)];
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
