//! The store over a disk that fails, against a plain map: thousands of seeded programs.
//!
//! After every call: what was saved loads as it was or as an error, never as other bytes; a save
//! that failed keeps nothing; at the end nothing is left in RAM or in the file.

use plimsoll_swap::backend::{AlignedBytes, Backend, FAULTS, Fault, FaultPlan, Faulty, Memory};
use plimsoll_swap::codec::LaneSpec;
use plimsoll_swap::file::RamDisk;
use plimsoll_swap::mapped::MappedFile;
use plimsoll_swap::store::{Content, Encryption, Hands, Saved, Store, Tier, Tiers};
use plimsoll_swap::{Error, codec::field::BN254_FR, codec::field::FieldSpec};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PROGRAMS: u64 = 2_000;

const PROGRAMS_ON_A_DISK: u64 = 400;

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("SEED").ok().and_then(|text| text.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..count).collect(),
    }
}

/// Bytes of any kind: constant, small lanes, random, and lengths on and off every boundary.
fn bytes(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let len = match rng.gen_range(0..20) {
        0 => 0,
        1..=9 => rng.gen_range(1..70_000),
        10..=15 => 4096 * rng.gen_range(1..16),
        16..=18 => 4096 * 32,
        _ => (512 << 10) + rng.gen_range(0..9000),
    };
    let mut bytes = vec![0; len];
    match rng.gen_range(0..4) {
        0 => {}
        1 => bytes.iter_mut().step_by(8).for_each(|byte| *byte = rng.r#gen::<u8>() & 1),
        2 => bytes.chunks_mut(32).for_each(|lane| lane[0] = rng.r#gen()),
        _ => rng.fill_bytes(&mut bytes),
    }
    bytes
}

fn spec(rng: &mut ChaCha8Rng) -> LaneSpec {
    let field = FieldSpec::new(BN254_FR).expect("an odd modulus below 2^255");
    [LaneSpec::Bytes, LaneSpec::U32, LaneSpec::U64, LaneSpec::Field256(field)][rng.gen_range(0..4)]
}

/// What a run reached.
#[derive(Default)]
struct Reached {
    packed: u64,
    written: u64,
    demoted: u64,
    failed: u64,
    refused: u64,
    corrupt: u64,
    full: u64,
}

fn save(store: &Store, rng: &mut ChaCha8Rng, bytes: &[u8]) -> Result<Saved, Error> {
    let content = [Content::Unknown, Content::Uniform][rng.gen_range(0..2)];
    let tiers = [Tiers::Any, Tiers::SpilledOnly][usize::from(rng.gen_ratio(1, 4))];
    // From pages of their own, as a pool's vectors are, or from anywhere.
    if rng.r#gen() {
        let mut aligned = AlignedBytes::zeroed(bytes.len());
        aligned.copy_from_slice(bytes);
        return store.save(spec(rng), &aligned, content, tiers);
    }
    store.save(spec(rng), bytes, content, tiers)
}

fn note(error: &Error, reached: &mut Reached) {
    reached.failed += 1;
    match error {
        Error::Poisoned { .. } => reached.refused += 1,
        Error::Corrupt { .. } => reached.corrupt += 1,
        Error::DiskFull { .. } | Error::Quota { .. } => reached.full += 1,
        _ => {}
    }
}

fn program<B: Backend + 'static>(seed: u64, disk: B, reached: &mut Reached) -> u64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let one_in = [0, 4, 20, 100][seed as usize % 4];
    let disk = Arc::new(Faulty::new(disk, FaultPlan::Seeded { seed, one_in }));
    let encryption = [Encryption::Off, Encryption::On][usize::from(seed.is_multiple_of(3))];
    let packed_limit = [usize::MAX, 20_000][usize::from(seed.is_multiple_of(7))];
    let store = Store::builder()
        .backend(Arc::clone(&disk) as Arc<dyn Backend>)
        .quota_bytes([u64::MAX, 1 << 20][usize::from(seed.is_multiple_of(5))])
        .packed_limit_bytes(packed_limit)
        .encryption(encryption)
        .build()
        .expect("no folder to fail");
    let mut live: HashMap<u64, (Saved, Vec<u8>)> = HashMap::new();
    for step in 0..24 {
        let packed = store.stats().packed_bytes;
        assert!(packed <= packed_limit as u64, "seed {seed} step {step}: {packed} bytes packed");
        let at = rng.gen_range(0..8);
        match (rng.gen_range(0..6), live.remove(&at)) {
            (0..=2, _) => {
                let bytes = bytes(&mut rng);
                let before = store.stats();
                match save(&store, &mut rng, &bytes) {
                    Ok(saved) => {
                        assert_eq!(saved.raw_bytes(), bytes.len(), "seed {seed} step {step}");
                        reached.packed += u64::from(saved.packed_bytes() > 0);
                        reached.written += u64::from(saved.tier() == Tier::Spilled);
                        live.insert(at, (saved, bytes));
                    }
                    Err(error) => {
                        note(&error, reached);
                        let after = store.stats();
                        let held = |s: plimsoll_swap::store::StoreStats| {
                            (s.packed_bytes, s.packed_raw_bytes, s.file_bytes)
                        };
                        assert_eq!(held(after), held(before), "seed {seed} step {step}");
                    }
                }
            }
            (3..=4, Some((saved, bytes))) => {
                let mut out = AlignedBytes::zeroed(bytes.len());
                match store.load(&saved, &mut out) {
                    Ok(()) => assert!(*out == *bytes, "seed {seed} step {step}: other bytes"),
                    Err(error) => note(&error, reached),
                }
                assert!(store.load(&saved, &mut vec![0; bytes.len() + 1]).is_err());
                live.insert(at, (saved, bytes));
            }
            (5, Some((saved, bytes))) => {
                let saved = match store.demote(saved) {
                    Ok(saved) => {
                        reached.demoted += 1;
                        saved
                    }
                    Err((saved, error)) => {
                        note(&error, reached);
                        saved
                    }
                };
                live.insert(at, (saved, bytes));
            }
            _ => {}
        }
    }
    drop(live);
    let stats = store.stats();
    assert_eq!((stats.packed_bytes, stats.file_bytes), (0, 0), "seed {seed}: something is kept");
    disk.faults()
}

