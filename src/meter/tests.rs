//! The meter against a fixture tree, damaged files and the live machine.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::*;

mod cgroup;

pub(super) const GIB: u64 = 1 << 30;

pub(super) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A tree of the given files, with an empty but valid `statm`.
pub(super) fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in [("proc/self/statm", "1 1 1 1 0 1 0\n")].iter().chain(files) {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

#[test]
fn the_damaged_fixture_gives_an_error_for_every_question() {
    let meter = Meter::at(&fixture("cgroup-damaged")).unwrap();
    let errors = [
        (meter.rss_bytes().unwrap_err(), "proc/self/statm", "lots"),
        (meter.peak_rss_bytes().unwrap_err(), "proc/self/status", "131072 pages"),
        (meter.machine_memory().unwrap_err(), "proc/meminfo", "-5 kB"),
        (meter.cgroup().unwrap_err(), "memory.max", "plenty"),
    ];
    for (error, file, text) in errors {
        let shown = error.to_string();
        assert!(shown.contains(file) && shown.contains(text), "{shown}");
    }
}

#[test]
fn process_and_machine_numbers_of_a_fixture() {
    let meter = Meter::at(&fixture("cgroup-v1")).unwrap();
    let reading = meter.resident().unwrap();
    assert_eq!(reading.resident_bytes, 16384 * meter.page_bytes());
    assert_eq!(reading.shared_bytes, 4096 * meter.page_bytes());
    assert_eq!(reading.anon_bytes(), 12288 * meter.page_bytes());
    assert_eq!(meter.peak_rss_bytes().unwrap(), 128 << 20);
    let memory = meter.machine_memory().unwrap();
    assert_eq!(meter.mem_total_bytes().unwrap(), 32 * GIB);
    assert_eq!(meter.mem_available_bytes().unwrap(), 24 * GIB);
    assert_eq!((memory.swap_total_bytes, memory.swap_free_bytes), (4 * GIB, 2 * GIB));
}

#[test]
fn damaged_process_files_are_errors() {
    let long = "1 ".repeat(3000);
    for statm in ["", "1\n", "1 2\n", "1 2 x\n", "1 -2 3\n", "1 18446744073709551615 3\n", &long] {
        let root = tree(&[("proc/self/statm", statm)]);
        let error = Meter::at(root.path()).unwrap().rss_bytes().unwrap_err();
        let kind = matches!(error, MeterError::Malformed { .. } | MeterError::TooLong { .. });
        assert!(kind, "{statm:?}: {error:?}");
    }
    let root = tree(&[("proc/self/status", "VmRSS: 1 kB\n"), ("proc/meminfo", "MemTotal: 1 kB\n")]);
    let meter = Meter::at(root.path()).unwrap();
    let peak = meter.peak_rss_bytes().unwrap_err();
    assert!(matches!(peak, MeterError::MissingField { field: "VmHWM", .. }), "{peak:?}");
    let memory = meter.machine_memory().unwrap_err();
    assert!(matches!(memory, MeterError::MissingField { field: "MemAvailable", .. }));
    let absent = Meter::at(Path::new("/nonexistent")).unwrap_err();
    assert!(absent.to_string().contains("/nonexistent/proc/self/statm"), "{absent}");
}

#[test]
fn an_excerpt_is_cut_and_escaped() {
    for text in [format!("{}\u{1b}[2J\n", "x".repeat(3000)), "\u{1b}[2J\n".to_owned()] {
        let root = tree(&[("proc/self/statm", &text)]);
        let error = Meter::at(root.path()).unwrap().rss_bytes().unwrap_err().to_string();
        assert!(error.len() < 400 && !error.contains('\u{1b}'), "{error}");
    }
}

#[test]
fn a_file_over_the_bound_is_refused() {
    let root = tree(&[("proc/meminfo", "")]);
    let file = fs::OpenOptions::new().write(true).open(root.path().join("proc/meminfo")).unwrap();
    file.set_len(1 << 20).unwrap();
    let error = Meter::at(root.path()).unwrap().machine_memory().unwrap_err();
    assert!(matches!(error, MeterError::TooLong { .. }), "{error:?}");
}

/// Seed of a random test: `SEED`, or a fresh one; printed, and shown by the harness on failure.
fn seed() -> u64 {
    let given = std::env::var("SEED").ok().map(|text| text.parse().expect("SEED is a number"));
    let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("SEED={seed}");
    seed
}

/// Next of a Weyl sequence mixed by two multiplications (splitmix64).
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 33) as usize
}

