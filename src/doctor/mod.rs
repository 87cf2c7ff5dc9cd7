//! What is wrong with this machine for a prover, and the command that mends it.
//!
//! ```text
//!   root (/ or a fixture tree)            Machine              examine            Finding
//!   proc/meminfo, swaps, self/*    ---->  a snapshot:   ---->  one pure    ---->  ok | warn | fail
//!   proc/sys/vm, sys/block/zram*   read   numbers and   check  function    each   what was found,
//!   sys/kernel/mm, sys/devices     once   names only           a subject          the command
//!   the spill folder (opened, and timed when asked to)
//! ```
//!
//! Rooms: `machine` and `probe` read; `kernel`, `memory`, `swap` and `spill` judge. A check sees
//! nothing but the snapshot, so that a tree of files from another machine gives what it would give
//! there; only the spill folder is opened, since no file tells what a file system does, and on this
//! machine the pager is tried out by its own probe, so that the two never disagree.
//!
//! Invariants:
//!
//! * the same snapshot gives the same findings in the same order;
//! * a finding that is not [`Level::Ok`] says what to run or do;
//! * what a machine lacks (no cgroup, no zram, no NUMA) is judged; what cannot be read is a
//!   [`Level::Warn`] that names the file, never taken for a good value.
//!
//! Must never: change the machine, need root, or print what a process holds. Thresholds are
//! constants beside their checks, with the reason.
//!
//! Sources: proc(5), the kernel's admin-guide/sysctl/vm, admin-guide/mm and
//! admin-guide/blockdev/zram pages, userfaultfd(2), open(2).

use crate::limit::format_bytes;
use std::path::Path;

mod kernel;
mod machine;
mod memory;
mod probe;
mod spill;
mod swap;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_damage;

pub use machine::{
    CgroupSetting, Machine, Reading, SwapArea, Ulimits, UserfaultDevice, ZramDevice,
};
pub use plimsoll_swap::file::{Access, Naming};
pub use plimsoll_swap::pager::{Door, Obstacle, Probe as PagerProbe};
pub use probe::{Probe, SpillFolder, SpillSpeed};

/// How bad a finding is, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Level {
    /// As it should be.
    Ok,
    /// Proofs are made, slower or with more risk than need be; or it could not be found out.
    Warn,
    /// Something that the runtime offers does not work here.
    Fail,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Finding {
    /// The subject, one or two words; the same in every run.
    pub name: &'static str,
    /// How bad it is.
    pub level: Level,
    /// The value found, and why it is good or not.
    pub says: String,
    /// The command or the step that mends it; `None` exactly when the level is [`Level::Ok`].
    pub mend: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, says: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, says: one_line(says.into()), mend: None }
    }

    fn warn(name: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        let mend = Some(one_line(mend.into()));
        Self { name, level: Level::Warn, says: one_line(says.into()), mend }
    }

    fn fail(name: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Fail, ..Self::warn(name, says, mend) }
    }

    /// A file that is there and cannot be read or understood.
    fn unread(name: &'static str, why: &str) -> Self {
        Self::warn(name, why, "run it on the host, or as the user that runs the prover")
    }
}

/// Everything that is to be said of `machine`, in a fixed order: kernel, memory, swap, limits of
/// the process, spill folder.
#[must_use]
pub fn examine(machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![
        kernel::version(machine),
        memory::cgroup(machine),
        memory::available(machine),
        memory::overcommit(machine),
        memory::map_count(machine),
        memory::huge_pages(machine),
        memory::balloon(machine),
        memory::numa(machine),
        swap::areas(machine),
        swap::zram(machine),
        swap::swappiness(machine),
        swap::page_cluster(machine),
        kernel::userfaultfd(machine),
    ];
    findings.extend(memory::ulimits(machine));
    findings.extend(spill::folder(machine));
    findings
}

/// The worst level among `findings`; [`Level::Ok`] of none.
#[must_use]
pub fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}

/// `text` with a question mark for each control character: what a file or a path holds can neither
/// break a line nor move a terminal's cursor.
fn one_line(text: String) -> String {
    if text.chars().any(char::is_control) {
        return text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    }
    text
}

/// A path as one word of a shell's command line.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// A size as text, the way the whole command shows it.
fn size(bytes: u64) -> String {
    format_bytes(bytes).to_string()
}

/// `part` of `whole` in percent, rounded down; 100 where there is no whole.
fn percent(part: u64, whole: u64) -> u64 {
    (u128::from(part) * 100).checked_div(u128::from(whole)).map_or(100, |share| share as u64)
}
