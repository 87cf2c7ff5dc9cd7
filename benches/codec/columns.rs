//! The columns: lanes as a prover keeps them, from a fixed seed.
//!
//! ```text
//!   bits, bytes, u16, u32     BN254 Fr in Montgomery form, values of that many bits
//!   counter                   2^40, 2^40 + 1, ...
//!   padded                    an eighth bits, then one value over and over
//!   constant                  that value alone
//!   uniform                   random elements
//!   sha256-witness            what the built-in circuit assigns (feature groth16)
//!   goldilocks-u16, -uniform  8-byte lanes, canonical
//!   babybear-bits, -u16, -uniform  4-byte lanes in Montgomery form
//! ```
//!
//! Invariant: the same name and length give the same bytes.

use ark_bn254::Fr;
use ark_ff::{BigInteger, UniformRand};
use plimsoll_swap::backend::AlignedBytes;
use plimsoll_swap::codec::LaneSpec;
use plimsoll_swap::codec::field::{BABY_BEAR, BN254_FR, Field32Spec, FieldSpec};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SEED: u64 = 2026;

/// The order of the Goldilocks field.
const GOLDILOCKS: u64 = 0xffff_ffff_0000_0001;

/// The value that fills `padded` and `constant`.
const PADDING: u64 = 77;

/// Compressions of the built-in circuit: 2^16 variables, 2 MiB.
const COMPRESSIONS: usize = 2;

/// A column of lanes.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) spec: LaneSpec,
    pub(crate) bytes: AlignedBytes,
}

/// The names of all columns.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    let large = [
        "bits",
        "bytes",
        "u16",
        "u32",
        "counter",
        "padded",
        "constant",
        "uniform",
        "sha256-witness",
    ];
    let small = [
        "goldilocks-u16",
        "goldilocks-uniform",
        "babybear-bits",
        "babybear-u16",
        "babybear-uniform",
    ];
    large.into_iter().chain(small)
}

/// Makes the column of this name.
pub(crate) fn make(name: &'static str, lanes: usize) -> Column {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    if let Some(kind) = name.strip_prefix("goldilocks-") {
        let values = (0..lanes).map(|_| match kind {
            "u16" => u64::from(rng.next_u32() as u16),
            _ => rng.gen_range(0..GOLDILOCKS),
        });
        let bytes: Vec<u8> = values.flat_map(u64::to_le_bytes).collect();
        return column(name, LaneSpec::U64, &bytes);
    }
    if let Some(kind) = name.strip_prefix("babybear-") {
        let field = Field32Spec::new(BABY_BEAR).expect("BabyBear's order");
        let values = (0..lanes).map(|_| match kind {
            "bits" => rng.next_u32() & 1,
            "u16" => rng.next_u32() & 0xffff,
            _ => rng.gen_range(0..BABY_BEAR),
        });
        let bytes: Vec<u8> = values.flat_map(|value| field.enter(value).to_le_bytes()).collect();
        return column(name, LaneSpec::Field32(field), &bytes);
    }
    let elements: Vec<Fr> = match name {
        "bits" => (0..lanes).map(|_| Fr::from(rng.next_u32() & 1)).collect(),
        "bytes" => (0..lanes).map(|_| Fr::from(rng.next_u32() & 0xff)).collect(),
        "u16" => (0..lanes).map(|_| Fr::from(rng.next_u32() & 0xffff)).collect(),
        "u32" => (0..lanes).map(|_| Fr::from(rng.next_u32())).collect(),
        "counter" => (0..lanes as u64).map(|row| Fr::from((1 << 40) + row)).collect(),
        "padded" => {
            let used = lanes / 8;
            let value = |row| if row < used { u64::from(rng.next_u32() & 1) } else { PADDING };
            (0..lanes).map(value).map(Fr::from).collect()
        }
        "constant" => vec![Fr::from(PADDING); lanes],
        "sha256-witness" => witness(),
        _ => (0..lanes).map(|_| Fr::rand(&mut rng)).collect(),
    };
    let bytes: Vec<u8> = elements.iter().flat_map(|element| element.0.to_bytes_le()).collect();
    let field = FieldSpec::new(BN254_FR).expect("the order of BN254's group");
    column(name, LaneSpec::Field256(field), &bytes)
}

fn column(name: &'static str, spec: LaneSpec, from: &[u8]) -> Column {
    let mut bytes = AlignedBytes::zeroed(from.len());
    bytes.copy_from_slice(from);
    Column { name, spec, bytes }
}

/// What the chain of SHA-256 assigns: mostly bits, between packed words and sums.
fn witness() -> Vec<Fr> {
    use ark_relations::gr1cs::{ConstraintSynthesizer, ConstraintSystem, SynthesisMode};
    use plimsoll::groth16::circuit::Sha256Chain;

    let cs = ConstraintSystem::new_ref();
    cs.set_mode(SynthesisMode::Prove { construct_matrices: false, generate_lc_assignments: false });
    let circuit = Sha256Chain::new([0x2a; 32], COMPRESSIONS);
    circuit.generate_constraints(cs.clone()).expect("the built-in circuit");
    let system = cs.into_inner().expect("the only owner");
    system.witness_assignment().expect("values").to_vec()
}