#[test]
fn random_damage_never_panics_and_never_hides_its_file() {
    const ROUNDS: usize = 3000;
    const FILES: [&str; 8] = [
        "proc/self/statm",
        "proc/self/status",
        "proc/meminfo",
        "proc/self/cgroup",
        "proc/self/mountinfo",
        "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
        "sys/fs/cgroup/memory/a/memory.usage_in_bytes",
        "sys/fs/cgroup/memory/a/b/memory.stat",
    ];
    let good = FILES.map(|name| fs::read(fixture("cgroup-v1").join(name)).unwrap());
    let texts = good.each_ref().map(|text| std::str::from_utf8(text).unwrap());
    let root = tree(&std::array::from_fn::<_, 8, _>(|at| (FILES[at], texts[at])));
    let mut state = seed();
    for _ in 0..ROUNDS {
        let at = random(&mut state) % FILES.len();
        let mut text = good[at].clone();
        for _ in 0..=random(&mut state) % 4 {
            let place = random(&mut state) % text.len();
            match random(&mut state) % 4 {
                0 => text[place] = random(&mut state) as u8,
                1 => text[place] = b" \n:/.-\\0"[random(&mut state) % 8],
                2 => text.truncate(place.max(1)),
                _ => text.insert(place, b'9'),
            }
        }
        let path = root.path().join(FILES[at]);
        // A new file each time: to cut an old one short makes some file systems write it out.
        fs::remove_file(&path).unwrap();
        fs::write(&path, &text).unwrap();
        let meter = Meter::at(root.path()).unwrap();
        let answers = [
            meter.resident().map(drop),
            meter.peak_rss_bytes().map(drop),
            meter.machine_memory().map(drop),
            meter.cgroup().map(drop),
        ];
        // A damaged table may send the reader to a place that is no file; that place is named.
        let redirects = matches!(FILES[at], "proc/self/cgroup" | "proc/self/mountinfo");
        let below = root.path().to_string_lossy().into_owned();
        for error in answers.into_iter().filter_map(Result::err) {
            let text = error.to_string();
            let named = text.contains(FILES[at]) || (redirects && text.contains(&below));
            assert!(named, "{}: {text}", FILES[at]);
        }
        fs::remove_file(&path).unwrap();
        fs::write(&path, &good[at]).unwrap();
    }
}

/// Bound on what other tests of this process may add between two readings, in bytes.
const SLACK_BYTES: u64 = 64 << 20;

/// Tests that look at, or change, what this process holds: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn the_live_machine_answers() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let meter = Meter::live().unwrap();
    assert!(meter.page_bytes().is_power_of_two());
    let reading = meter.resident().unwrap();
    assert!(reading.resident_bytes > 0 && reading.shared_bytes <= reading.resident_bytes);
    let peak = meter.peak_rss_bytes().unwrap();
    assert!(peak + SLACK_BYTES >= reading.resident_bytes, "{peak} < {reading:?}");
    let memory = meter.machine_memory().unwrap();
    assert!(memory.mem_available_bytes <= memory.mem_total_bytes, "{memory:?}");
    assert!(memory.swap_free_bytes <= memory.swap_total_bytes, "{memory:?}");
    let cgroup = meter.cgroup().unwrap();
    if let Some((usage, anon)) = cgroup.and_then(|c| c.usage_bytes.zip(c.anon_bytes)) {
        assert!(anon <= usage + SLACK_BYTES, "anon {anon}, usage {usage}");
    }
}

#[test]
fn resident_bytes_follow_a_touched_buffer() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    const TOUCHED: usize = 256 << 20;
    let meter = Meter::live().unwrap();
    let before = meter.resident().unwrap();
    let buffer = std::hint::black_box(vec![1_u8; TOUCHED]);
    let after = meter.resident().unwrap();
    let grown = after.anon_bytes().saturating_sub(before.anon_bytes());
    assert!(grown + SLACK_BYTES >= TOUCHED as u64, "{before:?} {after:?}");
    drop(buffer);
    assert!(meter.peak_rss_bytes().unwrap() + SLACK_BYTES >= TOUCHED as u64);
}
