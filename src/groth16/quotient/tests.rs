//! A zkey's quotient out of core against the one in core, where it takes several pieces of rows,
//! several segments of the assignment and several reads of the coefficients.

use super::{COEFFICIENTS_AT_ONCE, Source, in_core, out_of_core, piece_len};
use crate::Runtime;
use crate::groth16::assignment::Assignment;
use crate::groth16::key::KeyFile;
use crate::groth16::scalars::Scalars;
use crate::ntt::{Plan, PlanError};
use ark_bn254::Fr;
use ark_ff::UniformRand;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::path::Path;

const LOG_N: u32 = 14;
const N: usize = 1 << LOG_N;
const VARIABLES: usize = 10_000;
const SEGMENT_LEN: usize = 4096;
const PUBLIC_INPUTS: usize = 1;

/// Where a container's sections begin, and where the counts are in the second.
const CONTAINER_BYTES: usize = 12;
const COUNTS_AT: usize = 72;

/// The sections of a container, in its order: number and bytes.
fn sections(file: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let (mut at, mut found) = (CONTAINER_BYTES, Vec::new());
    while at < file.len() {
        let id = u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        let len = u64::from_le_bytes(file[at + 4..at + 12].try_into().unwrap()) as usize;
        found.push((id, file[at + 12..at + 12 + len].to_vec()));
        at += 12 + len;
    }
    found
}

/// Random entries of both matrices, in every row.
fn coefficients(rng: &mut ChaCha20Rng) -> Vec<u8> {
    let count = 3 * N;
    assert!(count > 2 * COEFFICIENTS_AT_ONCE, "they are read in several parts");
    let mut bytes = (count as u32).to_le_bytes().to_vec();
    for i in 0..count {
        let signal = rng.gen_range(0..VARIABLES as u32);
        for number in [rng.gen_range(0..2), (i % N) as u32, signal] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        // As it is in memory, which is a number below the modulus too.
        Fr::rand(rng).0.0.iter().for_each(|limb| bytes.extend_from_slice(&limb.to_le_bytes()));
    }
    bytes
}

/// A zkey of snarkjs with other matrices in it, and points that nobody reads.
fn write_key(path: &Path, rng: &mut ChaCha20Rng) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::read(fixture.join("tests/fixtures/circom/multiplier.zkey")).unwrap();
    let mut out = file[..CONTAINER_BYTES].to_vec();
    for (id, mut bytes) in sections(&file) {
        match id {
            2 => {
                for (i, count) in [VARIABLES, PUBLIC_INPUTS, N].into_iter().enumerate() {
                    let count = (count as u32).to_le_bytes();
                    bytes[COUNTS_AT + 4 * i..][..4].copy_from_slice(&count);
                }
            }
            4 => bytes = coefficients(rng),
            5 | 6 => bytes = vec![0; VARIABLES * 64],
            7 => bytes = vec![0; VARIABLES * 128],
            8 => bytes = vec![0; (VARIABLES - PUBLIC_INPUTS - 1) * 64],
            9 => bytes = vec![0; N * 64],
            _ => {}
        }
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(&bytes);
    }
    std::fs::write(path, out).unwrap();
}

/// The plan with the smallest blocks.
fn smallest_plan() -> Plan {
    let plan = |budget| Plan::for_vectors(LOG_N, size_of::<Fr>(), 3, budget);
    match plan(0) {
        Err(PlanError::Budget { smallest_bytes, .. }) => plan(smallest_bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_zkeys_quotient_is_the_same_out_of_core() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("random.zkey");
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    write_key(&path, &mut rng);
    let key = KeyFile::open_zkey(&path).unwrap();
    let source = Source::Zkey(&key);
    let witness: Vec<Fr> = (0..VARIABLES).map(|_| Fr::rand(&mut rng)).collect();
    let runtime = Runtime::builder().own_limit().build().unwrap();
    let expected = in_core(&runtime, source, N, &witness).unwrap();
    let split = smallest_plan();
    assert!(piece_len(&split) * 4 <= N, "rows are made in several pieces");
    let assignment = Assignment::try_fill(&runtime, VARIABLES, SEGMENT_LEN, |start, segment| {
        segment.copy_from_slice(&witness[start..start + segment.len()]);
        Ok(())
    });
    let assignment = assignment.unwrap();
    assert!(assignment.single().is_none(), "the assignment is in segments");
    let tiles = out_of_core(&runtime, source, split, &assignment).unwrap();
    let mut found = vec![Fr::default(); N];
    let copied = Scalars::Tiles(tiles).for_each_chunk(&runtime, N, 1000, |start, chunk| {
        found[start..start + chunk.len()].copy_from_slice(chunk);
        Ok(())
    });
    copied.unwrap();
    assert!(found == *expected, "another quotient");
}
