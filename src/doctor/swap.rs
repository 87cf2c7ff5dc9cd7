//! Swap: the safety net, what it hides, and how eagerly the kernel uses it.
//!
//! Bytes that zram holds are charged to no cgroup and to no process, so a proof "in 4 GiB" can use
//! more of the machine than that. Field elements do not compress: where they are swapped to zram,
//! it gives nothing for its RAM. With cgroup v1 each cgroup has a swappiness of its own, taken from
//! its parent when it was made: setting the sysctl later does not reach it.
//!
//! Sources: the kernel's admin-guide/blockdev/zram and admin-guide/sysctl/vm pages, swapon(2),
//! execve(2).

use super::finding::{Finding, percent, shell_word, size};
use super::machine::{Machine, SwapArea, ZramDevice};
use plimsoll_swap::backend::Kept;
use std::path::Path;

/// The command that sets up a zram device: it runs [`ZRAM_SETUP`].
const SETUP: &str = "plimsoll zram";

/// The shell script that makes, watches and removes a zram device; its header says how it is run.
///
/// It is `scripts/zram-setup.sh`, carried by the program that advises it: `plimsoll zram` runs it
/// on machines that have the program only. For `sh`, as one argument (Linux takes up to 128 KiB).
pub const ZRAM_SETUP: &str = include_str!("../../scripts/zram-setup.sh");

/// Longest argument of a program in bytes, its final zero included (`MAX_ARG_STRLEN` in execve(2)).
const ARGUMENT_BYTES_MAX: usize = 128 << 10;

const _: () = assert!(ZRAM_SETUP.len() < ARGUMENT_BYTES_MAX, "sh -c could not be given it");

/// Swap that is used by more than this share, in percent, is no safety net for the next proof.
const USED_PERCENT_MAX: u64 = 75;

/// RAM that zram may hold, in percent, before it is a holder to be named.
const HIDDEN_PERCENT_MAX: u64 = 25;

/// Bytes stored below which a ratio says nothing: 16 MiB.
const JUDGED_BYTES_MIN: u64 = 16 << 20;

/// A ratio of bytes stored to RAM taken below 11 to 10 is no gain.
const RATIO_TENTHS_MIN: u64 = 11;

/// `vm.swappiness` where zram is only a safety net.
const NET: std::ops::RangeInclusive<u64> = 1..=10;

/// `vm.swappiness` where zram is where cold memory belongs.
const PRIMARY: std::ops::RangeInclusive<u64> = 100..=200;

fn is_zram(area: &SwapArea) -> bool {
    area.path.starts_with("/dev/zram")
}

/// The sum, or the largest number there is: files that are not the kernel's may hold any.
fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

pub(super) fn areas(machine: &Machine) -> Finding {
    const NAME: &str = "swap";
    let areas = match &machine.swaps {
        Ok(Some(areas)) => areas,
        Ok(None) => return Finding::unread(NAME, "no /proc/swaps"),
        Err(why) => return Finding::unread(NAME, why),
    };
    let zram = areas.iter().filter(|area| is_zram(area)).count();
    let disk = areas.iter().find(|area| !is_zram(area));
    let total = sum(areas.iter().map(|area| area.size_bytes));
    let used = sum(areas.iter().map(|area| area.used_bytes));
    if areas.is_empty() {
        return Finding::warn(
            NAME,
            "none: what does not fit is killed, without a warning",
            format!("{SETUP} up"),
        );
    }
    if let Some(disk) = disk {
        let (path, word) = (&disk.path, shell_word(Path::new(&disk.path)));
        return if zram > 0 {
            Finding::warn(
                NAME,
                format!("zram and {path}: the first pages fill zram, the hot ones go to disk"),
                format!("swapoff {word}"),
            )
        } else {
            Finding::warn(
                NAME,
                format!("{path}: the kernel picks the pages, witness and all"),
                format!("swapoff {word} && {SETUP} up"),
            )
        };
    }
    if let Ok(Some(max)) = &machine.cgroup_swap_max
        && max.value == 0
    {
        return Finding::warn(
            NAME,
            "there is some, and this cgroup may use none of it: over its limit it is killed",
            format!("echo max > {}", shell_word(&max.path)),
        );
    }
    let says = format!("{} of zram, {} used", size(total), size(used));
    if percent(used, total) > USED_PERCENT_MAX {
        Finding::warn(NAME, format!("{says}: nearly full"), format!("{SETUP} status"))
    } else {
        Finding::ok(NAME, says)
    }
}

