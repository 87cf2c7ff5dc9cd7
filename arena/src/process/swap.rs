//! The kernel's swap: its areas, what zram takes for them, and how much of that is this process's.
//!
//! ```text
//!   /proc/swaps            areas, on disks and in zram        size, used
//!   /sys/block/zramN/      mm_stat: RAM taken, its limit      backing_dev: a disk behind it
//!   /proc/self/status      VmSwap: what of this process is out
//!
//!   share = RAM taken by zram * VmSwap / used over all areas
//! ```
//!
//! zram keeps pages in RAM, compressed, and no cgroup counts that RAM. So what zram takes for this
//! process is counted against the limit, by the account, as bytes of no owner. The kernel does not
//! say whose pages compress how well; every page that is out counts alike.
//!
//! Must never: allocate, or take a device that cannot be read for one that takes nothing.
//!
//! Sources: proc(5), swapon(8), and the kernel's admin-guide/blockdev/zram page.

use super::cgroup::Scratch;
use super::file::{Found, Text, Tree, Unread, decimal};

/// zram devices that are told apart; pages on further ones count as if they were not compressed.
const DEVICES_MAX: usize = 16;

/// Digits of a device's number.
const DIGITS_MAX: usize = 8;

/// One line of `/proc/swaps`, behind its heading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwapLine<'a> {
    /// The device or file, as the kernel writes it: a blank is `\040`.
    pub path: &'a [u8],
    /// Its size in bytes.
    pub size_bytes: u64,
    /// What is swapped out to it, in bytes.
    pub used_bytes: u64,
    /// Its priority; the highest is used first.
    pub priority: i64,
}

impl<'a> SwapLine<'a> {
    /// Reads `path type size-in-KiB used-in-KiB priority`; `None` for another line.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let (path, _kind) = (words.next()?, words.next()?);
        let mut bytes = || decimal(words.next()?)?.checked_mul(1024);
        let (size_bytes, used_bytes) = (bytes()?, bytes()?);
        let priority = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        Some(Self { path, size_bytes, used_bytes, priority })
    }

    /// Returns the digits of its zram device; `None` where it is no zram.
    fn zram_digits(&self) -> Option<&'a [u8]> {
        let rest = self.path.strip_prefix(b"/dev/zram")?;
        // A device that was removed has `\040(deleted)` behind its name.
        let digits = rest.split(|byte| !byte.is_ascii_digit()).next()?;
        (!digits.is_empty() && digits.len() <= DIGITS_MAX).then_some(digits)
    }

    /// Says whether it is a zram device.
    #[must_use]
    pub fn is_zram(&self) -> bool {
        self.zram_digits().is_some()
    }
}

/// The counts of a zram device's `mm_stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZramStat {
    /// Bytes written to it and still kept.
    pub stored_bytes: u64,
    /// RAM that it takes for them, in bytes.
    pub used_bytes: u64,
    /// RAM that it may take, in bytes; 0 for no limit.
    pub limit_bytes: u64,
}

impl ZramStat {
    /// Reads the line of `mm_stat`; `None` for another one.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let mut count = || words.next().and_then(decimal);
        let (stored_bytes, _compressed, used_bytes) = (count()?, count()?, count()?);
        Some(Self { stored_bytes, used_bytes, limit_bytes: count()? })
    }
}

/// Where the kernel's swap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwapKind {
    /// There is none.
    None,
    /// In zram alone: in RAM, and on no disk.
    Zram,
    /// On a disk, or in part: a zram device with a disk behind it is one.
    Disk,
}

/// The kernel's swap as it is now, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swap {
    /// Where it is.
    pub kind: SwapKind,
    /// The size of all areas.
    pub size_bytes: u64,
    /// What is in use of them.
    pub used_bytes: u64,
    /// RAM that zram takes for its areas.
    pub zram_bytes: u64,
    /// RAM that zram may still take for them.
    pub zram_room_bytes: u64,
}

impl Swap {
    /// No areas.
    const NONE: Self = Self {
        kind: SwapKind::None,
        size_bytes: 0,
        used_bytes: 0,
        zram_bytes: 0,
        zram_room_bytes: 0,
    };

    /// Returns how many more bytes it takes, were none of them to compress.
    #[must_use]
    pub fn room_bytes(&self) -> u64 {
        let free = self.size_bytes.saturating_sub(self.used_bytes);
        if self.kind == SwapKind::Zram { free.min(self.zram_room_bytes) } else { free }
    }

    /// Returns the RAM that zram takes for a process of which `out_bytes` are swapped out.
    #[must_use]
    pub fn share_bytes(&self, out_bytes: u64) -> u64 {
        let all = u128::from(self.used_bytes.max(out_bytes).max(1));
        // At most what zram takes, which is a u64.
        (u128::from(self.zram_bytes) * u128::from(out_bytes) / all) as u64
    }
}

