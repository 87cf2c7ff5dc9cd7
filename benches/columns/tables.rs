//! The tables: columns of one element size, one after the other, from nothing but their names.
//!
//! Invariant: the same name and effort give the same bytes, but for a witness from a file.

use super::common::Effort;
use ark_bn254::Fr;
use ark_ff::{BigInteger, PrimeField};
use plimsoll::columns::field::{BABY_BEAR, Field32Spec};
use plimsoll::columns::{Column, LaneSpec};
use plimsoll::groth16::circom::wtns::WitnessFile;
use std::path::Path;

pub(crate) const NAMES: [&str; 4] = ["witness", "keccak", "counters", "json"];

/// Rows of a permutation: one a round.
const ROUNDS: usize = 24;

/// Columns of the trace of Keccak-f.
const KECCAK_COLUMNS: usize = ROUNDS + 100 + 100 + 320 + 320 + 1600 + 100 + 64 + 4;

/// Columns of one element size.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) element_bytes: usize,
    pub(crate) columns_count: usize,
    lanes: LaneSpec,
}

impl Table {
    /// What our writer is told of the columns.
    pub(crate) fn columns(&self) -> Vec<Column> {
        let column = |at| Column::new(format!("c{at}"), self.element_bytes, self.lanes);
        (0..self.columns_count).map(|at| column(at).expect("a column")).collect()
    }

    /// Bytes of a column.
    pub(crate) fn column_bytes(&self) -> usize {
        self.bytes.len() / self.columns_count
    }

    /// The columns' bytes.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks(self.column_bytes())
    }
}

/// Makes the table of this name.
pub(crate) fn make(name: &'static str, effort: Effort) -> Table {
    let is_full = effort == Effort::Full;
    match name {
        "json" => {
            let values = witness(is_full).into_iter().map(|value| value.into_bigint().to_string());
            let text = format!("[\"{}\"]", values.collect::<Vec<_>>().join("\",\""));
            let (bytes, lanes) = (text.into_bytes(), LaneSpec::Bytes);
            Table { name, bytes, element_bytes: 1, columns_count: 1, lanes }
        }
        "witness" => {
            let values = witness(is_full);
            let bytes = values.iter().flat_map(|value| value.into_bigint().to_bytes_le()).collect();
            let lanes = LaneSpec::U256;
            Table { name, bytes, element_bytes: 32, columns_count: 1, lanes }
        }
        "keccak" => {
            let field = Field32Spec::new(BABY_BEAR).expect("BabyBear's order");
            let bytes = keccak(if is_full { 170 } else { 4 }, field);
            let lanes = LaneSpec::Field32(field);
            Table { name, bytes, element_bytes: 4, columns_count: KECCAK_COLUMNS, lanes }
        }
        _ => {
            let rows = if is_full { 1 << 21 } else { 1 << 14 };
            let bytes = (0..rows).flat_map(|row: u64| ((1 << 40) + row).to_le_bytes()).collect();
            Table { name, bytes, element_bytes: 8, columns_count: 1, lanes: LaneSpec::U64 }
        }
    }
}

fn witness(is_full: bool) -> Vec<Fr> {
    match std::env::var_os("PLIMSOLL_BENCH_WTNS") {
        Some(path) => read_witness(Path::new(&path)),
        None => built_in_witness(if is_full { 8 } else { 1 }),
    }
}

fn read_witness(path: &Path) -> Vec<Fr> {
    let witness = WitnessFile::open(path).expect("a .wtns");
    let mut values = vec![Fr::from(0u64); witness.len()];
    witness.read(0, &mut values).expect("its values");
    values
}

/// What the built-in chain of SHA-256 assigns.
fn built_in_witness(compressions: usize) -> Vec<Fr> {
    use ark_relations::gr1cs::{ConstraintSynthesizer, ConstraintSystem, SynthesisMode};
    use plimsoll::groth16::circuit::Sha256Chain;

    let cs = ConstraintSystem::new_ref();
    cs.set_mode(SynthesisMode::Prove { construct_matrices: false, generate_lc_assignments: false });
    let circuit = Sha256Chain::new([0x2a; 32], compressions);
    circuit.generate_constraints(cs.clone()).expect("the built-in circuit");
    let system = cs.into_inner().expect("the only owner");
    system.witness_assignment().expect("values").to_vec()
}

