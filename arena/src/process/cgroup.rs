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
//! * the group is the level that sets the smaller of the two, the outermost among equals, since its
//!   usage is the larger; `usage_bytes` and `anon_bytes` are of that level.
//!
//! Must never: allocate, or take a damaged file for "no limit". A file that is absent is legal (a
//! root cgroup, a controller not enabled at that level) and sets no limit.
//!
//! Sources: cgroups(7), cgroup_namespaces(7), proc_pid_mountinfo(5), and the kernel's
//! admin-guide/cgroup-v2 and cgroup-v1/memory pages.

use super::file::{Found, PathText, Reader, Text, Tree, Unread, decimal};

/// A v1 limit of this many bytes or more (2^62, 4 EiB) is no limit. v1 has no word for "none": it
/// shows the largest page counter, near 2^63 and rounded down to a page, so the exact number
/// depends on the page size. No machine has 4 EiB.
const V1_UNLIMITED_BYTES_MIN: u64 = 1 << 62;

/// Longest name of a cgroup or a mount point, in bytes.
const NAME_BYTES_MAX: usize = 2048;

const COUNT: &str = "a count of bytes";
const COUNT_OR_MAX: &str = "a count of bytes, or max";
const CGROUP_LINE: &str = "ID:CONTROLLERS:PATH";
const MOUNT_LINE: &str = "ID PARENT DEVICE ROOT POINT OPTIONS [TAGS] - TYPE SOURCE OPTIONS";

type Name = Text<NAME_BYTES_MAX>;

/// Which cgroup interface accounts for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupVersion {
    /// `memory.limit_in_bytes` and its kin; also on hybrid machines.
    V1,
    /// `memory.max` and its kin.
    V2,
}

/// The tightest limit on this process's memory cgroup. [`Scratch::group_name`] names the cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The interface it was read from.
    pub version: CgroupVersion,
    /// The tightest hard limit in bytes, above which the kernel kills; `None` for no limit.
    pub limit_bytes: Option<u64>,
    /// The tightest `memory.high` in bytes, above which the kernel slows the process down to a
    /// crawl; `None` for no limit, and always on v1.
    pub high_bytes: Option<u64>,
    /// Bytes charged to the group and all below it, page cache included; `None` where not shown.
    pub usage_bytes: Option<u64>,
    /// Of these, anonymous memory (`anon`, or `total_rss` on v1); `None` where not shown.
    pub anon_bytes: Option<u64>,
}

impl Group {
    /// Returns the smaller of the hard limit and `memory.high`, in bytes; `None` for no limit.
    #[must_use]
    pub fn tightest_bytes(&self) -> Option<u64> {
        self.limit_bytes.into_iter().chain(self.high_bytes).min()
    }
}

/// What one look at the machine needs in memory, some 20 KiB: too much for a small stack.
#[derive(Debug)]
pub struct Scratch {
    pub(super) reader: Reader,
    names: Names,
}

impl Scratch {
    /// Makes an empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self { reader: Reader::new(), names: Names::EMPTY }
    }
}

