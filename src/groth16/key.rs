//! Proving keys in files: one type for arkworks' and snarkjs's, read in pieces.
//!
//! A Groth16 key of n variables and a domain of d is 64 (3 n + d) + 128 n bytes and more; at
//! 2^20 that is 400 MB. The prover needs each point once a proof, in order, so the file stays on
//! disk, a piece at a time is decoded into the caller's memory, and the pages behind are let go.
//!
//! ```text
//!   key/arkworks.rs ---> KeyFile ---> verifying_key, alpha, beta, delta     held in memory
//!   circom/zkey.rs  --/     |  \----> read_g1, read_g2                       decoded on demand
//!                           \-------> coefficients                          zkey only, streamed
//! ```
//!
//! Invariants, of both kinds, checked when a file is opened (`v` variables with the leading one,
//! `p` public inputs without it, `d` the size of the domain):
//!
//! ```text
//!   len(A) = len(B1) = len(B2) = v      len(gamma_abc_g1) = p + 1      v >= p + 1
//!   len(L) = v - p - 1                  d a power of two, d >= p + 1
//!   len(H) = d - 1 (arkworks)           len(H) = d (zkey)
//! ```
//!
//! Holding a [`KeyFile`] proves these, and that the verifying key's points are valid. The points
//! of the five queries are checked as they are read (coordinates below q, on the curve), since to
//! check them at the opening would read the file twice. Membership of a B2 point in the subgroup
//! of order r is not checked there: the prover checks its own proof before it gives it out.
//!
//! It must never keep a query on the heap, and never believe a count before the file's length
//! has borne it out. Source: Groth, <https://eprint.iacr.org/2016/260>, section 3.2.

mod arkworks;
mod coefficients;
mod points;
pub(super) mod records;
#[cfg(test)]
mod tests;

use std::fmt;

use ark_bn254::{Bn254, G1Affine, G2Affine};
use ark_groth16::VerifyingKey;

use super::file_error::{Fault, FileError, FileWarning, KeyError};
pub(super) use coefficients::{COEFFICIENT_BYTES, CoefficientIndex, Want};
pub use coefficients::{Coefficient, Coefficients, Factor};
pub use points::KeyKind;
pub(super) use points::{G1_BYTES, G2_BYTES, little_endian};
use points::{check_g2_subgroup, check_not_identity};
use records::{ByteSource, Records};

/// Points of `gamma_abc_g1` taken in at a time: memory follows what was read, not what is claimed.
const GAMMA_ABC_STEP: usize = 1 << 12;

/// One of the five vectors of points of a proving key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Query {
    /// `A_i(tau)` in G1, one a variable.
    A,
    /// `B_i(tau)` in G1, one a variable.
    B1,
    /// `B_i(tau)` in G2, one a variable.
    B2,
    /// The points for the quotient polynomial, in G1, about one a row of the domain.
    H,
    /// The points for the private variables, in G1. (snarkjs: section C.)
    L,
}

impl Query {
    /// All five, in the order of [`Query`].
    pub const ALL: [Query; 5] = [Query::A, Query::B1, Query::B2, Query::H, Query::L];
}

/// An open proving key. Holding one proves the invariants of the module's header.
pub struct KeyFile {
    pub(super) source: ByteSource,
    /// Bytes after the last section.
    pub(super) extra_bytes: u64,
    pub(super) kind: KeyKind,
    pub(super) verifying_key: VerifyingKey<Bn254>,
    pub(super) beta_g1: G1Affine,
    pub(super) delta_g1: G1Affine,
    pub(super) domain_size: usize,
    /// In the order of [`Query::ALL`].
    pub(super) queries: [Records; 5],
    /// The constraint matrices, in a zkey.
    pub(super) coefficients: Option<Records>,
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile")
            .field("kind", &self.kind)
            .field("variables", &self.variables())
            .field("public_inputs", &self.public_inputs())
            .field("domain_size", &self.domain_size)
            .finish_non_exhaustive()
    }
}

impl KeyFile {
    /// Who wrote the key.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The verifying key. All its points are on the curve and in the group of order r, and the
    /// four single ones are not the identity.
    #[must_use]
    pub fn verifying_key(&self) -> &VerifyingKey<Bn254> {
        &self.verifying_key
    }

    /// `alpha` in G1.
    pub fn alpha_g1(&self) -> G1Affine {
        self.verifying_key.alpha_g1
    }

    /// `beta` in G1.
    pub fn beta_g1(&self) -> G1Affine {
        self.beta_g1
    }

    /// `beta` in G2.
    pub fn beta_g2(&self) -> G2Affine {
        self.verifying_key.beta_g2
    }

    /// `delta` in G1.
    pub fn delta_g1(&self) -> G1Affine {
        self.delta_g1
    }

    /// `delta` in G2.
    pub fn delta_g2(&self) -> G2Affine {
        self.verifying_key.delta_g2
    }

