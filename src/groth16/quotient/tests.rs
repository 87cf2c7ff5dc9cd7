//! A zkey's quotient out of core against the one in core, where it takes several pieces of rows,
//! several segments of the assignment and several reads of the coefficients.

use super::circom_rows::CircomRows;
use super::{COEFFICIENTS_AT_ONCE, Source, in_core, out_of_core, piece_len};
use crate::Runtime;
use crate::groth16::assignment::Assignment;
use crate::groth16::error::ProveError;
use crate::groth16::file_error::KeyError;
use crate::groth16::key::{Coefficient, KeyFile};
use crate::groth16::r1cs::Window;
use crate::groth16::scalars::{PointSpan, Scalars};
use crate::groth16::together::Together;
use crate::ntt::{Plan, PlanError, Ranks};
use crate::ranks::Threads;
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

/// Entries in a file: enough to be read in several parts.
const ENTRIES: usize = 6 * N;
const _: () = assert!(ENTRIES > 4 * COEFFICIENTS_AT_ONCE);

/// In what order the entries are.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// The rows again and again, signals at random.
    Swept,
    /// Row after row, with signals near by and the constant one, as snarkjs writes a circuit.
    Local,
    /// The same, from the last to the first.
    Backwards,
}

/// Random entries of both matrices, in every row.
fn coefficients(order: Order, rng: &mut ChaCha20Rng) -> Vec<u8> {
    let mut bytes = (ENTRIES as u32).to_le_bytes().to_vec();
    for i in 0..ENTRIES {
        let at = if let Order::Backwards = order { ENTRIES - 1 - i } else { i };
        let (row, signal) = match order {
            Order::Swept => (at % N, rng.gen_range(0..VARIABLES)),
            _ if at % 6 == 0 => (at / 6, 0),
            _ => (at / 6, (at / 6 * VARIABLES / N + at % 6).min(VARIABLES - 1)),
        };
        for number in [rng.gen_range(0..2), row as u32, signal as u32] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        // As it is in memory, which is a number below the modulus too.
        Fr::rand(rng).0.0.iter().for_each(|limb| bytes.extend_from_slice(&limb.to_le_bytes()));
    }
    bytes
}

/// A zkey of snarkjs with other matrices in it, and points that nobody reads.
fn write_key(path: &Path, order: Order, rng: &mut ChaCha20Rng) {
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
            4 => bytes = coefficients(order, rng),
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

/// A key with entries in an order, and a random assignment in segments.
struct Given {
    _folder: tempfile::TempDir,
    key: KeyFile,
    runtime: Runtime,
    witness: Vec<Fr>,
    assignment: Assignment,
}

impl Given {
    fn new(order: Order) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("random.zkey");
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        write_key(&path, order, &mut rng);
        let key = KeyFile::open_zkey(&path).unwrap();
        let witness: Vec<Fr> = (0..VARIABLES).map(|_| Fr::rand(&mut rng)).collect();
        let runtime = Runtime::builder().own_limit().build().unwrap();
        let assignment =
            Assignment::try_fill(&runtime, VARIABLES, SEGMENT_LEN, |start, segment| {
                segment.copy_from_slice(&witness[start..start + segment.len()]);
                Ok(())
            });
        let assignment = assignment.unwrap();
        assert!(assignment.single().is_none(), "the assignment is in segments");
        Self { _folder: folder, key, runtime, witness, assignment }
    }
}

/// The vectors A and B of a key, entry by entry.
fn naive_rows(given: &Given) -> [Vec<Fr>; 2] {
    let mut rows = [(); 2].map(|()| vec![Fr::default(); N]);
    let coefficients = given.key.coefficients().unwrap();
    let add = |chunk: &[Coefficient]| {
        for entry in chunk {
            let product = entry.value * given.witness[entry.signal as usize];
            rows[entry.matrix as usize][entry.row as usize] += product;
        }
        Ok::<(), KeyError>(())
    };
    coefficients.for_each_chunk(1000, add).unwrap();
    rows
}

