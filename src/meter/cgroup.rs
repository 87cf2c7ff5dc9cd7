//! The memory cgroup of this process, and the tightest limit on the way up from it.
//!
//! Two files find it. `/proc/self/cgroup` names the cgroup; `/proc/self/mountinfo` says which part
//! of that hierarchy is mounted where. Both names start from the root of the reader's cgroup
//! namespace, so they compare word by word:
//!
//! ```text
//!   cgroup      /docker/c0ffee/worker        own name
//!   mount root  /docker/c0ffee               must be a prefix of it
//!   mounted at  /sys/fs/cgroup/memory
//!   directory   /sys/fs/cgroup/memory/worker    then its parents, up to the mount point
//! ```
//!
//! Leading `..` words stand for levels above the namespace's root. A name with `..` left after the
//! prefix lies outside the mount; a root that is only `..` lies above our cgroup by levels that
//! have no names here, and then the walk has one step: the mount point.
//!
//! Which hierarchy: v1 when a line lists the controller `memory`, else v2 (`0::`). That is also
//! right for the hybrid layout, where v2 is mounted without the memory controller.
//!
//! Invariants, over the levels `l` from our cgroup to the mount point:
//!
//! * `limit_bytes = min over l of max(l)`, and for v1 also `hierarchical_memory_limit` of our own
//!   cgroup, the kernel's own minimum, which sees parents that a container does not;
//! * `high_bytes = min over l of high(l)`, v2 only;
//! * `path` is the level that sets the smaller of the two, the outermost among equals, since its
//!   usage is the larger; `usage_bytes` and `anon_bytes` are of that level.
//!
//! Must never: take a damaged file for "no limit". A file that is absent is legal (a root cgroup,
//! a controller not enabled at that level) and sets no limit.
//!
//! Sources: cgroups(7), cgroup_namespaces(7), proc_pid_mountinfo(5), and the kernel's
//! admin-guide/cgroup-v2 and cgroup-v1/memory pages.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::{MeterError, decimal, malformed, read_optional, read_required};

#[cfg(test)]
mod tests;

/// A v1 limit of this many bytes or more (2^62, 4 EiB) is no limit. v1 has no word for "none": it
/// shows the largest page counter, near 2^63 and rounded down to a page, so the exact number
/// depends on the page size. No machine has 4 EiB.
const V1_UNLIMITED_BYTES_MIN: u64 = 1 << 62;

/// Which cgroup interface accounts for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupVersion {
    /// `memory.limit_in_bytes` and its kin; also on hybrid machines.
    V1,
    /// `memory.max` and its kin.
    V2,
}

/// The tightest limit on this process's memory cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupLimit {
    /// The interface it was read from.
    pub version: CgroupVersion,
    /// The cgroup that sets [`tightest_bytes`](Self::tightest_bytes), named as in
    /// `/proc/self/cgroup`; our own where nothing sets it, or a parent that cannot be seen does.
    pub path: PathBuf,
    /// The tightest hard limit in bytes, above which the kernel kills; `None` for no limit.
    pub limit_bytes: Option<u64>,
    /// The tightest `memory.high` in bytes, above which the kernel slows the process down to a
    /// crawl; `None` for no limit, and always on v1.
    pub high_bytes: Option<u64>,
    /// Bytes charged to `path` and all below it, page cache included; `None` where not shown.
    pub usage_bytes: Option<u64>,
    /// Of these, anonymous memory (`anon`, or `total_rss` on v1); `None` where not shown.
    pub anon_bytes: Option<u64>,
}

impl CgroupLimit {
    /// The smaller of the hard limit and `memory.high`, in bytes; `None` for no limit.
    pub fn tightest_bytes(&self) -> Option<u64> {
        self.limit_bytes.into_iter().chain(self.high_bytes).min()
    }
}

/// What `/proc/self/cgroup` says: the interface and the cgroup's name, in words.
struct Own {
    version: CgroupVersion,
    words: Vec<OsString>,
}

/// One mount of the hierarchy: the part of it that is shown, and where.
struct Mount {
    root: Vec<OsString>,
    point: PathBuf,
}

/// A way from a mount point down to our cgroup.
struct Way {
    point: PathBuf,
    /// The cgroup shown at the mount point.
    root: Vec<OsString>,
    /// From there down to our cgroup.
    below: Vec<OsString>,
}

impl Way {
    /// Directory of the level `depth` words below the mount point.
    fn directory(&self, depth: usize) -> PathBuf {
        self.point.join(self.below[..depth].iter().collect::<PathBuf>())
    }

    /// Name of that level, as in `/proc/self/cgroup`.
    fn name(&self, depth: usize) -> PathBuf {
        let words = self.root.iter().chain(&self.below[..depth]);
        Path::new("/").join(words.collect::<PathBuf>())
    }
}

