//! Finds what is wrong with this machine for a prover, and names the command that mends it.
//!
//! ```text
//!   root (/ or a fixture tree)            Machine              examine            Finding
//!   proc/meminfo, swaps, self/*    ---->  a snapshot:   ---->  one pure    ---->  ok | warn | fail
//!   proc/sys/vm, sys/block/zram*   read   numbers and   check  function    each   what was found,
//!   sys/kernel/mm, sys/devices     once   names only           a subject          the command
//!   the spill folder (opened, and timed when asked to)
//! ```
//!
//! ```
//! use plimsoll::doctor::{Level, Machine, Probe, examine, worst};
//!
//! let findings = examine(&Machine::live("/var/tmp".as_ref(), Probe::Off));
//! for finding in findings.iter().filter(|finding| finding.level > Level::Ok) {
//!     println!("{}: {} -> {:?}", finding.name, finding.says, finding.mend);
//! }
//! let _exit_code = worst(&findings) as i32;
//! ```
//!
//! Rooms: `machine` and `probe` read, a file by `reading`; `kernel`, `memory`, `swap` and `spill`
//! judge, in the words of `finding`. A check sees nothing but the snapshot, so that a tree of files
//! from another machine gives what it would give there; only the spill folder is opened, since no
//! file tells what a file system does, and on this machine the pager is tried out by its own probe,
//! so that the two never disagree. So is the spill tier `kernel`.
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

mod finding;
mod kernel;
mod machine;
mod memory;
mod probe;
mod reading;
mod spill;
mod swap;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_damage;

pub use finding::{Finding, Level};
pub use machine::{CgroupSetting, Machine, SwapArea, Ulimits, UserfaultDevice, ZramDevice};
pub use plimsoll_swap::backend::Kept;
pub use plimsoll_swap::file::{Access, Naming, Taking};
pub use plimsoll_swap::pager::{Door, Obstacle, Probe as PagerProbe};
pub use probe::{Probe, SpillFolder, SpillSpeed};
pub use reading::Reading;
pub use swap::ZRAM_SETUP;

/// Returns all findings about `machine`, in a fixed order: kernel, memory, swap, limits of the
/// process, spill folder.
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
    findings.extend(swap::kernel_tier(machine));
    findings.extend(memory::ulimits(machine));
    findings.extend(spill::folder(machine));
    findings
}

/// Returns the worst level among `findings`; [`Level::Ok`] if there are none.
#[must_use]
pub fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}
