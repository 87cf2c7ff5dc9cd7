//! What the machine and the cgroup allow, and what a [`LimitSpec`] comes to under it.
//!
//! ```text
//!   LimitSpec::resolve  <-- machine: MemTotal, MemAvailable
//!          |            <-- cgroup: limit, anonymous memory of its processes
//!   Resolved { bytes, bound }
//! ```
//!
//! Invariants:
//!
//! * `bytes = min(asked, cgroup - margin(cgroup), available)`, over those that exist;
//! * `margin(c) = max(CGROUP_MARGIN_BYTES_MIN, c / CGROUP_MARGIN_DIVISOR)`;
//! * `auto` also leaves what other processes of the cgroup hold: several processes do not each take
//!   all of it;
//! * a share of `s` is `floor(s * min(cgroup, total))`: of what the machine or container has,
//!   whatever is free just now.
//!
//! Must never: resolve to more than one of its bounds, or allocate.
//!
//! Source: proc_meminfo(5) for `MemAvailable`.

use super::cgroup::{Group, Scratch};
use super::file::{Tree, Unread};
use super::words::LimitSpec;

/// Smallest limit that is accepted, in bytes: 1 MiB. Below it not one block of the pool fits beside
/// the runtime's own tables, so each allocation would spill.
pub const LIMIT_BYTES_MIN: u64 = 1 << 20;

/// Least distance kept to a cgroup's limit, in bytes: 16 MiB. The kernel charges a cgroup in
/// batches of up to 64 pages for each CPU, 256 KiB, so 64 CPUs can be 16 MiB ahead of the count;
/// nearer than that, the kernel kills while our own count still shows room.
pub const CGROUP_MARGIN_BYTES_MIN: u64 = 16 << 20;

/// The margin's share of a cgroup's limit: one part in 32, some 3 %. It pays for what the kernel
/// charges and the ledger does not see: page tables (one part in 512 of what is mapped), kernel
/// stacks and sockets, and page cache of the file I/O under way. Chosen, not measured.
pub const CGROUP_MARGIN_DIVISOR: u64 = 32;

const _: () = assert!(LIMIT_BYTES_MIN < CGROUP_MARGIN_BYTES_MIN);
const _: () = assert!(CGROUP_MARGIN_DIVISOR > 1 && CGROUP_MARGIN_DIVISOR < 512);

/// Distance in bytes kept to a cgroup's limit of `limit_bytes`:
/// `max(CGROUP_MARGIN_BYTES_MIN, limit_bytes / CGROUP_MARGIN_DIVISOR)`.
#[must_use]
pub fn cgroup_margin_bytes(limit_bytes: u64) -> u64 {
    CGROUP_MARGIN_BYTES_MIN.max(limit_bytes / CGROUP_MARGIN_DIVISOR)
}

/// One reading of the machine's memory, from one read of `/proc/meminfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineMemory {
    /// Usable memory, in bytes (`MemTotal`).
    pub mem_total_bytes: u64,
    /// What can be taken without swapping, in bytes (`MemAvailable`); the kernel's own estimate.
    pub mem_available_bytes: u64,
    /// Size of all swap areas, in bytes (`SwapTotal`); 0 where the kernel has no swap.
    pub swap_total_bytes: u64,
    /// Unused part of the swap areas, in bytes (`SwapFree`).
    pub swap_free_bytes: u64,
}

/// What there is for this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Usable memory of the machine, in bytes.
    pub total_bytes: u64,
    /// What can be taken now without swapping, in bytes.
    pub available_bytes: u64,
    /// The tightest memory cgroup, if there is one.
    pub group: Option<Group>,
    /// Anonymous resident memory of this process, in bytes.
    pub own_bytes: u64,
}

/// What set a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The user asked for it.
    Asked,
    /// A cgroup allows no more.
    Group {
        /// What it allows, in bytes, before the margin and others are taken off.
        limit_bytes: u64,
        /// What other processes of it hold, in bytes, where that was taken off.
        others_bytes: u64,
    },
    /// The machine has no more just now.
    Available,
}

/// A limit in bytes, and what set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The limit, in bytes.
    pub bytes: u64,
    /// The bound that was the least.
    pub bound: Bound,
}

impl Allowance {
    /// What the cgroup leaves to this process.
    fn group_bound(&self, spec: LimitSpec) -> Option<Resolved> {
        let group = self.group?;
        let limit_bytes = group.tightest_bytes()?;
        let others_bytes = match spec {
            LimitSpec::Auto => group.anon_bytes.unwrap_or(0).saturating_sub(self.own_bytes),
            // Whoever names a size or a share has shared out the group.
            LimitSpec::Share(_) | LimitSpec::Bytes(_) | LimitSpec::None => 0,
        };
        let kept = cgroup_margin_bytes(limit_bytes).saturating_add(others_bytes);
        let bound = Bound::Group { limit_bytes, others_bytes };
        Some(Resolved { bytes: limit_bytes.saturating_sub(kept), bound })
    }
}

impl LimitSpec {
    /// Returns what this comes to: the least of what was asked for, what the cgroup leaves, and
    /// what is available; `None` for no limit. Among equals the first of the three is named.
    #[must_use]
    pub fn resolve(self, allowance: &Allowance) -> Option<Resolved> {
        let tightest = allowance.group.and_then(|group| group.tightest_bytes());
        let whole =
            tightest.map_or(allowance.total_bytes, |bytes| bytes.min(allowance.total_bytes));
        let asked = match self {
            Self::None => return None,
            Self::Auto => None,
            Self::Bytes(bytes) => Some(bytes),
            Self::Share(share) => Some(share.of_bytes(whole)),
        };
        let asked = asked.map(|bytes| Resolved { bytes, bound: Bound::Asked });
        let available = Resolved { bytes: allowance.available_bytes, bound: Bound::Available };
        // `min_by_key` keeps the first of equals, which is the order that the contract names.
        let bounds = asked.into_iter().chain(allowance.group_bound(self)).chain([available]);
        bounds.min_by_key(|resolved| resolved.bytes)
    }
}

