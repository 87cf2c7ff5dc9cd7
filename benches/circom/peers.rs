//! Who else proves from a zkey: snarkjs from npm, and rapidsnark where it was built.

use crate::sides::{Case, Run};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

/// Names rapidsnark's program: `prover KEY WITNESS PROOF PUBLIC`.
const RAPIDSNARK_VARIABLE: &str = "PLIMSOLL_RAPIDSNARK";

/// A prover of others.
pub(crate) enum Peer {
    Snarkjs,
    Rapidsnark(PathBuf),
}

impl Peer {
    /// All that are there, rapidsnark last.
    pub(crate) fn all() -> Vec<Peer> {
        let rapidsnark =
            std::env::var_os(RAPIDSNARK_VARIABLE).map(|path| Peer::Rapidsnark(path.into()));
        std::iter::once(Peer::Snarkjs).chain(rapidsnark).collect()
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Peer::Snarkjs => "snarkjs",
            Peer::Rapidsnark(_) => "rapidsnark",
        }
    }

    /// Makes a proof in a process of its own.
    #[expect(clippy::zombie_processes, reason = "`wait` waits for it, and takes its figures")]
    pub(crate) fn prove(&self, case: &Case) -> Run {
        let mut command = match self {
            Peer::Snarkjs => snarkjs(&["groth16", "prove"]),
            Peer::Rapidsnark(program) => Command::new(program),
        };
        let folder = tempfile::tempdir().expect("a folder for a proof");
        command.args([case.zkey(), case.wtns()]);
        command.args(["proof.json", "public.json"].map(|name| folder.path().join(name)));
        let started = Instant::now();
        let child = command.stdout(Stdio::null()).spawn().expect("the peer starts");
        let (status, peak) = wait(child.id());
        assert!(status.success(), "{} failed: {status}", self.name());
        Run { seconds: started.elapsed().as_secs_f64(), peak, ..Run::default() }
    }
}

/// Waits for a child and returns how it ended, and its largest resident set in bytes.
fn wait(id: u32) -> (ExitStatus, f64) {
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    let id = libc::pid_t::try_from(id).expect("a process id");
    // SAFETY: both pointers are to memory of our own, which the call fills; the child is ours, and
    // nobody else waits for it.
    let waited = unsafe { libc::wait4(id, &mut status, 0, usage.as_mut_ptr()) };
    assert_eq!(waited, id, "the peer is a child of this process");
    // SAFETY: all its fields are integers: zeroes are valid, and so is what the kernel wrote.
    let usage = unsafe { usage.assume_init() };
    (ExitStatus::from_raw(status), usage.ru_maxrss as f64 * 1024.0)
}

/// The user's folder for what can be made again.
pub(crate) fn cache() -> PathBuf {
    let home = || std::env::var_os("HOME").map_or_else(|| "/tmp".into(), PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    cache.unwrap_or_else(|| home().join(".cache")).join("plimsoll")
}

/// snarkjs, where `scripts/circom-fixtures.sh` installs it.
fn snarkjs(words: &[&str]) -> Command {
    let tools = std::env::var_os("CIRCOM_TOOLS")
        .map_or_else(|| cache().join("circom-tools"), PathBuf::from);
    let mut command = Command::new("node");
    command.arg(tools.join("node_modules/snarkjs/build/cli.cjs")).args(words);
    command
}

/// Has snarkjs verify the proof that the last run of ours left beside the key.
pub(crate) fn verify(case: &Case) {
    let mut command = snarkjs(&["groth16", "verify"]);
    command.arg(case.path("vkey.json"));
    command.args(["public.json", "proof.json"].map(|name| case.folder.join(name)));
    let output = command.output().expect("node starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "snarkjs refuses the proof: {said}");
}
