//! Memory: the cgroup, what is available, and the kernel's rules for mapping it.
//!
//! Sources: proc_meminfo(5), the kernel's admin-guide/sysctl/vm, admin-guide/mm/transhuge and
//! admin-guide/cgroup-v2 pages, getrlimit(2), numa(7), virtio 1.2 on balloons.

use super::finding::{Finding, percent, size};
use super::machine::Machine;
use crate::meter::CgroupVersion;

/// Who holds memory, largest first.
const HOLDERS: &str = "ps -eo rss,pid,comm --sort=-rss | head";

/// Smallest cgroup limit in bytes that passes: 256 MiB. A Groth16 proof of 2^20 constraints takes
/// 214 MiB in core (`plimsoll plan --constraints 1048576`), and a margin is kept.
const CGROUP_BYTES_MIN: u64 = 256 << 20;

/// Use of a cgroup's limit, in percent, from which on little is left for a proof.
const CGROUP_USED_PERCENT_MAX: u64 = 90;

/// `MemAvailable` below this share of the memory, in percent: others hold what a proof could use.
const AVAILABLE_PERCENT_MIN: u64 = 25;

/// Below this share, in percent, the kernel is reclaiming already.
const AVAILABLE_PERCENT_FAIL: u64 = 5;

/// Strict overcommit with less than this left, in bytes (1 GiB), refuses the next large vector.
const COMMIT_BYTES_MIN: u64 = 1 << 30;

/// The kernel's own default of vm.max_map_count. Pools need few mappings, but a thread takes two
/// and a huge-page hint splits one.
const MAP_COUNT_MIN: u64 = 65_530;

/// Open files that a prover needs: keys, witness, spill file, cgroup and meter files, with room.
const OPEN_FILES_MIN: u64 = 256;

/// The least a spill file takes, in bytes: 64 MiB.
const FILE_BYTES_MIN: u64 = 64 << 20;

pub(super) fn cgroup(machine: &Machine) -> Finding {
    const NAME: &str = "cgroup";
    let cgroup = match &machine.cgroup {
        Ok(Some(cgroup)) => cgroup,
        Ok(None) => return Finding::ok(NAME, "none for memory: the machine itself is the limit"),
        Err(why) => {
            let mend = "run it where /proc and /sys/fs/cgroup are the kernel's, or set --limit";
            return Finding::fail(NAME, why, mend);
        }
    };
    let version = match cgroup.version {
        CgroupVersion::V1 => "v1",
        CgroupVersion::V2 => "v2",
    };
    let Some(tightest) = cgroup.tightest_bytes() else {
        return Finding::ok(NAME, format!("{version}, no limit"));
    };
    let path = cgroup.path.display();
    let kind = if cgroup.limit_bytes == Some(tightest) { "limit" } else { "memory.high" };
    let says = format!("{version}, {kind} of {} at {path}", size(tightest));
    let used = cgroup.usage_bytes.unwrap_or(0);
    let raise = match cgroup.version {
        CgroupVersion::V1 => "raise memory.limit_in_bytes",
        CgroupVersion::V2 => "raise memory.max, and memory.high with it,",
    };
    if tightest < CGROUP_BYTES_MIN {
        Finding::warn(
            NAME,
            format!("{says}: a million constraints need more"),
            format!("{raise} of {path}"),
        )
    } else if percent(used, tightest) >= CGROUP_USED_PERCENT_MAX {
        Finding::warn(NAME, format!("{says}: {} of it are in use", size(used)), HOLDERS)
    } else {
        Finding::ok(NAME, format!("{says}, {} in use", size(used)))
    }
}

pub(super) fn available(machine: &Machine) -> Finding {
    const NAME: &str = "memory";
    let memory = match &machine.memory {
        Ok(memory) => memory,
        Err(why) => return Finding::fail(NAME, why, "mount -t proc proc /proc"),
    };
    let (free, total) = (memory.mem_available_bytes, memory.mem_total_bytes);
    let share = percent(free, total);
    let says = format!("{} of {} available ({share} %)", size(free), size(total));
    if share < AVAILABLE_PERCENT_FAIL {
        Finding::fail(NAME, format!("{says}: the machine is full"), HOLDERS)
    } else if share < AVAILABLE_PERCENT_MIN {
        Finding::warn(NAME, format!("{says}: a limit of auto is not more than that"), HOLDERS)
    } else {
        Finding::ok(NAME, says)
    }
}

pub(super) fn overcommit(machine: &Machine) -> Finding {
    const NAME: &str = "overcommit";
    match machine.overcommit {
        Ok(Some(0)) => Finding::ok(NAME, "0, heuristic"),
        Ok(Some(1)) => Finding::ok(NAME, "1, always"),
        Ok(Some(2)) => strict_overcommit(NAME, machine),
        Ok(Some(mode)) => Finding::unread(NAME, &format!("vm.overcommit_memory is {mode}")),
        Ok(None) => Finding::unread(NAME, "no /proc/sys/vm/overcommit_memory"),
        Err(ref why) => Finding::unread(NAME, why),
    }
}

fn strict_overcommit(name: &'static str, machine: &Machine) -> Finding {
    let mend = "sysctl -w vm.overcommit_memory=0";
    let left = match machine.commit {
        Ok(Some((limit, used))) => limit.saturating_sub(used),
        Ok(None) => return Finding::warn(name, "2, strict: how much is left is not shown", mend),
        Err(ref why) => return Finding::unread(name, why),
    };
    let says = format!("2, strict: mappings are refused after {} more, free or not", size(left));
    if left < COMMIT_BYTES_MIN {
        Finding::fail(name, says, mend)
    } else {
        Finding::warn(name, says, mend)
    }
}