impl Scratch {
    /// Reads the machine's memory.
    ///
    /// # Errors
    ///
    /// [`Unread`], naming `/proc/meminfo`.
    pub fn machine(&mut self, tree: Tree<'_>) -> Result<MachineMemory, Unread> {
        const NAMES: [&str; 4] = ["MemTotal", "MemAvailable", "SwapTotal", "SwapFree"];
        let [total, available, swap_total, swap_free] = self.meminfo(tree, NAMES)?;
        let missing = |at: usize| Unread::Missing(NAMES[at]);
        Ok(MachineMemory {
            mem_total_bytes: total.ok_or_else(|| missing(0))?,
            mem_available_bytes: available.ok_or_else(|| missing(1))?,
            swap_total_bytes: swap_total.unwrap_or(0),
            swap_free_bytes: swap_free.unwrap_or(0),
        })
    }

    /// Reads fields of `/proc/meminfo` in bytes; `None` for one that is not there.
    ///
    /// # Errors
    ///
    /// [`Unread`], naming the file.
    pub fn meminfo<const N: usize>(
        &mut self,
        tree: Tree<'_>,
        names: [&str; N],
    ) -> Result<[Option<u64>; N], Unread> {
        self.reader.kib_fields(&[tree.0, b"/proc/meminfo"], names)
    }

    /// Reads fields of `/proc/self/status` in bytes; `None` for one that is not there.
    ///
    /// # Errors
    ///
    /// [`Unread`], naming the file.
    pub fn status<const N: usize>(
        &mut self,
        tree: Tree<'_>,
        names: [&str; N],
    ) -> Result<[Option<u64>; N], Unread> {
        self.reader.kib_fields(&[tree.0, b"/proc/self/status"], names)
    }

    /// Reads what there is for this process.
    ///
    /// # Errors
    ///
    /// [`Unread`], naming the file: a damaged one is never taken for "no limit".
    pub fn allowance(&mut self, tree: Tree<'_>) -> Result<Allowance, Unread> {
        let machine = self.machine(tree)?;
        let own_bytes = self.resident(tree)?.anon_bytes();
        Ok(Allowance {
            total_bytes: machine.mem_total_bytes,
            available_bytes: machine.mem_available_bytes,
            group: self.group(tree)?,
            own_bytes,
        })
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::process::{CgroupVersion, Share};

    const MIB: u64 = 1 << 20;

    fn allowance(limit: Option<u64>, anon: u64, own: u64) -> Allowance {
        let group = |limit_bytes| Group {
            version: CgroupVersion::V2,
            limit_bytes: Some(limit_bytes),
            high_bytes: None,
            usage_bytes: Some(anon),
            anon_bytes: Some(anon),
        };
        Allowance {
            total_bytes: 1 << 30,
            available_bytes: 700 * MIB,
            group: limit.map(group),
            own_bytes: own,
        }
    }

    #[test]
    fn the_least_of_what_is_asked_allowed_and_there() {
        let share = |hundredths| LimitSpec::Share(Share::of_hundredths(hundredths).expect("one"));
        let bytes = |spec: LimitSpec, limit| {
            spec.resolve(&allowance(limit, 0, 0)).map(|resolved| resolved.bytes)
        };
        assert_eq!(bytes(LimitSpec::None, Some(MIB)), None);
        assert_eq!(bytes(LimitSpec::Auto, None), Some(700 * MIB));
        assert_eq!(bytes(LimitSpec::Auto, Some(640 * MIB)), Some(620 * MIB));
        assert_eq!(bytes(LimitSpec::Auto, Some(320 * MIB)), Some(304 * MIB));
        assert_eq!(bytes(share(5000), Some(400 * MIB)), Some(200 * MIB));
        assert_eq!(bytes(share(5000), None), Some(512 * MIB));
        assert_eq!(bytes(share(10_000), Some(400 * MIB)), Some(384 * MIB));
        assert_eq!(bytes(LimitSpec::Bytes(8 << 30), Some(400 * MIB)), Some(384 * MIB));
        assert_eq!(bytes(LimitSpec::Bytes(64 * MIB), Some(400 * MIB)), Some(64 * MIB));
    }

    #[test]
    fn auto_leaves_what_others_of_the_group_hold_and_a_size_does_not() {
        let shared = allowance(Some(320 * MIB), 200 * MIB, 50 * MIB);
        let auto = LimitSpec::Auto.resolve(&shared).expect("a limit");
        let (limit_bytes, others_bytes) = (320 * MIB, 150 * MIB);
        assert_eq!(auto.bytes, (320 - 16 - 150) * MIB);
        assert_eq!(auto.bound, Bound::Group { limit_bytes, others_bytes });
        let sized = LimitSpec::Bytes(8 << 30).resolve(&shared).expect("a limit");
        assert_eq!(sized.bytes, 304 * MIB);
    }

    #[test]
    fn this_machine_has_memory() {
        let found = Scratch::new().allowance(Tree::MACHINE).expect("/proc is mounted");
        assert!(found.total_bytes >= found.available_bytes && found.available_bytes > 0);
    }
}
