//! Looking at a few bytes to say what the rest are like.
//!
//! ```text
//!   choose(bytes)      one sample: is packing them worth while, and how
//!   is_uniform(bytes)  one sample for each 4 MiB: does nothing in them pack
//! ```
//!
//! A sample is 16 clusters of 512 bytes, spread evenly: of 32-byte lanes that is 256. `choose` asks
//! whether the clusters pack together; `is_uniform` whether any of them does. So a vector with a
//! tail of zeroes is not taken for uniform where a cluster falls on it, and on a fourteenth of 4
//! MiB one always does.
//!
//! Wrong costs ratio, never a bit. Never: allocate.

use super::lane::word;
use super::lanes::estimate_lanes;
use super::spec::{LANE_BYTES_MAX, LaneSpec};
use super::{pack, shuffle};

/// Clusters of a sample, and the bytes of each: 8 KiB in all.
const CLUSTERS: usize = 16;
const CLUSTER_BYTES: usize = 512;
const SAMPLE_BYTES: usize = CLUSTERS * CLUSTER_BYTES;
const _: () = assert!(CLUSTER_BYTES.is_multiple_of(LANE_BYTES_MAX));
const _: () = assert!(CLUSTER_BYTES / 4 <= pack::ESTIMATE_LANES_MAX);

/// Bytes that one sample of [`is_uniform`] stands for.
const STRETCH_BYTES: usize = 4 << 20;

/// A cluster packs if that saves one in so many of its bytes: some uniform lanes are a bit or a
/// byte short.
const UNIFORM_GAIN_MAX: usize = 16;

/// Whether nothing in `input` packs, by a sample of every 4 MiB; the first that does ends it.
///
/// Takes about 9 us a sample: under 1 % of writing 4 MiB (`cargo bench --bench codec -- uniform`).
pub fn is_uniform(spec: LaneSpec, input: &[u8]) -> bool {
    let mut buffer = [0; SAMPLE_BYTES];
    input.chunks(STRETCH_BYTES).all(|stretch| {
        let sample = sample(stretch, spec.lane_bytes(), &mut buffer);
        let packs = |cluster: &[u8]| {
            estimate_lanes(spec, cluster) <= cluster.len() - cluster.len() / UNIFORM_GAIN_MAX
        };
        !sample.chunks(CLUSTER_BYTES).any(packs) && !repeats(sample)
    })
}

pub(super) enum Choice {
    Raw,
    Packed,
    Lz4 { stride: usize },
}

/// The ladder's choice for bytes that are not constant.
pub(super) fn choose(spec: LaneSpec, input: &[u8]) -> Choice {
    let mut buffer = [0; SAMPLE_BYTES];
    let sample = sample(input, spec.lane_bytes(), &mut buffer);
    let enough = sample.len() - sample.len() / 8;
    let packed: usize =
        sample.chunks(CLUSTER_BYTES).map(|cluster| estimate_lanes(spec, cluster)).sum();
    // A quarter or less: LZ4 rarely beats it, and trying costs more than the sample.
    if packed <= sample.len() / 4 {
        return Choice::Packed;
    }
    if repeats(sample) {
        let strides = [1, spec.lane_bytes()];
        let by_stride = strides.map(|stride| (shuffle::estimate(stride, sample), stride));
        let (bytes, stride) = by_stride[0].min(by_stride[1]);
        if bytes < packed && bytes <= enough {
            return Choice::Lz4 { stride };
        }
    }
    if packed <= enough { Choice::Packed } else { Choice::Raw }
}

/// Clusters of `input`, spread evenly and aligned to lanes; the whole of a short input.
fn sample<'a>(input: &'a [u8], lane_bytes: usize, buffer: &'a mut [u8]) -> &'a [u8] {
    let lanes = input.len() / lane_bytes;
    if input.len() <= buffer.len() {
        return &input[..lanes * lane_bytes];
    }
    let last = lanes - CLUSTER_BYTES / lane_bytes;
    for (index, cluster) in buffer.chunks_exact_mut(CLUSTER_BYTES).enumerate() {
        let at = last * index / (CLUSTERS - 1) * lane_bytes;
        cluster.copy_from_slice(&input[at..at + CLUSTER_BYTES]);
    }
    buffer
}

/// Whether LZ4 may find anything: bytes far from evenly distributed, or words that come again.
///
/// Of `n` even bytes the squared counts sum to `n^2 / 256 + n` with a deviation near 1 %; the
/// threshold is a quarter above. A word is looked up by hash in 4096 bits: of 256 words that all
/// differ about 8 meet by accident.
fn repeats(sample: &[u8]) -> bool {
    let mut counts = [0usize; 256];
    let mut seen = [0u64; 64];
    let mut bytes = 0;
    let (mut words, mut again) = (0, 0);
    for (index, block) in sample.chunks(LANE_BYTES_MAX).enumerate() {
        if index % 4 == 0 {
            block.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
            bytes += block.len();
        }
        let slot = word(&block[..block.len().min(8)]).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
        let bit = 1 << (slot % 64);
        again += usize::from(seen[slot as usize / 64] & bit != 0);
        seen[slot as usize / 64] |= bit;
        words += 1;
    }
    let squares: usize = counts.iter().map(|&count| count * count).sum();
    let even = bytes * bytes / 256 + bytes;
    squares > even + even / 4 || again * 6 > words
}
