//! The checks on trees of files: a good machine, a bare container, one thing wrong at a time, and
//! files full of noise.

use super::finding::shell_word;
use super::*;
use plimsoll_swap::file::{Access, Naming};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A machine on which nothing is wrong: 16 GiB, zram as a safety net, cgroup v2 with 8 GiB.
pub(super) const GOOD: [(&str, &str); 27] = [
    ("proc/sys/kernel/osrelease", "6.12.9-generic\n"),
    (
        "proc/meminfo",
        "MemTotal: 16777216 kB\nMemAvailable: 12582912 kB\nSwapTotal: 33554432 kB\n\
         SwapFree: 33554432 kB\nCommitLimit: 41943040 kB\nCommitted_AS: 1048576 kB\n",
    ),
    ("proc/self/statm", "100 50 25 1 0 30 0\n"),
    ("proc/self/status", "Name:\tx\nCapEff:\t0000000000000000\nSeccomp:\t0\nVmHWM:\t 100 kB\n"),
    ("proc/self/cgroup", "0::/prover\n"),
    (
        "proc/self/mountinfo",
        "22 1 254:0 / / rw - ext4 /dev/vda rw\n30 22 0:26 / /sys/fs/cgroup rw - cgroup2 none rw\n",
    ),
    (
        "proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n\
         Max data size             unlimited            unlimited            bytes     \n\
         Max file size             unlimited            unlimited            bytes     \n\
         Max core file size        0                    unlimited            bytes     \n\
         Max locked memory         8388608              8388608              bytes     \n\
         Max open files            1024                 524288               files     \n\
         Max address space         unlimited            unlimited            bytes     \n",
    ),
    ("proc/sys/vm/overcommit_memory", "0\n"),
    ("proc/sys/vm/max_map_count", "65530\n"),
    ("proc/sys/vm/swappiness", "10\n"),
    ("proc/sys/vm/page-cluster", "0\n"),
    ("proc/sys/vm/unprivileged_userfaultfd", "0\n"),
    ("proc/swaps", "Filename Type Size Used Priority\n/dev/zram0 partition 33554428 1024 100\n"),
    ("dev/userfaultfd", ""),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
    ("sys/devices/system/node/online", "0\n"),
    ("sys/bus/virtio/devices/virtio0/device", "0x0005\n"),
    ("sys/bus/virtio/devices/virtio0/features", "0110000000000000000000000000000010\n"),
    ("sys/block/zram0/disksize", "34359738368\n"),
    ("sys/block/zram0/mm_stat", " 1048576 4096 8192 8589934592 8192 0 0 0 0\n"),
    ("sys/block/vda/size", "1\n"),
    ("sys/fs/cgroup/prover/memory.max", "8589934592\n"),
    ("sys/fs/cgroup/prover/memory.high", "max\n"),
    ("sys/fs/cgroup/prover/memory.swap.max", "max\n"),
    ("sys/fs/cgroup/prover/memory.current", "1073741824\n"),
    ("sys/fs/cgroup/prover/memory.stat", "anon 4096\nfile 0\n"),
    ("var/tmp/.keep", ""),
];

pub(super) struct Tree {
    folder: TempDir,
}

impl Tree {
    pub(super) fn good() -> Self {
        let tree = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        for (name, text) in GOOD {
            tree.write(name, text.as_bytes());
        }
        tree
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, bytes).expect("a file");
    }

    pub(super) fn remove(&self, name: &str) {
        let path = self.folder.path().join(name);
        let gone =
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        gone.expect("there before");
    }

    /// The snapshot; what the test machine's own disk does is set to what a good one does.
    pub(super) fn machine(&self) -> Machine {
        let mut machine = Machine::at(self.folder.path(), Path::new("/var/tmp"), Probe::Off);
        machine.spill.free_bytes = Ok(Some(100 << 30));
        if machine.spill.opened.is_ok() {
            machine.spill.opened = Ok((Access::Direct, Naming::Nameless));
        }
        machine
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let findings = examine(&self.machine());
        assert_well_formed(&findings);
        findings
    }
}

fn assert_well_formed(findings: &[Finding]) {
    let mut names: Vec<_> = findings.iter().map(|finding| finding.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), findings.len(), "each subject once");
    for finding in findings {
        assert_eq!(finding.mend.is_none(), finding.level == Level::Ok, "{finding:?}");
        let shown = finding.says.clone() + finding.mend.as_deref().unwrap_or("");
        assert!(!finding.says.is_empty() && !shown.contains(char::is_control), "{finding:?}");
        assert!(finding.name.len() <= 13, "{finding:?} does not fit its column");
    }
}