impl Scratch {
    /// Reads the kernel's swap; no areas where the kernel was built without.
    ///
    /// # Errors
    ///
    /// [`Unread`], naming the file.
    pub fn swap(&mut self, tree: Tree<'_>) -> Result<Swap, Unread> {
        let mut swap = Swap::NONE;
        let mut devices = [(Text::<DIGITS_MAX>::EMPTY, 0); DEVICES_MAX];
        let mut count = 0;
        let (mut heading, mut has_disk) = (true, false);
        let found = self.reader.find_line(&[tree.0, b"/proc/swaps"], |line| {
            if std::mem::take(&mut heading) {
                return Ok(None::<()>);
            }
            let malformed = Unread::Malformed("PATH TYPE SIZE USED PRIORITY");
            let area = SwapLine::parse(line).ok_or(malformed)?;
            swap.size_bytes = swap.size_bytes.saturating_add(area.size_bytes);
            swap.used_bytes = swap.used_bytes.saturating_add(area.used_bytes);
            match (area.zram_digits(), devices.get_mut(count)) {
                (Some(digits), Some(device)) => {
                    *device = (Text::of(digits), area.used_bytes);
                    count += 1;
                }
                (Some(_), None) => {
                    swap.zram_bytes = swap.zram_bytes.saturating_add(area.used_bytes);
                }
                (None, _) => has_disk = true,
            }
            Ok(None)
        })?;
        if let Found::NoFile = found {
            return Ok(Swap::NONE);
        }
        for (device, used_bytes) in &devices[..count] {
            has_disk |= self.add_zram(tree, device.as_bytes(), *used_bytes, &mut swap)?;
        }
        swap.kind = match (swap.size_bytes, has_disk) {
            (0, _) => SwapKind::None,
            (_, true) => SwapKind::Disk,
            (_, false) => SwapKind::Zram,
        };
        Ok(swap)
    }

    /// Adds what a zram device takes for `used_bytes` in use; says whether a disk is behind it.
    fn add_zram(
        &mut self,
        tree: Tree<'_>,
        digits: &[u8],
        used_bytes: u64,
        swap: &mut Swap,
    ) -> Result<bool, Unread> {
        let file = |name: &'static [u8]| [tree.0, b"/sys/block/zram", digits, name];
        let malformed = Unread::Malformed("the counts of mm_stat");
        let found = self.reader.find_line(&file(b"/mm_stat"), |line| {
            ZramStat::parse(line).map(Some).ok_or(malformed)
        })?;
        match found {
            Found::Line(stat) => {
                let room = match stat.limit_bytes {
                    0 => u64::MAX,
                    limit => limit.saturating_sub(stat.used_bytes),
                };
                swap.zram_bytes = swap.zram_bytes.saturating_add(stat.used_bytes);
                swap.zram_room_bytes = swap.zram_room_bytes.saturating_add(room);
            }
            // Without /sys, as in a sandbox: as if nothing were compressed.
            Found::NoFile | Found::Nothing => {
                swap.zram_bytes = swap.zram_bytes.saturating_add(used_bytes);
                swap.zram_room_bytes = u64::MAX;
            }
        }
        let backing = self
            .reader
            .find_line(&file(b"/backing_dev"), |line| Ok(Some(line.trim_ascii() != b"none")))?;
        Ok(matches!(backing, Found::Line(true)))
    }

