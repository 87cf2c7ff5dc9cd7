//! What the kernel and the environment say, and the one account of this process's memory.
//!
//! ```text
//!   env, words     PLIMSOLL_LIMIT=8Gi  ->  LimitSpec          one reader, one grammar
//!   file           /proc, /sys         ->  lines and numbers  no allocation
//!   cgroup         the group's files   ->  the tightest limit
//!   allowance      machine and group   ->  what a LimitSpec comes to
//!   resident       /proc/self/statm    ->  anonymous and file pages
//!   kernel         resident bytes, and what of them counts
//!   swap           areas on disks and in zram  ->  RAM that zram takes for this process
//!   foreign        what is nobody's, as the youngest look found it
//!   account        the limit in force, and who holds how much
//!   over           the line that says that the limit is exceeded
//!   thrash         the guard against a limit that takes most of the time
//!   say            one line to standard error, and what tests say that are skipped
//! ```
//!
//! All owners of memory under a limit ask here: the pools through their ledger, the global
//! allocator, and the pager. No other room opens these files, reads the environment, or keeps a
//! limit.
//!
//! Invariants: every number is in bytes; only this room converts pages and kB. Either a file is
//! understood, or an error names the file and the text in it.
//!
//! Must never: allocate, lock, log or panic, except in the functions that say so. All of it may run
//! inside the first large allocation of a program.
//!
//! Sources: proc(5), proc_pid_statm(5), proc_meminfo(5), cgroups(7), and the kernel's
//! admin-guide/cgroup-v2 and cgroup-v1/memory pages.

mod account;
mod allowance;
mod cgroup;
mod env;
mod file;
mod foreign;
mod kernel;
mod limit;
mod over;
mod resident;
mod say;
mod swap;
mod thrash;
mod words;

#[cfg(not(loom))]
pub use account::process;
pub use account::{Account, AccountRef, Expected, Owner, Pressure};
pub use allowance::{
    Allowance, Bound, CGROUP_MARGIN_BYTES_MIN, CGROUP_MARGIN_DIVISOR, LIMIT_BYTES_MIN,
    MachineMemory, Resolved, cgroup_margin_bytes,
};
pub use cgroup::{CgroupVersion, Group, Scratch};
pub use env::{LIMIT_VARIABLE, SPILL_DIR_VARIABLE, is_on, size_variable, variable};
pub use file::{Tree, Unread};
pub use limit::Source;
pub use over::Parts;
pub use resident::{Resident, addresses_left};
pub use say::{say, skipped};
pub use swap::{Swap, SwapKind, SwapLine, ZramStat};
pub use thrash::{OnThrash, ShareMeter, Stretch, Thrash};
pub use words::{LimitSpec, Misread, MisreadKind, Share, parse_size};