pub(super) fn bad(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|finding| finding.level != Level::Ok).collect()
}

/// Exactly one finding is not ok in the good tree after `change`.
fn one(change: impl Fn(&Tree), name: &str, level: Level, says: &str, mend: &str) {
    let tree = Tree::good();
    change(&tree);
    let findings = tree.findings();
    let bad = bad(&findings);
    assert!(bad.len() == 1, "{name}: {bad:#?}");
    let found = bad[0];
    assert_eq!((found.name, found.level), (name, level), "{found:?}");
    assert!(found.says.contains(says), "{found:?}");
    assert!(found.mend.as_ref().is_some_and(|text| text.contains(mend)), "{found:?}");
}

fn file(name: &'static str, text: &'static str) -> impl Fn(&Tree) {
    move |tree| tree.write(name, text.as_bytes())
}

#[test]
fn the_kernel_tier_is_told_by_its_trial() {
    let mut machine = Tree::good().machine();
    assert!(!examine(&machine).iter().any(|finding| finding.name == "kernel tier"));
    let why = plimsoll_swap::Error::NoSwap { why: "there is no swap".to_owned() };
    for (trial, word) in [
        (Ok(Kept::Zram), "go to zram"),
        (Ok(Kept::SwapDisk), "--encrypt-spill"),
        (Err(why), "plimsoll zram up"),
    ] {
        machine.kernel_tier = Some(trial);
        let findings = examine(&machine);
        assert_well_formed(&findings);
        let told = findings.iter().find(|finding| finding.name == "kernel tier");
        assert!(told.is_some_and(|told| told.says.contains(word)), "{told:?}");
    }
}

#[test]
fn nothing_is_wrong_with_a_good_machine() {
    let findings = Tree::good().findings();
    assert_eq!(worst(&findings), Level::Ok, "{:#?}", bad(&findings));
    assert_eq!(findings.len(), 23);
    assert_eq!(worst(&[]), Level::Ok);
}

#[test]
fn the_same_snapshot_gives_the_same_findings() {
    let machine = Tree::good().machine();
    assert_eq!(examine(&machine), examine(&machine));
}

#[test]
fn kernels() {
    use Level::{Fail, Warn};
    let release = |text| file("proc/sys/kernel/osrelease", text);
    one(release("3.10.0-1160.el7\n"), "kernel", Fail, "MemAvailable", "boot Linux 6.12");
    one(release("5.4.0\n"), "kernel", Warn, "MADV_POPULATE_WRITE", "boot Linux");
    one(release("6.1.0-28-amd64\n"), "kernel", Warn, "no pager; all else", "boot Linux");
    one(release("6.8.12\n"), "kernel", Warn, "young", "boot Linux");
    one(release("Windows\n"), "kernel", Warn, "no version of Linux", "run it");
    let none = |tree: &Tree| {
        tree.remove("dev/userfaultfd");
        tree.remove("proc/sys/vm/unprivileged_userfaultfd");
    };
    one(none, "userfaultfd", Warn, "this kernel has none", "CONFIG_USERFAULTFD");
    let user_only = |tree: &Tree| tree.remove("dev/userfaultfd");
    one(user_only, "userfaultfd", Warn, "EFAULT", "sysctl -w vm.unprivileged_userfaultfd=1");
    let filter = |tree: &Tree| {
        tree.remove("dev/userfaultfd");
        tree.write("proc/self/status", b"CapEff:\t00000000a80425fb\nSeccomp:\t2\n");
    };
    one(filter, "userfaultfd", Warn, "seccomp", "--device /dev/userfaultfd");
    for status in ["CapEff:\t0000000000080000\nSeccomp:\t0\n", "CapEff:\t000001ffffffffff\n"] {
        let tree = Tree::good();
        tree.remove("dev/userfaultfd");
        tree.write("proc/self/status", status.as_bytes());
        assert_eq!(worst(&tree.findings()), Level::Ok);
    }
}