/// The tightest limit on this process's cgroup, with `root` taken for `/`.
pub(super) fn tightest(root: &Path) -> Result<Option<CgroupLimit>, MeterError> {
    let Some(own) = own_cgroup(&root.join("proc/self/cgroup"))? else {
        return Ok(None);
    };
    let mounts = mounts_of(root, own.version)?;
    let Some(way) = way_to(&own, &mounts) else {
        return Ok(None);
    };
    walk(own.version, &way).map(Some)
}

/// The directory of this process's memory cgroup, with `root` taken for `/`; `None` where no mount
/// shows it.
#[cfg(feature = "cli")]
pub(crate) fn own_directory(root: &Path) -> Result<Option<(CgroupVersion, PathBuf)>, MeterError> {
    let Some(own) = own_cgroup(&root.join("proc/self/cgroup"))? else {
        return Ok(None);
    };
    let mounts = mounts_of(root, own.version)?;
    Ok(way_to(&own, &mounts).map(|way| (own.version, way.directory(way.below.len()))))
}

fn own_cgroup(path: &Path) -> Result<Option<Own>, MeterError> {
    let Some(text) = read_optional(path)? else {
        return Ok(None);
    };
    let mut unified = None;
    for line in lines(&text) {
        // hierarchy-id ":" controllers ":" name; only the name may hold a colon.
        let mut fields = line.splitn(3, |&byte| byte == b':');
        let (Some(id), Some(controllers), Some(name)) =
            (fields.next(), fields.next(), fields.next())
        else {
            return Err(malformed(path, "ID:CONTROLLERS:PATH", line));
        };
        if decimal(id).is_none() || !name.starts_with(b"/") {
            return Err(malformed(path, "ID:CONTROLLERS:PATH", line));
        }
        if lists_memory(controllers) {
            return Ok(Some(Own { version: CgroupVersion::V1, words: words(name) }));
        }
        if id == b"0" && controllers.is_empty() {
            unified = Some(Own { version: CgroupVersion::V2, words: words(name) });
        }
    }
    Ok(unified)
}

/// Mounts that show the hierarchy, in the file's order, mount points below `root`.
fn mounts_of(root: &Path, version: CgroupVersion) -> Result<Vec<Mount>, MeterError> {
    const EXPECTED: &str = "ID PARENT DEVICE ROOT POINT OPTIONS [TAGS] - TYPE SOURCE OPTIONS";
    let path = root.join("proc/self/mountinfo");
    let text = read_required(&path)?;
    let mut mounts = Vec::new();
    for line in lines(&text) {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        // Six fields, any number of tags, a dash, three fields.
        let dash = fields.iter().skip(6).position(|field| *field == b"-").map(|at| at + 6);
        let after = dash.and_then(|dash| fields.get(dash + 1..dash + 4));
        let Some(&[kind, _, options]) = after else {
            return Err(malformed(&path, EXPECTED, line));
        };
        let shows = match version {
            CgroupVersion::V1 => kind == b"cgroup" && lists_memory(options),
            CgroupVersion::V2 => kind == b"cgroup2",
        };
        if !shows {
            continue;
        }
        let (shown, point) = (unescaped(fields[3]), unescaped(fields[4]));
        let (true, Some(point)) = (shown.starts_with(b"/"), point.strip_prefix(b"/")) else {
            return Err(malformed(&path, EXPECTED, line));
        };
        mounts.push(Mount { root: words(&shown), point: root.join(OsStr::from_bytes(point)) });
    }
    Ok(mounts)
}

/// The best mount for `own`: one that holds our directory before one that shows only a parent, and
/// the one that shows the most parents first.
fn way_to(own: &Own, mounts: &[Mount]) -> Option<Way> {
    let ways = mounts.iter().filter_map(|mount| {
        let way = |below: &[OsString]| Way {
            point: mount.point.clone(),
            root: mount.root.clone(),
            below: below.to_vec(),
        };
        match own.words.strip_prefix(mount.root.as_slice()) {
            Some(below) if ups(below) == 0 => {
                let way = way(below);
                let rank = if way.directory(below.len()).is_dir() { 0 } else { 2 };
                Some((rank, way))
            }
            _ if ups(&mount.root) == mount.root.len() && ups(&mount.root) > ups(&own.words) => {
                Some((1, way(&[])))
            }
            _ => None,
        }
    });
    // Shorter roots show more parents; of roots above us, the shortest is the nearest.
    ways.min_by_key(|(rank, way)| (*rank, way.root.len())).map(|(_, way)| way)
}

/// Number of leading `..` words.
fn ups(words: &[OsString]) -> usize {
    words.iter().take_while(|word| *word == "..").count()
}

