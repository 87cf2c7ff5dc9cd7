//! Every file of a good tree, damaged in every way: no panic, and a line for each subject.

use super::tests::{GOOD, Tree, bad};
use super::*;

/// xorshift64.
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }
}

/// Numbers that are no machine's: they overflow where they are multiplied, added or shifted.
const HUGE: [&str; 6] = [
    "18446744073709551615",
    "18014398509481983",
    "9223372036854775808",
    "4294967296",
    "99999999999999999999999999",
    "-1",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Empty,
    Truncated,
    Binary,
    Flipped,
    HugeNumbers,
    Doubled,
    NoLineEnds,
    Endless,
    Missing,
    Folder,
}

const DAMAGES: [Damage; 10] = [
    Damage::Empty,
    Damage::Truncated,
    Damage::Binary,
    Damage::Flipped,
    Damage::HugeNumbers,
    Damage::Doubled,
    Damage::NoLineEnds,
    Damage::Endless,
    Damage::Missing,
    Damage::Folder,
];

/// `text` with a huge number for each that is in it.
fn with_huge_numbers(text: &str, noise: &mut Noise) -> String {
    let mut out = String::new();
    let mut in_number = false;
    for c in text.chars() {
        if !c.is_ascii_digit() {
            out.push(c);
        } else if !in_number {
            out += HUGE[noise.below(HUGE.len())];
        }
        in_number = c.is_ascii_digit();
    }
    out
}

fn damage(tree: &Tree, (name, text): (&str, &str), how: Damage, noise: &mut Noise) {
    let bytes = match how {
        Damage::Empty => Vec::new(),
        Damage::Truncated => text.as_bytes()[..noise.below(text.len())].to_vec(),
        Damage::Binary => {
            let count = noise.below(200);
            noise.bytes(count)
        }
        Damage::Flipped => {
            let mut bytes = text.as_bytes().to_vec();
            for _ in 0..3.min(bytes.len()) {
                let at = noise.below(bytes.len());
                bytes[at] ^= 1 << noise.below(8);
            }
            bytes
        }
        Damage::HugeNumbers => with_huge_numbers(text, noise).into_bytes(),
        Damage::Doubled => with_huge_numbers(&format!("{text}{text}"), noise).into_bytes(),
        Damage::NoLineEnds => text.replace(['\n', ' '], "").into_bytes(),
        Damage::Endless => text.as_bytes().iter().copied().cycle().take(3 << 20).collect(),
        Damage::Missing | Damage::Folder => {
            tree.remove(name);
            if how == Damage::Folder {
                tree.write(&format!("{name}/file"), b"");
            }
            return;
        }
    };
    tree.write(name, &bytes);
}

fn seed() -> u64 {
    let given = std::env::var("SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or(11);
    println!("SEED={seed}");
    seed
}

#[test]
fn each_file_damaged_in_each_way_is_judged() {
    let mut noise = Noise(seed() | 1);
    let whole = Tree::good().findings();
    let subjects = |findings: &[Finding]| {
        let limits = ["addresses", "open files", "file size", "locked memory", "core files"];
        let limits = |name: &&str| !limits.contains(name);
        let names: Vec<_> = findings.iter().map(|found| found.name).filter(limits).collect();
        names
    };
    for (name, text) in GOOD {
        for how in DAMAGES.into_iter().filter(|_| !text.is_empty()) {
            for _ in 0..4 {
                let tree = Tree::good();
                damage(&tree, (name, text), how, &mut noise);
                let findings = tree.findings();
                let names = subjects(&findings);
                let all = subjects(&whole);
                let lost = all.iter().find(|name| !names.contains(name));
                assert_eq!(lost, None, "{how:?} {name}: {findings:#?}");
            }
        }
    }
}

/// Files whose loss leaves nothing to judge: they must never look good when they hold noise.
#[test]
fn noise_is_never_taken_for_a_good_value() {
    let mut noise = Noise(seed() | 1);
    for name in [
        "proc/sys/kernel/osrelease",
        "proc/meminfo",
        "proc/self/limits",
        "proc/sys/vm/overcommit_memory",
        "proc/sys/vm/max_map_count",
        "proc/sys/vm/swappiness",
        "proc/sys/vm/page-cluster",
        "proc/sys/vm/unprivileged_userfaultfd",
        "sys/kernel/mm/transparent_hugepage/enabled",
        "sys/devices/system/node/online",
        "sys/block/zram0/disksize",
        "sys/block/zram0/mm_stat",
        "sys/fs/cgroup/prover/memory.max",
    ] {
        for bytes in [vec![0xff, 0xfe, 0], b"\n".to_vec(), Vec::new(), noise.bytes(64)] {
            let tree = Tree::good();
            tree.write(name, &bytes);
            let findings = tree.findings();
            assert!(!bad(&findings).is_empty(), "{name} of {bytes:?}: {findings:#?}");
        }
    }
}

#[test]
fn several_files_damaged_at_once_are_judged() {
    let mut noise = Noise(seed() | 1);
    for _ in 0..150 {
        let tree = Tree::good();
        for file in GOOD {
            if !file.1.is_empty() && noise.below(4) == 0 {
                let how = DAMAGES[noise.below(DAMAGES.len())];
                damage(&tree, file, how, &mut noise);
            }
        }
        tree.findings();
    }
}

#[test]
fn numbers_that_overflow_a_sum_are_judged() {
    let tree = Tree::good();
    let half = u64::MAX / 1024;
    let row = |name: &str| format!("/dev/{name} partition {half} {half} 100\n");
    let swaps = format!("Filename\n{}{}", row("zram0"), row("zram1"));
    tree.write("proc/swaps", swaps.as_bytes());
    let most = u64::MAX;
    for device in ["zram0", "zram1"] {
        tree.write(&format!("sys/block/{device}/disksize"), most.to_string().as_bytes());
        let stat = format!("{most} {most} {most} {most} 0 0 0 0 0\n");
        tree.write(&format!("sys/block/{device}/mm_stat"), stat.as_bytes());
    }
    tree.write("proc/sys/vm/page-cluster", b"4294967296\n");
    let findings = tree.findings();
    let of = |name| findings.iter().find(|found| found.name == name).expect("a finding");
    assert!(of("swap").says.contains("nearly full"), "{findings:#?}");
    assert_eq!(of("zram").level, Level::Warn);
    assert!(of("page-cluster").says.contains("unpacks 18446744073709551615"), "{findings:#?}");
}