    /// Reads the RAM that zram takes for this process, in bytes.
    ///
    /// # Errors
    ///
    /// [`Unread`], naming the file.
    pub(super) fn zram_share(&mut self, tree: Tree<'_>) -> Result<u64, Unread> {
        let [out] = self.status(tree, ["VmSwap"])?;
        match out {
            None | Some(0) => Ok(0),
            Some(out) => Ok(self.swap(tree)?.share_bytes(out)),
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::path::Path;

    const HEADING: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        folder
    }

    fn swap(root: &Path) -> Result<Swap, Unread> {
        let root = root.as_os_str().as_encoded_bytes();
        Scratch::new().swap(Tree::at(root))
    }

    fn areas(lines: &str) -> String {
        format!("{HEADING}{lines}")
    }

    #[test]
    fn a_kernel_without_areas_has_no_swap() {
        for files in [&[][..], &[("proc/swaps", HEADING)]] {
            let found = swap(tree(files).path()).expect("readable");
            assert_eq!((found, found.room_bytes()), (Swap::NONE, 0));
        }
    }

    #[test]
    fn zram_takes_ram_by_its_own_counts() {
        let one = areas("/dev/zram3\\040(deleted) partition 4096 2048 100\n");
        let stat = " 2097152 500000 1048576 1572864 0 0 0 0 0\n";
        let folder = tree(&[("proc/swaps", &one), ("sys/block/zram3/mm_stat", stat)]);
        let found = swap(folder.path()).expect("readable");
        assert_eq!(found.kind, SwapKind::Zram);
        assert_eq!((found.size_bytes, found.used_bytes), (4 << 20, 2 << 20));
        assert_eq!((found.zram_bytes, found.zram_room_bytes), (1 << 20, 512 << 10));
        assert_eq!(found.room_bytes(), 512 << 10);
        assert_eq!(found.share_bytes(1 << 20), 512 << 10, "half of what is out");
        assert_eq!((found.share_bytes(0), found.share_bytes(u64::MAX)), (0, 1 << 20));
        std::fs::write(folder.path().join("sys/block/zram3/backing_dev"), "none\n").expect("file");
        assert_eq!(swap(folder.path()).expect("readable").kind, SwapKind::Zram);
        std::fs::write(folder.path().join("sys/block/zram3/backing_dev"), "/dev/sda\n")
            .expect("it");
        assert_eq!(swap(folder.path()).expect("readable").kind, SwapKind::Disk);
    }

    #[test]
    fn what_cannot_be_seen_counts_whole() {
        let one = areas("/dev/zram0 partition 4096 2048 100\n");
        let found = swap(tree(&[("proc/swaps", &one)]).path()).expect("readable");
        assert_eq!((found.kind, found.zram_bytes), (SwapKind::Zram, 2 << 20));
        let mut many = String::new();
        for device in 0..=DEVICES_MAX {
            many += &format!("/dev/zram{device} partition 1024 4 100\n");
        }
        let found = swap(tree(&[("proc/swaps", &areas(&many))]).path()).expect("readable");
        assert_eq!(found.zram_bytes, found.used_bytes);
    }

    #[test]
    fn a_disk_beside_zram_is_a_disk() {
        let both = areas("/dev/zram0 partition 1024 0 100\n/swap\\040file file 1024 16 -2\n");
        let found = swap(tree(&[("proc/swaps", &both)]).path()).expect("readable");
        assert_eq!((found.kind, found.zram_bytes), (SwapKind::Disk, 0));
        assert_eq!(found.room_bytes(), (2 << 20) - (16 << 10));
    }

    #[test]
    fn a_cgroup_may_swap_what_the_tightest_level_leaves() {
        const V2: &str = "30 22 0:26 / /cg rw - cgroup2 none rw\n";
        const V1: &str = "30 22 0:26 / /cg rw - cgroup none rw,memory\n";
        let bound = |mount: &str, own: &str, files: &[(&str, &str)]| {
            let place = [("proc/self/cgroup", own), ("proc/self/mountinfo", mount)];
            let folder = tree(&[&place, files].concat());
            std::fs::create_dir_all(folder.path().join("cg/a/b")).expect("folders");
            let root = folder.path().as_os_str().as_encoded_bytes().to_owned();
            Scratch::new().swap_bound(Tree::at(&root)).expect("readable")
        };
        let v2 = |files: &[(&str, &str)]| bound(V2, "0::/a/b\n", files);
        assert_eq!(v2(&[]), None);
        assert_eq!(v2(&[("cg/a/b/memory.swap.max", "max\n")]), None);
        let both = [("cg/a/b/memory.swap.max", "8192\n"), ("cg/a/memory.swap.max", "0\n")];
        assert_eq!((v2(&both[..1]), v2(&both)), (Some(8192), Some(0)));
        let v1 = |memory, both| {
            let files = [
                ("cg/a/b/memory.limit_in_bytes", memory),
                ("cg/a/b/memory.memsw.limit_in_bytes", both),
            ];
            bound(V1, "4:memory:/a/b\n", &files)
        };
        const NONE: &str = "9223372036854771712\n";
        assert_eq!((v1("4096\n", "4096\n"), v1("4096\n", "12288\n")), (Some(0), Some(8192)));
        assert_eq!(
            (v1(NONE, NONE), v1(NONE, "4096\n"), v1("4096\n", NONE)),
            (None, Some(4096), None)
        );
    }

    #[test]
    fn damaged_files_are_errors() {
        let one = areas("/dev/zram0 partition 4096 2048 100\n");
        for (swaps, stat) in [("\n\nx y z", ""), (&*one, "1 2 three"), (&*one, "1 2 3")] {
            let folder = tree(&[("proc/swaps", swaps), ("sys/block/zram0/mm_stat", stat)]);
            let found = swap(folder.path());
            assert!(stat.is_empty() || matches!(found, Err(Unread::Malformed(_))), "{found:?}");
        }
        for line in ["", "/a file", "/a file x 1 2", "/a file 1 2", "/a file 1 2 three"] {
            assert_eq!(SwapLine::parse(line.as_bytes()), None, "{line}");
        }
        assert_eq!(SwapLine::parse(b"/a file 99999999999999999999 0 0"), None);
    }
}