#[test]
fn balloons() {
    let features = |text| file("sys/bus/virtio/devices/virtio0/features", text);
    let reports = "0110010000000000000000000000000010\n";
    one(features(reports), "balloon", Level::Warn, "free pages", "free-page-reporting=off");
    one(features("0x26\n"), "balloon", Level::Warn, "kernel's format", "run it on the host");
    for change in
        [&(|tree: &Tree| tree.remove("sys/bus/virtio")) as &dyn Fn(&Tree), &|tree: &Tree| {
            tree.write("sys/bus/virtio/devices/virtio0/device", b"0x0001\n");
            tree.write("sys/bus/virtio/devices/virtio0/features", reports.as_bytes());
        }]
    {
        let tree = Tree::good();
        change(&tree);
        assert_eq!(worst(&tree.findings()), Level::Ok);
    }
}

#[test]
fn what_the_pagers_probe_finds_is_said() {
    use nix::libc::{EACCES, EINVAL, ENOENT, ENOSYS, EPERM};
    use plimsoll_swap::pager::{Door, Obstacle, Probe};
    type Change = dyn Fn(&mut Machine);
    let of = |door: Result<Door, Obstacle>, change: &Change| {
        let mut machine = Tree::good().machine();
        machine.user = Ok(Some(1000));
        machine.pager = Some(Probe { door, huge_pages: true });
        change(&mut machine);
        let findings = examine(&machine);
        assert_well_formed(&findings);
        findings.into_iter().find(|found| found.name == "userfaultfd").expect("a finding")
    };
    let asis = |_: &mut Machine| {};
    for door in [Door::Device, Door::Syscall] {
        assert_eq!(of(Ok(door), &asis).level, Level::Ok);
    }
    let refused = |device, syscall| Err(Obstacle::Refused { device, syscall, user_mode: EPERM });
    let filter = |m: &mut Machine| m.seccomp = Ok(Some(2));
    let no_kernel = |m: &mut Machine| m.unprivileged_userfaultfd = Ok(None);
    let trial = Err(Obstacle::Trial { call: "UFFDIO_MOVE", errno: EINVAL });
    let allow = "sysctl -w vm.unprivileged_userfaultfd=1";
    let cases: [(_, &Change, _, _); 9] = [
        (Ok(Door::UserModeOnly), &asis, "EFAULT", allow),
        (Err(Obstacle::UserModeOnly), &asis, "EFAULT", allow),
        (Err(Obstacle::NoMove), &asis, "UFFDIO_MOVE", "boot Linux 6.12"),
        (trial, &asis, "UFFDIO_MOVE failed in a trial: Invalid", "dmesg"),
        (refused(EACCES, EPERM), &asis, "Permission denied", "setfacl -m u:1000:rw"),
        (refused(ENOENT, EPERM), &asis, "not permitted", allow),
        (refused(EPERM, EPERM), &filter, "refused", "--device /dev/userfaultfd"),
        (refused(ENOENT, ENOSYS), &filter, "refused", "--device /dev/userfaultfd"),
        (refused(ENOENT, ENOSYS), &no_kernel, "this kernel has none", "CONFIG_USERFAULTFD"),
    ];
    for (door, change, says, mend) in cases {
        let found = of(door, change);
        assert_eq!(found.level, Level::Warn);
        assert!(found.says.contains(says), "{found:?}");
        assert!(found.mend.as_ref().is_some_and(|text| text.contains(mend)), "{found:?}");
    }
}

#[test]
fn doctor_and_the_pager_agree_on_this_machine() {
    let machine = Machine::live(&std::env::temp_dir(), Probe::Off);
    let probe = plimsoll_swap::pager::probe();
    assert_eq!(machine.pager, Some(probe));
    let findings = examine(&machine);
    let found = findings.iter().find(|found| found.name == "userfaultfd").expect("a finding");
    // What the pager takes without being told to accept user mode alone.
    let serves = matches!(probe.door, Ok(door) if door != plimsoll_swap::pager::Door::UserModeOnly);
    assert_eq!(found.level == Level::Ok, serves, "{found:?}, {probe:?}");
}

