//! One run of the command: in a process group of its own, watched until it ends.
//!
//! ```text
//!   check --spawn--> CMD, group leader; stdin empty, stdout on our stderr, PLIMSOLL_STAGE_LOG set
//!     |                |  `-- its children ...
//!     |- watches /proc: VmRSS of all of them together   (sampled)
//!     |- hands ^C and TERM on to the group
//!     `- wait4: ru_maxrss                                             (exact)
//! ```
//!
//! `ru_maxrss` is the highest VmHWM among CMD and the descendants it waited for: of the largest
//! process, not of all together. The kernel does not let it be below what we were ourselves when
//! we started CMD, some MiB; a command that is smaller has that as an upper bound, and is said to.
//!
//! Under a cap, a shell enters the cgroup and becomes CMD: not a page of CMD is outside.
//!
//! Must never: leave a process of the group behind, or wait for one that will not end after a kill.

use super::group::Group;
use super::stages::{StagePeak, of_run};
use super::trouble::Trouble;
use super::watch::{Interrupts, until_it_ends};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use plimsoll::meter::Meter;
use plimsoll::stage::log as stage_log;
use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use wait4::Wait4;

/// Enters the cgroup whose door is `$0`, and becomes the command. The exit code is none that a
/// shell gives for a command that it did not find.
const ENTER: &str = "echo $$ > \"$0\" || exit 125; exec \"$@\"";

/// What a run took.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    /// Of its largest process.
    pub(super) peak_rss_bytes: u64,
    /// Whether that is an upper bound only.
    pub(super) rss_at_most: bool,
    /// Of all its processes together, as sampled; `None` where only one was seen.
    pub(super) tree_rss_bytes: Option<u64>,
    pub(super) cgroup_peak_bytes: Option<u64>,
    pub(super) stages: Vec<StagePeak>,
    /// The kernel ended it for the cap.
    pub(super) killed_by_cap: bool,
}

/// Runs `command` once, capped if `cap_bytes` says so.
///
/// # Errors
///
/// [`Trouble`], when it cannot be started, fails, or says what is not understood of its stages.
pub(super) fn run(
    command: &[OsString],
    cap_bytes: Option<u64>,
    interrupts: &mut Interrupts,
) -> Result<Run, Trouble> {
    let group = cap_bytes.map(Group::with_cap).transpose()?;
    let folder = tempfile::tempdir().map_err(|why| {
        Trouble(format!("no temporary folder for the stage log: {why}; set TMPDIR"))
    })?;
    let log = folder.path().join("stages");
    let mut child = start(command, group.as_ref(), &log)?;
    let pid = Pid::from_raw(child.id() as i32);
    let (ended, seen) = until_it_ends(pid, interrupts, || child.wait4());
    // What it left running would be measured in the next run.
    let _ = killpg(pid, Signal::SIGKILL);
    let ended = ended.map_err(|why| Trouble(format!("the command cannot be waited for: {why}")))?;
    if let Some(signal) = seen.interrupted {
        return Err(Trouble(format!("interrupted by {signal}")));
    }
    let killed = group.as_ref().is_some_and(Group::killed);
    if !killed {
        check_status(ended.status, command)?;
    }
    Ok(Run {
        peak_rss_bytes: ended.rusage.maxrss,
        rss_at_most: ended.rusage.maxrss <= own_peak_bytes()?,
        tree_rss_bytes: (seen.processes > 1).then_some(seen.tree_rss_bytes),
        cgroup_peak_bytes: group.as_ref().and_then(Group::peak_bytes),
        stages: stages(&log)?,
        killed_by_cap: killed,
    })
}

fn own_peak_bytes() -> Result<u64, Trouble> {
    let meter = Meter::live().and_then(|meter| meter.peak_rss_bytes());
    meter.map_err(|why| Trouble(why.to_string()))
}

fn start(command: &[OsString], group: Option<&Group>, log: &Path) -> Result<Child, Trouble> {
    let [program, arguments @ ..] = command else {
        return Err(Trouble("no command is given; write it behind --".to_owned()));
    };
    let mut child = match group {
        None => Command::new(program),
        Some(group) => {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(ENTER).arg(group.door()).arg(program);
            shell
        }
    };
    child
        .args(arguments)
        .env(stage_log::VARIABLE, log)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .process_group(0);
    child
        .spawn()
        .map_err(|why| Trouble(format!("{}: cannot be started: {why}", program.to_string_lossy())))
}

fn check_status(status: ExitStatus, command: &[OsString]) -> Result<(), Trouble> {
    if status.success() {
        return Ok(());
    }
    let program = command.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    let how = match (status.code(), status.signal()) {
        // What a shell says of a command, be it ours under a cap or one of the command's own.
        (Some(126), _) => "exit code 126: found, and no program that may be run".to_owned(),
        (Some(127), _) => "exit code 127: no such program".to_owned(),
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => {
            let name = Signal::try_from(signal).map_or("a signal", Signal::as_str);
            format!("{name}, {signal}")
        }
        (None, None) => "no exit code".to_owned(),
    };
    Err(Trouble(format!(
        "{program}: the command failed ({how}), so nothing is compared; its messages are above"
    )))
}

fn stages(log: &Path) -> Result<Vec<StagePeak>, Trouble> {
    match std::fs::read_to_string(log) {
        Ok(text) => of_run(&text).map_err(Trouble),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(why) => Err(Trouble(format!("the stage log cannot be read: {why}"))),
    }
}
