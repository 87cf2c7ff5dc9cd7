//! The frame: a payload with a header that tells what it is and whether it is whole.
//!
//! ```text
//!   0        64              offset                 offset + payload        frame
//!   | header | zeros, if any | payload              | zeros                 |
//!              offset is 64: copied behind its header; or 4096: written from its own pages
//! ```
//!
//! docs/spill-format.md gives every byte. This is the pure part: bytes in, bytes out, no file.
//!
//! Invariants:
//!
//! * `frame_bytes = round_up(payload_offset + payload_bytes, 4096)`.
//! * every bit of a frame is under a checksum or must be zero, so any flip is `Corrupt`.
//! * `payload_bytes <= raw_bytes`, as every codec gives.
//! * a header read back equals the one written, and names its owner and generation: a frame that
//!   was lost or misplaced is found although it is whole.
//!
//! Must never: allocate, panic on what is read, or use a field before the header's checksum has
//! been compared. The checksum (xxh3-64, xxhash.com) finds accidents, not forgery.

use crate::checksum::checksum;

use crate::Error;
use crate::codec::{CodecId, LaneKind};
use crate::error::corrupt;

/// First bytes of every frame.
pub const MAGIC: [u8; 4] = *b"PLSF";

/// The format that this build writes, and the only one it reads.
pub const VERSION: u16 = 1;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;

/// A frame is a multiple of this: what `O_DIRECT` asks of any disk.
pub const FRAME_ALIGN_BYTES: usize = 4096;

const CHECKED_BYTES: usize = 56;
const _: () = assert!(CHECKED_BYTES + 8 == HEADER_BYTES && HEADER_BYTES <= FRAME_ALIGN_BYTES);

/// Where a frame's payload starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// At 64, right behind the header: for a payload that was copied there.
    Packed,
    /// At 4096: for a payload that is written from pages of its own.
    OwnPages,
}

impl Placement {
    /// Bytes from the frame's start to the payload.
    pub fn offset_bytes(self) -> usize {
        match self {
            Self::Packed => HEADER_BYTES,
            Self::OwnPages => FRAME_ALIGN_BYTES,
        }
    }
}

/// What a frame's header says. From [`Header::read`] it is proof that the header was whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    codec: CodecId,
    lanes: LaneKind,
    placement: Placement,
    raw_bytes: u64,
    payload_bytes: u64,
    stamp: Stamp,
    payload_checksum: u64,
}

/// Which vector a frame holds, and which part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The vector's number, never used twice in a store.
    pub owner: u64,
    /// Tells the vector's frames apart: the store numbers its pieces.
    pub generation: u64,
}

impl Header {
    /// The header of `payload`, which `codec` made of `raw_bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Frame`] if the payload is longer than the raw bytes.
    pub fn new(
        (codec, lanes): (CodecId, LaneKind),
        placement: Placement,
        stamp: Stamp,
        raw_bytes: usize,
        payload: &[u8],
    ) -> Result<Self, Error> {
        if payload.len() > raw_bytes {
            return Err(Error::Frame { why: "the payload is longer than the raw bytes" });
        }
        Ok(Self {
            codec,
            lanes,
            placement,
            raw_bytes: raw_bytes as u64,
            payload_bytes: payload.len() as u64,
            stamp,
            payload_checksum: checksum(payload),
        })
    }

    /// How the payload is decoded.
    pub fn codec(&self) -> CodecId {
        self.codec
    }

    /// The kind of lanes the vector had.
    pub fn lanes(&self) -> LaneKind {
        self.lanes
    }

    /// Where the payload starts.
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// Whose frame it is.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Bytes after decoding.
    pub fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    /// Bytes of the payload.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Bytes of the frame with its padding: what an extent for it must have.
    pub fn frame_bytes(&self) -> u64 {
        // `read` and `new` keep the payload far enough from the end of 64 bits.
        let end = self.payload_bytes.saturating_add(self.placement.offset_bytes() as u64);
        end.div_ceil(FRAME_ALIGN_BYTES as u64).saturating_mul(FRAME_ALIGN_BYTES as u64)
    }

