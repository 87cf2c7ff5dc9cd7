//! Many thousands of damaged keys and witnesses: each is read, or refused with a typed error.
//!
//! From small good files (snarkjs's, a witness in JSON, one that is packed, a constraint system,
//! and an arkworks key made here) a seeded generator makes damaged ones: cut short, bits flipped,
//! ranges overwritten, sections taken out, doubled or moved, counts and sizes made huge, another
//! curve's modulus put in, files of another kind given. Each is opened and every part of it read.
//!
//! What must hold: no panic; no memory sized by a claimed count (the peak of the address space
//! shows a request even if nothing is written to it); every part of every format was hit, which is
//! shown by the places and the kinds of fault that came up.
//!
//! `SEED=n cargo test --test damaged_files` takes another seed; a failure prints the seed, the
//! number of the case and what was done to the file. `scripts/ci.sh fuzz` takes new ones for a
//! while.

#![cfg(feature = "groth16")]

#[path = "damaged_files/damage.rs"]
mod damage;
#[path = "damaged_files/packed.rs"]
mod packed;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use ark_bn254::{Fr, G1Affine, G2Affine};
use plimsoll::Runtime;
use plimsoll::groth16::circom::r1cs::R1csFile;
use plimsoll::groth16::circom::wtns::WitnessFile;
use plimsoll::groth16::error::ProveError;
use plimsoll::groth16::file_error::FileError;
use plimsoll::groth16::key::{Coefficient, KeyFile, Query};
use plimsoll::limit::LimitSpec;

use damage::{Damaged, Format, Rng, good_files, random, systematic};

const SEED_DEFAULT: u64 = 0x9d1c_0f3a_2b77_6e45;

/// Random cases, beside those that go through every field in turn.
const RANDOM_CASES: u64 = 9_000;

/// How much the address space may grow. The files have at most 8 KiB; threads and their heaps
/// take some hundred MiB of addresses, a claimed count that is believed takes many GiB.
const GROWTH_BYTES_MAX: u64 = 1 << 30;

/// Cases between two looks at the address space.
const LOOK_EVERY: usize = 64;

/// The largest address space this process has had, bytes: a request for memory shows here even
/// when nothing is written to what was asked for.
fn address_space_peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map_or(0, |kib| kib << 10)
}

/// What some files are read beside.
struct World {
    runtime: Runtime,
    key: KeyFile,
    witness: WitnessFile,
}

impl World {
    fn new() -> World {
        let runtime = Runtime::builder().limit(LimitSpec::None).build();
        World {
            runtime: runtime.expect("a runtime"),
            key: KeyFile::open_zkey(&fixture("multiplier.zkey")).expect("a key"),
            witness: WitnessFile::open(&fixture("multiplier.wtns")).expect("a witness"),
        }
    }
}

fn read_key(key: &KeyFile) -> Result<(), FileError> {
    // The sizes asked for are those of the key just opened: a lie here shows in the address space.
    for query in Query::ALL {
        if query == Query::B2 {
            key.read_g2(query, 0, &mut vec![G2Affine::default(); key.len(query)])?;
        } else {
            key.read_g1(query, 0, &mut vec![G1Affine::default(); key.len(query)])?;
        }
    }
    if let Some(coefficients) = key.coefficients() {
        coefficients.for_each_chunk(16, |_: &[Coefficient]| Ok::<(), FileError>(()))?;
    }
    Ok(())
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/circom").join(name)
}

/// The file's part of an error: there is no limit here that could be another's fault.
fn of_the_file(error: ProveError) -> FileError {
    match error {
        ProveError::File(error) => error,
        other => panic!("{other}"),
    }
}

/// Opens a file and reads all of it.
fn read_all(format: Format, path: &Path, world: &World) -> Result<(), FileError> {
    match format {
        Format::Json | Format::Packed => {
            let opened = WitnessFile::open_for(&world.key, path, &world.runtime);
            let witness = opened.map_err(of_the_file)?;
            witness.read(0, &mut vec![Fr::default(); witness.len()])
        }
        Format::R1cs => {
            let circuit = R1csFile::open(path)?;
            let found = circuit.first_unsatisfied(&world.witness, &world.runtime);
            found.map(drop).map_err(of_the_file)
        }
        Format::Zkey => read_key(&KeyFile::open_zkey(path)?),
        Format::Arkworks => read_key(&KeyFile::open_arkworks(path)?),
        Format::Wtns => {
            let witness = WitnessFile::open(path)?;
            witness.read(0, &mut vec![Fr::default(); witness.len()])
        }
    }
}