impl Scratch {
    /// Returns the file of the last [`Unread`], and what of it was not understood.
    #[must_use]
    pub fn unread(&self) -> (&[u8], &[u8]) {
        self.reader.unread()
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// The names that a walk needs: `/a/b` for a cgroup, and nothing for the root.
#[derive(Debug)]
struct Names {
    /// Our own cgroup.
    own: Name,
    /// The mount that is walked: the cgroup shown there, and the mount point.
    root: Name,
    point: Name,
    /// Another mount, while mounts are compared.
    other_root: Name,
    other_point: Name,
    directory: PathText,
    /// The cgroup that sets the tightest limit.
    setter: Name,
}

impl Names {
    const EMPTY: Self = Self {
        own: Text::EMPTY,
        root: Text::EMPTY,
        point: Text::EMPTY,
        other_root: Text::EMPTY,
        other_point: Text::EMPTY,
        directory: Text::EMPTY,
        setter: Text::EMPTY,
    };

    /// What the own name has below the mount's root.
    fn below(&self) -> &[u8] {
        below(self.own.as_bytes(), self.root.as_bytes()).unwrap_or(b"")
    }

    /// Enters a line of `/proc/self/mountinfo` as the mount that is walked, if it is a better one.
    fn consider(&mut self, tree: Tree<'_>, line: &MountLine<'_>, best: &mut Option<Rank>) -> bool {
        let (root, point) = (&mut self.other_root, &mut self.other_point);
        if !unescape_words(root, line.root) || !unescape_words(point, line.point) {
            return false;
        }
        let (own, root) = (self.own.as_bytes(), self.other_root.as_bytes());
        let rank = match below(own, root) {
            Some(below) if ups(below) == 0 => {
                let parts = [tree.0, self.other_point.as_bytes(), below];
                let there = self.directory.join(&parts) && self.directory.is_directory();
                if there { 0 } else { 2 }
            }
            _ if ups(root) == words(root) && ups(root) > ups(own) => 1,
            _ => return true,
        };
        // Shorter roots show more parents; of roots above us, the shortest is the nearest.
        let rank = (rank, words(root));
        if best.is_none_or(|best| rank < best) {
            *best = Some(rank);
            std::mem::swap(&mut self.root, &mut self.other_root);
            std::mem::swap(&mut self.point, &mut self.other_point);
        }
        true
    }
}

/// Which mount shows more: the lower, the better.
type Rank = (u8, usize);

impl Scratch {
    /// Returns the name of the cgroup that the last [`Group`] was of, as in `/proc/self/cgroup`.
    #[must_use]
    pub fn group_name(&self) -> &[u8] {
        match self.names.setter.as_bytes() {
            b"" => b"/",
            name => name,
        }
    }

    /// Finds the tightest limit on this process's memory cgroup; `None` where there is no memory
    /// cgroup, or none that a mount shows.
    ///
    /// Looks the cgroup up anew each time, for a process can be moved: a dozen small reads.
    ///
    /// # Errors
    ///
    /// [`Unread`], naming the file: a damaged one is never taken for "no limit".
    pub fn group(&mut self, tree: Tree<'_>) -> Result<Option<Group>, Unread> {
        let Some(version) = self.find_way(tree)? else { return Ok(None) };
        self.walk(tree, version).map(Some)
    }

    /// Finds the directory of this process's memory cgroup; `None` where no mount shows it.
    ///
    /// # Errors
    ///
    /// As [`Scratch::group`].
    pub fn own_directory(
        &mut self,
        tree: Tree<'_>,
    ) -> Result<Option<(CgroupVersion, &[u8])>, Unread> {
        let Some(version) = self.find_way(tree)? else { return Ok(None) };
        let names = &mut self.names;
        let below = below(names.own.as_bytes(), names.root.as_bytes()).unwrap_or(b"");
        if !names.directory.join(&[tree.0, names.point.as_bytes(), below]) {
            return Err(Unread::TooLong);
        }
        Ok(Some((version, self.names.directory.as_bytes())))
    }

    /// Fills in our own name and the mount to walk.
    fn find_way(&mut self, tree: Tree<'_>) -> Result<Option<CgroupVersion>, Unread> {
        let names = &mut self.names;
        let malformed = Unread::Malformed(CGROUP_LINE);
        let mut unified = None;
        let parts: [&[u8]; 2] = [tree.0, b"/proc/self/cgroup"];
        let found = self.reader.find_line(&parts, |line| {
            let (version, name) = match own_line(line)? {
                Some(found) => found,
                None => return Ok(None),
            };
            if !unescape_words(&mut names.own, name) {
                return Err(malformed);
            }
            match version {
                CgroupVersion::V1 => Ok(Some(version)),
                CgroupVersion::V2 => {
                    unified = Some(version);
                    Ok(None)
                }
            }
        })?;
        let version = match (found, unified) {
            (Found::Line(version), _) | (_, Some(version)) => version,
            _ => return Ok(None),
        };
        let mut best = None;
        let parts: [&[u8]; 2] = [tree.0, b"/proc/self/mountinfo"];
        let found = self.reader.find_line(&parts, |line| {
            let malformed = Unread::Malformed(MOUNT_LINE);
            let mount = mount_line(line, version).ok_or(malformed)?;
            let fits = mount.is_none_or(|mount| names.consider(tree, &mount, &mut best));
            if fits { Ok(None::<()>) } else { Err(malformed) }
        })?;
        if let Found::NoFile = found {
            return Err(Unread::Call(libc::ENOENT));
        }
        Ok(best.map(|_| version))
    }

    fn walk(&mut self, tree: Tree<'_>, version: CgroupVersion) -> Result<Group, Unread> {
        let own_len = self.names.below().len();
        let (mut limit, mut high) = (None, None);
        let (mut cut, mut setter) = (own_len, own_len);
        loop {
            let own = cut == own_len;
            if version == CgroupVersion::V1 && !own && !self.accounts_for_children(tree, cut)? {
                break;
            }
            let (max_here, high_here) = match version {
                CgroupVersion::V1 => {
                    let limit = self.number(tree, cut, b"/memory.limit_in_bytes", COUNT)?;
                    (limit.filter(|bytes| *bytes < V1_UNLIMITED_BYTES_MIN), None)
                }
                CgroupVersion::V2 => (
                    self.number(tree, cut, b"/memory.max", COUNT_OR_MAX)?,
                    self.number(tree, cut, b"/memory.high", COUNT_OR_MAX)?,
                ),
            };
            let tightest = [limit, high].into_iter().flatten().min().unwrap_or(u64::MAX);
            if max_here.into_iter().chain(high_here).min().is_some_and(|bytes| bytes <= tightest) {
                setter = cut;
            }
            limit = limit.into_iter().chain(max_here).min();
            high = high.into_iter().chain(high_here).min();
            match self.above(cut) {
                Some(above) => cut = above,
                None => break,
            }
        }
        if version == CgroupVersion::V1 {
            // The kernel's own minimum sees parents that no mount shows.
            let whole = self.stat(tree, own_len, &[b"hierarchical_memory_limit"])?;
            let whole = whole.filter(|bytes| *bytes < V1_UNLIMITED_BYTES_MIN);
            if whole.is_some_and(|whole| limit.is_none_or(|seen| whole < seen)) {
                (limit, setter) = (whole, own_len);
            }
        }
        let (usage, anon): (&[u8], &[&[u8]]) = match version {
            CgroupVersion::V1 => (b"/memory.usage_in_bytes", &[b"total_rss", b"rss"]),
            CgroupVersion::V2 => (b"/memory.current", &[b"anon"]),
        };
        let usage_bytes = self.number(tree, setter, usage, COUNT)?;
        let anon_bytes = self.stat(tree, setter, anon)?;
        let names = &mut self.names;
        let below = below(names.own.as_bytes(), names.root.as_bytes()).unwrap_or(b"");
        names.setter.clear();
        let fits = names.setter.append(names.root.as_bytes())
            && names.setter.append(&below[..setter.min(below.len())]);
        debug_assert!(fits, "a level's name is a part of our own");
        Ok(Group { version, limit_bytes: limit, high_bytes: high, usage_bytes, anon_bytes })
    }

    /// The level above the one that has `cut` bytes of the name below the mount's root.
    fn above(&self, cut: usize) -> Option<usize> {
        self.names.below()[..cut].iter().rposition(|byte| *byte == b'/')
    }

    /// Finds how many bytes of this process's cgroup may be swapped out: the least of
    /// `memory.swap.max` on the way up, or what v1 allows for memory and swap together beyond the
    /// memory. `None` for no bound.
    ///
    /// # Errors
    ///
    /// As [`Scratch::group`].
    pub fn swap_bound(&mut self, tree: Tree<'_>) -> Result<Option<u64>, Unread> {
        let Some(version) = self.find_way(tree)? else { return Ok(None) };
        let own = self.names.below().len();
        let (mut cut, mut bound) = (own, None);
        loop {
            let v1 = version == CgroupVersion::V1;
            if v1 && cut != own && !self.accounts_for_children(tree, cut)? {
                return Ok(bound);
            }
            let here = if v1 {
                let both = self.number(tree, cut, b"/memory.memsw.limit_in_bytes", COUNT)?;
                let memory = self.number(tree, cut, b"/memory.limit_in_bytes", COUNT)?;
                let both = both.filter(|bytes| *bytes < V1_UNLIMITED_BYTES_MIN);
                let memory = memory.filter(|bytes| *bytes < V1_UNLIMITED_BYTES_MIN);
                both.map(|both| both.saturating_sub(memory.unwrap_or(0)))
            } else {
                self.number(tree, cut, b"/memory.swap.max", COUNT_OR_MAX)?
            };
            bound = bound.into_iter().chain(here).min();
            match self.above(cut) {
                Some(above) => cut = above,
                None => return Ok(bound),
            }
        }
    }

    /// Reads a file of the level that has `cut` bytes of the name below the mount's root.
    fn number(
        &mut self,
        tree: Tree<'_>,
        cut: usize,
        file: &[u8],
        expected: &'static str,
    ) -> Result<Option<u64>, Unread> {
        let (reader, names) = (&mut self.reader, &self.names);
        let parts = [tree.0, names.point.as_bytes(), &names.below()[..cut], file];
        reader.number(&parts, expected)
    }

    /// Reads the first of `fields` that a level's stat file has; `None` without the file or field.
    fn stat(
        &mut self,
        tree: Tree<'_>,
        cut: usize,
        fields: &[&[u8]],
    ) -> Result<Option<u64>, Unread> {
        let (reader, names): (&mut Reader, _) = (&mut self.reader, &self.names);
        let parts: [&[u8]; 4] =
            [tree.0, names.point.as_bytes(), &names.below()[..cut], b"/memory.stat"];
        for field in fields {
            let found = reader.find_line(&parts, |line| {
                let value = line.strip_prefix(*field).and_then(|rest| rest.strip_prefix(b" "));
                let malformed = Unread::Malformed("NAME BYTES");
                value.map(|value| decimal(value).ok_or(malformed)).transpose()
            })?;
            if let Found::Line(bytes) = found {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// Says whether a v1 cgroup's limit holds for its children: not where an old kernel was told
    /// so.
    fn accounts_for_children(&mut self, tree: Tree<'_>, cut: usize) -> Result<bool, Unread> {
        let told = self.number(tree, cut, b"/memory.use_hierarchy", COUNT)?;
        Ok(told != Some(0))
    }
}

/// A line of `/proc/self/cgroup`: the interface and the name, where it is about memory.
fn own_line(line: &[u8]) -> Result<Option<(CgroupVersion, &[u8])>, Unread> {
    // hierarchy-id ":" controllers ":" name; only the name may hold a colon.
    let mut fields = line.splitn(3, |&byte| byte == b':');
    let (Some(id), Some(controllers), Some(name)) = (fields.next(), fields.next(), fields.next())
    else {
        return Err(Unread::Malformed(CGROUP_LINE));
    };
    if decimal(id).is_none() || !name.starts_with(b"/") {
        return Err(Unread::Malformed(CGROUP_LINE));
    }
    if lists_memory(controllers) {
        return Ok(Some((CgroupVersion::V1, name)));
    }
    Ok((id == b"0" && controllers.is_empty()).then_some((CgroupVersion::V2, name)))
}

/// What a line of `/proc/self/mountinfo` says of a mount.
struct MountLine<'a> {
    root: &'a [u8],
    point: &'a [u8],
}

/// The mount of a line if it shows the hierarchy; `None` for a line that is none.
fn mount_line(line: &[u8], version: CgroupVersion) -> Option<Option<MountLine<'_>>> {
    // Six fields, any number of tags, a dash, three fields.
    let mut fields = line.split(|&byte| byte == b' ');
    let root = fields.nth(3)?;
    let point = fields.next()?;
    fields.next()?;
    fields.by_ref().find(|field| *field == b"-")?;
    let (kind, _source, options) = (fields.next()?, fields.next()?, fields.next()?);
    let shows = match version {
        CgroupVersion::V1 => kind == b"cgroup" && lists_memory(options),
        CgroupVersion::V2 => kind == b"cgroup2",
    };
    let named = root.starts_with(b"/") && point.starts_with(b"/");
    match (shows, named) {
        (true, true) => Some(Some(MountLine { root, point })),
        (true, false) => None,
        (false, _) => Some(None),
    }
}

fn lists_memory(controllers: &[u8]) -> bool {
    controllers.split(|&byte| byte == b',').any(|controller| controller == b"memory")
}

/// What `own` has below `root`, both as `/word/word`; `None` where it is not below.
fn below<'a>(own: &'a [u8], root: &[u8]) -> Option<&'a [u8]> {
    own.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Number of leading `..` words.
fn ups(name: &[u8]) -> usize {
    name.split(|&byte| byte == b'/').skip(1).take_while(|word| *word == b"..").count()
}

/// Number of words.
fn words(name: &[u8]) -> usize {
    name.iter().filter(|byte| **byte == b'/').count()
}

/// Enters a slash-separated name as `/word/word`; false where it is too long. `mountinfo` writes
/// space, tab, newline and backslash as a backslash and three octal digits.
fn unescape_words(out: &mut Name, name: &[u8]) -> bool {
    out.clear();
    name.split(|&byte| byte == b'/').filter(|word| !word.is_empty()).all(|word| {
        let mut rest = word;
        let mut fits = out.append(b"/");
        while let Some((&byte, tail)) = rest.split_first() {
            let (byte, after) = match (byte, tail) {
                (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                    ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), after)
                }
                _ => (byte, tail),
            };
            fits = fits && out.append(&[byte]);
            rest = after;
        }
        fits
    })
}
