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
use super::out::Out;
use super::spec::LANE_BYTES_MAX;

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

/// What a lane's value is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One limb.
    Small,
    /// More limbs.
    Wide,
    /// There is none: the lane is kept verbatim.
    Closed,
}

/// The values of a group, opened once.
struct Opened<const N: usize, const LANES_MAX: usize> {
    /// The lowest limb of each value; of a closed lane, 0.
    low: [u64; LANES_MAX],
    /// All limbs, of wide values only.
    wide: [[u64; N]; LANES_MAX],
    kinds: [Kind; LANES_MAX],
    lanes: usize,
    /// Lanes that are not small.
    others: usize,
    /// Least of the small values.
    base: u64,
}

impl<const N: usize, const LANES_MAX: usize> Opened<N, LANES_MAX> {
    fn blank() -> Self {
        Self {
            low: [0; LANES_MAX],
            wide: [[0; N]; LANES_MAX],
            kinds: [Kind::Small; LANES_MAX],
            lanes: 0,
            others: 0,
            base: u64::MAX,
        }
    }

    /// Opens the lanes of `input`; those past `LANES_MAX` are left out. `slow` opens what the
    /// short way does not.
    fn open<L: Lane<N>>(
        &mut self,
        lane: &L,
        input: &[u8],
        slow: impl Fn(&[u8]) -> Option<[u64; N]>,
    ) {
        self.lanes = (input.len() / L::BYTES).min(LANES_MAX);
        self.others = 0;
        if lane.open_all_small(input, &mut self.low[..self.lanes]) {
            self.kinds = [Kind::Small; LANES_MAX];
            self.base = least(&self.low[..self.lanes]);
            return;
        }
        self.base = u64::MAX;
        for (i, bytes) in input.chunks_exact(L::BYTES).take(LANES_MAX).enumerate() {
            let value = match lane.open_small(bytes) {
                Some(low) => Some((low, Kind::Small)),
                None => slow(bytes).map(|value| {
                    self.wide[i] = value;
                    (value[0], if is_small(&value) { Kind::Small } else { Kind::Wide })
                }),
            };
            (self.low[i], self.kinds[i]) = value.unwrap_or((0, Kind::Closed));
            match self.kinds[i] {
                Kind::Small => self.base = self.base.min(self.low[i]),
                Kind::Wide | Kind::Closed => self.others += 1,
            }
        }
    }

    /// How many small values have each number of bits above the base; all count as the widest where
    /// no narrower shape can be smaller.
    fn count_bits(&self, lane_bytes: usize) -> [usize; 65] {
        let mut counts = [0; 65];
        let low = &self.low[..self.lanes];
        let residuals = || low.iter().map(|low| low.wrapping_sub(self.base));
        if self.others > 0 {
            let small = residuals().zip(&self.kinds).filter(|lane| *lane.1 == Kind::Small);
            small.for_each(|(residual, _)| counts[bits(residual)] += 1);
            return counts;
        }
        let width = bits(residuals().fold(0, |all, residual| all | residual));
        let widest: u64 = residuals().map(|residual| residual >> width.saturating_sub(1)).sum();
        let exceptions_bits = widest as usize * 8 * (INDEX_BYTES + lane_bytes);
        if exceptions_bits >= self.lanes * width {
            // A narrower shape saves at most `width` bits a lane, and has at least all of the
            // widest as exceptions: there is none that is smaller.
            counts[width] = self.lanes;
            return counts;
        }
        count_each(low, self.base)
    }

    /// How many wide values have each number of bytes.
    fn count_bytes(&self) -> [usize; LANE_BYTES_MAX + 1] {
        let mut counts = [0; LANE_BYTES_MAX + 1];
        if self.others > 0 {
            for i in (0..self.lanes).filter(|&i| self.kinds[i] == Kind::Wide) {
                counts[bytes_needed(&self.wide[i])] += 1;
            }
        }
        counts
    }