    /// The header's bytes.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[6] = self.codec as u8;
        bytes[7] = self.lanes as u8;
        bytes[8..16].copy_from_slice(&self.raw_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.stamp.owner.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.stamp.generation.to_le_bytes());
        bytes[40..44].copy_from_slice(&(self.placement.offset_bytes() as u32).to_le_bytes());
        bytes[48..56].copy_from_slice(&self.payload_checksum.to_le_bytes());
        let checksum = checksum(&bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the header at the front of `frame`; the rest is not looked at.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if it is short, damaged, or breaks a rule of the format;
    /// [`Error::Version`] if it is whole and of another version.
    pub fn read(frame: &[u8]) -> Result<Self, Error> {
        let Some(bytes) = frame.first_chunk::<HEADER_BYTES>() else {
            return corrupt("the frame is shorter than its header");
        };
        if checksum(&bytes[..CHECKED_BYTES]) != number(&bytes[CHECKED_BYTES..]) {
            return corrupt("the header's checksum differs");
        }
        if bytes[..4] != MAGIC {
            return corrupt("the frame does not start with its magic");
        }
        let version = number(&bytes[4..6]) as u16;
        if version != VERSION {
            return Err(Error::Version { found: version, expected: VERSION });
        }
        let placement = match number(&bytes[40..44]) as usize {
            HEADER_BYTES => Placement::Packed,
            FRAME_ALIGN_BYTES => Placement::OwnPages,
            _ => return corrupt("the payload's offset is neither 64 nor 4096"),
        };
        if number(&bytes[44..48]) != 0 {
            return corrupt("the reserved bytes are not zero");
        }
        let header = Self {
            codec: CodecId::try_from(bytes[6])?,
            lanes: LaneKind::try_from(bytes[7])?,
            placement,
            raw_bytes: number(&bytes[8..16]),
            payload_bytes: number(&bytes[16..24]),
            stamp: Stamp { owner: number(&bytes[24..32]), generation: number(&bytes[32..40]) },
            payload_checksum: number(&bytes[48..56]),
        };
        if header.payload_bytes > header.raw_bytes || header.raw_bytes > i64::MAX as u64 {
            return corrupt("the lengths cannot be right");
        }
        Ok(header)
    }

    /// That this is the frame which was asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if owner or generation differ: a write was lost or misplaced.
    pub fn expect(&self, stamp: Stamp) -> Result<(), Error> {
        match self.stamp == stamp {
            true => Ok(()),
            false => corrupt("a whole frame of another vector, or an old one, is in its place"),
        }
    }

    /// The payload of `frame`, which starts with this header, after every byte was checked.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the length is not [`Self::frame_bytes`], gap or padding are not zero,
    /// or the payload's checksum differs.
    pub fn payload<'a>(&self, frame: &'a [u8]) -> Result<&'a [u8], Error> {
        if frame.len() as u64 != self.frame_bytes() {
            return corrupt("the frame's length is not what its header says");
        }
        let start = self.placement.offset_bytes();
        // At most the frame's length, so it fits.
        let end = start + self.payload_bytes as usize;
        let is_zero = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
        if !is_zero(&frame[HEADER_BYTES..start]) || !is_zero(&frame[end..]) {
            return corrupt("the frame's gap or padding is not zero");
        }
        if checksum(&frame[start..end]) != self.payload_checksum {
            return corrupt("the payload's checksum differs");
        }
        Ok(&frame[start..end])
    }

    /// That `payload`, which was stored right behind its header without padding, is the one the
    /// header is of: for files that pack frames closely (docs/columns-format.md).
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if placement, length or checksum differ.
    pub fn check_close(&self, payload: &[u8]) -> Result<(), Error> {
        match self.placement {
            Placement::Packed => self.check(payload.len(), checksum(payload)),
            Placement::OwnPages => corrupt("the payload does not follow its header"),
        }
    }

    /// The header's own checksum, which covers the payload's.
    pub fn checksum(&self) -> u64 {
        let bytes = self.to_bytes();
        number(&bytes[CHECKED_BYTES..])
    }

    /// That a payload of `bytes` with this `checksum`, which was read apart from its header, is the
    /// one the header is of.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if length or checksum differ.
    pub(crate) fn check(&self, bytes: usize, checksum: u64) -> Result<(), Error> {
        if bytes as u64 != self.payload_bytes {
            return corrupt("the payload's length is not what its header says");
        }
        match checksum == self.payload_checksum {
            true => Ok(()),
            false => corrupt("the payload's checksum differs"),
        }
    }

    /// Writes the whole frame into `frame`: header, gap, `payload`, padding.
    ///
    /// # Errors
    ///
    /// [`Error::Frame`] if `frame` is not [`Self::frame_bytes`] long, or the payload's length is
    /// not the header's. The payload must be the one given to [`Self::new`]; another of the same
    /// length is found on reading.
    pub fn write(&self, payload: &[u8], frame: &mut [u8]) -> Result<(), Error> {
        if frame.len() as u64 != self.frame_bytes() {
            return Err(Error::Frame { why: "the buffer is not as long as the frame" });
        }
        if payload.len() as u64 != self.payload_bytes {
            return Err(Error::Frame { why: "the payload's length is not the header's" });
        }
        let (front, rest) = frame.split_at_mut(self.placement.offset_bytes());
        front[..HEADER_BYTES].copy_from_slice(&self.to_bytes());
        front[HEADER_BYTES..].fill(0);
        rest[..payload.len()].copy_from_slice(payload);
        rest[payload.len()..].fill(0);
        Ok(())
    }
}

/// Reads a whole frame: header, stamp, every byte; then decodes its payload into `out`.
///
/// # Errors
///
/// [`Error::Corrupt`] if any of them does not hold, or `out` is not `raw_bytes` long;
/// [`Error::Version`] as for [`Header::read`].
pub fn restore(frame: &[u8], stamp: Stamp, out: &mut [u8]) -> Result<(), Error> {
    let header = Header::read(frame)?;
    header.expect(stamp)?;
    let payload = header.payload(frame)?;
    if header.raw_bytes != out.len() as u64 {
        return corrupt("the raw length is not the vector's");
    }
    crate::codec::decode(header.codec, payload, out)
}

/// Up to eight bytes, little-endian.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
