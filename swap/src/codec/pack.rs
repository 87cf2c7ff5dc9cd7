//! Groups of lanes at the narrowest width, with exceptions.
//!
//! A group is 1024 lanes (the last may be shorter). Each lane is opened to its value (out of
//! Montgomery form, if it has one); the group takes the cheapest of five shapes:
//!
//! ```text
//!   tag 0..=64    | exceptions u16 | base u64 | value - base, tag bits each | exceptions |
//!   tag 65..=87   | exceptions u16 |            value, tag - 56 bytes each  | exceptions |
//!   tag 254       | one lane |                  all lanes are this one
//!   tag 255       | lanes |                     verbatim
//!   an exception  | index u16 | lane |          verbatim; its packed value is 0
//! ```
//!
//! Bits fill bytes from the least significant end; the last byte is filled up with zeros.
//! Frame of reference and exceptions follow Zukowski et al., "Super-Scalar RAM-CPU Cache
//! Compression", ICDE 2006; leaving Montgomery form first is ours.
//!
//! Invariants:
//!
//! * `open(lane) = Some(v)` only if `close(v) = lane`: the round trip is made for every lane while
//!   encoding, so a lane that is not canonical becomes an exception, whatever the field.
//! * a group's bytes <= its verbatim bytes + 1.
//!
//! Must never: append more than one group past `bytes_max`.

use super::lane::{Lane, bits, bytes_of, is_small};

/// Lanes of a group. More: cheaper headers, wider outliers; an exception's index must fit a u16.
pub(crate) const GROUP_LANES: usize = 1024;
const _: () = assert!(GROUP_LANES <= 1 << 16);

/// Lanes that an estimate looks at.
pub(super) const ESTIMATE_LANES_MAX: usize = 128;

/// Lanes looked at before a group is opened in full.
const PROBE_LANES: usize = 16;

pub(super) const TAG_BITS_MAX: u8 = 64;
pub(super) const TAG_BYTES_OFFSET: u8 = 56;
pub(super) const TAG_BYTES_MAX: u8 = 87;
pub(super) const TAG_SAME: u8 = 254;
pub(super) const TAG_VERBATIM: u8 = 255;

/// Bytes of the largest lane.
const LANE_BYTES_MAX: usize = 32;

/// Bytes of the tag and the count of exceptions.
const HEADER_BYTES: usize = 3;
pub(super) const BASE_BYTES: usize = 8;
pub(super) const INDEX_BYTES: usize = 2;

/// What a group's shape will be, and its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    Bits { width: usize, base: u64 },
    Bytes { width: usize },
    Verbatim,
}

/// The values of a group, opened once.
struct Opened<const N: usize, const LANES_MAX: usize> {
    values: [[u64; N]; LANES_MAX],
    canonical: [bool; LANES_MAX],
    lanes: usize,
    /// Least of the canonical values that are one limb.
    base: u64,
}

impl<const N: usize, const LANES_MAX: usize> Opened<N, LANES_MAX> {
    fn blank() -> Self {
        Self {
            values: [[0; N]; LANES_MAX],
            canonical: [false; LANES_MAX],
            lanes: 0,
            base: u64::MAX,
        }
    }

    /// Opens the lanes of `input`; those past `LANES_MAX` are left out.
    fn open(&mut self, lane_bytes: usize, input: &[u8], open: impl Fn(&[u8]) -> Option<[u64; N]>) {
        self.lanes = (input.len() / lane_bytes).min(LANES_MAX);
        self.base = u64::MAX;
        let slots = self.values.iter_mut().zip(&mut self.canonical);
        for (bytes, (slot, canonical)) in input.chunks_exact(lane_bytes).zip(slots) {
            let value = open(bytes);
            *canonical = value.is_some();
            *slot = value.unwrap_or([0; N]);
            if *canonical && is_small(slot) {
                self.base = self.base.min(slot[0]);
            }
        }
    }

    /// The cheapest shape, its bytes, and the lanes that do not fit it.
    fn shape(&self, lane_bytes: usize) -> (Shape, usize, usize) {
        let mut by_bits = [0usize; 65];
        let mut by_bytes = [0usize; LANE_BYTES_MAX + 1];
        for (value, _) in self.values[..self.lanes].iter().zip(&self.canonical).filter(|x| *x.1) {
            if is_small(value) {
                by_bits[bits(value[0].wrapping_sub(self.base))] += 1;
            } else {
                let top = N - 1 - value.iter().rev().take_while(|&&limb| limb == 0).count();
                by_bytes[8 * top + bits(value[top]).div_ceil(8)] += 1;
            }
        }
        let exceptions_bytes = |fits: usize| (self.lanes - fits) * (INDEX_BYTES + lane_bytes);
        let mut best = (Shape::Verbatim, 1 + self.lanes * lane_bytes, 0);
        let mut fits = 0;
        for (width, &count) in by_bits.iter().enumerate().filter(|x| *x.1 > 0) {
            fits += count;
            let packed = (self.lanes * width).div_ceil(8) + exceptions_bytes(fits);
            if HEADER_BYTES + BASE_BYTES + packed < best.1 {
                let shape = Shape::Bits { width, base: self.base };
                best = (shape, HEADER_BYTES + BASE_BYTES + packed, self.lanes - fits);
            }
        }
        for (width, &count) in by_bytes.iter().enumerate().skip(9).filter(|x| *x.1 > 0) {
            fits += count;
            let packed = self.lanes * width + exceptions_bytes(fits);
            if width < lane_bytes && HEADER_BYTES + packed < best.1 {
                best = (Shape::Bytes { width }, HEADER_BYTES + packed, self.lanes - fits);
            }
        }
        best
    }

