//! Circuits of arkworks: the built-in one, and how any of them becomes an assignment.
//!
//! The built-in circuit is a chain of SHA-256: the prover knows 32 bytes, hashes them, hashes the
//! digest, and so on; the last digest is public. A message of 32 bytes fits one compression.
//!
//! ```text
//!   secret x_0 --SHA-256--> x_1 --SHA-256--> ... --SHA-256--> x_k = public (two field elements)
//! ```
//!
//! [`SquaringChain`] has any number of constraints and a witness of full-size field elements: the
//! hard case for a prover, and what the benches measure.
//!
//! An assignment is `[1, public inputs, witness]`, in vectors that are wiped when dropped. It is
//! made without the constraint matrices: those come from the file that `setup` wrote, so a proof
//! neither keeps nor builds them.

use crate::Runtime;
use crate::groth16::assignment::Assignment;
use crate::groth16::error::ProveError;
use ark_bn254::Fr;
use ark_crypto_primitives::crh::sha256::constraints::Sha256Gadget;
use ark_ff::Field;
use ark_r1cs_std::alloc::AllocVar;
use ark_r1cs_std::boolean::Boolean;
use ark_r1cs_std::convert::ToBitsGadget;
use ark_r1cs_std::eq::EqGadget;
use ark_r1cs_std::fields::fp::FpVar;
use ark_r1cs_std::uint8::UInt8;
use ark_relations::gr1cs::{
    ConstraintSynthesizer, ConstraintSystem, ConstraintSystemRef, LinearCombination,
    OptimizationGoal, SynthesisError, SynthesisMode, Variable,
};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a SHA-256 digest, and of the secret the chain begins with.
pub const DIGEST_BYTES: usize = 32;

/// A chain of SHA-256 compressions over BN254's scalar field.
#[derive(Clone)]
pub struct Sha256Chain {
    secret: Zeroizing<[u8; DIGEST_BYTES]>,
    compressions: usize,
}

impl std::fmt::Debug for Sha256Chain {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sha256Chain")
            .field("compressions", &self.compressions)
            .finish_non_exhaustive()
    }
}

impl Sha256Chain {
    /// Makes the circuit that hashes `secret` `compressions` times.
    #[must_use]
    pub fn new(mut secret: [u8; DIGEST_BYTES], compressions: usize) -> Self {
        let kept = Zeroizing::new(secret);
        secret.zeroize();
        Self { secret: kept, compressions }
    }
}

impl ConstraintSynthesizer<Fr> for Sha256Chain {
    fn generate_constraints(self, cs: ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        let mut message = UInt8::new_witness_vec(cs.clone(), &*self.secret)?;
        for _ in 0..self.compressions {
            message = Sha256Gadget::digest(&message)?.0;
        }
        for half in message.chunks(DIGEST_BYTES / 2) {
            let bits: Vec<Boolean<Fr>> =
                half.iter().map(ToBitsGadget::to_bits_le).collect::<Result<Vec<_>, _>>()?.concat();
            let packed = Boolean::le_bits_to_fp(&bits)?;
            let public = FpVar::new_input(cs.clone(), || {
                use ark_r1cs_std::GR1CSVar;
                // In setup there is no value, and the generator asks for none.
                packed.value()
            })?;
            public.enforce_equal(&packed)?;
        }
        Ok(())
    }
}

/// A chain of `x -> x^2 + x` over BN254's scalar field: one variable and one constraint a link,
/// and one of each for the public result.
#[derive(Clone)]
pub struct SquaringChain {
    secret: Fr,
    links: usize,
}

impl std::fmt::Debug for SquaringChain {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SquaringChain").field("links", &self.links).finish_non_exhaustive()
    }
}

impl SquaringChain {
    /// Makes the chain of `links` that begins with `secret`.
    #[must_use]
    pub fn new(secret: Fr, links: usize) -> Self {
        Self { secret, links }
    }

    /// Makes the longest chain whose evaluation domain has `2^log_n` points.
    #[must_use]
    pub fn filling(secret: Fr, log_n: u32) -> Self {
        // One constraint more for the result, and a row each for the one and the public input.
        Self::new(secret, (1usize << log_n).saturating_sub(3))
    }
}

impl ConstraintSynthesizer<Fr> for SquaringChain {
    fn generate_constraints(self, cs: ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        let one = || LinearCombination::from(Variable::One);
        let mut value = self.secret;
        let mut x = cs.new_witness_variable(|| Ok(value))?;
        for _ in 0..self.links {
            value = value.square() + value;
            let next = cs.new_witness_variable(|| Ok(value))?;
            cs.enforce_r1cs_constraint(
                || LinearCombination::from(x),
                || LinearCombination::from(x) + Variable::One,
                || LinearCombination::from(next),
            )?;
            x = next;
        }
        let public = cs.new_input_variable(|| Ok(value))?;
        cs.enforce_r1cs_constraint(
            || LinearCombination::from(x),
            one,
            || LinearCombination::from(public),
        )
    }
}

/// Runs `circuit`, which has about `variables` variables, and returns its assignment, one and
/// public inputs first, in segments of `segment_len`.
///
/// The constraint system lives on the ordinary heap while it runs; it is gone, and the heap
/// trimmed, when this returns.
///
/// # Errors
///
/// [`ProveError::Synthesis`] when the circuit fails, [`ProveError::Runtime`] when the assignment
/// does not fit under the limit.
pub fn assign<C>(
    runtime: &Runtime,
    circuit: C,
    variables: usize,
    segment_len: usize,
) -> Result<Assignment, ProveError>
where
    C: ConstraintSynthesizer<Fr>,
{
    let mut system = ConstraintSystem::new();
    // Room for all of it: a vector that grows leaves copies of the witness behind on the heap.
    system.assignments.witness_assignment.reserve_exact(variables);
    let cs = ConstraintSystemRef::new(system);
    cs.set_optimization_goal(OptimizationGoal::Constraints);
    cs.set_mode(SynthesisMode::Prove { construct_matrices: false, generate_lc_assignments: false });
    let synthesized = circuit.generate_constraints(cs.clone());
    let mut system = cs.into_inner().ok_or(SynthesisError::MissingCS)?;
    let assignment = match synthesized {
        Ok(()) => copy_assignment(runtime, &system, segment_len),
        Err(error) => Err(error.into()),
    };
    // The library's own copy is as secret as ours, whether all went well or not.
    system.assignments.witness_assignment.zeroize();
    drop(system);
    plimsoll_arena::os::trim_heap();
    assignment
}

fn copy_assignment(
    runtime: &Runtime,
    system: &ConstraintSystem<Fr>,
    segment_len: usize,
) -> Result<Assignment, ProveError> {
    let instance = system.instance_assignment()?;
    let witness = system.witness_assignment()?;
    Assignment::try_fill(runtime, instance.len() + witness.len(), segment_len, |start, values| {
        let from_instance = instance.get(start..).unwrap_or_default();
        let (first, rest) = values.split_at_mut(from_instance.len().min(values.len()));
        first.copy_from_slice(&from_instance[..first.len()]);
        let skipped = (start + first.len()).saturating_sub(instance.len());
        rest.copy_from_slice(&witness[skipped..skipped + rest.len()]);
        Ok(())
    })
}
