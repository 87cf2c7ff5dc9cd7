//! The store on a real disk: killed in mid-spill, a folder that will not do, a full disk, and what
//! can be read in the file.

#[path = "common/tiers.rs"]
mod tiers;

use plimsoll_arena::process::skipped;
use plimsoll_swap::Error;
use plimsoll_swap::backend::AlignedBytes;
use plimsoll_swap::codec::LaneSpec;
use plimsoll_swap::file::RamDisk;
use plimsoll_swap::store::{Content, Encryption, SpillTier, Store, Tiers};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tiers::tiers;

const CHILD_VARIABLE: &str = "PLIMSOLL_TEST_SPILL_FOLDER";

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/tmp").expect("a folder on a disk")
}

fn random(len: usize, seed: u64) -> AlignedBytes {
    let mut bytes = AlignedBytes::zeroed(len);
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// The spill file of this process in `folder`, by its descriptor: it has no name.
fn spill_file(folder: &Path) -> PathBuf {
    let folder = folder.canonicalize().expect("a folder");
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("procfs");
    let ours =
        |path: &PathBuf| std::fs::read_link(path).is_ok_and(|target| target.starts_with(&folder));
    descriptors.map(|entry| entry.expect("an entry").path()).find(ours).expect("the spill file")
}

fn holds(path: &Path, window: &[u8]) -> bool {
    let mut bytes = Vec::new();
    File::open(path).expect("readable").read_to_end(&mut bytes).expect("its bytes");
    bytes.windows(window.len()).any(|found| found == window)
}

#[test]
fn the_file_holds_the_witness_only_without_encryption() {
    for tier in [SpillTier::File, SpillTier::Mapped] {
        shows_the_witness_only_without_encryption(tier);
    }
}

fn shows_the_witness_only_without_encryption(tier: SpillTier) {
    for (encryption, readable) in [(Encryption::Off, true), (Encryption::On, false)] {
        let folder = folder();
        let builder = Store::builder().folder(folder.path()).spill_tier(tier);
        let store = builder.encryption(encryption).build().expect("a store");
        let witness = random(600_000, 5);
        let uniform = store.save(LaneSpec::U64, &witness, Content::Uniform, Tiers::Any);
        let uniform = uniform.expect("there is room");
        let mut small = AlignedBytes::zeroed(64 << 10);
        small
            .chunks_mut(8)
            .zip(witness.chunks(2))
            .for_each(|(lane, w)| lane[..2].copy_from_slice(w));
        let packed = store.save(LaneSpec::U64, &small, Content::Unknown, Tiers::SpilledOnly);
        let packed = packed.expect("there is room");
        let file = spill_file(folder.path());
        assert_eq!(holds(&file, &witness[300_000..300_016]), readable, "{encryption:?}");
        // 16-bit values, packed, lie side by side.
        assert_eq!(holds(&file, &witness[1000..1016]), readable, "{encryption:?}");
        let mode = std::fs::metadata(&file).expect("its metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut out = AlignedBytes::zeroed(witness.len());
        store.load(&uniform, &mut out).expect("it is there");
        assert!(*out == *witness);
        let mut out = AlignedBytes::zeroed(small.len());
        store.load(&packed, &mut out).expect("it is there");
        assert!(*out == *small);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "no name");
    }
}

/// What the child of the next test runs: it spills until it is killed.
#[test]
fn child_that_spills_until_it_is_killed() {
    let Ok(folder) = std::env::var(CHILD_VARIABLE) else { return };
    let store = Store::builder().folder(Path::new(&folder)).build().expect("a store");
    let bytes = random(1 << 20, 1);
    let mut saved = Vec::new();
    for number in 0.. {
        if saved.len() == 64 {
            saved.swap_remove(number % 64);
        }
        let one = store.save(LaneSpec::U64, &bytes, Content::Uniform, Tiers::Any);
        saved.push(one.expect("there is room"));
        println!("spilled");
    }
}

#[test]
fn a_killed_process_leaves_nothing_behind() {
    let folder = folder();
    let free = || {
        let stat = nix::sys::statvfs::statvfs(folder.path()).expect("a file system");
        stat.blocks_free() as u64 * stat.fragment_size() as u64
    };
    let before = free();
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["child_that_spills_until_it_is_killed", "--exact", "--nocapture"])
        .env(CHILD_VARIABLE, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let spilled = lines.map_while(Result::ok).filter(|line| line.ends_with("spilled")).take(320);
    assert_eq!(spilled.count(), 320, "it spills");
    child.kill().expect("SIGKILL");
    child.wait().expect("its end");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "a file is left");
    // Others use the disk too: the space of 320 MiB is back, give or take half of it. The kernel
    // may free it a moment later.
    let back = (0..400).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        free() + (160 << 20) > before
    });
    assert!(back, "{} bytes are missing", before.saturating_sub(free()));
}

#[test]
fn folders_that_will_not_do_are_typed_errors() {
    let folder = folder();
    let missing = folder.path().join("missing");
    let refused = Store::builder().folder(&missing).build().expect_err("there is no such folder");
    assert!(matches!(refused, Error::Open { .. }), "{refused:?}");
    assert!(refused.to_string().contains("missing"), "{refused}");
    let in_ram = Store::builder().folder(Path::new("/dev/shm")).build();
    match in_ram {
        Err(Error::RamDisk { .. }) => {}
        Err(Error::Open { .. }) => skipped("a folder in RAM", "/dev/shm cannot be written to"),
        other => panic!("{other:?}"),
    }
    let accepted = Store::builder().folder(Path::new("/dev/shm")).ram_disk(RamDisk::Accept).build();
    assert!(accepted.is_ok() || !Path::new("/dev/shm").is_dir());
}