fn walk(version: CgroupVersion, way: &Way) -> Result<CgroupLimit, MeterError> {
    let own_depth = way.below.len();
    let mut found = CgroupLimit {
        version,
        path: way.name(own_depth),
        limit_bytes: None,
        high_bytes: None,
        usage_bytes: None,
        anon_bytes: None,
    };
    let mut setter_depth = own_depth;
    for depth in (0..=own_depth).rev() {
        let directory = way.directory(depth);
        let (max, high) = match version {
            CgroupVersion::V1 if depth < own_depth && !accounts_for_children(&directory)? => break,
            CgroupVersion::V1 => (v1_limit(&directory.join("memory.limit_in_bytes"))?, None),
            CgroupVersion::V2 => (
                v2_limit(&directory.join("memory.max"))?,
                v2_limit(&directory.join("memory.high"))?,
            ),
        };
        let tightest = found.tightest_bytes().unwrap_or(u64::MAX);
        if max.into_iter().chain(high).min().is_some_and(|bytes| bytes <= tightest) {
            setter_depth = depth;
        }
        found.limit_bytes = found.limit_bytes.into_iter().chain(max).min();
        found.high_bytes = found.high_bytes.into_iter().chain(high).min();
    }
    if version == CgroupVersion::V1 {
        let stat = way.directory(own_depth).join("memory.stat");
        let whole = stat_field(&stat, &["hierarchical_memory_limit"])?.and_then(v1_bounded);
        if whole.is_some_and(|whole| found.limit_bytes.is_none_or(|seen| whole < seen)) {
            found.limit_bytes = whole;
            setter_depth = own_depth;
        }
    }
    found.path = way.name(setter_depth);
    let (usage, anon) = usage_of(version, &way.directory(setter_depth))?;
    Ok(CgroupLimit { usage_bytes: usage, anon_bytes: anon, ..found })
}

/// Bytes charged to a cgroup and all below it, and the anonymous part of them.
fn usage_of(
    version: CgroupVersion,
    directory: &Path,
) -> Result<(Option<u64>, Option<u64>), MeterError> {
    let (usage, anon): (_, &[&str]) = match version {
        CgroupVersion::V1 => ("memory.usage_in_bytes", &["total_rss", "rss"]),
        CgroupVersion::V2 => ("memory.current", &["anon"]),
    };
    let anon_bytes = stat_field(&directory.join("memory.stat"), anon)?;
    let usage = directory.join(usage);
    let usage_bytes = read_optional(&usage)?.map(|text| number(&usage, &text)).transpose()?;
    Ok((usage_bytes, anon_bytes))
}

/// Whether a v1 cgroup's limit holds for its children: not where an old kernel was told so.
fn accounts_for_children(directory: &Path) -> Result<bool, MeterError> {
    let path = directory.join("memory.use_hierarchy");
    let told = read_optional(&path)?.map(|text| number(&path, &text)).transpose()?;
    Ok(told != Some(0))
}

fn v1_limit(path: &Path) -> Result<Option<u64>, MeterError> {
    let limit = read_optional(path)?.map(|text| number(path, &text)).transpose()?;
    Ok(limit.and_then(v1_bounded))
}

fn v1_bounded(bytes: u64) -> Option<u64> {
    (bytes < V1_UNLIMITED_BYTES_MIN).then_some(bytes)
}

fn v2_limit(path: &Path) -> Result<Option<u64>, MeterError> {
    let Some(text) = read_optional(path)? else {
        return Ok(None);
    };
    match text.trim_ascii() {
        b"max" => Ok(None),
        bytes => decimal(bytes)
            .map(Some)
            .ok_or_else(|| malformed(path, "a count of bytes, or max", &text)),
    }
}

/// Value of the first of `fields` that the stat file has; `None` without the file or the field.
fn stat_field(path: &Path, fields: &[&str]) -> Result<Option<u64>, MeterError> {
    let Some(text) = read_optional(path)? else {
        return Ok(None);
    };
    for field in fields {
        let values = lines(&text)
            .filter_map(|line| Some((line, line.strip_prefix(field.as_bytes())?)))
            .find_map(|(line, rest)| Some((line, rest.strip_prefix(b" ")?)));
        if let Some((line, value)) = values {
            let malformed = || malformed(path, "NAME BYTES", line);
            return decimal(value).map(Some).ok_or_else(malformed);
        }
    }
    Ok(None)
}

fn number(path: &Path, text: &[u8]) -> Result<u64, MeterError> {
    decimal(text.trim_ascii()).ok_or_else(|| malformed(path, "a count of bytes", text))
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
}

fn lists_memory(controllers: &[u8]) -> bool {
    controllers.split(|&byte| byte == b',').any(|controller| controller == b"memory")
}

/// Words of a slash-separated name; `/` has none.
fn words(name: &[u8]) -> Vec<OsString> {
    name.split(|&byte| byte == b'/')
        .filter(|word| !word.is_empty())
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect()
}

/// `mountinfo` writes space, tab, newline and backslash as a backslash and three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) =
            (byte, tail)
        {
            bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = after;
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    bytes
}
