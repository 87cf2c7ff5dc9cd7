//! The five sums of a proof, or a rank's part of each.
//!
//! A sum of points is the sum of sums over any parts of them, so a rank sends five points and no
//! scalar.
//!
//! Must never: be written where a proof is: with `r` and `s` known, the sums tell about the
//! witness.

use crate::groth16::error::ProveError;
use ark_bn254::{G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::CurveGroup;
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use zeroize::Zeroizing;

/// The sums over this rank's points of each query.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sums {
    pub(crate) h: G1Projective,
    pub(crate) l: G1Projective,
    pub(crate) a: G1Projective,
    pub(crate) b1: G1Projective,
    pub(crate) b2: G2Projective,
}

impl Sums {
    /// As a message.
    pub(crate) fn bytes(&self) -> Zeroizing<Vec<u8>> {
        let points =
            ([self.h, self.l, self.a, self.b1].map(|sum| sum.into_affine()), self.b2.into_affine());
        let mut bytes = Zeroizing::new(Vec::with_capacity(points.uncompressed_size()));
        // Writing into a vector does not fail.
        let _ = points.serialize_uncompressed(&mut *bytes);
        bytes
    }

    /// The sums of the sums of all ranks.
    ///
    /// # Errors
    ///
    /// [`ProveError::Points`] for what is no point of the curve.
    pub(crate) fn add_up(all: &[Zeroizing<Vec<u8>>]) -> Result<Self, ProveError> {
        let mut whole = Self::default();
        for bytes in all {
            let points = <([G1Affine; 4], G2Affine)>::deserialize_uncompressed(&bytes[..])?;
            let ([h, l, a, b1], b2) = points;
            whole.h += h;
            whole.l += l;
            whole.a += a;
            whole.b1 += b1;
            whole.b2 += b2;
        }
        Ok(whole)
    }
}
