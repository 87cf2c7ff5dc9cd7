//! Groups of lanes of any kind: one generic kernel, for the kind that a spec or a header names.
//!
//! ```text
//!   kind u8 | modulus | groups | bytes after the last lane        (docs/spill-format.md)
//! ```
//!
//! Must never: take a kind or a modulus of a payload on trust.

use super::field::{Field32Spec, FieldSpec};
use super::lane::{Plain, Wide, limbs, word};
use super::out::Out;
use super::spec::{LANE_BYTES_MAX, LaneKind, LaneSpec};
use super::{pack, unpack};
use crate::Error;
use crate::error::corrupt;

/// The most bytes of a packed group: as many as verbatim, and its tag.
pub(crate) const GROUP_BYTES_MAX: usize = pack::GROUP_LANES * LANE_BYTES_MAX + 1;

/// Bytes that packing would take for these few lanes, the groups' headers left out.
pub(crate) fn estimate_lanes(spec: LaneSpec, cluster: &[u8]) -> usize {
    match spec {
        LaneSpec::Bytes | LaneSpec::U64 => pack::estimate(&Plain::<8>, cluster),
        LaneSpec::U8 => estimate_small::<1>(cluster),
        LaneSpec::U16 => estimate_small::<2>(cluster),
        LaneSpec::U32 => pack::estimate(&Plain::<4>, cluster),
        LaneSpec::U256 => pack::estimate(&Wide, cluster),
        LaneSpec::Field32(field) => pack::estimate(&field, cluster),
        LaneSpec::Field256(field) => pack::estimate(&field, cluster),
    }
}

/// An estimate looks at so many lanes at most, and a cluster has more of these.
fn estimate_small<const BYTES: usize>(cluster: &[u8]) -> usize {
    let parts = cluster.chunks(pack::ESTIMATE_LANES_MAX * BYTES);
    parts.map(|part| pack::estimate(&Plain::<BYTES>, part)).sum()
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
        LaneSpec::U8 => pack::pack(&Plain::<1>, lanes, bytes_max, out),
        LaneSpec::U16 => pack::pack(&Plain::<2>, lanes, bytes_max, out),
        LaneSpec::U32 => pack::pack(&Plain::<4>, lanes, bytes_max, out),
        LaneSpec::U256 => pack::pack(&Wide, lanes, bytes_max, out),
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
        LaneKind::U8 => LaneSpec::U8,
        LaneKind::U16 => LaneSpec::U16,
        LaneKind::U32 => LaneSpec::U32,
        LaneKind::U64 => LaneSpec::U64,
        LaneKind::U256 => LaneSpec::U256,
        LaneKind::Field32 => match Field32Spec::new(word(unpack::take(&mut payload, 4)?) as u32) {
            Ok(field) => LaneSpec::Field32(field),
            Err(_) => return corrupt("the stored modulus is no field's"),
        },
        LaneKind::Field256 => match FieldSpec::new(limbs(unpack::take(&mut payload, 32)?)) {
            Ok(field) => LaneSpec::Field256(field),
            Err(_) => return corrupt("the stored modulus is no field's"),
        },
    };
    let whole = out.len() - out.len() % spec.lane_bytes();
    let (lanes, tail) = out.split_at_mut(whole);
    let rest = match spec {
        LaneSpec::Bytes | LaneSpec::U64 => unpack::unpack(&Plain::<8>, payload, lanes)?,
        LaneSpec::U8 => unpack::unpack(&Plain::<1>, payload, lanes)?,
        LaneSpec::U16 => unpack::unpack(&Plain::<2>, payload, lanes)?,
        LaneSpec::U32 => unpack::unpack(&Plain::<4>, payload, lanes)?,
        LaneSpec::U256 => unpack::unpack(&Wide, payload, lanes)?,
        LaneSpec::Field32(field) => unpack::unpack(&field, payload, lanes)?,
        LaneSpec::Field256(field) => unpack::unpack(&field, payload, lanes)?,
    };
    if rest.len() != tail.len() {
        return corrupt("the bytes after the last group are not the rest of the raw bytes");
    }
    tail.copy_from_slice(rest);
    Ok(())
}
