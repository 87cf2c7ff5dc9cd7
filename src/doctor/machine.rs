//! The snapshot that checks look at: numbers and names read once below a root.
//!
//! Must never: follow what a file says to another file.
//!
//! Sources: proc(5), and the kernel's admin-guide/blockdev/zram and admin-guide/mm pages.

use super::probe::{Probe, SpillFolder, spill};
use super::reading::{Reading, number, parsed, text};
use crate::meter::{CgroupLimit, MachineMemory, Meter, MeterError};
use plimsoll_arena::process::{SwapLine, ZramStat};
use plimsoll_swap::backend::Kept;
use plimsoll_swap::store::SpillTier;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// One line of `/proc/swaps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapArea {
    /// The device or file.
    pub path: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// What is swapped out to it, in bytes.
    pub used_bytes: u64,
    /// Its priority; the highest is used first.
    pub priority: i64,
}

/// A zram device, from its `mm_stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZramDevice {
    /// Its name, `zram0`.
    pub name: String,
    /// Bytes that can be written to it; 0 while it is not set up.
    pub size_bytes: u64,
    /// Bytes written to it and still kept.
    pub stored_bytes: u64,
    /// RAM that it takes for them, in bytes, charged to no cgroup.
    pub used_bytes: u64,
    /// RAM that it may take, in bytes; 0 for no limit.
    pub limit_bytes: u64,
}

/// A number in a file of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupSetting {
    /// The file.
    pub path: PathBuf,
    /// What it says.
    pub value: u64,
}

/// What `/dev/userfaultfd` (Linux 6.1) is to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserfaultDevice {
    /// Not there.
    Absent,
    /// There, and may not be opened.
    Closed,
    /// May be opened: a full userfaultfd without privileges.
    Open,
}

/// Soft resource limits; `None` for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ulimits {
    /// `RLIMIT_AS`, in bytes.
    pub address_space_bytes: Option<u64>,
    /// `RLIMIT_DATA`, in bytes.
    pub data_bytes: Option<u64>,
    /// `RLIMIT_CORE`, in bytes.
    pub core_bytes: Option<u64>,
    /// `RLIMIT_NOFILE`.
    pub open_files: Option<u64>,
    /// `RLIMIT_FSIZE`, in bytes.
    pub file_bytes: Option<u64>,
    /// `RLIMIT_MEMLOCK`, in bytes.
    pub locked_bytes: Option<u64>,
}

/// Everything that the checks look at.
#[derive(Clone, Debug)]
pub struct Machine {
    /// `kernel.osrelease`.
    pub kernel_release: Reading<String>,
    /// `/proc/meminfo`, or one line that says why not.
    pub memory: Result<MachineMemory, String>,
    /// `CommitLimit` and `Committed_AS`, in bytes.
    pub commit: Reading<(u64, u64)>,
    /// The tightest memory cgroup.
    pub cgroup: Reading<CgroupLimit>,
    /// `memory.swappiness` of the own cgroup, v1 only: there it is what counts, not the sysctl.
    pub cgroup_swappiness: Reading<CgroupSetting>,
    /// `memory.swap.max` of the own cgroup in bytes, v2 only; not there for no limit.
    pub cgroup_swap_max: Reading<CgroupSetting>,
    /// `vm.overcommit_memory`.
    pub overcommit: Reading<u64>,
    /// `vm.max_map_count`.
    pub max_map_count: Reading<u64>,
    /// `vm.swappiness`.
    pub swappiness: Reading<u64>,
    /// `vm.page-cluster`: a fault reads two to the power of it pages.
    pub page_cluster: Reading<u64>,
    /// `vm.unprivileged_userfaultfd`; not there in a kernel without userfaultfd.
    pub unprivileged_userfaultfd: Reading<u64>,
    /// `/dev/userfaultfd`.
    pub userfault_device: UserfaultDevice,
    /// What the pager's own probe found; `None` for a tree of files, which cannot be tried out.
    pub pager: Option<plimsoll_swap::pager::Probe>,
    /// What has the bytes of the spill tier `kernel`, by a trial, or why it takes none; `None` for
    /// a tree of files, which cannot be tried out.
    pub kernel_tier: Option<Result<Kept, plimsoll_swap::Error>>,
    /// Effective user.
    pub user: Reading<u64>,
    /// Effective capabilities, one bit each.
    pub capabilities: Reading<u64>,
    /// `Seccomp` of this process: 2 with a filter.
    pub seccomp: Reading<u64>,
    /// The chosen mode of transparent huge pages.
    pub huge_pages: Reading<String>,
    /// Whether the guest's balloon reports free pages, which the host then takes back.
    pub free_page_reporting: Reading<bool>,
    /// Swap areas that are on.
    pub swaps: Reading<Vec<SwapArea>>,
    /// zram devices, by name.
    pub zram: Reading<Vec<ZramDevice>>,
    /// NUMA nodes that are on line.
    pub numa_nodes: Reading<u64>,
    /// Soft resource limits of this process.
    pub ulimits: Reading<Ulimits>,
    /// The folder a spill file would go to.
    pub spill: SpillFolder,
}

