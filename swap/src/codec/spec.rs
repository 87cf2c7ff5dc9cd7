//! What lanes are, and how a payload is to be read: the names that callers and headers use.

use super::field::{Field32Spec, FieldSpec};
use crate::Error;
use crate::error::corrupt;

/// Bytes of the largest lane; also the period that constant bytes without lanes may have.
pub(super) const LANE_BYTES_MAX: usize = 32;

/// What the lanes of some bytes are. Wrong is allowed: it costs ratio, never a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneSpec {
    /// Nothing is known; tried as 8-byte integers.
    Bytes,
    /// Single bytes: small numbers, flags.
    U8,
    /// 2-byte integers, little-endian.
    U16,
    /// 4-byte integers, little-endian.
    U32,
    /// 8-byte integers, little-endian; Goldilocks where it is not in Montgomery form.
    U64,
    /// 32-byte integers, little-endian: values of a large field that are not in Montgomery form,
    /// as circom's witnesses have them.
    U256,
    /// 4-byte Montgomery lanes: BabyBear, KoalaBear.
    Field32(Field32Spec),
    /// 32-byte Montgomery lanes: BN254, BLS12-381.
    Field256(FieldSpec),
}

impl LaneSpec {
    /// Bytes of a lane; 8 where nothing is known.
    pub fn lane_bytes(&self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::U32 | Self::Field32(_) => 4,
            Self::U64 | Self::Bytes => 8,
            Self::U256 | Self::Field256(_) => 32,
        }
    }

    /// The kind alone, without the modulus: what a header keeps.
    pub fn kind(&self) -> LaneKind {
        match self {
            Self::Bytes => LaneKind::Bytes,
            Self::U32 => LaneKind::U32,
            Self::U64 => LaneKind::U64,
            Self::Field32(_) => LaneKind::Field32,
            Self::Field256(_) => LaneKind::Field256,
            Self::U8 => LaneKind::U8,
            Self::U16 => LaneKind::U16,
            Self::U256 => LaneKind::U256,
        }
    }
}

/// A [`LaneSpec`] without its modulus. The numbers are those of the file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum LaneKind {
    /// Nothing is known.
    Bytes = 0,
    /// 4-byte integers.
    U32 = 1,
    /// 8-byte integers.
    U64 = 2,
    /// 4-byte Montgomery lanes.
    Field32 = 3,
    /// 32-byte Montgomery lanes.
    Field256 = 4,
    /// Single bytes.
    U8 = 5,
    /// 2-byte integers.
    U16 = 6,
    /// 32-byte integers.
    U256 = 7,
}

impl LaneKind {
    /// All kinds, each at its number.
    const ALL: [Self; 8] = [
        Self::Bytes,
        Self::U32,
        Self::U64,
        Self::Field32,
        Self::Field256,
        Self::U8,
        Self::U16,
        Self::U256,
    ];
}

impl TryFrom<u8> for LaneKind {
    type Error = Error;

    fn try_from(number: u8) -> Result<Self, Error> {
        match Self::ALL.get(usize::from(number)) {
            Some(&kind) => Ok(kind),
            None => corrupt("the lane kind is unknown"),
        }
    }
}

/// How a payload is to be read. The numbers are those of the file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CodecId {
    /// The bytes themselves.
    Raw = 0,
    /// One period, over and over; no bytes for zero.
    Constant = 1,
    /// Groups of lanes at their narrowest width.
    Packed = 2,
    /// Byte shuffle and LZ4.
    Lz4 = 3,
}

impl TryFrom<u8> for CodecId {
    type Error = Error;

    fn try_from(number: u8) -> Result<Self, Error> {
        match [Self::Raw, Self::Constant, Self::Packed, Self::Lz4].get(usize::from(number)) {
            Some(&codec) => Ok(codec),
            None => corrupt("the codec is unknown"),
        }
    }
}