    /// The cheapest shape, its bytes, and the number of lanes that do not fit it.
    fn shape(&self, lane_bytes: usize) -> (Shape, usize, usize) {
        let exceptions_bytes = |fits: usize| (self.lanes - fits) * (INDEX_BYTES + lane_bytes);
        let mut best = (Shape::Verbatim, 1 + self.lanes * lane_bytes, 0);
        let mut fits = 0;
        for (width, &count) in self.count_bits(lane_bytes).iter().enumerate().filter(|x| *x.1 > 0) {
            fits += count;
            let packed = (self.lanes * width).div_ceil(8) + exceptions_bytes(fits);
            if HEADER_BYTES + BASE_BYTES + packed < best.1 {
                let shape = Shape::Bits { width, base: self.base };
                best = (shape, HEADER_BYTES + BASE_BYTES + packed, self.lanes - fits);
            }
        }
        for (width, &count) in self.count_bytes().iter().enumerate().filter(|x| *x.1 > 0) {
            fits += count;
            let packed = self.lanes * width + exceptions_bytes(fits);
            if width < lane_bytes && HEADER_BYTES + packed < best.1 {
                best = (Shape::Bytes { width }, HEADER_BYTES + packed, self.lanes - fits);
            }
        }
        best
    }

    /// All limbs of a value; zero for a closed lane.
    #[inline(always)]
    fn value(&self, index: usize) -> [u64; N] {
        match self.kinds[index] {
            Kind::Wide => self.wide[index],
            Kind::Small | Kind::Closed => {
                let mut value = [0; N];
                value[0] = self.low[index];
                value
            }
        }
    }

    /// Closes every lane that does not fit the shape, so that its packed value is 0.
    fn close_exceptions(&mut self, shape: Shape) {
        let zero = if let Shape::Bits { base, .. } = shape { base } else { 0 };
        for i in 0..self.lanes {
            if !self.fits(i, shape) {
                (self.low[i], self.kinds[i]) = (zero, Kind::Closed);
            }
        }
    }

    /// Whether the lane fits the shape; else it is an exception.
    #[inline(always)]
    fn fits(&self, index: usize, shape: Shape) -> bool {
        match (self.kinds[index], shape) {
            (Kind::Closed, _) | (_, Shape::Verbatim) => false,
            (Kind::Small, Shape::Bits { width, base }) => {
                bits(self.low[index].wrapping_sub(base)) <= width
            }
            (Kind::Wide, Shape::Bits { .. }) => false,
            (Kind::Small, Shape::Bytes { .. }) => true,
            (Kind::Wide, Shape::Bytes { width }) => bytes_needed(&self.wide[index]) <= width,
        }
    }
}

/// How many of `values - base` have each number of bits.
fn count_each(values: &[u64], base: u64) -> [usize; 65] {
    // Neighbours count in tables of their own: one counter would be waited for each time.
    let mut counts = [[0u32; 4]; 65];
    for four in values.chunks(4) {
        for (table, value) in four.iter().enumerate() {
            counts[bits(value.wrapping_sub(base))][table] += 1;
        }
    }
    counts.map(|tables| tables.iter().sum::<u32>() as usize)
}

/// The least of `values`; of none, some large number.
fn least(values: &[u64]) -> u64 {
    let all = values.iter().fold(0, |all, value| all | value);
    match i32::try_from(all) {
        // Numbers that processors compare side by side.
        Ok(_) => values.iter().fold(i32::MAX, |least, &value| least.min(value as i32)) as u64,
        Err(_) => values.iter().copied().min().unwrap_or(u64::MAX),
    }
}

/// Bytes of a value without the zeroes above.
fn bytes_needed<const N: usize>(value: &[u64; N]) -> usize {
    let limbs = N - value.iter().rev().take_while(|&&limb| limb == 0).count();
    match limbs {
        0 => 0,
        _ => 8 * (limbs - 1) + bits(value[limbs - 1]).div_ceil(8),
    }
}

