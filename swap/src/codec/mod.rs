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
mod lanes;
pub(crate) mod out;
mod pack;
mod shuffle;
mod spec;
#[cfg(test)]
mod tests;
mod unpack;

use std::fmt;

pub use self::choose::is_uniform;
use self::choose::{Choice, choose};
pub(crate) use self::lanes::{GROUP_BYTES_MAX, estimate_lanes, pack_lanes, unpack_lanes};
use self::spec::LANE_BYTES_MAX;
pub use self::spec::{CodecId, LaneKind, LaneSpec};
use crate::Error;
use crate::error::corrupt;

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