/// How often each outcome came up, by format and place and kind of fault.
#[derive(Default)]
struct Tally {
    accepted: BTreeMap<Format, u32>,
    places: BTreeMap<(Format, String), u32>,
    faults: BTreeMap<(Format, String), u32>,
}

impl Tally {
    fn count(&mut self, format: Format, outcome: &Result<(), FileError>) {
        match outcome {
            Ok(()) => *self.accepted.entry(format).or_default() += 1,
            Err(error) => {
                let debug = format!("{:?}", error.fault());
                // Of a packed file, what is wrong with that.
                let debug = debug.strip_prefix("Packed(").unwrap_or(&debug);
                let name: String = debug.chars().take_while(|c| c.is_alphanumeric()).collect();
                *self.faults.entry((format, name)).or_default() += 1;
                *self.places.entry((format, error.place().to_owned())).or_default() += 1;
            }
        }
    }

    fn merge(&mut self, other: Tally) {
        for (format, count) in other.accepted {
            *self.accepted.entry(format).or_default() += count;
        }
        for (key, count) in other.places {
            *self.places.entry(key).or_default() += count;
        }
        for (key, count) in other.faults {
            *self.faults.entry(key).or_default() += count;
        }
    }
}

/// Runs cases through one file at `path`.
fn run(
    path: &Path,
    seed: u64,
    world: &World,
    cases: &mut dyn Iterator<Item = (usize, Damaged)>,
) -> Tally {
    // One file, written over: some file systems (ext4) flush to disk when a file that was cut to
    // nothing is closed, which is seconds in all on a busy disk.
    let file = fs::File::create(path).unwrap();
    let mut tally = Tally::default();
    let start_bytes = address_space_peak_bytes();
    for (number, Damaged { format, bytes, what }) in cases {
        file.write_all_at(&bytes, 0).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        let outcome = catch_unwind(AssertUnwindSafe(|| read_all(format, path, world)));
        let Ok(outcome) = outcome else {
            panic!("SEED={seed}: case {number} panics: {format:?}: {what}");
        };
        if let Err(error) = &outcome {
            let text = error.to_string();
            assert!(text.contains(';') && text.len() < 400, "SEED={seed} case {number}: {text}");
        }
        if number % LOOK_EVERY < 2 {
            let grown = address_space_peak_bytes().saturating_sub(start_bytes);
            assert!(
                grown <= GROWTH_BYTES_MAX,
                "SEED={seed}: {grown} bytes more by case {number}, at most {LOOK_EVERY} before it"
            );
        }
        tally.count(format, &outcome);
    }
    tally
}

