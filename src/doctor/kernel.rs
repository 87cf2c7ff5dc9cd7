//! The kernel: which features its version has, and what userfaultfd may do here.
//!
//! A version is what the kernel says of itself. A distribution may have carried a feature back to
//! an older number; then a warning here is wrong and harmless, since the runtime tries and falls
//! back rather than compare numbers.
//!
//! Sources: proc_meminfo(5), madvise(2), UFFDIO_MOVE(2const), userfaultfd(2), capabilities(7).

use super::finding::Finding;
use super::machine::{Machine, UserfaultDevice};
use nix::errno::Errno;
use plimsoll_swap::pager::{Door, Obstacle};

/// `MemAvailable` (3.14): without it no limit can be found.
const MEM_AVAILABLE: (u64, u64) = (3, 14);

/// `MADV_POPULATE_WRITE` (5.14): fresh blocks in one call; before, a page fault for each page.
const POPULATE: (u64, u64) = (5, 14);

/// `UFFDIO_MOVE` (6.8): the pager moves pages instead of copying them.
const MOVE: (u64, u64) = (6, 8);

/// Long-term kernel (6.12) from which on `UFFDIO_MOVE` counts as settled: the first releases with
/// it had crashes that were mended later.
const MOVE_SETTLED: (u64, u64) = (6, 12);

/// Bit of `CAP_SYS_PTRACE` in a capability set: a full userfaultfd.
const CAP_SYS_PTRACE: u64 = 1 << 19;

/// `Seccomp:` in /proc/self/status when a filter is on.
const SECCOMP_FILTER: u64 = 2;

/// Major and minor of `6.18.44-generic`.
fn parse(release: &str) -> Option<(u64, u64)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub(super) fn version(machine: &Machine) -> Finding {
    const NAME: &str = "kernel";
    let newer = |least: (u64, u64)| format!("boot Linux {}.{} or newer", least.0, least.1);
    let release = match &machine.kernel_release {
        Ok(Some(release)) => release.split_whitespace().next().unwrap_or(""),
        Ok(None) => {
            return Finding::unread(NAME, "no /proc/sys/kernel/osrelease; is /proc mounted?");
        }
        Err(why) => return Finding::unread(NAME, why),
    };
    match parse(release) {
        None => Finding::unread(NAME, &format!("{release:?} is no version of Linux")),
        Some(version) if version < MEM_AVAILABLE => Finding::fail(
            NAME,
            format!("{release}: no MemAvailable, so no limit can be found"),
            newer(MOVE_SETTLED),
        ),
        Some(version) if version < POPULATE => Finding::warn(
            NAME,
            format!(
                "{release}: no MADV_POPULATE_WRITE (5.14), so fresh memory costs a page fault \
                     a page; no UFFDIO_MOVE (6.8), so no pager"
            ),
            newer(MOVE_SETTLED),
        ),
        Some(version) if version < MOVE => Finding::warn(
            NAME,
            format!("{release}: no UFFDIO_MOVE (6.8), so no pager; all else works"),
            newer(MOVE_SETTLED),
        ),
        Some(version) if version < MOVE_SETTLED => Finding::warn(
            NAME,
            format!("{release}: UFFDIO_MOVE is young here and has had crash fixes since"),
            newer(MOVE_SETTLED),
        ),
        Some(_) => Finding::ok(NAME, format!("{release}: has MADV_POPULATE_WRITE, UFFDIO_MOVE")),
    }
}

const USERFAULTFD: &str = "userfaultfd";

/// What an operator does where a seccomp filter refuses the call.
const PAST_SECCOMP: &str = "docker run --device /dev/userfaultfd; or see docs/ops.md";

const ALLOW: &str = "sysctl -w vm.unprivileged_userfaultfd=1";

/// What the pager's probe found; where there is none, what the files of the tree let expect.
pub(super) fn userfaultfd(machine: &Machine) -> Finding {
    let Some(probe) = &machine.pager else { return expected_userfaultfd(machine) };
    let moved = "a page was moved and back";
    match probe.door {
        Ok(Door::Device) => {
            Finding::ok(USERFAULTFD, format!("for all faults, by /dev/userfaultfd; {moved}"))
        }
        Ok(Door::Syscall) => {
            Finding::ok(USERFAULTFD, format!("for all faults, by the system call; {moved}"))
        }
        Ok(Door::UserModeOnly) | Err(Obstacle::UserModeOnly) => user_mode_only(),
        Err(Obstacle::Refused { device, syscall, .. }) => refused(machine, device, syscall),
        Err(Obstacle::NoMove) => Finding::warn(
            USERFAULTFD,
            "cannot move pages (UFFDIO_MOVE), so no pager; all else works",
            format!("boot Linux {}.{} or newer", MOVE_SETTLED.0, MOVE_SETTLED.1),
        ),
        Err(Obstacle::Trial { call, errno }) => Finding::warn(
            USERFAULTFD,
            format!("{call} failed in a trial: {}; so no pager", Errno::from_raw(errno).desc()),
            "look at the kernel's log (dmesg); all else works without the pager",
        ),
        Err(other) => Finding::warn(USERFAULTFD, other.to_string(), "see docs/ops.md"),
    }
}

fn user_mode_only() -> Finding {
    Finding::warn(
        USERFAULTFD,
        "for faults of user code only: a system call on paged-out memory fails with EFAULT",
        ALLOW,
    )
}

fn no_userfaultfd() -> Finding {
    Finding::warn(
        USERFAULTFD,
        "this kernel has none, so no pager; all else works",
        "boot a kernel with CONFIG_USERFAULTFD=y",
    )
}

/// Every door is closed; `device` and `syscall` are the error numbers of two of them.
fn refused(machine: &Machine, device: i32, syscall: i32) -> Finding {
    let [device, syscall] = [device, syscall].map(Errno::from_raw);
    if device == Errno::ENOENT && machine.unprivileged_userfaultfd == Ok(None) {
        return no_userfaultfd();
    }
    let says = format!(
        "refused, so no pager; all else works: /dev/userfaultfd: {}, system call: {}",
        device.desc(),
        syscall.desc()
    );
    let mend = if machine.seccomp == Ok(Some(SECCOMP_FILTER)) {
        PAST_SECCOMP.to_owned()
    } else if device == Errno::EACCES {
        match machine.user {
            Ok(Some(user)) => format!("setfacl -m u:{user}:rw /dev/userfaultfd"),
            _ => ALLOW.to_owned(),
        }
    } else {
        ALLOW.to_owned()
    };
    Finding::warn(USERFAULTFD, says, mend)
}

fn expected_userfaultfd(machine: &Machine) -> Finding {
    let sysctl = match &machine.unprivileged_userfaultfd {
        Ok(sysctl) => *sysctl,
        Err(why) => return Finding::unread(USERFAULTFD, why),
    };
    if sysctl.is_none() && machine.userfault_device == UserfaultDevice::Absent {
        return no_userfaultfd();
    }
    let by = if machine.userfault_device == UserfaultDevice::Open {
        "/dev/userfaultfd opens"
    } else if machine.seccomp == Ok(Some(SECCOMP_FILTER)) {
        let says = "a seccomp filter is on; those of most containers refuse the call";
        return Finding::warn(USERFAULTFD, says, PAST_SECCOMP);
    } else if matches!(machine.capabilities, Ok(Some(set)) if set & CAP_SYS_PTRACE != 0) {
        "by CAP_SYS_PTRACE"
    } else if sysctl == Some(1) {
        "by vm.unprivileged_userfaultfd=1"
    } else {
        return user_mode_only();
    };
    Finding::ok(USERFAULTFD, format!("for all faults, {by}"))
}