    /// Whether the lane fits the shape; else it is an exception.
    #[inline(always)]
    fn fits(&self, index: usize, shape: Shape) -> bool {
        let value = &self.values[index];
        self.canonical[index]
            && match shape {
                Shape::Bits { width, base } => {
                    is_small(value) && bits(value[0].wrapping_sub(base)) <= width
                }
                Shape::Bytes { width } => bytes_of(value)[width..].iter().all(|&byte| byte == 0),
                Shape::Verbatim => false,
            }
    }
}

/// Bytes that packing would take for these few lanes, their header left out.
pub(crate) fn estimate<const N: usize, L: Lane<N>>(lane: &L, sample: &[u8]) -> usize {
    let mut opened = Opened::<N, ESTIMATE_LANES_MAX>::blank();
    opened.open(L::BYTES, sample, |bytes| lane.guess(bytes));
    let (shape, bytes, _) = opened.shape(L::BYTES);
    match shape {
        Shape::Bits { .. } => bytes - HEADER_BYTES - BASE_BYTES,
        Shape::Bytes { .. } => bytes - HEADER_BYTES,
        Shape::Verbatim => bytes - 1,
    }
}

/// Appends all groups of `input`, a whole number of lanes.
///
/// `false`: the payload would pass `bytes_max`; what was appended is of no use.
pub(crate) fn pack<const N: usize, L: Lane<N>>(
    lane: &L,
    input: &[u8],
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> bool {
    let mut opened = Opened::blank();
    input.chunks(GROUP_LANES * L::BYTES).all(|group| {
        pack_group(lane, group, &mut opened, out);
        out.len() <= bytes_max
    })
}

fn pack_group<const N: usize, L: Lane<N>>(
    lane: &L,
    group: &[u8],
    opened: &mut Opened<N, GROUP_LANES>,
    out: &mut Vec<u8>,
) {
    if group[L::BYTES..] == group[..group.len() - L::BYTES] {
        out.push(TAG_SAME);
        out.extend_from_slice(&group[..L::BYTES]);
        return;
    }
    if !is_promising(lane, group) {
        return verbatim(group, out);
    }
    opened.open(L::BYTES, group, |bytes| lane.open(bytes));
    let (shape, _, exceptions) = opened.shape(L::BYTES);
    let count = (exceptions as u16).to_le_bytes();
    match shape {
        Shape::Verbatim => return verbatim(group, out),
        Shape::Bits { width, base } => {
            out.push(width as u8);
            out.extend_from_slice(&count);
            out.extend_from_slice(&base.to_le_bytes());
            let values = opened.values[..opened.lanes].iter().enumerate();
            let residuals =
                values.map(|(i, value)| match exceptions == 0 || opened.fits(i, shape) {
                    true => value[0].wrapping_sub(base),
                    false => 0,
                });
            push_bits(width, residuals, out);
        }
        Shape::Bytes { width } => {
            out.push(width as u8 + TAG_BYTES_OFFSET);
            out.extend_from_slice(&count);
            for i in 0..opened.lanes {
                let value = if opened.fits(i, shape) { opened.values[i] } else { [0; N] };
                out.extend_from_slice(&bytes_of(&value)[..width]);
            }
        }
    }
    if exceptions > 0 {
        for i in (0..opened.lanes).filter(|&i| !opened.fits(i, shape)) {
            out.extend_from_slice(&(i as u16).to_le_bytes());
            out.extend_from_slice(&group[i * L::BYTES..][..L::BYTES]);
        }
    }
}

fn verbatim(group: &[u8], out: &mut Vec<u8>) {
    out.push(TAG_VERBATIM);
    out.extend_from_slice(group);
}

/// Looks at a few lanes, spread over the group: is any narrower than verbatim?
///
/// A "no" that is wrong costs ratio in this group alone.
fn is_promising<const N: usize, L: Lane<N>>(lane: &L, group: &[u8]) -> bool {
    let lanes = group.len() / L::BYTES;
    // Small lanes are cheap to open, and a common base may hide in their high bits.
    if N == 1 || lanes < 4 * PROBE_LANES {
        return true;
    }
    (0..PROBE_LANES).any(|probe| {
        let at = probe * lanes / PROBE_LANES * L::BYTES;
        let value = lane.guess(&group[at..at + L::BYTES]);
        value.is_some_and(|value| bytes_of(&value)[L::BYTES - 2..] == [0, 0])
    })
}

/// Appends `width` bits of each value.
fn push_bits(width: usize, values: impl Iterator<Item = u64>, out: &mut Vec<u8>) {
    let mut pending = 0u128;
    let mut filled = 0;
    for value in values {
        pending |= u128::from(value) << filled;
        filled += width;
        if filled >= 64 {
            out.extend_from_slice(&(pending as u64).to_le_bytes());
            pending >>= 64;
            filled -= 64;
        }
    }
    out.extend_from_slice(&(pending as u64).to_le_bytes()[..filled.div_ceil(8)]);
}