#[test]
fn rows_are_the_naive_ones_in_any_order_by_pieces_and_windows() {
    for order in [Order::Swept, Order::Local, Order::Backwards] {
        let given = Given::new(order);
        let expected = naive_rows(&given);
        let mut rows = CircomRows::new(&given.runtime, &given.key).unwrap();
        let mut found = [(); 2].map(|()| Vec::new());
        let (len, mut visits) = (N / 4, 0);
        for first in (0..N).step_by(len) {
            let [mut a, mut b] = [(); 2].map(|()| vec![Fr::default(); len]);
            let wants = |rows: &CircomRows<'_>, signals| rows.may_read(first..first + len, signals);
            let visit = |rows: &mut CircomRows<'_>, window: Window<'_>| {
                visits += 1;
                rows.accumulate(window, first, &mut a, &mut b)
            };
            given.assignment.for_each_window(&mut rows, wants, visit).unwrap();
            found[0].append(&mut a);
            found[1].append(&mut b);
        }
        assert!(found == expected, "{order:?}");
        // Three windows: a piece of a local file reads the constant one's and its own.
        let all = 4 * VARIABLES.div_ceil(SEGMENT_LEN);
        assert!(matches!(order, Order::Swept) || visits < all, "{order:?}: {visits} of {all}");
    }
}

/// Makes something and checks that its steps are told one after the other, to the last.
fn with_progress<T>(make: impl FnOnce(super::Advance<'_>) -> Result<T, ProveError>) -> T {
    let heard = std::cell::RefCell::new(Vec::new());
    let made = make(&|done, total| heard.borrow_mut().push((done, total))).unwrap();
    let heard = heard.into_inner();
    assert!(heard.len() >= 4 && heard.iter().all(|(_, total)| *total == heard[0].1), "{heard:?}");
    assert!(heard.windows(2).all(|pair| pair[0].0 < pair[1].0), "{heard:?}");
    assert!(heard.last().is_some_and(|(done, total)| done == total), "{heard:?}");
    made
}

#[test]
fn a_zkeys_quotient_is_the_same_shared_out_to_ranks() {
    let given = Given::new(Order::Local);
    let source = Source::Zkey(&given.key);
    let expected = with_progress(|heard| in_core(&given.runtime, source, N, &given.witness, heard));
    for count in [1, 2, 3, 4, 8] {
        let ranks = Ranks { count, ..Ranks::ALONE };
        let split = Plan::for_ranks(LOG_N, [size_of::<Fr>(), 3], ranks, usize::MAX).unwrap();
        let work = |mut exchange: Threads| {
            let together = Together::over(&mut exchange).unwrap();
            let span = PointSpan::columns(together.share(), split.layout(), N);
            let advance: super::Advance<'_> = &|_, _| {};
            let told = (&together, advance);
            let tiles = out_of_core(&given.runtime, source, split, &given.assignment, told);
            let mut scalars = Scalars::Tiles(tiles.unwrap());
            let (mut found, len) = (Vec::new(), span.len());
            assert_eq!(len, scalars.len());
            let copied = scalars.for_each_chunk(&given.runtime, (0, len), 1000, |start, chunk| {
                span.for_each_run(start, chunk.len(), |first, places| {
                    found.extend((first..).zip(chunk[places].iter().copied()));
                    Ok(())
                })
            });
            copied.unwrap();
            found
        };
        let mut found: Vec<(usize, Fr)> = std::thread::scope(|scope| {
            let work = &work;
            let ranks = Threads::new(count).into_iter().map(|rank| scope.spawn(move || work(rank)));
            let ranks: Vec<_> = ranks.collect();
            ranks.into_iter().flat_map(|rank| rank.join().unwrap()).collect()
        });
        found.sort_unstable_by_key(|(index, _)| *index);
        assert!(found.iter().map(|(index, _)| *index).eq(0..N), "{count} ranks: each point once");
        assert!(found.iter().map(|(_, value)| *value).eq(expected.iter().copied()), "{count}");
    }
}

#[test]
fn a_zkeys_quotient_is_the_same_out_of_core() {
    for order in [Order::Swept, Order::Local] {
        let given = Given::new(order);
        let source = Source::Zkey(&given.key);
        let expected =
            with_progress(|heard| in_core(&given.runtime, source, N, &given.witness, heard));
        let split = smallest_plan();
        assert!(piece_len(&split) * 4 <= N, "rows are made in several pieces");
        let tiles = with_progress(|heard| {
            out_of_core(
                &given.runtime,
                source,
                split,
                &given.assignment,
                (&Together::alone(), heard),
            )
        });
        let mut found = vec![Fr::default(); N];
        let mut scalars = Scalars::Tiles(tiles);
        let copied = scalars.for_each_chunk(&given.runtime, (0, N), 1000, |start, chunk| {
            found[start..start + chunk.len()].copy_from_slice(chunk);
            Ok(())
        });
        copied.unwrap();
        assert!(found == *expected, "another quotient");
    }
}
