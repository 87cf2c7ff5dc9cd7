//! A lane and its value: what packing needs to know of an element type.
//!
//! ```text
//!   lane (bytes in memory) -- open --> value (N limbs, mostly small) -- close --> lane
//! ```
//!
//! Plain integers are their own value; a field's lanes leave Montgomery form. `open` makes the
//! round trip and compares, so nothing above has to trust a field's arithmetic: for a lane that
//! would come back changed (not canonical, or no element at all) there is no value. The short way
//! for small values proves the same by a comparison with the modulus; see `field`.
//!
//! Invariant: `open(lane) = Some(v)` implies `close(v) = lane`.
//!
//! Must never: panic, for any lane of `BYTES` bytes or any value.

use super::field::{Field32Spec, FieldSpec, LIMBS};

/// How a lane becomes a value of `N` limbs, and back.
pub(crate) trait Lane<const N: usize> {
    /// Bytes of a lane: at most 32.
    const BYTES: usize;

    /// The value whose `close` is this lane, if there is one.
    fn open(&self, lane: &[u8]) -> Option<[u64; N]>;

    /// The value if it is one limb and quickly found: then its `close` is this lane. `None` says
    /// nothing.
    fn open_small(&self, lane: &[u8]) -> Option<u64>;

    /// [`Self::open_small`] of all lanes; `false`, and values of no meaning, if one has none.
    #[inline(always)]
    fn open_all_small(&self, lanes: &[u8], values: &mut [u64]) -> bool {
        lanes.chunks_exact(Self::BYTES).zip(values).all(|(lane, value)| {
            let small = self.open_small(lane);
            *value = small.unwrap_or(0);
            small.is_some()
        })
    }

    /// The value without the round trip: for estimates, where a wrong one costs only ratio.
    fn guess(&self, lane: &[u8]) -> Option<[u64; N]> {
        self.open(lane)
    }

    /// Writes the lane of a value; any value is taken, what is above the lane's range is lost.
    fn close(&self, value: [u64; N], lane: &mut [u8]);

    /// [`Self::close`] of a value of one limb.
    fn close_small(&self, value: u64, lane: &mut [u8]);
}

/// Lanes that are their own value: up to 8 bytes, little-endian.
pub(crate) struct Plain<const BYTES: usize>;

impl<const BYTES: usize> Lane<1> for Plain<BYTES> {
    const BYTES: usize = BYTES;

    #[inline(always)]
    fn open_small(&self, lane: &[u8]) -> Option<u64> {
        Some(word(lane))
    }

    #[inline(always)]
    fn open(&self, lane: &[u8]) -> Option<[u64; 1]> {
        Some([word(lane)])
    }

    #[inline(always)]
    fn close(&self, [value]: [u64; 1], lane: &mut [u8]) {
        self.close_small(value, lane);
    }

    #[inline(always)]
    fn close_small(&self, value: u64, lane: &mut [u8]) {
        lane.copy_from_slice(&value.to_le_bytes()[..BYTES]);
    }
}

/// Lanes of 32 bytes that are their own value, little-endian.
pub(crate) struct Wide;

impl Lane<LIMBS> for Wide {
    const BYTES: usize = 32;

    #[inline(always)]
    fn open(&self, lane: &[u8]) -> Option<[u64; LIMBS]> {
        Some(limbs(lane))
    }

    #[inline(always)]
    fn open_small(&self, lane: &[u8]) -> Option<u64> {
        let value = limbs(lane);
        is_small(&value).then_some(value[0])
    }

    #[inline(always)]
    fn close(&self, value: [u64; LIMBS], lane: &mut [u8]) {
        store(value, lane);
    }

    #[inline(always)]
    fn close_small(&self, value: u64, lane: &mut [u8]) {
        store([value, 0, 0, 0], lane);
    }
}

impl Lane<1> for Field32Spec {
    const BYTES: usize = 4;

    #[inline(always)]
    fn open(&self, lane: &[u8]) -> Option<[u64; 1]> {
        self.open_small(lane).map(|value| [value])
    }

    #[inline(always)]
    fn open_small(&self, lane: &[u8]) -> Option<u64> {
        let lane = word(lane) as u32;
        let value = self.leave(lane);
        (self.enter(value) == lane).then_some(u64::from(value))
    }

    #[inline(always)]
    fn open_all_small(&self, lanes: &[u8], values: &mut [u64]) -> bool {
        self.leave_all(lanes, values)
    }

    #[inline(always)]
    fn close(&self, [value]: [u64; 1], lane: &mut [u8]) {
        self.close_small(value, lane);
    }

    #[inline(always)]
    fn close_small(&self, value: u64, lane: &mut [u8]) {
        lane.copy_from_slice(&self.enter(value as u32).to_le_bytes());
    }
}

impl Lane<LIMBS> for FieldSpec {
    const BYTES: usize = 32;

    #[inline(always)]
    fn open(&self, lane: &[u8]) -> Option<[u64; LIMBS]> {
        let lane = limbs(lane);
        let value = self.leave(lane);
        let again = match value {
            [small, 0, 0, 0] => self.enter_small(small),
            _ => self.enter(value),
        };
        (again == lane).then_some(value)
    }

    #[inline(always)]
    fn open_small(&self, lane: &[u8]) -> Option<u64> {
        self.leave_small(limbs(lane))
    }

    #[inline(always)]
    fn guess(&self, lane: &[u8]) -> Option<[u64; LIMBS]> {
        Some(self.leave(limbs(lane)))
    }

    #[inline(always)]
    fn close(&self, value: [u64; LIMBS], lane: &mut [u8]) {
        store(self.enter(value), lane);
    }

    #[inline(always)]
    fn close_small(&self, value: u64, lane: &mut [u8]) {
        store(self.enter_small(value), lane);
    }
}

/// Up to eight bytes, little-endian, as a word.
#[inline(always)]
pub(crate) fn word(bytes: &[u8]) -> u64 {
    if let Ok(eight) = <[u8; 8]>::try_from(bytes) {
        return u64::from_le_bytes(eight);
    }
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return u64::from(u32::from_le_bytes(four));
    }
    bytes.iter().take(8).rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

#[inline(always)]
pub(crate) fn limbs(lane: &[u8]) -> [u64; LIMBS] {
    let mut limbs = [0; LIMBS];
    for (limb, bytes) in limbs.iter_mut().zip(lane.chunks_exact(8)) {
        *limb = word(bytes);
    }
    limbs
}

#[inline(always)]
fn store(limbs: [u64; LIMBS], lane: &mut [u8]) {
    for (limb, bytes) in limbs.iter().zip(lane.chunks_exact_mut(8)) {
        bytes.copy_from_slice(&limb.to_le_bytes());
    }
}

#[inline(always)]
pub(crate) fn bytes_of<const N: usize>(value: &[u64; N]) -> [u8; 8 * LIMBS] {
    let mut bytes = [0; 8 * LIMBS];
    for (limb, slot) in value.iter().zip(bytes.chunks_exact_mut(8)) {
        slot.copy_from_slice(&limb.to_le_bytes());
    }
    bytes
}

#[inline(always)]
pub(crate) fn is_small<const N: usize>(value: &[u64; N]) -> bool {
    value[1..].iter().all(|&limb| limb == 0)
}

/// Bits of a value: 0 for 0, 64 at most.
#[inline(always)]
pub(crate) fn bits(value: u64) -> usize {
    (u64::BITS - value.leading_zeros()) as usize
}
