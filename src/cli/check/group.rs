//! A memory cgroup of our own, for one run: its cap and its peak.
//!
//! ```text
//!   <our cgroup>/plimsoll-check-PID        v1  memory.limit_in_bytes  memory.max_usage_in_bytes
//!                                          v2  memory.max             memory.peak
//! ```
//!
//! The cap is on memory without swap where the kernel can say so: a run that swaps would stay
//! under any cap. The peak is the kernel's, page cache and kernel memory included.
//!
//! Whoever holds a [`Group`] made the folder; its drop kills what is left in it and removes it.
//!
//! Must never: touch a cgroup that it did not make, or go on without a cap that was asked for.
//!
//! Sources: the kernel's admin-guide/cgroup-v1/memory and admin-guide/cgroup-v2.

use super::trouble::Trouble;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plimsoll::meter::{CgroupVersion, Meter};
use std::path::PathBuf;
use std::time::Duration;

/// Tries to remove a cgroup whose last process has just gone, and the time between two.
const REMOVE_TRIES_MAX: u32 = 1000;
const REMOVE_PAUSE: Duration = Duration::from_millis(5);

pub(super) struct Group {
    folder: PathBuf,
    version: CgroupVersion,
}

impl Group {
    /// Makes a cgroup with a cap of `cap_bytes`.
    ///
    /// # Errors
    ///
    /// [`Trouble`] with the reason, when this machine or this user cannot.
    pub(super) fn with_cap(cap_bytes: u64) -> Result<Self, Trouble> {
        let why_not = |why: String| {
            Trouble(format!(
                "--cap: {why}; run it as root, or leave --cap out and put all of it under one: \
                 systemd-run --user --scope -p MemoryMax={cap_bytes} plimsoll check ..."
            ))
        };
        let own = Meter::live()
            .and_then(|meter| meter.own_cgroup())
            .map_err(|why| why_not(why.to_string()))?;
        let Some((version, own)) = own else {
            return Err(why_not("there is no memory cgroup here".to_owned()));
        };
        if version == CgroupVersion::V2 {
            // Refused where it is on already by other means, or processes live here; the cap below
            // says whether it is on.
            let _ = std::fs::write(own.join("cgroup.subtree_control"), "+memory");
        }
        let folder = own.join(format!("plimsoll-check-{}", std::process::id()));
        std::fs::create_dir(&folder)
            .map_err(|why| why_not(format!("{}: cannot be made: {why}", folder.display())))?;
        let group = Self { folder, version };
        let (limit, swap) = match version {
            CgroupVersion::V1 => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
            CgroupVersion::V2 => ("memory.max", "memory.swap.max"),
        };
        let file = group.folder.join(limit);
        std::fs::write(&file, cap_bytes.to_string())
            .map_err(|why| why_not(format!("{}: cannot be set: {why}", file.display())))?;
        let swap = group.folder.join(swap);
        if swap.exists() {
            // v1 limits memory and swap together, v2 swap alone.
            let bytes = if version == CgroupVersion::V1 { cap_bytes } else { 0 };
            std::fs::write(&swap, bytes.to_string())
                .map_err(|why| why_not(format!("{}: cannot be set: {why}", swap.display())))?;
        }
        Ok(group)
    }

    /// The file that a process enters by writing its id.
    pub(super) fn door(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// Most bytes charged so far; `None` before Linux 5.19 with v2.
    pub(super) fn peak_bytes(&self) -> Option<u64> {
        let file = match self.version {
            CgroupVersion::V1 => "memory.max_usage_in_bytes",
            CgroupVersion::V2 => "memory.peak",
        };
        std::fs::read_to_string(self.folder.join(file)).ok()?.trim().parse().ok()
    }

    /// Whether the kernel killed a process for the cap.
    pub(super) fn killed(&self) -> bool {
        let file = match self.version {
            CgroupVersion::V1 => "memory.oom_control",
            CgroupVersion::V2 => "memory.events",
        };
        let text = std::fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count != "0"))
    }

    fn kill_all(&self) {
        let members = std::fs::read_to_string(self.door()).unwrap_or_default();
        for pid in members.lines().filter_map(|line| line.parse().ok()) {
            // Gone already: nothing left to do.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..REMOVE_TRIES_MAX {
            self.kill_all();
            match std::fs::remove_dir(&self.folder) {
                Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
                    std::thread::sleep(REMOVE_PAUSE);
                }
                _ => return,
            }
        }
        eprintln!("note: {} cannot be removed; rmdir it", self.folder.display());
    }
}