/// Two threads, each with a file of its own and every second case.
fn run_all(folder: &Path, seed: u64, world: &World, cases: Vec<Damaged>) -> Tally {
    let (mut even, mut odd) = (Vec::new(), Vec::new());
    for (number, case) in cases.into_iter().enumerate() {
        if number % 2 == 0 { &mut even } else { &mut odd }.push((number, case));
    }
    let files: [PathBuf; 2] = [folder.join("even"), folder.join("odd")];
    std::thread::scope(|scope| {
        let other = scope.spawn(|| run(&files[1], seed, world, &mut odd.into_iter()));
        let mut tally = run(&files[0], seed, world, &mut even.into_iter());
        match other.join() {
            Ok(part) => tally.merge(part),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        tally
    })
}

/// Every check that a small file can reach.
const EXPECTED_FAULTS: [(Format, &[&str]); 6] = [
    (
        Format::Zkey,
        &[
            "Truncated",
            "WrongKind",
            "Version",
            "SectionCount",
            "MissingSection",
            "DuplicateSection",
            "SectionSize",
            "Protocol",
            "FieldBytes",
            "WrongPrime",
            "Count",
            "Coordinate",
            "NotOnCurve",
            "Identity",
            "Coefficient",
            "CoefficientValue",
        ],
    ),
    (
        Format::Wtns,
        &[
            "Truncated",
            "WrongKind",
            "Version",
            "SectionCount",
            "MissingSection",
            "DuplicateSection",
            "SectionSize",
            "FieldBytes",
            "WrongPrime",
            "Count",
            "FirstValue",
        ],
    ),
    (Format::Json, &["WrongKind", "Json", "FirstValue"]),
    (
        Format::Packed,
        &["WrongKind", "Version", "Truncated", "Damaged", "Block", "FirstValue", "WrongPrime"],
    ),
    (
        Format::R1cs,
        &[
            "Truncated",
            "WrongKind",
            "Version",
            "SectionCount",
            "MissingSection",
            "DuplicateSection",
            "SectionSize",
            "FieldBytes",
            "WrongPrime",
            "WireCount",
            "Coefficient",
            "CoefficientValue",
        ],
    ),
    (
        Format::Arkworks,
        &[
            "Truncated",
            "TrailingBytes",
            "WrongKind",
            "Count",
            "Coordinate",
            "NotOnCurve",
            "PointFlags",
        ],
    ),
];

/// Every part of every format, by the words with which its errors begin.
const EXPECTED_PLACES: [(Format, &[&str]); 6] = [
    (
        Format::Zkey,
        &[
            "first bytes",
            "section table",
            "section 1 ",
            "section 2 (header)",
            "section 2 (header), alpha1",
            "section 2 (header), beta1",
            "section 2 (header), beta2",
            "section 2 (header), gamma2",
            "section 2 (header), delta1",
            "section 2 (header), delta2",
            "section 3 ",
            "section 4 ",
            "section 5 ",
            "section 6 ",
            "section 7 ",
            "section 8 ",
            "section 9 ",
        ],
    ),
    (Format::Wtns, &["first bytes", "section table", "section 1 ", "section 2 "]),
    (Format::Json, &["first bytes", "JSON text", "values"]),
    (Format::Packed, &["first bytes", "packed file", "section 2 "]),
    (Format::R1cs, &["first bytes", "section table", "section 1 ", "section 2 "]),
    (
        Format::Arkworks,
        &[
            "first bytes",
            "end of file",
            "alpha_g1",
            "beta_g2",
            "gamma_g2",
            "delta_g2",
            "gamma_abc_g1",
            "beta_g1",
            "delta_g1",
            "a_query",
            "b_g1_query",
            "b_g2_query",
            "h_query",
            "l_query",
        ],
    ),
];

fn assert_covered(seed: u64, tally: &Tally) {
    let missing = |format: Format, faults: &[&str]| {
        let seen = |name: &&str| tally.faults.contains_key(&(format, (*name).to_owned()));
        faults.iter().filter(|name| !seen(name)).map(|name| (*name).to_owned()).collect()
    };
    for (format, faults) in EXPECTED_FAULTS {
        let missing: Vec<String> = missing(format, faults);
        assert!(missing.is_empty(), "SEED={seed}: {format:?}: never seen: {missing:?}");
    }
    for (format, places) in EXPECTED_PLACES {
        for place in places {
            let seen = tally.places.keys().any(|(f, p)| *f == format && p.starts_with(place));
            assert!(seen, "SEED={seed}: {format:?}: nothing found at {place}");
        }
    }
}

#[test]
fn damaged_files_are_read_or_refused() {
    let seed = match std::env::var("SEED") {
        Ok(text) => text.parse().expect("SEED is a decimal number"),
        Err(_) => SEED_DEFAULT,
    };
    let folder = tempfile::tempdir().unwrap();
    let (goods, world) = (good_files(), World::new());
    let mut cases: Vec<Damaged> = goods
        .iter()
        .map(|good| Damaged { format: good.format, bytes: good.bytes.clone(), what: String::new() })
        .collect();
    for case in &cases {
        fs::write(folder.path().join("good"), &case.bytes).unwrap();
        read_all(case.format, &folder.path().join("good"), &world).expect("a good file is read");
    }
    cases.extend(systematic(&goods));
    let mut rng = Rng(seed);
    cases.extend((0..RANDOM_CASES).map(|_| random(&goods, &mut rng)));
    let count = cases.len();
    assert!(count >= 10_000, "{count} cases are too few");
    let tally = run_all(folder.path(), seed, &world, cases);
    assert_covered(seed, &tally);
    println!("SEED={seed}: {count} files; accepted {:?}", tally.accepted);
    for ((format, fault), times) in &tally.faults {
        println!("  {format:?} {fault}: {times}");
    }
}