#[test]
fn programs_give_the_bytes_back_or_an_error() {
    run_programs(PROGRAMS, || Memory::new(8 << 20));
}

#[test]
fn programs_over_a_mapped_file_give_the_bytes_back_or_an_error() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder on a disk");
    run_programs(PROGRAMS_ON_A_DISK, || {
        MappedFile::open(folder.path(), RamDisk::Refuse).expect("a folder on a disk")
    });
}

fn run_programs<B: Backend + 'static>(count: u64, disk: impl Fn() -> B) {
    let (mut reached, mut faults) = (Reached::default(), 0);
    let seeds = seeds(count);
    let all = seeds.len() as u64 == count;
    for seed in seeds {
        println!("SEED={seed}"); // shown when a program fails, or the store panics
        faults += program(seed, disk(), &mut reached);
    }
    let counts = [
        reached.packed,
        reached.written,
        reached.demoted,
        reached.failed,
        reached.refused,
        reached.corrupt,
        reached.full,
        faults,
    ];
    assert!(!all || counts.iter().all(|count| *count > 0), "not all was reached: {counts:?}");
}

#[test]
fn two_hands_give_the_bytes_back_or_an_error_and_keep_nothing_of_a_failed_save() {
    let (mut whole, mut failed, mut lost) = (0, 0, 0);
    let (seeds, all) = (seeds(60), std::env::var_os("SEED").is_none());
    for seed in seeds {
        println!("SEED={seed}");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let plan = FaultPlan::Seeded { seed, one_in: [0, 4, 12][seed as usize % 3] };
        let disk = Faulty::new(Memory::new(64 << 20), plan).delayed(seed, 3, 200);
        let encryption = [Encryption::Off, Encryption::On][seed as usize % 2];
        let builder = Store::builder().backend(Arc::new(disk)).encryption(encryption);
        let store = builder.build().expect("no folder to fail");
        let mut bytes = AlignedBytes::zeroed((4 << 19) + 4096 * rng.gen_range(0..300));
        let mask = [0xff, 1][usize::from(seed.is_multiple_of(5))];
        rng.fill_bytes(&mut bytes);
        bytes.iter_mut().for_each(|byte| *byte &= mask);
        let (spec, tiers) = (LaneSpec::U64, Tiers::Any);
        match store.save_by(Hands::Two, spec, &bytes, Content::Unknown, tiers) {
            Ok(saved) => {
                let mut out = AlignedBytes::zeroed(bytes.len());
                match store.load_by(Hands::Two, &saved, &mut out) {
                    Ok(()) => assert!(*out == *bytes, "seed {seed}: other bytes"),
                    Err(_) => lost += 1,
                }
                whole += 1;
            }
            Err(_) => failed += 1,
        }
        let stats = store.stats();
        assert_eq!((stats.packed_bytes, stats.file_bytes), (0, 0), "seed {seed}: kept");
    }
    assert!(!all || whole > 0 && failed > 0 && lost > 0, "{whole} {failed} {lost}");
}