#[test]
fn memory_and_its_rules() {
    use Level::{Fail, Warn};
    let meminfo = |available: u64, limit: u64| {
        move |tree: &Tree| {
            let text = format!(
                "MemTotal: 16777216 kB\nMemAvailable: {available} kB\n\
                 CommitLimit: {limit} kB\nCommitted_AS: 1048576 kB\n"
            );
            tree.write("proc/meminfo", text.as_bytes());
        }
    };
    one(meminfo(4_000_000, 9), "memory", Warn, "23 %", "ps -eo rss");
    one(meminfo(400_000, 9), "memory", Fail, "full", "ps -eo rss");
    let strict = |left: u64| {
        move |tree: &Tree| {
            meminfo(12_000_000, 1_048_576 + left)(tree);
            tree.write("proc/sys/vm/overcommit_memory", b"2\n");
        }
    };
    let mend = "sysctl -w vm.overcommit_memory=0";
    one(strict(4 << 20), "overcommit", Warn, "after 4.00 GiB more", mend);
    one(strict(100), "overcommit", Fail, "strict", mend);
    let maps = file("proc/sys/vm/max_map_count", "1000\n");
    one(maps, "max_map_count", Warn, "1000", "sysctl -w vm.max_map_count=65530");
    let huge = |text| file("sys/kernel/mm/transparent_hugepage/enabled", text);
    one(huge("[always] madvise never\n"), "huge pages", Warn, "always", "echo madvise >");
    one(huge("always madvise [never]\n"), "huge pages", Warn, "slower", "echo madvise >");
    one(huge("damaged\n"), "huge pages", Warn, "not in the kernel's format", "run it");
    let nodes = file("sys/devices/system/node/online", "0-1,4\n");
    one(nodes, "NUMA", Warn, "3 nodes", "numactl --interleave=all");
}

#[test]
fn cgroups() {
    use Level::{Fail, Warn};
    let of = |name, text: &'static str| {
        move |tree: &Tree| {
            tree.write(&format!("sys/fs/cgroup/prover/memory.{name}"), text.as_bytes());
        }
    };
    one(
        of("max", "134217728\n"),
        "cgroup",
        Warn,
        "a million constraints need more",
        "raise memory.max",
    );
    one(of("current", "8589934592\n"), "cgroup", Warn, "8.00 GiB of it are in use", "ps -eo");
    one(of("max", "damaged\n"), "cgroup", Fail, "memory.max", "--limit");
    let tree = Tree::good();
    of("high", "4294967296\n")(&tree);
    let findings = tree.findings();
    assert_eq!(worst(&findings), Level::Ok);
    assert!(findings[1].says.contains("memory.high of 4.00 GiB at /prover"), "{:?}", findings[1]);
}

#[test]
fn swap_and_zram() {
    use Level::Warn;
    let swaps = |rows: &'static str| {
        move |tree: &Tree| {
            tree.write(
                "proc/swaps",
                format!("Filename Type Size Used Priority\n{rows}").as_bytes(),
            );
        }
    };
    one(swaps(""), "swap", Warn, "none", "plimsoll zram up");
    let disk = swaps("/swap.img file 1048576 0 -2\n");
    one(disk, "swap", Warn, "/swap.img", "swapoff /swap.img && plimsoll zram up");
    let both = swaps("/dev/zram0 partition 1024 0 100\n/dev/sda2 partition 1024 0 -2\n");
    one(both, "swap", Warn, "zram and /dev/sda2", "swapoff /dev/sda2");
    let full = swaps("/dev/zram0 partition 1024 1000 100\n");
    one(full, "swap", Warn, "nearly full", "plimsoll zram status");
    let stat = |text| file("sys/block/zram0/mm_stat", text);
    let useless = stat("1073741824 1073741824 1075838976 8589934592 0 0 0 0 0\n");
    one(useless, "zram", Warn, "zram0 does not compress", "swapoff /dev/zram0");
    let mend = "echo 8589934592 > /sys/block/zram0/mem_limit";
    one(stat("4096 64 8192 0 0 0 0 0 0\n"), "zram", Warn, "has no limit", mend);
    let large = stat("21474836480 5368709120 5368709120 8589934592 0 0 0 0 0\n");
    one(large, "zram", Warn, "20.00 GiB in 5.00 GiB", "plimsoll zram status");
    one(stat("1 2\n"), "zram", Warn, "zram0/mm_stat: not in", "run it");
    let swappiness = |text| file("proc/sys/vm/swappiness", text);
    one(swappiness("60\n"), "swappiness", Warn, "60", "sysctl -w vm.swappiness=10");
    one(swappiness("0\n"), "swappiness", Warn, "kills", "sysctl -w vm.swappiness=10");
    let v1 = |tree: &Tree| {
        tree.write("proc/self/cgroup", b"4:cpu,memory:/job\n0::/\n");
        let mount = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        tree.write("proc/self/mountinfo", mount.as_bytes());
        tree.write("sys/fs/cgroup/memory/job/memory.swappiness", b"60\n");
    };
    let mend = "echo 10 > /sys/fs/cgroup/memory/job/memory.swappiness";
    one(v1, "swappiness", Warn, "60", mend);
    let none = file("sys/fs/cgroup/prover/memory.swap.max", "0\n");
    one(none, "swap", Warn, "may use none", "echo max > /sys/fs/cgroup/prover/memory.swap.max");
    let cluster = file("proc/sys/vm/page-cluster", "3\n");
    one(cluster, "page-cluster", Warn, "unpacks 8 pages", "sysctl -w vm.page-cluster=0");
    let cluster = file("proc/sys/vm/page-cluster", "99999999999999\n");
    one(cluster, "page-cluster", Warn, "unpacks", "sysctl -w vm.page-cluster=0");
    let tree = Tree::good();
    swappiness("180\n")(&tree);
    assert_eq!(worst(&tree.findings()), Level::Ok, "zram as the primary place");
}

