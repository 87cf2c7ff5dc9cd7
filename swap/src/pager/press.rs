//! Packing granules, and unpacking them, without allocating.
//!
//! ```text
//!   granule -> three clusters of 512 bytes -> the kind of lanes that packs them best
//!           -> payload in the worker's scratch, half of a granule at most
//! ```
//!
//! The pager sees bytes and knows no types, so it tries the usual ones: plain integers, and the
//! fields whose elements are kept in Montgomery form. In that form the bit 1 looks as random as any
//! other element, which is why general compressors find nothing in a witness. A wrong guess costs
//! ratio, never a bit: a lane that does not come back as it was is kept as it is.
//!
//! LZ4, the next rung of the store's ladder, is left out: what it finds and lanes do not is text,
//! of which provers have little.
//!
//! Invariant: a worker's scratch is that worker's alone.

use plimsoll_arena::os::OsError;

use super::shelves::PAYLOAD_BYTES_MAX;
use super::space::GRANULE_BYTES;
use super::tables::Mapping;
use crate::Error;
use crate::codec::field::{BABY_BEAR, BLS12_381_FR, BN254_FR, Field32Spec, FieldSpec, KOALA_BEAR};
use crate::codec::out::Fixed;
use crate::codec::{GROUP_BYTES_MAX, LaneSpec, estimate_lanes, pack_lanes, unpack_lanes};

/// Bytes that are looked at before packing is tried: clusters, spread over the granule.
const CLUSTERS: usize = 3;
const CLUSTER_BYTES: usize = 512;

/// What a cluster must pack to.
const ENOUGH_BYTES: usize = CLUSTER_BYTES / 2;

/// Bytes of a payload that describe its lanes: the kind and a modulus.
const KIND_BYTES: usize = 33;

/// A worker's scratch: a granule, and a payload that is about to be given up.
const SCRATCH_BYTES: usize =
    GRANULE_BYTES + (PAYLOAD_BYTES_MAX + KIND_BYTES + GROUP_BYTES_MAX).next_multiple_of(4096);

/// How lanes are tried, and where.
pub(crate) struct Press {
    specs: [LaneSpec; 6],
    scratch: Mapping,
}

impl Press {
    /// Scratch for `workers`; it takes memory when it is first used.
    pub(crate) fn new(workers: usize) -> Result<Self, OsError> {
        let [baby, koala] = [BABY_BEAR, KOALA_BEAR].map(Field32Spec::new);
        let [bn254, bls] = [BN254_FR, BLS12_381_FR].map(FieldSpec::new);
        // These are fields; without them the lanes are plain.
        let small = |field: Result<_, Error>| field.map_or(LaneSpec::U32, LaneSpec::Field32);
        let large = |field: Result<_, Error>| field.map_or(LaneSpec::U64, LaneSpec::Field256);
        let specs =
            [LaneSpec::U64, LaneSpec::U32, small(baby), small(koala), large(bn254), large(bls)];
        Ok(Self { specs, scratch: Mapping::new(workers * SCRATCH_BYTES, 4096)? })
    }

    /// The lanes that some clusters of a granule pack best as, if to half or less. What the one
    /// before packed as is taken if it will do.
    pub(crate) fn promising(&self, granule: &[u8], before: Option<LaneSpec>) -> Option<LaneSpec> {
        let bytes = |spec: LaneSpec, index: usize| {
            let at = (granule.len() - CLUSTER_BYTES) / CLUSTER_BYTES * index / (CLUSTERS - 1);
            estimate_lanes(spec, &granule[at * CLUSTER_BYTES..][..CLUSTER_BYTES])
        };
        let will_do = |spec: &LaneSpec| (0..CLUSTERS).all(|i| bytes(*spec, i) <= ENOUGH_BYTES);
        if let Some(spec) = before.filter(will_do) {
            return Some(spec);
        }
        // Most granules that do not pack show it in their first cluster.
        let first = self.specs.iter().map(|spec| (bytes(*spec, 0), *spec));
        let best = first.filter(|(bytes, _)| *bytes <= ENOUGH_BYTES);
        let all = |(first, spec): (usize, LaneSpec)| {
            (first + (1..CLUSTERS).map(|index| bytes(spec, index)).sum::<usize>(), spec)
        };
        let (bytes, spec) = best.map(all).min_by_key(|(bytes, _)| *bytes)?;
        (bytes <= CLUSTERS * ENOUGH_BYTES).then_some(spec)
    }

    /// A worker's scratch: for a granule, and for a payload.
    ///
    /// # Safety
    ///
    /// The caller is that worker, and has no other slice of its scratch.
    #[expect(clippy::mut_from_ref, reason = "each worker has a part of its own")]
    unsafe fn scratch(&self, worker: usize) -> (&mut [u8], &mut [u8]) {
        let start = self.scratch.at(worker * SCRATCH_BYTES).as_ptr();
        // SAFETY: inside the mapping, which has as much for each worker; this one's alone.
        unsafe { std::slice::from_raw_parts_mut(start, SCRATCH_BYTES) }.split_at_mut(GRANULE_BYTES)
    }

    /// The payload of a granule, if it is short enough to be kept.
    ///
    /// # Safety
    ///
    /// The caller is that worker, and has no other slice of its scratch.
    pub(crate) unsafe fn pack(
        &self,
        worker: usize,
        spec: LaneSpec,
        granule: &[u8],
    ) -> Option<&[u8]> {
        // SAFETY: as the caller promised.
        let (_, memory) = unsafe { self.scratch(worker) };
        let mut out = Fixed::new(memory);
        pack_lanes(spec, granule, PAYLOAD_BYTES_MAX, &mut out).then(|| out.written())
    }

    /// A granule of this worker's, to unpack into.
    ///
    /// # Safety
    ///
    /// The caller is that worker, and has no other slice of its scratch.
    #[expect(clippy::mut_from_ref, reason = "each worker has a part of its own")]
    pub(crate) unsafe fn granule(&self, worker: usize) -> &mut [u8] {
        // SAFETY: as the caller promised.
        unsafe { self.scratch(worker) }.0
    }

    /// Fills `granule` from its payload.
    ///
    /// # Errors
    ///
    /// The payload is none of [`Self::pack`]'s.
    pub(crate) fn unpack(payload: &[u8], granule: &mut [u8]) -> Result<(), Error> {
        unpack_lanes(payload, granule)
    }
}