impl Machine {
    /// Reads this machine, with `spill_folder` for its spill folder.
    #[must_use]
    pub fn live(spill_folder: &Path, probe: Probe) -> Self {
        Self::at(Path::new("/"), spill_folder, probe)
    }

    /// Reads the tree below `root` as if it were `/`; the spill folder too is below it.
    #[must_use]
    pub fn at(root: &Path, spill_folder: &Path, probe: Probe) -> Self {
        let meter = Meter::at(root).map_err(|why| why.to_string());
        let known = || meter.as_ref().map_err(Clone::clone);
        let line = |why: MeterError| why.to_string();
        let memory = known().and_then(|meter| meter.machine_memory().map_err(line));
        let commit = known().and_then(|meter| meter.commit_bytes().map_err(line));
        let cgroup = known().and_then(|meter| meter.cgroup().map_err(line));
        let setting = |name| cgroup_setting(root, meter.as_ref().ok(), name);
        let vm = |name| number(root, &format!("proc/sys/vm/{name}"));
        let status = |field, word, radix| status_field(root, field, word, radix);
        Self {
            kernel_release: text(root, "proc/sys/kernel/osrelease"),
            memory,
            commit,
            cgroup,
            cgroup_swappiness: setting("memory.swappiness"),
            cgroup_swap_max: setting("memory.swap.max"),
            overcommit: vm("overcommit_memory"),
            max_map_count: vm("max_map_count"),
            swappiness: vm("swappiness"),
            page_cluster: vm("page-cluster"),
            unprivileged_userfaultfd: vm("unprivileged_userfaultfd"),
            userfault_device: userfault_device(root),
            pager: (root == Path::new("/")).then(plimsoll_swap::pager::probe),
            kernel_tier: (root == Path::new("/")).then(SpillTier::kernel_trial),
            user: status("Uid:", 1, 10),
            capabilities: status("CapEff:", 0, 16),
            seccomp: status("Seccomp:", 0, 10),
            huge_pages: huge_pages(root),
            free_page_reporting: free_page_reporting(root),
            swaps: swaps(root),
            zram: zram(root),
            numa_nodes: numa_nodes(root),
            ulimits: ulimits(root),
            spill: spill(root, spill_folder, probe),
        }
    }
}

/// Number `word` of a line of `/proc/self/status`, from 0 on.
fn status_field(root: &Path, field: &str, word: usize, radix: u32) -> Reading<u64> {
    let value = parsed(root, "proc/self/status", |text| {
        let Some(rest) = text.lines().find_map(|line| line.strip_prefix(field)) else {
            return Some(None);
        };
        let word = rest.split_whitespace().nth(word)?;
        u64::from_str_radix(word, radix).ok().map(Some)
    });
    value.map(Option::flatten)
}

/// The setting `name` of this process's memory cgroup; `max` is no setting.
fn cgroup_setting(root: &Path, meter: Option<&Meter>, name: &str) -> Reading<CgroupSetting> {
    let own = meter.map(Meter::own_cgroup).transpose().map_err(|why| why.to_string())?;
    let Some((_, folder)) = own.flatten() else { return Ok(None) };
    let folder = folder.strip_prefix(root).unwrap_or(&folder);
    let file = folder.join(name);
    let value = parsed(root, &file.to_string_lossy(), |text| match text {
        "max" => Some(None),
        number => number.parse().ok().map(Some),
    })?;
    Ok(value.flatten().map(|value| CgroupSetting { path: Path::new("/").join(file), value }))
}

