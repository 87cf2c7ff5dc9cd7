//! Watches a command from outside, while it runs: /proc for what its processes hold together, and
//! the signals that are meant for it.
//!
//! ```text
//!   this thread        waits for the command
//!   another            every 20 ms: root -> /proc/PID/task/*/children -> ...   VmRSS
//!                      ^C, TERM, HUP, QUIT -> the command's group; the third one kills it
//! ```
//!
//! A sample misses what comes and goes between two of them, so what is sampled is shown, and
//! compared with nothing.
//!
//! Must never: outlive the command, or take a process that went meanwhile for an error.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Time between two samples: a process of a prover lives a hundred times as long.
const PAUSE: Duration = Duration::from_millis(20);

/// Processes that one sample looks at: more would take longer than the pause.
const PROCESSES_MAX: usize = 512;

/// Interrupts handed on before the command is killed.
const PATIENCE: u32 = 3;

/// What was seen from outside.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Most that all processes had resident together.
    pub(super) tree_rss_bytes: u64,
    /// Most processes at once.
    pub(super) processes: usize,
    /// The first signal that was handed on.
    pub(super) interrupted: Option<Signal>,
}

/// The signals that are meant for the command, from now to the end of the process: between two runs
/// they wait for the next.
pub(super) struct Interrupts(Signals);

impl Interrupts {
    pub(super) fn catch() -> std::io::Result<Self> {
        Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT]).map(Self)
    }
}

/// Watches the process `root`, leader of its group, until `wait` returns.
pub(super) fn until_it_ends<R>(
    root: Pid,
    interrupts: &mut Interrupts,
    wait: impl FnOnce() -> R,
) -> (R, Seen) {
    let (ended, end) = channel::<()>();
    std::thread::scope(|scope| {
        let watcher = scope.spawn(move || watch(root, &mut interrupts.0, &end));
        let result = wait();
        drop(ended);
        (result, watcher.join().unwrap_or_default())
    })
}

fn watch(root: Pid, signals: &mut Signals, end: &Receiver<()>) -> Seen {
    let mut seen = Seen::default();
    let mut interrupts = 0;
    loop {
        sample(root, &mut seen);
        for signal in signals.pending() {
            interrupts += 1;
            let signal = Signal::try_from(signal).unwrap_or(Signal::SIGTERM);
            seen.interrupted.get_or_insert(signal);
            let signal = if interrupts < PATIENCE { signal } else { Signal::SIGKILL };
            // Gone meanwhile: then it has ended, as was asked for.
            let _ = killpg(root, signal);
        }
        match end.recv_timeout(PAUSE) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return seen,
        }
    }
}

fn sample(root: Pid, seen: &mut Seen) {
    let mut tree = vec![root.as_raw()];
    let mut at = 0;
    let (mut sum, mut count) = (0, 0);
    while let Some(&pid) = tree.get(at) {
        at += 1;
        let folder = format!("/proc/{pid}");
        let Ok(status) = std::fs::read_to_string(format!("{folder}/status")) else { continue };
        // A process that has ended and was not waited for has neither.
        let Some(rss) = kib(&status, "VmRSS:") else { continue };
        sum += rss;
        count += 1;
        tree.extend(children(Path::new(&folder)));
        tree.truncate(PROCESSES_MAX);
    }
    seen.tree_rss_bytes = seen.tree_rss_bytes.max(sum);
    seen.processes = seen.processes.max(count);
}

/// Bytes of a line of /proc/PID/status.
fn kib(status: &str, field: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    value.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Children of all threads of a process; none where the kernel does not list them.
fn children(folder: &Path) -> Vec<i32> {
    let Ok(threads) = std::fs::read_dir(folder.join("task")) else { return Vec::new() };
    let lists = threads
        .flatten()
        .map(|thread| std::fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|word| word.parse().ok())
        .collect()
}
