//! The codec ladder: the cheapest exact form of some bytes, chosen by looking at a few of them.
//!
//! ```text
//!   one lane over and over ---------------------------------> Constant   0 or one lane
//!   a sample of 8 KiB: lanes pack to 7/8 or less -----------> Packed     groups at their width
//!                      bytes repeat, and LZ4 gains as much -> Lz4        shuffled blocks
//!                      neither ------------------------------> Raw       the input itself
//! ```
//!
//! Uniform data (after a transform, or a random combination) fails both tests ([`is_uniform`] asks
//! for a whole vector) and is not touched again: the answer is `Raw` and borrows the input. A
//! choice that turns out wrong costs ratio: a payload that would not be smaller than the input
//! becomes `Raw`.
//!
//! Invariants:
//!
//! * `decode(c.codec(), c.payload(), out) = Ok` and `out = input`, for `c = encode(.., input, ..)`.
//! * `c.payload().len() <= input.len()`.
//! * same input, same payload: the clusters' places depend on the length alone.
//!
//! A payload describes its lanes itself; the raw length is the caller's to keep (the frame's
//! header does). Must never: panic on a payload, or take a length from it on trust.

mod choose;
pub mod field;
mod lane;
pub(crate) mod out;
mod pack;
mod shuffle;
#[cfg(test)]
mod tests;
mod unpack;

use std::fmt;

pub use self::choose::is_uniform;
use self::choose::{Choice, choose};
use self::field::{Field32Spec, FieldSpec};
use self::lane::{Plain, word};
use self::out::Out;
use crate::Error;
use crate::error::corrupt;

/// The most bytes of a packed group: as many as verbatim, and its tag.
pub(crate) const GROUP_BYTES_MAX: usize = pack::GROUP_LANES * LANE_BYTES_MAX + 1;

/// Bytes of the largest lane; also the period that constant bytes without lanes may have.
const LANE_BYTES_MAX: usize = 32;

/// What the lanes of some bytes are. Wrong is allowed: it costs ratio, never a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneSpec {
    /// Nothing is known; tried as 8-byte integers.
    Bytes,
    /// 4-byte integers, little-endian.
    U32,
    /// 8-byte integers, little-endian; Goldilocks where it is not in Montgomery form.
    U64,
    /// 4-byte Montgomery lanes: BabyBear, KoalaBear.
    Field32(Field32Spec),
    /// 32-byte Montgomery lanes: BN254, BLS12-381.
    Field256(FieldSpec),
}

