//! spartan's SNARK on the synthetic R1CS that the crate itself brings for its benches.
//!
//! Generators and the commitment to the instance are made once, with the input. The blinders of a
//! proof come from the operating system, so no two proofs are the same.

use libspartan::{ComputationCommitment, ComputationDecommitment, InputsAssignment, Instance};
use libspartan::{SNARK, SNARKGens, VarsAssignment};
use merlin::Transcript;

const PUBLIC_INPUTS: usize = 10;

pub(super) struct Input {
    instance: Instance,
    vars: VarsAssignment,
    inputs: InputsAssignment,
    gens: SNARKGens,
    commitment: ComputationCommitment,
    decommitment: ComputationDecommitment,
}

impl Input {
    pub(super) fn new(log_size: u32) -> Self {
        let size = 1usize << log_size;
        let gens = SNARKGens::new(size, size, PUBLIC_INPUTS, size);
        let (instance, vars, inputs) = Instance::produce_synthetic_r1cs(size, size, PUBLIC_INPUTS);
        let (commitment, decommitment) = SNARK::encode(&instance, &gens);
        Self { instance, vars, inputs, gens, commitment, decommitment }
    }

    pub(super) fn prove(&self, bytes: &mut Vec<u8>) {
        let proof = SNARK::prove(
            &self.instance,
            &self.commitment,
            &self.decommitment,
            self.vars.clone(),
            &self.inputs,
            &self.gens,
            &mut Transcript::new(b"peers"),
        );
        bincode::serialize_into(bytes, &proof).expect("a vector takes bytes");
    }

    pub(super) fn verify(&self, bytes: &[u8]) -> bool {
        let proof: SNARK = bincode::deserialize(bytes).expect("bytes of a proof");
        let mut transcript = Transcript::new(b"peers");
        proof.verify(&self.commitment, &self.inputs, &mut transcript, &self.gens).is_ok()
    }
}
