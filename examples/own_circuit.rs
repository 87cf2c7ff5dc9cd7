//! A circuit of one's own, proved under a limit by the library prover.
//!
//!     cargo run --release --example own_circuit --features groth16
//!
//! The circuit is a chain of squarings, `x <- x^2 + 1`; put yours in its place. The key is
//! ark-groth16's own. For a deployment it comes from a ceremony: `write_files` writes the two files
//! that proofs read for any key that exists.

use ark_bn254::{Bn254, Fr};
use ark_ff::{Field, One, UniformRand};
use ark_groth16::Groth16;
use ark_groth16::r1cs_to_qap::LibsnarkReduction;
use ark_relations::gr1cs::{ConstraintSynthesizer, ConstraintSystemRef, SynthesisError, Variable};
use ark_relations::lc;
use plimsoll::Runtime;
use plimsoll::groth16::key::KeyFile;
use plimsoll::groth16::prover::Prover;
use plimsoll::groth16::r1cs::MatrixFile;
use plimsoll::groth16::setup::write_files;
use plimsoll::spill::SpillOptions;
use std::error::Error;

/// `last = f(f(..f(first)))` with `f(x) = x^2 + 1`; `last` is public.
#[derive(Clone)]
struct Chain {
    first: Fr,
    steps: usize,
}

impl ConstraintSynthesizer<Fr> for Chain {
    fn generate_constraints(self, cs: ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        let mut values = vec![self.first];
        for i in 0..self.steps {
            values.push(values[i].square() + Fr::one());
        }
        let last = cs.new_input_variable(|| Ok(values[self.steps]))?;
        let mut x = cs.new_witness_variable(|| Ok(self.first))?;
        for (i, value) in values.iter().enumerate().skip(1) {
            let next = match i == self.steps {
                true => last,
                false => cs.new_witness_variable(|| Ok(*value))?,
            };
            let one = Variable::One;
            cs.enforce_r1cs_constraint(|| lc!() + x, || lc!() + x, || lc!() + next - one)?;
            x = next;
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut rng = ark_std::rand::rngs::OsRng;
    let circuit = Chain { first: Fr::rand(&mut rng), steps: 60_000 };

    // Once: a key, and the two files that proofs read.
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let [key, matrices] = ["circuit.pk", "circuit.matrices"].map(|name| folder.path().join(name));
    let generated = Groth16::<Bn254, LibsnarkReduction>::generate_random_parameters_with_reduction(
        circuit.clone(),
        &mut rng,
    )?;
    let made = write_files(circuit.clone(), generated, &key, &matrices)?;
    println!("{} constraints, key of {} bytes", made.constraints, made.key_bytes);

    // For each proof. The generator's memory is in this process, too: leave the limit above it, or
    // make keys in a process of their own.
    let runtime = Runtime::builder()
        .limit("2GiB".parse()?)
        .spill(SpillOptions::new(folder.path()))
        .build()?;
    let (key, matrices) = (KeyFile::open_arkworks(&key)?, MatrixFile::open(&matrices)?);
    let prover = Prover::new(&runtime, &key, Some(&matrices))?;
    let assignment = prover.assign_circuit(circuit)?;
    let public = assignment.first(key.public_inputs() + 1)?.split_off(1);
    // Fresh and secret, or the proof tells the witness.
    let (r, s) = (Fr::rand(&mut rng), Fr::rand(&mut rng));
    let proof = prover.prove(assignment, r, s)?;
    prover.verify(&proof, &public)?;
    for stage in runtime.take_stages() {
        println!("{stage}");
    }
    println!("proof made and verified");
    Ok(())
}
