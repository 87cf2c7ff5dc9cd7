//! Groups back into lanes: the decoder of the shapes that `pack` describes.
//!
//! ```text
//!   tag -> shape -> lengths, from the output's own length -> lanes -> exceptions over them
//! ```
//!
//! The bytes may come from a disk, so they are hostile: every length is checked against what is
//! left, an index against its group, and nothing is allocated. Narrow widths go through a table of
//! at most 256 lanes, so that a column of bits or bytes costs a copy a lane, not a multiplication.
//!
//! Invariant: `unpack` consumes exactly the groups of `out`, or says [`Error::Corrupt`].
//!
//! Must never: panic, allocate, or trust a count.

use super::lane::{Lane, word};
use super::pack::{
    BASE_BYTES, GROUP_LANES, INDEX_BYTES, TAG_BITS_MAX, TAG_BYTES_MAX, TAG_BYTES_OFFSET, TAG_SAME,
    TAG_VERBATIM,
};
use super::spec::LANE_BYTES_MAX;
use crate::Error;
use crate::error::corrupt;

/// Widths up to this many bits decode through a table of lanes.
const TABLE_BITS_MAX: usize = 8;

/// Widths up to this many bits are read as one word from any bit of a byte on.
const WORD_BITS_MAX: usize = 64 - 7;

/// Fills `out`, a whole number of lanes, from the groups at the front of `input`; returns the rest.
///
/// # Errors
///
/// [`Error::Corrupt`] if the groups end early or break a rule.
pub(crate) fn unpack<'a, const N: usize, L: Lane<N>>(
    lane: &L,
    mut input: &'a [u8],
    out: &mut [u8],
) -> Result<&'a [u8], Error> {
    for group in out.chunks_mut(GROUP_LANES * L::BYTES) {
        input = unpack_group(lane, input, group)?;
    }
    Ok(input)
}

fn unpack_group<'a, const N: usize, L: Lane<N>>(
    lane: &L,
    mut input: &'a [u8],
    group: &mut [u8],
) -> Result<&'a [u8], Error> {
    let lanes = group.len() / L::BYTES;
    let tag = take(&mut input, 1)?[0];
    match tag {
        TAG_SAME => {
            let same = take(&mut input, L::BYTES)?;
            group.chunks_exact_mut(L::BYTES).for_each(|slot| slot.copy_from_slice(same));
            return Ok(input);
        }
        TAG_VERBATIM => {
            group.copy_from_slice(take(&mut input, group.len())?);
            return Ok(input);
        }
        _ => {}
    }
    let exceptions = word(take(&mut input, INDEX_BYTES)?) as usize;
    if tag <= TAG_BITS_MAX {
        let width = usize::from(tag);
        let base = word(take(&mut input, BASE_BYTES)?);
        let packed = take(&mut input, (lanes * width).div_ceil(8))?;
        unpack_bits(lane, packed, width, base, group);
    } else if tag <= TAG_BYTES_MAX && usize::from(tag - TAG_BYTES_OFFSET) < L::BYTES {
        let width = usize::from(tag - TAG_BYTES_OFFSET);
        let packed = take(&mut input, lanes * width)?;
        for (bytes, slot) in packed.chunks_exact(width).zip(group.chunks_exact_mut(L::BYTES)) {
            let mut value = [0; N];
            for (limb, bytes) in value.iter_mut().zip(bytes.chunks(8)) {
                *limb = word(bytes);
            }
            lane.close(value, slot);
        }
    } else {
        return corrupt("a group's tag is unknown");
    }
    if exceptions > lanes {
        return corrupt("a group has more exceptions than lanes");
    }
    let listed = take(&mut input, exceptions * (INDEX_BYTES + L::BYTES))?;
    for exception in listed.chunks_exact(INDEX_BYTES + L::BYTES) {
        let (index, bytes) = exception.split_at(INDEX_BYTES);
        match group.chunks_exact_mut(L::BYTES).nth(word(index) as usize) {
            Some(slot) => slot.copy_from_slice(bytes),
            None => return corrupt("an exception is outside its group"),
        }
    }
    Ok(input)
}

/// Lanes of `base + residual`; narrow ones through a table, where it pays.
fn unpack_bits<const N: usize, L: Lane<N>>(
    lane: &L,
    packed: &[u8],
    width: usize,
    base: u64,
    group: &mut [u8],
) {
    let lanes = group.len() / L::BYTES;
    if width <= TABLE_BITS_MAX && lanes >= 2 << width {
        let mut table = [[0u8; LANE_BYTES_MAX]; 1 << TABLE_BITS_MAX];
        for (residual, slot) in table[..1 << width].iter_mut().enumerate() {
            lane.close_small(base.wrapping_add(residual as u64), &mut slot[..L::BYTES]);
        }
        // A residual is below 2^width, so below the table's 256.
        each_bits(width, packed, group.chunks_exact_mut(L::BYTES), |residual, slot| {
            slot.copy_from_slice(&table[residual as usize & 0xff][..L::BYTES]);
        });
    } else {
        each_bits(width, packed, group.chunks_exact_mut(L::BYTES), |residual, slot| {
            lane.close_small(base.wrapping_add(residual), slot);
        });
    }
}

/// Calls `each` with the next `width` bits for every slot; bits past the end read as 0.
#[inline(always)]
fn each_bits<'a>(
    width: usize,
    packed: &[u8],
    mut slots: impl Iterator<Item = &'a mut [u8]>,
    mut each: impl FnMut(u64, &'a mut [u8]),
) {
    let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
    let mut packed = packed;
    // Eight lanes are `width` bytes. Each is read as the word that begins in its first byte, so
    // that none waits for the one before.
    while width <= WORD_BITS_MAX && packed.len() >= width + 8 {
        for (lane, slot) in slots.by_ref().take(8).enumerate() {
            let (byte, bit) = (lane * width / 8, lane * width % 8);
            each(word(&packed[byte..byte + 8]) >> bit & mask, slot);
        }
        packed = &packed[width..];
    }
    let mut words = packed.chunks(8);
    let mut pending = 0u128;
    let mut filled = 0;
    for slot in slots {
        if filled < width {
            pending |= u128::from(words.next().map_or(0, word)) << filled;
            filled += 64;
        }
        each(pending as u64 & mask, slot);
        pending >>= width;
        filled -= width;
    }
}

/// Cuts `bytes` from the front of `input`.
///
/// # Errors
///
/// [`Error::Corrupt`] if there are fewer.
pub(crate) fn take<'a>(input: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], Error> {
    match input.split_at_checked(bytes) {
        Some((front, rest)) => {
            *input = rest;
            Ok(front)
        }
        None => corrupt("the payload ends early"),
    }
}
