//! How much memory there is: of the machine, of the cgroup, and free just now. Read without
//! allocating.
//!
//! ```text
//!   /proc/self/cgroup   4:memory:/a/b    0::/a/b
//!                             v1            v2
//!   /sys/fs/cgroup/memory/a/b/memory.limit_in_bytes       and of /a, and of the root
//!   /sys/fs/cgroup/a/b/memory.max, memory.high            or below .../unified
//! ```
//!
//! Invariants: `cgroup_bytes` is the least limit on the way from our cgroup to the root of what is
//! mounted; a file that is absent or says `max` sets none. Inside a container the cgroup's name may
//! not exist below the mount: its root is then the container's own, which is looked at anyway.
//!
//! The usual places are looked at, not the table of mounts: `plimsoll::meter` reads that, where it
//! may allocate.
//!
//! Must never: allocate, lock, format or panic; see `env`.
//!
//! Sources: cgroups(7), proc_meminfo(5), the kernel's admin-guide/cgroup-v2.

use std::ffi::CStr;

/// Bytes of a path, and of what is read of a file; longer ones are taken for absent.
const TEXT_BYTES_MAX: usize = 4096;

/// What there is, in bytes; `usize::MAX` where there is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    /// Memory of the machine.
    pub(super) machine_bytes: usize,
    /// Memory that could be had now without swapping.
    pub(super) available_bytes: usize,
    /// The tightest limit of our cgroups.
    pub(super) cgroup_bytes: usize,
}

impl Whole {
    /// Looks at the machine.
    pub(super) fn of_machine() -> Self {
        let mut text = [0; TEXT_BYTES_MAX];
        let available = contents(c"/proc/meminfo", &mut text).and_then(available_bytes);
        let mut text = [0; TEXT_BYTES_MAX];
        let groups = contents(c"/proc/self/cgroup", &mut text).unwrap_or(b"");
        Self {
            machine_bytes: crate::os::physical_bytes(),
            available_bytes: available.unwrap_or(usize::MAX),
            cgroup_bytes: tightest(groups, |path| {
                let mut text = [0; TEXT_BYTES_MAX];
                number(contents(path, &mut text)?.trim_ascii())
            }),
        }
    }
}

/// The first bytes of a file.
fn contents<'a>(path: &CStr, out: &'a mut [u8; TEXT_BYTES_MAX]) -> Option<&'a [u8]> {
    // SAFETY: the path is a C string.
    let file = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if file < 0 {
        return None;
    }
    // SAFETY: the buffer has that many bytes.
    let read = unsafe { libc::read(file, out.as_mut_ptr().cast(), out.len()) };
    // SAFETY: opened above, and used by nobody else.
    unsafe { libc::close(file) };
    out.get(..usize::try_from(read).ok()?)
}

/// A decimal number and nothing else; what does not fit is as good as no bound.
fn number(text: &[u8]) -> Option<usize> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |sum: usize, c: &u8| sum.saturating_mul(10).saturating_add(usize::from(c - b'0'));
    Some(text.iter().fold(0, digit))
}

fn available_bytes(meminfo: &[u8]) -> Option<usize> {
    let line = meminfo.split(|c| *c == b'\n').find_map(|line| line.strip_prefix(b"MemAvailable:"));
    Some(number(line?.strip_suffix(b"kB")?.trim_ascii())?.saturating_mul(1024))
}