/// Bytes that packing would take for these few lanes, their header left out.
pub(crate) fn estimate<const N: usize, L: Lane<N>>(lane: &L, sample: &[u8]) -> usize {
    let mut opened = Opened::<N, ESTIMATE_LANES_MAX>::blank();
    opened.open(lane, sample, |bytes| lane.guess(bytes));
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
    out: &mut impl Out,
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
    out: &mut impl Out,
) {
    if group[L::BYTES..] == group[..group.len() - L::BYTES] {
        out.push(TAG_SAME);
        out.extend_from_slice(&group[..L::BYTES]);
        return;
    }
    if !is_promising(lane, group) {
        return verbatim(group, out);
    }
    opened.open(lane, group, |bytes| lane.open(bytes));
    let (shape, _, exceptions) = opened.shape(L::BYTES);
    if exceptions > 0 {
        opened.close_exceptions(shape);
    }
    let count = (exceptions as u16).to_le_bytes();
    match shape {
        Shape::Verbatim => return verbatim(group, out),
        Shape::Bits { width, base } => {
            out.push(width as u8);
            out.extend_from_slice(&count);
            out.extend_from_slice(&base.to_le_bytes());
            push_bits(width, base, &opened.low[..opened.lanes], out);
        }
        Shape::Bytes { width } => {
            out.push(width as u8 + TAG_BYTES_OFFSET);
            out.extend_from_slice(&count);
            for i in 0..opened.lanes {
                out.extend_from_slice(&bytes_of(&opened.value(i))[..width]);
            }
        }
    }
    if exceptions > 0 {
        for i in (0..opened.lanes).filter(|&i| opened.kinds[i] == Kind::Closed) {
            out.extend_from_slice(&(i as u16).to_le_bytes());
            out.extend_from_slice(&group[i * L::BYTES..][..L::BYTES]);
        }
    }
}

fn verbatim(group: &[u8], out: &mut impl Out) {
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

/// Appends `width` bits of each `value - base`.
fn push_bits(width: usize, base: u64, values: &[u64], out: &mut impl Out) {
    let out = out.grow((values.len() * width).div_ceil(8));
    match width {
        0 => {}
        1 => push_even::<1>(base, values, out),
        2 => push_even::<2>(base, values, out),
        4 => push_even::<4>(base, values, out),
        8 => push_even::<8>(base, values, out),
        16 => push_even::<16>(base, values, out),
        32 => push_even::<32>(base, values, out),
        _ => push_any(width, base, values, out),
    }
}

/// [`push_bits`] of a width that divides a word: no value is cut in two.
fn push_even<const WIDTH: usize>(base: u64, values: &[u64], out: &mut [u8]) {
    for (values, slot) in values.chunks(64 / WIDTH).zip(out.chunks_mut(8)) {
        let residual = |(i, &value): (usize, &u64)| value.wrapping_sub(base) << (i * WIDTH);
        let word = values.iter().enumerate().map(residual).fold(0, |word, bits| word | bits);
        slot.copy_from_slice(&word.to_le_bytes()[..slot.len()]);
    }
}

/// [`push_bits`] of any width from 1 to 64.
fn push_any(width: usize, base: u64, values: &[u64], out: &mut [u8]) {
    let mut slots = out.chunks_mut(8);
    let mut push = |word: u64| {
        if let Some(slot) = slots.next() {
            slot.copy_from_slice(&word.to_le_bytes()[..slot.len()]);
        }
    };
    let (mut pending, mut filled) = (0, 0);
    for value in values {
        let residual = value.wrapping_sub(base);
        pending |= residual << filled;
        filled += width;
        if filled >= 64 {
            push(pending);
            filled -= 64;
            // Shifted in two steps, because all 64 bits may be gone.
            pending = residual >> 1 >> (width - filled - 1);
        }
    }
    push(pending);
}