/// `VmRSS` and `RssFile` of this process.
fn rss_bytes() -> [u64; 2] {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    ["VmRSS:", "RssFile:"].map(|name| {
        let field = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
        field.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    })
}

/// What the child of the next test runs: the memory of a process is its own only there.
#[test]
fn child_that_looks_at_its_memory() {
    const VECTORS: usize = 64;
    if std::env::var_os(CHILD_VARIABLE).is_none() {
        return;
    }
    for tier in tiers() {
        let folder = folder();
        let store = Store::builder().folder(folder.path()).spill_tier(tier).build().expect("open");
        let bytes = random(4 << 20, 3);
        let mut out = AlignedBytes::zeroed(bytes.len());
        out.fill(1);
        let before = rss_bytes();
        let save = |_| store.save(LaneSpec::U64, &bytes, Content::Uniform, Tiers::SpilledOnly);
        let saved: Vec<_> = (0..VECTORS).map(|at| save(at).expect("room on the disk")).collect();
        for saved in &saved {
            store.load(saved, &mut out).expect("it is there");
            assert!(*out == *bytes, "{tier:?}");
        }
        let spilled = store.stats().file_bytes;
        assert!(spilled >= (VECTORS * bytes.len()) as u64, "{tier:?}: {spilled}");
        // The store's threads and the test itself hold a few MiB.
        for (before, after) in before.into_iter().zip(rss_bytes()) {
            assert!(after < before + spilled / 4, "{tier:?}: {before} bytes before, {after} after");
        }
        let mappings = std::fs::read_to_string("/proc/self/maps").expect("procfs");
        let folder = folder.path().to_str().expect("UTF-8");
        assert!(!mappings.contains(folder), "{tier:?}: a mapping stays");
    }
}

#[test]
fn what_is_spilled_is_in_memory_no_more_in_any_tier() {
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args(["child_that_looks_at_its_memory", "--exact", "--nocapture"])
        .env(CHILD_VARIABLE, "")
        .stderr(Stdio::inherit())
        .output()
        .expect("a child");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn a_folder_that_goes_away_takes_nothing_with_it() {
    let folder = folder();
    let store = Store::builder().folder(folder.path()).build().expect("a store");
    let bytes = random(1 << 20, 2);
    let before = store.save(LaneSpec::U64, &bytes, Content::Uniform, Tiers::Any).expect("saved");
    std::fs::remove_dir_all(folder.path()).expect("it is empty");
    let after = store.save(LaneSpec::U64, &bytes, Content::Uniform, Tiers::Any).expect("saved");
    for saved in [before, after] {
        let mut out = AlignedBytes::zeroed(bytes.len());
        store.load(&saved, &mut out).expect("the file outlives its folder");
        assert!(*out == *bytes);
    }
}

/// A disk of 24 MiB, made of a file; `None`, and a reason, where that takes more than we may do.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = folder();
        let (image, at) = (folder.path().join("image"), folder.path().join("at"));
        std::fs::create_dir(&at).expect("a folder");
        File::create(&image).and_then(|file| file.set_len(24 << 20)).expect("an image");
        let run = |program: &str, words: &[&std::ffi::OsStr]| {
            let done = Command::new(program).args(words).stdout(Stdio::null()).status();
            done.is_ok_and(|status| status.success())
        };
        let made = run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image.as_os_str()])
            && run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_os_str(), at.as_os_str()]);
        if !made {
            skipped("a full disk", "making and mounting an ext4 image needs root");
        }
        made.then_some(Self { folder })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("at")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Its folder is removed after it; a failure shows there.
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

#[test]
fn a_read_only_file_system_is_refused_when_the_store_is_made() {
    let Some(disk) = SmallDisk::mount() else { return };
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(disk.path()).status();
    assert!(
        remounted.is_ok_and(|status| status.success()),
        "what was mounted can be mounted again"
    );
    let refused = Store::builder().folder(&disk.path()).build();
    let error = refused.expect_err("nothing can be written there");
    let expected = Error::Open { folder: disk.path().display().to_string(), os_error: 30 };
    assert_eq!(error, expected, "30 is EROFS");
}

#[test]
fn a_full_disk_is_an_error_that_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = Store::builder().folder(&disk.path()).build().expect("a store");
    let mut saved = Vec::new();
    let error = loop {
        let bytes = random(300_000, saved.len() as u64);
        match store.save(LaneSpec::U64, &bytes, Content::Uniform, Tiers::Any) {
            Ok(one) => saved.push(one),
            Err(error) => break error,
        }
        assert!(saved.len() < 200, "a disk of 24 MiB is never full");
    };
    assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
    assert!(!store.poisoned(), "nothing was written: the store goes on");
    let check = |number: usize, one: &plimsoll_swap::store::Saved| {
        let mut out = vec![0; 300_000];
        store.load(one, &mut out).expect("what was saved is there");
        assert!(*out == *random(300_000, number as u64));
    };
    saved.iter().enumerate().for_each(|(number, one)| check(number, one));
    // Room that is given back is used again.
    let last = saved.pop().expect("some fit");
    drop(last);
    let number = saved.len();
    let again = random(300_000, number as u64);
    let again = store.save(LaneSpec::U64, &again, Content::Uniform, Tiers::Any).expect("room");
    check(number, &again);
    drop((saved, again, store));
}

#[test]
fn the_header_is_where_the_format_says() {
    let folder = folder();
    let store = Store::builder().folder(folder.path()).build().expect("a store");
    let bytes = random(4096, 9);
    let _saved = store.save(LaneSpec::U64, &bytes, Content::Uniform, Tiers::Any).expect("saved");
    let file = File::open(spill_file(folder.path())).expect("readable");
    let mut magic = [0; 4];
    file.read_exact_at(&mut magic, 0).expect("a frame");
    assert_eq!(&magic, b"PLSF");
}