#[test]
fn ulimits() {
    let line = |from: &'static str, to: &'static str| {
        move |tree: &Tree| {
            let text = GOOD[6].1.replace(from, to);
            assert_ne!(text, GOOD[6].1);
            tree.write("proc/self/limits", text.as_bytes());
        }
    };
    let small = line("Max address space         unlimited ", "Max address space  1073741824 ");
    one(small, "addresses", Level::Warn, "1.00 GiB", "ulimit -v unlimited");
    one(line("1024  ", "64  "), "open files", Level::Warn, "64", "ulimit -n 256");
    let core = line("Max core file size        0  ", "Max core file size unlimited ");
    one(core, "core files", Level::Warn, "witness", "ulimit -c 0");
    let files = line("Max file size             unlimited ", "Max file size  1048576 ");
    one(files, "file size", Level::Fail, "1.00 MiB", "ulimit -f unlimited");
    let files = line("Max file size             unlimited ", "Max file size  536870912 ");
    one(files, "file size", Level::Warn, "512.00 MiB", "ulimit -f unlimited");
}

#[test]
fn spill_folders() {
    use Level::{Fail, Warn};
    let on = |system: &'static str| {
        move |tree: &Tree| {
            let text = format!("{}40 22 0:9 / /var/tmp rw - {system} none rw\n", GOOD[5].1);
            tree.write("proc/self/mountinfo", text.as_bytes());
        }
    };
    one(on("tmpfs"), "spill folder", Fail, "is RAM", "--spill-dir");
    one(on("overlay"), "spill folder", Warn, "container", "volume");
    one(on("nfs4"), "spill folder", Warn, "network", "local disk");
    one(on("fuse.sshfs"), "spill folder", Warn, "fuse.sshfs", "local disk");
    one(|tree| tree.remove("var/tmp"), "spill folder", Fail, "No such file", "mkdir -p /var/tmp");
    let judged = |change: &dyn Fn(&mut Machine), name: &str, level: Level, says: &str| {
        let mut machine = Tree::good().machine();
        change(&mut machine);
        let findings = examine(&machine);
        assert_well_formed(&findings);
        let bad = bad(&findings);
        assert!(bad.len() == 1 && (bad[0].name, bad[0].level) == (name, level), "{bad:?}");
        assert!(bad[0].says.contains(says), "{bad:?}");
    };
    judged(
        &|m: &mut Machine| m.spill.free_bytes = Ok(Some(1 << 20)),
        "spill room",
        Fail,
        "1.00 MiB free",
    );
    judged(
        &|m: &mut Machine| m.spill.free_bytes = Ok(Some(2 << 30)),
        "spill room",
        Warn,
        "memory (8.00 GiB)",
    );
    judged(&|m: &mut Machine| m.spill.free_bytes = Ok(None), "spill room", Warn, "not shown");
    let buffered = |m: &mut Machine| m.spill.opened = Ok((Access::Buffered, Naming::Unlinked));
    judged(&buffered, "O_DIRECT", Warn, "page cache");
    let zeros = |m: &mut Machine| m.spill.taking = Some(Ok(Taking::Zeros));
    judged(&zeros, "fallocate", Warn, "written twice");
    let full = plimsoll_swap::Error::DiskFull { asked_bytes: 1 << 20 };
    let full = |m: &mut Machine| m.spill.taking = Some(Err(full.clone()));
    judged(&full, "fallocate", Fail, "full");
    let slow = |m: &mut Machine| {
        m.spill.speed = Some(Ok(SpillSpeed {
            write_bytes_per_second: 120_000_000,
            read_bytes_per_second: 1_340_000_000,
            measured_bytes: 256 << 20,
        }));
    };
    judged(&slow, "spill speed", Warn, "writes 0.12 GB/s, reads 1.34 GB/s");
    let broken = |m: &mut Machine| {
        m.spill.speed = Some(Err(plimsoll_swap::Error::DiskFull { asked_bytes: 4096 }));
    };
    judged(&broken, "spill speed", Warn, "full");
}

