//! What was saved: pieces, each packed in RAM or in the file.

use super::inner::{Inner, Tier};
use crate::Error;
use crate::checksum::checksum;
use crate::codec::{CodecId, LaneSpec};
use crate::error::corrupt;
use crate::extent::Extent;
use crate::frame::{Placement, Stamp};
use crate::seal::Sealed;
use std::sync::Arc;

/// A piece in the file.
pub(super) struct SavedFrame {
    pub(super) extent: Extent,
    pub(super) frame_bytes: usize,
    pub(super) stamp: Stamp,
    pub(super) placement: Placement,
    pub(super) sealed: Option<Sealed>,
}

/// A piece packed in RAM.
pub(super) struct Packed {
    pub(super) codec: CodecId,
    pub(super) header_lanes: LaneSpec,
    pub(super) payload: Box<[u8]>,
    pub(super) checksum: u64,
}

pub(super) enum Place {
    Packed(Packed),
    File(SavedFrame),
}

pub(super) struct Piece {
    pub(super) raw_bytes: usize,
    pub(super) place: Place,
}

/// Bytes that were saved: the only way to load them. Dropped, it frees what they take.
pub struct Saved {
    pub(super) store: Arc<Inner>,
    pub(super) raw_bytes: usize,
    pub(super) owner: u64,
    /// Raw bytes of every piece but the last.
    pub(super) piece_bytes: usize,
    pub(super) pieces: Vec<Piece>,
}

impl std::fmt::Debug for Saved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saved")
            .field("raw_bytes", &self.raw_bytes)
            .field("tier", &self.tier())
            .finish_non_exhaustive()
    }
}

impl Saved {
    /// Returns where the bytes are.
    #[must_use]
    pub fn tier(&self) -> Tier {
        let packed = |piece: &Piece| matches!(piece.place, Place::Packed(_));
        if self.pieces.iter().all(packed) { Tier::Packed } else { Tier::Spilled }
    }

    /// Returns how many bytes were saved.
    #[must_use]
    pub fn raw_bytes(&self) -> usize {
        self.raw_bytes
    }

    /// Returns how many of them are packed in RAM.
    #[must_use]
    pub fn packed_raw_bytes(&self) -> usize {
        let packed = self.pieces.iter().filter(|p| matches!(p.place, Place::Packed(_)));
        packed.map(|piece| piece.raw_bytes).sum()
    }

    /// Returns how many bytes they take in RAM now.
    #[must_use]
    pub fn packed_bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.place.packed_bytes()).sum()
    }

    /// Returns about how many bytes of this machine's memory they take now: packed, or in zram.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let spilled = |piece: &Piece| match (&piece.place, &self.store.backend) {
            (Place::File(frame), Some(backend)) => backend.memory_bytes(frame.extent.bytes()),
            _ => 0,
        };
        let spilled: u64 = self.pieces.iter().map(spilled).sum();
        self.packed_bytes().saturating_add(spilled as usize)
    }

    /// Returns how many bytes they take now, in RAM and in the file.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        let stored = |piece: &Piece| match &piece.place {
            Place::Packed(packed) => packed.payload.len() as u64,
            Place::File(frame) => frame.extent.bytes(),
        };
        self.pieces.iter().map(stored).sum()
    }

    pub(super) fn stamp(&self, number: usize) -> Stamp {
        Stamp { owner: self.owner, generation: number as u64 }
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        for piece in self.pieces.drain(..) {
            self.store.free(piece);
        }
    }
}

impl Place {
    pub(super) fn packed_bytes(&self) -> usize {
        match self {
            Place::Packed(packed) => packed.payload.len(),
            Place::File(_) => 0,
        }
    }
}

impl Packed {
    /// Memory is checked as the disk is: a bit that flips there would be a wrong proof too.
    pub(super) fn check(&self) -> Result<(), Error> {
        match checksum(&self.payload) == self.checksum {
            true => Ok(()),
            false => corrupt("a packed piece changed in memory"),
        }
    }
}