#[test]
fn every_fault_at_every_call_is_an_error_or_the_bytes() {
    let mut seen = Vec::new();
    for fault in FAULTS {
        for call in 0..12 {
            let disk = Faulty::new(Memory::new(8 << 20), FaultPlan::At { call, fault });
            let store = Store::builder().backend(Arc::new(disk)).build().expect("a store");
            let mut rng = ChaCha8Rng::seed_from_u64(call);
            for _ in 0..3 {
                let mut bytes = AlignedBytes::zeroed(3 * 4096);
                rng.fill_bytes(&mut bytes);
                let saved = store.save(LaneSpec::U64, &bytes, Content::Uniform, Tiers::Any);
                let Ok(saved) = saved else {
                    seen.push(fault);
                    continue;
                };
                let mut out = AlignedBytes::zeroed(bytes.len());
                match store.load(&saved, &mut out) {
                    Ok(()) => assert!(*out == *bytes, "{fault:?} at call {call}"),
                    Err(_) => seen.push(fault),
                }
            }
        }
    }
    for fault in [Fault::ShortWrite, Fault::Eio, Fault::DiskFull, Fault::BitFlip, Fault::TornWrite]
    {
        assert!(seen.contains(&fault), "{fault:?} never showed");
    }
}

/// Changes a bit of what a disk has, at a byte that was written.
fn flip(disk: &Memory, at: u64, bit: u8) {
    let block = at / 4096 * 4096;
    let mut bytes = AlignedBytes::zeroed(4096);
    disk.read_at(block, &mut bytes).expect("it was written");
    bytes[(at - block) as usize] ^= 1 << bit;
    disk.write_at(block, &bytes).expect("it has its space");
}

#[test]
fn a_flipped_bit_in_any_byte_of_any_frame_is_found() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for encryption in [Encryption::Off, Encryption::On] {
        for (content, mask) in [(Content::Uniform, 0xff), (Content::Unknown, 1)] {
            let disk = Arc::new(Memory::new(128 << 20));
            let store = Store::builder()
                .backend(Arc::clone(&disk) as Arc<dyn Backend>)
                .encryption(encryption)
                .build()
                .expect("a store");
            let mut bytes = AlignedBytes::zeroed(2 * 4096);
            rng.fill_bytes(&mut bytes);
            bytes.iter_mut().for_each(|byte| *byte &= mask);
            let saved =
                store.save(LaneSpec::U64, &bytes, content, Tiers::SpilledOnly).expect("saved");
            let mut out = AlignedBytes::zeroed(bytes.len());
            for at in 0..saved.stored_bytes() {
                let bit = (at % 8) as u8;
                flip(&disk, at, bit);
                let loaded = store.load(&saved, &mut out);
                let found = matches!(loaded, Err(Error::Corrupt { .. } | Error::Version { .. }));
                assert!(found, "byte {at}, {encryption:?}, {content:?}: {loaded:?}");
                flip(&disk, at, bit);
            }
            store.load(&saved, &mut out).expect("mended");
            assert!(*out == *bytes);
        }
    }
}

#[test]
fn long_raw_pieces_come_back_into_any_memory_and_a_flipped_bit_is_found() {
    let disk = Arc::new(Memory::new(64 << 20));
    let backend = Arc::clone(&disk) as Arc<dyn Backend>;
    let store = Store::builder().backend(backend).build().expect("a store");
    // Two pieces: one of 4 MiB, in two parts, and one of a block.
    let len = (4 << 20) + 4096;
    let mut bytes = AlignedBytes::zeroed(len);
    ChaCha8Rng::seed_from_u64(4).fill_bytes(&mut bytes);
    for hands in [Hands::One, Hands::Two] {
        let (content, tiers) = (Content::Uniform, Tiers::Any);
        let saved = store.save_by(hands, LaneSpec::U64, &bytes, content, tiers).expect("saved");
        let headers = 2 * 4096;
        assert_eq!(saved.stored_bytes(), (len + headers) as u64, "two headers, a block each");
        let mut aligned = AlignedBytes::zeroed(len);
        let mut shifted = AlignedBytes::zeroed(len + 4096);
        let shifted = &mut shifted[8..][..len];
        store.load_by(hands, &saved, &mut aligned).expect("it is there");
        store.load_by(hands, &saved, shifted).expect("it is there");
        assert!(*aligned == *bytes && *shifted == *bytes);
        // In every part that a buffer holds, of each piece.
        for at in (0..saved.stored_bytes()).step_by(300_007) {
            flip(&disk, at, 3);
            for out in [&mut *aligned, &mut *shifted] {
                let loaded = store.load_by(hands, &saved, out);
                assert!(matches!(loaded, Err(Error::Corrupt { .. })), "byte {at}: {loaded:?}");
            }
            flip(&disk, at, 3);
        }
    }
}