/// The trace of some permutations, column by column: step flags, the input, the state before each
/// round in limbs of 16 bits, theta's parities and the state after it in bits, chi's result in
/// limbs, and its first lane in bits and with the round's constant. That is the layout of Plonky3's
/// AIR.
fn keccak(permutations: usize, field: Field32Spec) -> Vec<u8> {
    let rows = permutations * ROUNDS;
    let mut table = vec![0u8; rows * KECCAK_COLUMNS * 4];
    let mut seed = 1u64;
    for permutation in 0..permutations {
        let input: [u64; 25] = std::array::from_fn(|_| {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            seed ^ seed >> 29
        });
        let mut state = input;
        let mut constants = RoundConstants(1);
        for round in 0..ROUNDS {
            let row = permutation * ROUNDS + round;
            let mut column = 0;
            let mut put = |value: u64| {
                let at = (column * rows + row) * 4;
                table[at..at + 4].copy_from_slice(&field.enter(value as u32).to_le_bytes());
                column += 1;
            };
            (0..ROUNDS).for_each(|step| put(u64::from(step == round)));
            input.iter().chain(&state).for_each(|lane| limbs(*lane, &mut put));
            state = keccak_round(&state, constants.next(), &mut put);
            assert_eq!(column, KECCAK_COLUMNS);
        }
    }
    table
}

fn limbs(lane: u64, put: &mut impl FnMut(u64)) {
    (0..4).for_each(|limb| put(lane >> (16 * limb) & 0xffff));
}

fn bits(lane: u64, put: &mut impl FnMut(u64)) {
    (0..64).for_each(|bit| put(lane >> bit & 1));
}

/// One round, as FIPS 202 has it; lane (x, y) is number `x + 5 y`.
fn keccak_round(state: &[u64; 25], constant: u64, put: &mut impl FnMut(u64)) -> [u64; 25] {
    let parity: [u64; 5] = std::array::from_fn(|x| (0..5).fold(0, |c, y| c ^ state[x + 5 * y]));
    let spread: [u64; 5] =
        std::array::from_fn(|x| parity[(x + 4) % 5] ^ parity[(x + 1) % 5].rotate_left(1));
    let primed: [u64; 5] = std::array::from_fn(|x| parity[x] ^ spread[x]);
    parity.iter().chain(&primed).for_each(|lane| bits(*lane, put));
    let theta: [u64; 25] = std::array::from_fn(|at| state[at] ^ spread[at % 5]);
    theta.iter().for_each(|lane| bits(*lane, put));
    let mut moved = [0; 25];
    moved[0] = theta[0];
    let (mut x, mut y) = (1, 0);
    for t in 0..24u32 {
        let turned = theta[x + 5 * y].rotate_left((t + 1) * (t + 2) / 2 % 64);
        (x, y) = (y, (2 * x + 3 * y) % 5);
        moved[x + 5 * y] = turned;
    }
    let mut chi: [u64; 25] = std::array::from_fn(|at| {
        let (x, row) = (at % 5, at / 5 * 5);
        moved[at] ^ (!moved[row + (x + 1) % 5] & moved[row + (x + 2) % 5])
    });
    chi.iter().for_each(|lane| limbs(*lane, put));
    bits(chi[0], put);
    chi[0] ^= constant;
    limbs(chi[0], put);
    chi
}

/// The constants of the rounds, from FIPS 202's shift register.
struct RoundConstants(u8);

impl RoundConstants {
    fn next(&mut self) -> u64 {
        let mut constant = 0;
        for j in 0..7 {
            constant |= u64::from(self.0 & 1) << ((1 << j) - 1);
            self.0 = self.0 << 1 ^ if self.0 & 0x80 == 0 { 0 } else { 0x71 };
        }
        constant
    }
}