impl LaneSpec {
    /// Bytes of a lane; 8 where nothing is known.
    pub fn lane_bytes(&self) -> usize {
        match self {
            Self::U32 | Self::Field32(_) => 4,
            Self::U64 | Self::Bytes => 8,
            Self::Field256(_) => 32,
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
}

impl TryFrom<u8> for LaneKind {
    type Error = Error;

    fn try_from(number: u8) -> Result<Self, Error> {
        let kinds = [Self::Bytes, Self::U32, Self::U64, Self::Field32, Self::Field256];
        match kinds.get(usize::from(number)) {
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

/// The outcome of [`encode`]: a codec, and a payload in the scratch or in the input.
#[derive(Clone, Copy)]
pub struct Encoded<'a> {
    codec: CodecId,
    payload: &'a [u8],
}

impl<'a> Encoded<'a> {
    /// How to read the payload.
    pub fn codec(&self) -> CodecId {
        self.codec
    }

    /// The bytes to keep, at most as many as went in. For `Raw` they are the input, not a copy.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

impl fmt::Debug for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.payload.len();
        f.debug_struct("Encoded")
            .field("codec", &self.codec)
            .field("payload_bytes", &bytes)
            .finish()
    }
}

/// The smallest form of `input` that the ladder finds, exact to the bit.
///
/// `scratch` is emptied first; keep it from call to call, and it is allocated once. It holds at
/// most the input and one group (33 KiB) and grows as a `Vec` does, so its capacity may be twice
/// that. Bytes after the last whole lane are kept verbatim.
pub fn encode<'a>(spec: LaneSpec, input: &'a [u8], scratch: &'a mut Vec<u8>) -> Encoded<'a> {
    scratch.clear();
    if let Some(period) = constant(spec, input) {
        return Encoded { codec: CodecId::Constant, payload: period };
    }
    let bytes_max = input.len() - 1;
    let (codec, is_smaller) = match choose(spec, input) {
        Choice::Raw => (CodecId::Raw, false),
        Choice::Packed => (CodecId::Packed, pack_lanes(spec, input, bytes_max, scratch)),
        Choice::Lz4 { stride } => (CodecId::Lz4, shuffle::pack(stride, input, bytes_max, scratch)),
    };
    match is_smaller {
        true => Encoded { codec, payload: scratch },
        false => Encoded { codec: CodecId::Raw, payload: input },
    }
}

/// Fills `out` with the bytes that were encoded; its length is the raw length.
///
/// # Errors
///
/// [`Error::Corrupt`] if the payload is not one of `codec` for this length. `out` is then
/// unspecified. Damage that decodes to other bytes is the frame's checksum to find.
pub fn decode(codec: CodecId, payload: &[u8], out: &mut [u8]) -> Result<(), Error> {
    match codec {
        CodecId::Raw if payload.len() == out.len() => {
            out.copy_from_slice(payload);
            Ok(())
        }
        CodecId::Raw => corrupt("the raw payload's length is not the raw length"),
        CodecId::Constant => repeat(payload, out),
        CodecId::Packed => unpack_lanes(payload, out),
        CodecId::Lz4 => shuffle::unpack(payload, out),
    }
}

/// The period of `input` if it repeats from the first lane on: empty for zero.
fn constant(spec: LaneSpec, input: &[u8]) -> Option<&[u8]> {
    let period = match spec {
        LaneSpec::Bytes => LANE_BYTES_MAX,
        _ => spec.lane_bytes(),
    };
    let period = period.min(input.len());
    if input[period..] != input[..input.len() - period] {
        return None;
    }
    let is_zero = input[..period].iter().all(|&byte| byte == 0);
    if is_zero {
        return Some(&[]);
    }
    // A period as long as the input is the input, which is Raw's.
    (period < input.len()).then_some(&input[..period])
}

fn repeat(period: &[u8], out: &mut [u8]) -> Result<(), Error> {
    if period.is_empty() {
        out.fill(0);
        return Ok(());
    }
    if period.len() > LANE_BYTES_MAX || period.len() >= out.len() {
        return corrupt("the period is longer than a lane or than the raw bytes");
    }
    for slot in out.chunks_mut(period.len()) {
        slot.copy_from_slice(&period[..slot.len()]);
    }
    Ok(())
}

/// Bytes that packing would take for these few lanes, the groups' headers left out.
pub(crate) fn estimate_lanes(spec: LaneSpec, cluster: &[u8]) -> usize {
    match spec {
        LaneSpec::Bytes | LaneSpec::U64 => pack::estimate(&Plain::<8>, cluster),
        LaneSpec::U32 => pack::estimate(&Plain::<4>, cluster),
        LaneSpec::Field32(field) => pack::estimate(&field, cluster),
        LaneSpec::Field256(field) => pack::estimate(&field, cluster),
    }
}

/// Appends `kind u8 | modulus | groups | bytes after the last lane`; see docs/spill-format.md.
pub(crate) fn pack_lanes(
    spec: LaneSpec,
    input: &[u8],
    bytes_max: usize,
    out: &mut impl Out,
) -> bool {
    let (lanes, tail) = input.split_at(input.len() - input.len() % spec.lane_bytes());
    let kind = if spec == LaneSpec::Bytes { LaneKind::U64 } else { spec.kind() };
    out.push(kind as u8);
    let is_smaller = match spec {
        LaneSpec::Bytes | LaneSpec::U64 => pack::pack(&Plain::<8>, lanes, bytes_max, out),
        LaneSpec::U32 => pack::pack(&Plain::<4>, lanes, bytes_max, out),
        LaneSpec::Field32(field) => {
            out.extend_from_slice(&field.modulus().to_le_bytes());
            pack::pack(&field, lanes, bytes_max, out)
        }
        LaneSpec::Field256(field) => {
            field.modulus().iter().for_each(|limb| out.extend_from_slice(&limb.to_le_bytes()));
            pack::pack(&field, lanes, bytes_max, out)
        }
    };
    out.extend_from_slice(tail);
    is_smaller && out.len() <= bytes_max
}

pub(crate) fn unpack_lanes(mut payload: &[u8], out: &mut [u8]) -> Result<(), Error> {
    let kind = LaneKind::try_from(unpack::take(&mut payload, 1)?[0])?;
    let spec = match kind {
        LaneKind::Bytes => return corrupt("packed lanes are of no kind"),
        LaneKind::U32 => LaneSpec::U32,
        LaneKind::U64 => LaneSpec::U64,
        LaneKind::Field32 => match Field32Spec::new(word(unpack::take(&mut payload, 4)?) as u32) {
            Ok(field) => LaneSpec::Field32(field),
            Err(_) => return corrupt("the stored modulus is no field's"),
        },
        LaneKind::Field256 => match FieldSpec::new(lane::limbs(unpack::take(&mut payload, 32)?)) {
            Ok(field) => LaneSpec::Field256(field),
            Err(_) => return corrupt("the stored modulus is no field's"),
        },
    };
    let whole = out.len() - out.len() % spec.lane_bytes();
    let (lanes, tail) = out.split_at_mut(whole);
    let rest = match spec {
        LaneSpec::Bytes | LaneSpec::U64 => unpack::unpack(&Plain::<8>, payload, lanes)?,
        LaneSpec::U32 => unpack::unpack(&Plain::<4>, payload, lanes)?,
        LaneSpec::Field32(field) => unpack::unpack(&field, payload, lanes)?,
        LaneSpec::Field256(field) => unpack::unpack(&field, payload, lanes)?,
    };
    if rest.len() != tail.len() {
        return corrupt("the bytes after the last group are not the rest of the raw bytes");
    }
    tail.copy_from_slice(rest);
    Ok(())
}