#[test]
fn a_fault_in_either_part_of_a_long_piece_is_an_error_or_right_bytes() {
    let len = 2 << 20;
    let mut bytes = AlignedBytes::zeroed(len);
    ChaCha8Rng::seed_from_u64(5).fill_bytes(&mut bytes);
    let trip = |plan| {
        let disk = Arc::new(Faulty::new(Memory::new(8 << 20), plan));
        let backend = Arc::clone(&disk) as Arc<dyn Backend>;
        let store = Store::builder().backend(backend).build().expect("a store");
        let saved = store.save(LaneSpec::U64, &bytes, Content::Uniform, Tiers::SpilledOnly);
        let told = [Fault::Eio, Fault::DiskFull, Fault::ShortWrite].map(|fault| disk.count(fault));
        assert_eq!(saved.is_err(), told != [0; 3], "{plan:?}: what was told while saving");
        let mut out = AlignedBytes::zeroed(len);
        let came = saved.and_then(|saved| store.load(&saved, &mut out));
        assert!(came.is_err() || *out == *bytes, "{plan:?}: a wrong byte");
        (came, disk.faults(), disk.calls())
    };
    let (came, _, calls) = trip(FaultPlan::NEVER);
    assert!(came.is_ok() && calls >= 7, "space, and three requests each way: {calls}");
    let mut happened = 0;
    for fault in FAULTS {
        // The first takes space, or less of it; the last gives it back.
        for call in 1..calls - 1 {
            let (came, faults, _) = trip(FaultPlan::At { call, fault });
            assert_eq!(came.is_ok(), faults == 0, "{fault:?} at {call}: {came:?}");
            happened += faults;
        }
    }
    assert!(happened > 20, "{happened} faults");
}

#[test]
fn who_waits_for_bytes_does_not_wait_for_what_io_threads_write() {
    for io_threads in [1, 2, 5] {
        let disk = Arc::new(Faulty::new(Memory::new(64 << 20), FaultPlan::NEVER));
        let backend = Arc::clone(&disk) as Arc<dyn Backend>;
        let store = Store::builder().backend(backend).io_threads(io_threads).build();
        let store = store.expect("a store");
        let bytes = vec![7; 100_000];
        let save = |store: &Store| {
            let tiers = Tiers::SpilledOnly;
            store.save(LaneSpec::U64, &bytes, Content::Uniform, tiers).expect("there is room")
        };
        let saved = save(&store);
        disk.shut();
        let came = std::thread::scope(|scope| {
            for _ in 0..io_threads {
                scope.spawn(|| save(&store));
            }
            let until = Instant::now() + Duration::from_secs(20);
            while disk.held() < io_threads as u64 {
                // The scope waits for writers that the gate holds: it is opened first.
                let in_time = Instant::now() < until;
                if !in_time {
                    disk.open();
                }
                assert!(in_time, "{io_threads} I/O threads: one of them has no buffers");
                std::thread::yield_now();
            }
            let (loaded, came) = std::sync::mpsc::channel();
            let (store, saved, bytes) = (&store, &saved, &bytes);
            scope.spawn(move || {
                let mut out = vec![0; bytes.len()];
                let done = store.load(saved, &mut out).map(|()| out == *bytes);
                // Nobody listens after the time is up.
                let _ = loaded.send(done);
            });
            let came = came.recv_timeout(Duration::from_secs(20));
            disk.open();
            came
        });
        let same = came.expect("it waits for a write").expect("it is there");
        assert!(same, "{io_threads} I/O threads: other bytes");
    }
}

#[test]
fn threads_share_a_store_on_a_disk_that_is_late() {
    for encryption in [Encryption::Off, Encryption::On] {
        let disk = Faulty::new(Memory::new(256 << 20), FaultPlan::NEVER);
        let disk = Arc::new(disk.delayed(1, 8, 500));
        let store = Store::builder()
            .backend(Arc::clone(&disk) as Arc<dyn Backend>)
            .encryption(encryption)
            .build()
            .expect("a store");
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let store = store.clone();
                scope.spawn(move || {
                    let mut rng = ChaCha8Rng::seed_from_u64(thread);
                    let mut live = Vec::new();
                    for _ in 0..60 {
                        let bytes = bytes(&mut rng);
                        let saved = save(&store, &mut rng, &bytes).expect("there is room");
                        live.push((saved, bytes));
                        if live.len() > 6 {
                            let (saved, bytes) = live.swap_remove(rng.gen_range(0..live.len()));
                            let saved = store.demote(saved).expect("there is room");
                            let mut out = vec![0; bytes.len()];
                            store.load(&saved, &mut out).expect("it is there");
                            assert!(out == bytes, "thread {thread}");
                        }
                    }
                });
            }
        });
        let stats = store.stats();
        assert_eq!((stats.packed_bytes, stats.file_bytes), (0, 0));
        assert!(disk.delays() > 0 && disk.faults() == 0);
    }
}
