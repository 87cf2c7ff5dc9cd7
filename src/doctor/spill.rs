//! The spill folder: what its file system does, how much room it has, and how fast it is.
//!
//! Sources: open(2) on `O_DIRECT` and `O_TMPFILE`, statfs(2), filesystems(5).

use super::finding::{Finding, shell_word, size};
use super::machine::Machine;
use super::probe::SpillFolder;
use plimsoll_swap::Error;
use plimsoll_swap::file::{Access, Naming, Taking};

/// File systems whose files are in RAM: spilling there frees nothing.
const IN_RAM: [&str; 3] = ["tmpfs", "ramfs", "devtmpfs"];

/// File systems behind a network or another program: a page of a proof waits for either.
const REMOTE: [&str; 10] =
    ["nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "glusterfs", "lustre", "fuse"];

/// Least room in bytes (1 GiB) for a spill file that is worth opening.
const FREE_BYTES_MIN: u64 = 1 << 30;

/// Slowest spill that keeps up with a prover, in bytes a second: 400 MB/s is a SATA disk without
/// moving parts; below it a proof that spills mostly waits.
const SPEED_MIN: u64 = 400_000_000;

pub(super) fn folder(machine: &Machine) -> Vec<Finding> {
    let folder = &machine.spill;
    let mut findings = vec![file_system(folder)];
    if let Ok(opened) = &folder.opened {
        findings.push(room(machine, folder));
        findings.push(direct(opened.0));
        findings.push(nameless(opened.1));
        findings.extend(taking(folder));
    }
    findings.extend(speed(folder));
    findings
}

fn file_system(folder: &SpillFolder) -> Finding {
    const NAME: &str = "spill folder";
    let elsewhere = "plimsoll doctor --spill-dir DIR, with DIR on a local disk";
    let path = folder.path.display();
    let system = folder.file_system.as_deref().unwrap_or("an unknown file system");
    if IN_RAM.contains(&system) {
        let says = format!("{path} is on {system}, which is RAM: spilling there frees nothing");
        return Finding::fail(NAME, says, elsewhere);
    }
    if let Err(why) = &folder.opened {
        let mend = match why {
            Error::Open { os_error, .. } if *os_error == nix::errno::Errno::ENOENT as i32 => {
                format!("mkdir -p {}", shell_word(&folder.path))
            }
            _ => elsewhere.to_owned(),
        };
        return Finding::fail(NAME, why.to_string(), mend);
    }
    if system == "overlay" {
        return Finding::warn(
            NAME,
            format!("{path} is in the container's own layer, which has a small quota and is slow"),
            "mount a volume from the host's disk, and name it with --spill-dir",
        );
    }
    let kind = system.split('.').next().unwrap_or(system);
    if REMOTE.contains(&kind) {
        let says =
            format!("{path} is on {system}: each spilled page crosses a network or a daemon");
        return Finding::warn(NAME, says, elsewhere);
    }
    Finding::ok(NAME, format!("{path} on {system}"))
}

fn room(machine: &Machine, folder: &SpillFolder) -> Finding {
    const NAME: &str = "spill room";
    let path = folder.path.display();
    let free = match &folder.free_bytes {
        Ok(Some(bytes)) => *bytes,
        Ok(None) => return Finding::unread(NAME, &format!("{path}: free space is not shown")),
        Err(why) => return Finding::unread(NAME, why),
    };
    let bound = match &machine.cgroup {
        Ok(Some(cgroup)) => cgroup.tightest_bytes(),
        _ => None,
    };
    let memory = machine.memory.as_ref().map_or(0, |memory| memory.mem_total_bytes);
    let memory = bound.map_or(memory, |bound| bound.min(memory));
    let mend =
        format!("df -h {}; free some, or name another --spill-dir", shell_word(&folder.path));
    let says = format!("{} free", size(free));
    if free < FREE_BYTES_MIN {
        Finding::fail(NAME, says, mend)
    } else if free < memory {
        let says = format!("{says}: less than the memory ({}), so it ends soon", size(memory));
        Finding::warn(NAME, says, mend)
    } else {
        Finding::ok(NAME, says)
    }
}

fn direct(access: Access) -> Finding {
    const NAME: &str = "O_DIRECT";
    match access {
        Access::Direct => Finding::ok(NAME, "works in the spill folder"),
        Access::Buffered => Finding::warn(
            NAME,
            "refused: spilled bytes stay in the page cache, which a cgroup counts",
            "use ext4, XFS or Btrfs for the spill folder",
        ),
    }
}

fn nameless(naming: Naming) -> Finding {
    const NAME: &str = "O_TMPFILE";
    match naming {
        Naming::Nameless => Finding::ok(NAME, "works in the spill folder"),
        Naming::Unlinked => Finding::ok(NAME, "refused: the spill file has a name for a moment"),
    }
}

fn taking(folder: &SpillFolder) -> Option<Finding> {
    const NAME: &str = "fallocate";
    Some(match folder.taking.as_ref()? {
        Ok(Taking::Fallocate) => Finding::ok(NAME, "works in the spill folder"),
        Ok(Taking::Zeros) => Finding::warn(
            NAME,
            "refused in the spill folder: space is taken by zeros, and each byte is written twice",
            "use ext4, XFS or Btrfs for the spill folder",
        ),
        Err(why) => {
            let mend = "free some space or quota, or name another --spill-dir";
            Finding::fail(NAME, why.to_string(), mend)
        }
    })
}

fn speed(folder: &SpillFolder) -> Option<Finding> {
    const NAME: &str = "spill speed";
    let speed = match folder.speed.as_ref()? {
        Ok(speed) => speed,
        Err(why) => {
            let mend = "look at the kernel's log (dmesg), or name another --spill-dir";
            return Some(Finding::warn(NAME, why.to_string(), mend));
        }
    };
    let cached = match &folder.opened {
        Ok((Access::Buffered, _)) => ", in part the page cache's",
        _ => "",
    };
    let shown = |rate: u64| format!("{}.{:02} GB/s", rate / 1_000_000_000, rate / 10_000_000 % 100);
    let says = format!(
        "writes {}, reads {}, over {}{cached}",
        shown(speed.write_bytes_per_second),
        shown(speed.read_bytes_per_second),
        size(speed.measured_bytes),
    );
    let slowest = speed.write_bytes_per_second.min(speed.read_bytes_per_second);
    Some(if slowest < SPEED_MIN {
        let mend = "plimsoll doctor --probe --spill-dir DIR, with DIR on an NVMe disk";
        Finding::warn(NAME, format!("{says}: a proof that spills will wait for it"), mend)
    } else {
        Finding::ok(NAME, says)
    })
}