/// The least of the limits that `limit_at` finds for the cgroups in `groups`, the text of
/// `/proc/self/cgroup`.
fn tightest(groups: &[u8], mut limit_at: impl FnMut(&CStr) -> Option<usize>) -> usize {
    let mut least = usize::MAX;
    for line in groups.split(|c| *c == b'\n') {
        let mut fields = line.splitn(3, |c| *c == b':').skip(1);
        let (Some(controllers), Some(name)) = (fields.next(), fields.next()) else { continue };
        let places: &[(&[u8], &[u8])] = if controllers.is_empty() {
            &[
                (b"/sys/fs/cgroup", b"/memory.max"),
                (b"/sys/fs/cgroup", b"/memory.high"),
                (b"/sys/fs/cgroup/unified", b"/memory.max"),
                (b"/sys/fs/cgroup/unified", b"/memory.high"),
            ]
        } else if controllers.split(|c| *c == b',').any(|name| name == b"memory") {
            &[(b"/sys/fs/cgroup/memory", b"/memory.limit_in_bytes")]
        } else {
            &[]
        };
        for (mount, file) in places {
            each_level(name, |level| {
                let mut path = [0; TEXT_BYTES_MAX];
                let limit = joined(&mut path, [*mount, level, *file]).and_then(&mut limit_at);
                least = least.min(limit.unwrap_or(usize::MAX));
            });
        }
    }
    least
}

/// `/a/b`, `/a` and the empty name of the root.
fn each_level(name: &[u8], mut each: impl FnMut(&[u8])) {
    let mut level = name.strip_suffix(b"/").unwrap_or(name);
    loop {
        each(level);
        let Some(cut) = level.iter().rposition(|c| *c == b'/') else { return };
        level = &level[..cut];
    }
}

/// The parts one after the other, as a C string.
fn joined<'a>(out: &'a mut [u8; TEXT_BYTES_MAX], parts: [&[u8]; 3]) -> Option<&'a CStr> {
    let mut len = 0;
    for part in parts {
        out.get_mut(len..len + part.len())?.copy_from_slice(part);
        len += part.len();
    }
    *out.get_mut(len)? = 0;
    CStr::from_bytes_with_nul(&out[..=len]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree<'a>(files: &'a [(&'a str, usize)]) -> impl FnMut(&CStr) -> Option<usize> + 'a {
        |path| {
            let path = path.to_str().expect("ASCII");
            files.iter().find(|(name, _)| *name == path).map(|(_, bytes)| *bytes)
        }
    }

    #[test]
    fn the_tightest_level_of_either_version_counts() {
        let v1 = [
            ("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", 900),
            ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", 700),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", 1000),
        ];
        assert_eq!(tightest(b"4:cpu:/a/b\n3:hugetlb,memory:/a/b\n0::/\n", tree(&v1)), 700);
        let v2 = [
            ("/sys/fs/cgroup/a/b/memory.max", 900),
            ("/sys/fs/cgroup/a/b/memory.high", 500),
            ("/sys/fs/cgroup/memory.max", 600),
        ];
        assert_eq!(tightest(b"0::/a/b\n", tree(&v2)), 500);
        // A container: the name is the host's, the mount is its own.
        assert_eq!(tightest(b"5:memory:/docker/c0ffee\n", tree(&v1)), 1000);
        assert_eq!(tightest(b"1:cpu:/a\n", tree(&v1)), usize::MAX);
    }

    #[test]
    fn damaged_texts_set_no_limit_and_do_not_panic() {
        let long = format!("0::/{}\n", "x/".repeat(TEXT_BYTES_MAX));
        for text in ["", "::", "0:", "0::", "7:memory", "\n\n", "0::/\0/a", &long] {
            assert_eq!(tightest(text.as_bytes(), |_| None), usize::MAX, "{text:?}");
        }
        for text in ["", "max", "-1", "12x"] {
            assert_eq!(number(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(number("9".repeat(40).as_bytes()), Some(usize::MAX));
        assert_eq!(available_bytes(b"MemTotal: 9 kB\nMemAvailable:    12 kB\n"), Some(12288));
        assert_eq!(available_bytes(b"MemFree: 9 kB\n"), None);
    }

    #[test]
    #[cfg_attr(miri, ignore = "reads /proc")]
    fn this_machine_has_memory() {
        let whole = Whole::of_machine();
        assert!(whole.machine_bytes >= whole.available_bytes && whole.available_bytes > 0);
    }
}