#[test]
fn odd_paths_stay_one_word_and_one_line() {
    assert_eq!(shell_word(Path::new("/var/tmp/a-b_c.d")), "/var/tmp/a-b_c.d");
    assert_eq!(shell_word(Path::new("/a b/$(id)")), "'/a b/$(id)'");
    assert_eq!(shell_word(Path::new("it's")), "'it'\\''s'");
    let machine = Machine::live(Path::new("/no\nsuch/\x1b[31mfolder"), Probe::Off);
    let findings = examine(&machine);
    assert_well_formed(&findings);
    assert_eq!(worst(&findings), Level::Fail);
}

#[test]
fn a_bare_container_is_judged_without_a_panic() {
    let tree = Tree::good();
    for name in ["sys", "dev", "proc/sys", "proc/swaps", "proc/self/limits", "proc/self/status"] {
        tree.remove(name);
    }
    let findings = tree.findings();
    assert_eq!(worst(&findings), Level::Warn, "{findings:#?}");
    let names: Vec<_> = bad(&findings).iter().map(|finding| finding.name).collect();
    let expected = [
        "kernel",
        "overcommit",
        "max_map_count",
        "huge pages",
        "swap",
        "swappiness",
        "userfaultfd",
    ];
    assert_eq!(names[..7], expected);
    tree.remove("proc");
    let findings = tree.findings();
    assert_eq!(worst(&findings), Level::Fail, "no limit can be found without /proc");
}

#[test]
fn the_projects_cgroup_fixtures_are_judged() {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for (name, level) in [
        ("cgroup-v2", Level::Ok),
        ("cgroup-v2-high", Level::Ok),
        ("cgroup-v1", Level::Ok),
        ("cgroup-hybrid", Level::Ok),
        ("cgroup-none", Level::Ok),
        ("cgroup-damaged", Level::Fail),
    ] {
        let machine = Machine::at(&fixtures.join(name), Path::new("/var/tmp"), Probe::Off);
        let findings = examine(&machine);
        assert_well_formed(&findings);
        let cgroup = findings.iter().find(|finding| finding.name == "cgroup").expect("a finding");
        // A limit that is too small, or used up, is a matter of the fixture's numbers.
        assert!(cgroup.level == level || cgroup.level == Level::Warn, "{name}: {cgroup:?}");
        assert_eq!(cgroup.level == Level::Fail, level == Level::Fail, "{name}: {cgroup:?}");
    }
}

#[test]
fn noise_in_any_file_is_a_finding_and_no_panic() {
    let given = std::env::var("SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = given.unwrap_or(7);
    println!("SEED={seed}");
    let mut state = seed | 1;
    let mut next = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    let tree = Tree::good();
    for _ in 0..300 {
        let (name, text) = GOOD[next(GOOD.len())];
        let mut bytes = text.as_bytes().to_vec();
        match next(4) {
            0 => bytes.truncate(next(bytes.len() + 1)),
            1 => bytes = (0..next(40)).map(|_| next(256) as u8).collect(),
            2 => bytes.extend_from_slice(b"18446744073709551615 99999999999999999999999 -1\n"),
            _ if bytes.is_empty() => {}
            _ => {
                let at = next(bytes.len());
                bytes[at] = next(256) as u8;
            }
        }
        tree.write(name, &bytes);
        tree.findings();
        tree.write(name, text.as_bytes());
    }
}

#[test]
fn this_machine_is_judged_from_its_own_files() {
    let machine = Machine::live(&std::env::temp_dir(), Probe::Off);
    let findings = examine(&machine);
    assert_well_formed(&findings);
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("Linux");
    assert!(findings[0].says.starts_with(release.trim()), "{:?}", findings[0]);
    for mend in findings.iter().filter_map(|finding| finding.mend.as_deref()) {
        if let Some(setting) = mend.strip_prefix("sysctl -w ") {
            let name = setting.split('=').next().unwrap_or_default().replace('.', "/");
            assert!(Path::new("/proc/sys").join(&name).exists(), "{mend}");
        }
    }
}
