//! The in-core transform under the same limit, on swap of the kernel's.
//!
//! ```text
//!   sh scripts/capped.sh LIMIT --swap KIND --report FILE -- timeout CAP this-program --child ..
//! ```
//!
//! The cgroup, the swap and the device are the script's; it takes them away again.

use crate::sides::{self, Run};
use crate::{Case, ELEMENT_BYTES};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Exit code of timeout(1) when the time was up.
const CODE_TIMEOUT: i32 = 124;

/// Exit code of capped.sh when it could not set up the run.
const CODE_SETUP: i32 = 125;

/// Exit code of what a SIGKILL ended.
const CODE_KILLED: i32 = 128 + 9;

/// Times of the values that there is swap for: they, their table and the program.
const SWAP_TIMES: usize = 3;

/// Which swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KernelSwap {
    /// A file.
    Disk,
    /// A compressed device in RAM.
    Zram,
}

impl KernelSwap {
    /// The name in the lines.
    pub(crate) fn peer_name(self) -> &'static str {
        match self {
            Self::Disk => "kernel-swap",
            Self::Zram => "kernel-zram",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Zram => "zram",
        }
    }
}

/// What came of it.
pub(crate) enum Outcome {
    /// It ended; its bytes are the cgroup's peak and the RAM of the zram device.
    Done(Run),
    /// It was not done within the cap.
    TimedOut,
    /// The kernel killed it.
    Killed,
    /// It was not tried, and why.
    Skipped(String),
}

/// The figure called `name` of a line of `key=value` pairs.
fn figure(line: &str, name: &str) -> f64 {
    let pair = line.split_whitespace().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    pair.map_or(0.0, |value| value.parse().unwrap_or(f64::NAN))
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/capped.sh")
}

/// Runs the in-core transform of `case` on `swap`, for `cap_seconds` at most.
pub(crate) fn run(swap: KernelSwap, case: Case, cap_seconds: u64, folder: &Path) -> Outcome {
    let report = tempfile::NamedTempFile::new().expect("a file for the report");
    let program = std::env::current_exe().expect("the path of this program");
    let swap_bytes = ((SWAP_TIMES * ELEMENT_BYTES) << case.log_n).max(64 << 20);
    let output = Command::new("sh")
        .arg(script())
        .arg(case.limit_bytes.to_string())
        .args(["--swap", swap.word(), "--swap-size", &swap_bytes.to_string()])
        .arg("--swap-dir")
        .arg(folder)
        .arg("--report")
        .arg(report.path())
        .args(["--", "timeout", "-k", "5", &cap_seconds.to_string()])
        .arg(program)
        .args(sides::words("in-core", case.log_n, 0, folder))
        .stderr(Stdio::piped())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(why) => return Outcome::Skipped(format!("sh: {why}")),
    };
    let line = std::fs::read_to_string(report.path()).unwrap_or_default();
    if !line.is_empty() {
        println!("# {} {}", swap.peer_name(), line.trim());
    }
    match output.status.code() {
        Some(0) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let mut run = Run::parse(&text).expect("a line of numbers");
            run.peak_bytes = figure(&line, "peak_bytes") + figure(&line, "zram_mem_used_max_bytes");
            Outcome::Done(run)
        }
        Some(CODE_TIMEOUT) => Outcome::TimedOut,
        // It took so long to die that timeout(1) had to kill it.
        Some(CODE_KILLED) if figure(&line, "seconds") >= cap_seconds as f64 => Outcome::TimedOut,
        Some(CODE_SETUP) => {
            Outcome::Skipped(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
        _ if figure(&line, "oom_kills") > 0.0 => Outcome::Killed,
        code => {
            let said = String::from_utf8_lossy(&output.stderr);
            panic!("{} at 2^{} ended with {code:?}: {said}", swap.peer_name(), case.log_n)
        }
    }
}