    /// Variables of the circuit, with the leading constant one.
    #[must_use]
    pub fn variables(&self) -> usize {
        self.len(Query::A)
    }

    /// Public inputs, without the leading constant one.
    #[must_use]
    pub fn public_inputs(&self) -> usize {
        self.verifying_key.gamma_abc_g1.len() - 1
    }

    /// Size of the evaluation domain, a power of two.
    #[must_use]
    pub fn domain_size(&self) -> usize {
        self.domain_size
    }

    /// What is odd about the file, though it can be used.
    #[must_use]
    pub fn warnings(&self) -> Vec<FileWarning> {
        super::circom::trailing(&self.source, self.extra_bytes).into_iter().collect()
    }

    /// Number of points of `query`.
    #[must_use]
    pub fn len(&self, query: Query) -> usize {
        self.records(query).len()
    }

    /// The constraint matrices A and B of a zkey; an arkworks key has none.
    #[must_use]
    pub fn coefficients(&self) -> Option<Coefficients<'_>> {
        let records = self.coefficients?;
        let (rows, signals) = (self.domain_size, self.variables());
        Some(Coefficients::new(&self.source, records, rows, signals))
    }

    /// Decodes the points of `query` from `start` on into `out`, on all threads of the current
    /// rayon pool when there are many. Every coordinate is below q and every point on the curve
    /// or the identity; membership of a point of G2 in the subgroup is not checked.
    ///
    /// # Errors
    ///
    /// A [`KeyError`] naming the query and the lowest bad index; `out` is then unspecified.
    /// [`Fault::WrongGroup`] for `B2`, [`Fault::Range`] past the end.
    pub fn read_g1(
        &self,
        query: Query,
        start: usize,
        out: &mut [G1Affine],
    ) -> Result<(), KeyError> {
        let records = self.records(query);
        if query == Query::B2 {
            return Err(self.source.error(records.place(), Fault::WrongGroup));
        }
        points::read_g1(self.kind, records, &self.source, start, out)
    }

    /// As [`KeyFile::read_g1`], for the query in G2, [`Query::B2`].
    ///
    /// # Errors
    ///
    /// As [`KeyFile::read_g1`]; [`Fault::WrongGroup`] for any other query.
    pub fn read_g2(
        &self,
        query: Query,
        start: usize,
        out: &mut [G2Affine],
    ) -> Result<(), KeyError> {
        let records = self.records(query);
        if query != Query::B2 {
            return Err(self.source.error(records.place(), Fault::WrongGroup));
        }
        points::read_g2(self.kind, records, &self.source, start, out)
    }

    fn records(&self, query: Query) -> &Records {
        &self.queries[query as usize]
    }
}

/// The single point of G1 at `offset`, on the curve and not the identity.
pub(super) fn read_g1_at(
    source: &ByteSource,
    kind: KeyKind,
    place: &'static str,
    offset: u64,
) -> Result<G1Affine, FileError> {
    let records = Records::new(source, place, offset, 1, G1_BYTES)?;
    let mut point = [G1Affine::default()];
    points::read_g1(kind, &records, source, 0, &mut point)?;
    check_not_identity(&point[0]).map_err(|fault| source.error(place, fault))?;
    Ok(point[0])
}

/// The single point of G2 at `offset`, on the curve and not the identity.
pub(super) fn read_g2_at(
    source: &ByteSource,
    kind: KeyKind,
    place: &'static str,
    offset: u64,
) -> Result<G2Affine, FileError> {
    let records = Records::new(source, place, offset, 1, G2_BYTES)?;
    let mut point = [G2Affine::default()];
    points::read_g2(kind, &records, source, 0, &mut point)?;
    check_not_identity(&point[0]).map_err(|fault| source.error(place, fault))?;
    Ok(point[0])
}

/// The points of the verifying key that belong to the public inputs.
pub(super) fn read_gamma_abc(
    source: &ByteSource,
    kind: KeyKind,
    records: &Records,
) -> Result<Vec<G1Affine>, FileError> {
    let mut points = Vec::new();
    while points.len() < records.len() {
        let start = points.len();
        points.resize(records.len().min(start + GAMMA_ABC_STEP), G1Affine::default());
        points::read_g1(kind, records, source, start, &mut points[start..])?;
    }
    Ok(points)
}

/// Checks that the verifying key's points of G2, which `places` names (beta, gamma, delta), are in
/// the subgroup of order r.
pub(super) fn check_subgroups(
    source: &ByteSource,
    places: [&'static str; 3],
    key: &VerifyingKey<Bn254>,
) -> Result<(), FileError> {
    for (place, point) in places.into_iter().zip([key.beta_g2, key.gamma_g2, key.delta_g2]) {
        check_g2_subgroup(&point).map_err(|fault| source.error(place, fault))?;
    }
    Ok(())
}
