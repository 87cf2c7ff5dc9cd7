//! `--spill-tier kernel` without swap, over a real zram device, and over a real swap file.

use super::{code, json, plimsoll, smallest_limit, stderr};
use plimsoll_arena::process::skipped;
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Bytes of the swap file: more than the proof spills.
const SWAP_BYTES: usize = 128 << 20;

const CIRCUIT: [&str; 2] = ["--compressions", "6"];

fn has_swap() -> bool {
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    swaps.lines().count() > 1
}

fn runs(program: &str, words: &[&str]) -> bool {
    let mut command = Command::new(program);
    let done = command.args(words).stdout(Stdio::null()).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}

/// A swap file in use. Dropping it takes it away.
struct SwapFile(PathBuf);

impl SwapFile {
    fn on(folder: &Path) -> Option<Self> {
        let made = Self(folder.join("swap"));
        // Written whole: a swap file has no holes.
        std::fs::write(&made.0, vec![0; SWAP_BYTES]).ok()?;
        let path = made.0.to_str()?;
        let works =
            runs("chmod", &["600", path]) && runs("mkswap", &[path]) && runs("swapon", &[path]);
        works.then_some(made)
    }
}

impl Drop for SwapFile {
    fn drop(&mut self) {
        runs("swapoff", &[&self.0.to_string_lossy()]);
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A zram device in use. Dropping it takes it away.
struct Zram(PathBuf);

impl Zram {
    fn script(&self, command: &str) -> bool {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/zram-setup.sh");
        let size = ["--size", "256MiB", "--mem-limit", "256MiB", "--state"];
        let state = self.0.to_string_lossy();
        let words = [&[command], &size[..], &[&state]].concat();
        runs(&script.to_string_lossy(), &words)
    }

    fn up(folder: &Path) -> Option<Self> {
        let made = Self(folder.join("state"));
        made.script("up").then_some(made)
    }
}

impl Drop for Zram {
    fn drop(&mut self) {
        println!("down: {}", self.script("down"));
    }
}

fn spilled_bytes(report: &Value) -> u64 {
    let stages = report["stages"].as_array().expect("stages");
    stages.iter().map(|stage| stage["spilled_bytes"].as_u64().expect("bytes")).sum()
}

#[test]
fn the_kernels_swap_keeps_what_is_spilled() {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0);
    if !is_root || !Path::new("/sys/class/zram-control").exists() {
        skipped("the kernel tier", "swap and zram need root and a kernel with zram");
        return;
    }
    // One test of the whole machine at a time; zram_setup and doctor take the same lock.
    let turn = File::create(std::env::temp_dir().join("plimsoll-live-tests.lock")).expect("a file");
    turn.lock().expect("our turn");
    if has_swap() {
        skipped("the kernel tier", "swap that is not ours is on");
        return;
    }
    assert_eq!(code(&plimsoll(&[&["setup", "--if-missing"], &CIRCUIT[..]].concat())), Some(0));
    let least = smallest_limit(&CIRCUIT).to_string();
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder on a disk");
    let out = folder.path().to_str().expect("UTF-8");
    let prove = |options: &[&str]| {
        let common = ["prove", "--json", "--seed", "1", "--packed-limit", "0", "--out", out];
        plimsoll(&[&common, &CIRCUIT[..], options].concat())
    };
    let limited = |options: &[&str]| prove(&[&["--limit", &least], options].concat());
    let proof = || std::fs::read(folder.path().join("proof.json")).expect("written");
    let kernel = ["--spill-tier", "kernel"];

    let refused = limited(&kernel);
    assert_eq!(code(&refused), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("there is no swap"), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("plimsoll zram up"), "{}", stderr(&refused));
    json(&limited(&[]));
    let expected = proof();

    over_zram(folder.path(), &limited, &prove, &kernel);
    let Some(_swap) = SwapFile::on(folder.path()) else {
        skipped("the kernel tier on a file", "no swap file can be used in /var/tmp");
        return;
    };
    let refused = limited(&kernel);
    assert_eq!(code(&refused), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("in the clear"), "{}", stderr(&refused));
    std::fs::remove_file(folder.path().join("proof.json")).expect("the file tier's");
    let sealed = json(&limited(&[&kernel[..], &["--encrypt-spill"]].concat()));
    assert!(spilled_bytes(&sealed) > 0, "{sealed}");
    assert_eq!(sealed["spill"]["zram_bytes_max"], 0, "{sealed}");
    assert!(proof() == expected, "another proof");
}

/// Over zram a proof whose vectors fit is made, and one whose vectors do not compress is not.
fn over_zram(
    folder: &Path,
    limited: &impl Fn(&[&str]) -> std::process::Output,
    prove: &impl Fn(&[&str]) -> std::process::Output,
    kernel: &[&str],
) {
    let _zram = Zram::up(folder).expect("zram-setup.sh up");
    let fits = json(&prove(&[&["--limit", "1GiB"], kernel].concat()));
    assert_eq!(spilled_bytes(&fits), 0, "{fits}");
    let counted = limited(kernel);
    assert_eq!(code(&counted), Some(1), "{}", stderr(&counted));
    // As a holder of the stage that did not fit, or among the parts of a process over its limit.
    let said = ["RAM that zram takes for what is spilled", " in zram; raise the limit"];
    let is_said = said.iter().any(|said| stderr(&counted).contains(said));
    assert!(is_said, "{}", stderr(&counted));
}