pub(super) fn map_count(machine: &Machine) -> Finding {
    const NAME: &str = "max_map_count";
    match machine.max_map_count {
        Ok(Some(count)) if count >= MAP_COUNT_MIN => Finding::ok(NAME, count.to_string()),
        Ok(Some(count)) => Finding::warn(
            NAME,
            format!("{count}: less than the kernel's default of {MAP_COUNT_MIN}"),
            format!("sysctl -w vm.max_map_count={MAP_COUNT_MIN}"),
        ),
        Ok(None) => Finding::unread(NAME, "no /proc/sys/vm/max_map_count"),
        Err(ref why) => Finding::unread(NAME, why),
    }
}

pub(super) fn huge_pages(machine: &Machine) -> Finding {
    const NAME: &str = "huge pages";
    let mend = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
    match &machine.huge_pages {
        Ok(Some(mode)) if mode == "madvise" => {
            Finding::ok(NAME, "madvise: where they are asked for")
        }
        Ok(Some(mode)) if mode == "always" => Finding::warn(
            NAME,
            "always: the rest of the process takes them too, so it grows in steps of 2 MiB",
            mend,
        ),
        Ok(Some(mode)) if mode == "never" => {
            Finding::warn(NAME, "never: first touch of fresh memory is several times slower", mend)
        }
        Ok(Some(mode)) => Finding::unread(NAME, &format!("unknown mode {mode:?}")),
        Ok(None) => Finding::warn(
            NAME,
            "none: first touch of fresh memory is several times slower",
            "boot a kernel with CONFIG_TRANSPARENT_HUGEPAGE=y, or mount /sys",
        ),
        Err(why) => Finding::unread(NAME, why),
    }
}

pub(super) fn balloon(machine: &Machine) -> Finding {
    const NAME: &str = "balloon";
    match &machine.free_page_reporting {
        Ok(None) => Finding::ok(NAME, "none: free pages stay here"),
        Ok(Some(false)) => Finding::ok(NAME, "reports no free pages: they stay here"),
        Ok(Some(true)) => Finding::warn(
            NAME,
            "reports free pages, which the host takes: each first touch waits to get one back",
            "on the host: QEMU free-page-reporting=off, Firecracker free_page_reporting false; \
             else keep pages in the process, in a pool",
        ),
        Err(why) => Finding::unread(NAME, why),
    }
}

pub(super) fn numa(machine: &Machine) -> Finding {
    const NAME: &str = "NUMA";
    match machine.numa_nodes {
        Ok(None | Some(0 | 1)) => Finding::ok(NAME, "one node"),
        Ok(Some(count)) => Finding::warn(
            NAME,
            format!("{count} nodes: one can be full, and slow, while another is empty"),
            "numactl --interleave=all plimsoll prove",
        ),
        Err(ref why) => Finding::unread(NAME, why),
    }
}

pub(super) fn ulimits(machine: &Machine) -> Vec<Finding> {
    let limits = match &machine.ulimits {
        Ok(Some(limits)) => *limits,
        Ok(None) => return vec![Finding::unread("ulimits", "no /proc/self/limits")],
        Err(why) => return vec![Finding::unread("ulimits", why)],
    };
    let addresses = limits.address_space_bytes.into_iter().chain(limits.data_bytes).min();
    let addresses = match addresses {
        None => Finding::ok("addresses", "no ulimit on them"),
        Some(bytes) => Finding::warn(
            "addresses",
            format!("at most {}: pools reserve more than they use", size(bytes)),
            "ulimit -v unlimited; ulimit -d unlimited",
        ),
    };
    let files = match limits.open_files {
        Some(count) if count < OPEN_FILES_MIN => Finding::warn(
            "open files",
            format!("at most {count}"),
            format!("ulimit -n {OPEN_FILES_MIN}"),
        ),
        Some(count) => Finding::ok("open files", format!("at most {count}")),
        None => Finding::ok("open files", "no ulimit on them"),
    };
    let core = match limits.core_bytes {
        Some(0) => Finding::ok("core files", "none are written"),
        _ => Finding::warn(
            "core files",
            "are written after a crash, and the witness with them",
            "ulimit -c 0",
        ),
    };
    vec![addresses, files, file_size(limits.file_bytes), locked(limits.locked_bytes), core]
}

/// The pager takes its spill file in steps of 64 MiB, and there is none below one.
fn file_size(bytes: Option<u64>) -> Finding {
    const NAME: &str = "file size";
    let Some(bytes) = bytes else { return Finding::ok(NAME, "no ulimit on it") };
    let (says, mend) = (format!("at most {}", size(bytes)), "ulimit -f unlimited");
    if bytes < FILE_BYTES_MIN {
        Finding::fail(NAME, format!("{says}: no spill file, so no pager"), mend)
    } else {
        Finding::warn(NAME, format!("{says}, and so of what can be spilled"), mend)
    }
}

fn locked(bytes: Option<u64>) -> Finding {
    let most =
        bytes.map_or_else(|| "no ulimit on it".to_owned(), |b| format!("at most {}", size(b)));
    Finding::ok("locked memory", format!("{most}; what a program locks is not paged"))
}