fn userfault_device(root: &Path) -> UserfaultDevice {
    let open = File::options().read(true).write(true).open(root.join("dev/userfaultfd"));
    match open {
        Ok(_) => UserfaultDevice::Open,
        Err(why) if why.kind() == ErrorKind::PermissionDenied => UserfaultDevice::Closed,
        Err(_) => UserfaultDevice::Absent,
    }
}

/// `always [madvise] never`: the word in brackets.
fn huge_pages(root: &Path) -> Reading<String> {
    parsed(root, "sys/kernel/mm/transparent_hugepage/enabled", |text| {
        let word =
            text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
        word.map(str::to_owned)
    })
}

/// From the balloons among the virtio devices: their features are a line of `0` and `1`, feature 0
/// first.
fn free_page_reporting(root: &Path) -> Reading<bool> {
    /// Virtio device 5; feature 5 (virtio 1.2, 5.5).
    const BALLOON: &str = "0x0005";
    const REPORTING: usize = 5;
    let folder = "sys/bus/virtio/devices";
    let Ok(entries) = std::fs::read_dir(root.join(folder)) else { return Ok(None) };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut reports = None;
    for name in names {
        if text(root, &format!("{folder}/{name}/device"))?.as_deref() != Some(BALLOON) {
            continue;
        }
        let has = parsed(root, &format!("{folder}/{name}/features"), |text| {
            let are_bits = text.bytes().all(|bit| matches!(bit, b'0' | b'1'));
            are_bits.then(|| Some(text.as_bytes().get(REPORTING)? == &b'1')).flatten()
        })?;
        reports = Some(reports.unwrap_or(false) || has.unwrap_or(false));
    }
    Ok(reports)
}

fn swaps(root: &Path) -> Reading<Vec<SwapArea>> {
    parsed(root, "proc/swaps", |text| text.lines().skip(1).map(swap_area).collect())
}

/// A line of `/proc/swaps`; blanks in the path are written `\040`.
fn swap_area(line: &str) -> Option<SwapArea> {
    let SwapLine { path, size_bytes, used_bytes, priority } = SwapLine::parse(line.as_bytes())?;
    let path = String::from_utf8_lossy(path).replace("\\040", " ");
    Some(SwapArea { path, size_bytes, used_bytes, priority })
}

fn zram(root: &Path) -> Reading<Vec<ZramDevice>> {
    let Ok(entries) = std::fs::read_dir(root.join("sys/block")) else { return Ok(None) };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("zram")).collect();
    names.sort();
    names.into_iter().map(|name| zram_device(root, name)).collect::<Result<_, _>>().map(Some)
}

fn zram_device(root: &Path, name: String) -> Result<ZramDevice, String> {
    let size_bytes = number(root, &format!("sys/block/{name}/disksize"))?.unwrap_or(0);
    let stat = parsed(root, &format!("sys/block/{name}/mm_stat"), |text| {
        ZramStat::parse(text.as_bytes())
    })?;
    let ZramStat { stored_bytes, used_bytes, limit_bytes } = stat.unwrap_or_default();
    Ok(ZramDevice { name, size_bytes, stored_bytes, used_bytes, limit_bytes })
}

/// Counts the nodes of a list such as `0-1,4`.
fn numa_nodes(root: &Path) -> Reading<u64> {
    parsed(root, "sys/devices/system/node/online", |text| {
        let mut count = 0_u64;
        for range in text.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
        }
        Some(count)
    })
}

fn ulimits(root: &Path) -> Reading<Ulimits> {
    parsed(root, "proc/self/limits", |text| {
        let soft = |name: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
            match rest.split_whitespace().next()? {
                "unlimited" => Some(None),
                count => count.parse().ok().map(Some),
            }
        };
        Some(Ulimits {
            address_space_bytes: soft("Max address space")?,
            data_bytes: soft("Max data size")?,
            core_bytes: soft("Max core file size")?,
            open_files: soft("Max open files")?,
            file_bytes: soft("Max file size")?,
            locked_bytes: soft("Max locked memory")?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_lines_are_read_or_refused() {
        let area = swap_area("/swap\\040file file 1024 16 -2").expect("an area");
        assert_eq!(
            (area.path.as_str(), area.size_bytes, area.priority),
            ("/swap file", 1 << 20, -2)
        );
        for line in
            ["", "/a file", "/a file x 1 2", "/a file 1 2", "/a file 99999999999999999999 0 0"]
        {
            assert_eq!(swap_area(line), None, "{line}");
        }
    }
}
