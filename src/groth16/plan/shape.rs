//! The stages of a proof, and the sizes that its plan follows from.
//!
//! Must never: open a file, or know how many bytes a stage takes.

use crate::groth16::key::{Coefficient, CoefficientIndex, KeyFile, KeyKind, Query};
use crate::groth16::quotient::COEFFICIENTS_AT_ONCE;
use crate::groth16::r1cs::MatrixFile;

/// Vectors that are visited at once where the quotient is put together.
pub(super) const QUOTIENT_VECTORS: usize = 3;

/// The stages of a proof, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageName {
    /// The assignment is made or read.
    Witness = 0,
    /// The scalars of the H query.
    Quotient = 1,
    /// The H query.
    MsmH = 2,
    /// The L query.
    MsmL = 3,
    /// The A query.
    MsmA = 4,
    /// The B query in G1.
    MsmB1 = 5,
    /// The B query in G2.
    MsmB2 = 6,
    /// The proof is verified.
    Verify = 7,
}

impl StageName {
    /// All stages, in order.
    pub const ALL: [StageName; 8] = [
        StageName::Witness,
        StageName::Quotient,
        StageName::MsmH,
        StageName::MsmL,
        StageName::MsmA,
        StageName::MsmB1,
        StageName::MsmB2,
        StageName::Verify,
    ];

    /// Returns the name used in reports.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            StageName::Witness => "witness",
            StageName::Quotient => "quotient",
            StageName::MsmH => "msm H",
            StageName::MsmL => "msm L",
            StageName::MsmA => "msm A",
            StageName::MsmB1 => "msm B1",
            StageName::MsmB2 => "msm B2",
            StageName::Verify => "verify",
        }
    }

    /// The multi-scalar multiplications.
    pub(super) const MSMS: [StageName; 5] =
        [StageName::MsmH, StageName::MsmL, StageName::MsmA, StageName::MsmB1, StageName::MsmB2];

    /// The stage of a query's sum.
    pub(crate) fn of(query: Query) -> Self {
        match query {
            Query::A => StageName::MsmA,
            Query::B1 => StageName::MsmB1,
            Query::B2 => StageName::MsmB2,
            Query::H => StageName::MsmH,
            Query::L => StageName::MsmL,
        }
    }

    pub(super) fn query(self) -> Option<Query> {
        match self {
            StageName::MsmH => Some(Query::H),
            StageName::MsmL => Some(Query::L),
            StageName::MsmA => Some(Query::A),
            StageName::MsmB1 => Some(Query::B1),
            StageName::MsmB2 => Some(Query::B2),
            StageName::Witness | StageName::Quotient | StageName::Verify => None,
        }
    }
}

/// The sizes of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Which reduction, and where the assignment comes from.
    pub kind: KeyKind,
    /// Variables, the one included.
    pub variables: usize,
    /// Public inputs.
    pub public_inputs: usize,
    /// Points of the evaluation domain.
    pub domain_size: usize,
    /// Bytes of the largest block of the matrix file, or of a read of a zkey's coefficients.
    pub matrix_block_bytes: usize,
    /// Bytes that are kept to find one's way in the matrices.
    pub matrix_held_bytes: usize,
}

impl Shape {
    /// Returns the sizes of `key`, with its matrices if it is one of arkworks.
    #[must_use]
    pub fn of(key: &KeyFile, matrices: Option<&MatrixFile>) -> Self {
        let (matrix_block_bytes, matrix_held_bytes) = match (key.coefficients(), matrices) {
            (Some(entries), _) => (
                entries.len().min(COEFFICIENTS_AT_ONCE) * size_of::<Coefficient>(),
                CoefficientIndex::bytes(entries.len(), COEFFICIENTS_AT_ONCE),
            ),
            (None, Some(matrices)) => (matrices.scratch_bytes(), matrices.held_bytes()),
            (None, None) => (0, 0),
        };
        Self {
            kind: key.kind(),
            variables: key.variables(),
            public_inputs: key.public_inputs(),
            domain_size: key.domain_size(),
            matrix_block_bytes,
            matrix_held_bytes,
        }
    }

    /// Guesses the sizes of an arkworks circuit of which only the number of constraints is known:
    /// as many variables as constraints, and few terms a row.
    #[must_use]
    pub fn of_constraints(constraints: usize) -> Self {
        Self {
            kind: KeyKind::Arkworks,
            variables: constraints.max(2),
            public_inputs: 1,
            domain_size: constraints.saturating_add(2).next_power_of_two(),
            matrix_block_bytes: 1 << 20,
            matrix_held_bytes: 1 << 20,
        }
    }

    pub(super) fn query_len(&self, query: Query) -> usize {
        match query {
            Query::A | Query::B1 | Query::B2 => self.variables,
            Query::L => self.variables - self.public_inputs - 1,
            Query::H if self.kind == KeyKind::Arkworks => self.domain_size - 1,
            Query::H => self.domain_size,
        }
    }
}