/// What the spill tier `kernel` is worth here; nothing about a tree of files. Without swap it is no
/// fault of the machine: the line about swap says what that is.
pub(super) fn kernel_tier(machine: &Machine) -> Option<Finding> {
    const NAME: &str = "kernel tier";
    let says = match machine.kernel_tier.as_ref()? {
        Ok(Kept::Zram) => "works: pages go to zram, and what it takes of the RAM is counted",
        Ok(Kept::SwapDisk | Kept::File) => {
            "works: pages go to a disk, those of a proof with --encrypt-spill only"
        }
        Err(why) => return Some(Finding::ok(NAME, format!("not here: {why}"))),
    };
    Some(Finding::ok(NAME, says))
}

pub(super) fn zram(machine: &Machine) -> Finding {
    const NAME: &str = "zram";
    let devices = match &machine.zram {
        Ok(Some(devices)) => devices,
        Ok(None) => return Finding::ok(NAME, "no device in use"),
        Err(why) => return Finding::unread(NAME, why),
    };
    let in_use: Vec<&ZramDevice> = devices.iter().filter(|zram| zram.size_bytes > 0).collect();
    if in_use.is_empty() {
        return Finding::ok(NAME, "no device in use");
    }
    let hidden = sum(in_use.iter().map(|zram| zram.used_bytes));
    let total = machine.memory.as_ref().map_or(0, |memory| memory.mem_total_bytes);
    let stored = sum(in_use.iter().map(|zram| zram.stored_bytes));
    let says = format!("holds {} in {} of RAM that no cgroup counts", size(stored), size(hidden));
    if let Some(zram) = in_use.iter().find(|zram| is_useless(zram)) {
        return Finding::warn(
            NAME,
            format!("{says}: the data of {} does not compress, it is only hidden", zram.name),
            format!("swapoff /dev/{}", zram.name),
        );
    }
    if let Some(zram) = in_use.iter().find(|zram| zram.limit_bytes == 0) {
        return Finding::warn(
            NAME,
            format!("{says}; {} may fill all RAM, since it has no limit", zram.name),
            format!("echo {} > /sys/block/{}/mem_limit", total / 2, zram.name),
        );
    }
    if percent(hidden, total) > HIDDEN_PERCENT_MAX {
        return Finding::warn(NAME, says, format!("{SETUP} status"));
    }
    Finding::ok(NAME, says)
}

fn is_useless(zram: &ZramDevice) -> bool {
    let ten_times_stored = u128::from(zram.stored_bytes) * 10;
    zram.stored_bytes >= JUDGED_BYTES_MIN
        && ten_times_stored < u128::from(zram.used_bytes) * u128::from(RATIO_TENTHS_MIN)
}

pub(super) fn swappiness(machine: &Machine) -> Finding {
    const NAME: &str = "swappiness";
    let (value, mend) = match (&machine.cgroup_swappiness, &machine.swappiness) {
        (Ok(Some(own)), _) => {
            (own.value, format!("echo {} > {}", NET.end(), shell_word(&own.path)))
        }
        (_, Ok(Some(value))) => (*value, format!("sysctl -w vm.swappiness={}", NET.end())),
        (_, Ok(None)) => return Finding::unread(NAME, "no /proc/sys/vm/swappiness"),
        (_, Err(why)) => return Finding::unread(NAME, why),
    };
    let Ok(Some(areas)) = &machine.swaps else {
        return Finding::ok(NAME, format!("{value}, without effect where swap is not known"));
    };
    let all_zram = areas.iter().all(is_zram);
    match value {
        _ if areas.is_empty() => Finding::ok(NAME, format!("{value}, without effect: no swap")),
        0 => Finding::warn(NAME, "0: the kernel kills before it swaps", mend),
        value if NET.contains(&value) => {
            Finding::ok(NAME, format!("{value}: swap as a safety net"))
        }
        value if PRIMARY.contains(&value) && all_zram => {
            Finding::ok(NAME, format!("{value}: zram is where cold memory belongs"))
        }
        _ => Finding::warn(
            NAME,
            format!("{value}: a prover's memory is swapped while files could be dropped"),
            mend,
        ),
    }
}

pub(super) fn page_cluster(machine: &Machine) -> Finding {
    const NAME: &str = "page-cluster";
    let value = match machine.page_cluster {
        Ok(Some(value)) => value,
        Ok(None) => return Finding::ok(NAME, "not there: a kernel without swap"),
        Err(ref why) => return Finding::unread(NAME, why),
    };
    let has_zram = matches!(&machine.swaps, Ok(Some(areas)) if areas.iter().any(is_zram));
    match value {
        0 => Finding::ok(NAME, "0: one page a fault"),
        _ if !has_zram => Finding::ok(NAME, format!("{value}, without effect: no zram in use")),
        _ => Finding::warn(
            NAME,
            format!(
                "{value}: each fault unpacks {} pages, and zram has no seeks to save",
                1_u64.checked_shl(value.min(64) as u32).unwrap_or(u64::MAX)
            ),
            "sysctl -w vm.page-cluster=0",
        ),
    }
}
