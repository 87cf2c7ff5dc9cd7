//! The ladder: rooms import downwards, and no files of a crate import each other in a circle.
//!
//! The order of rooms stands once, in docs/ARCHITECTURE.md: a block marked `ladder` for each crate,
//! the top first. A line has a room, or several with commas between, then two blanks or more and
//! what they are.
//!
//! ```text
//!   spill, stage    ..      spill.rs, spill/mod.rs, all below spill/; stage likewise
//!   spill/slot      ..      a part that stands elsewhere than its room: the longest name counts
//! ```
//!
//! The rules:
//!
//! * every file of the crate is in a room of a line, and every room has a file;
//! * a room imports rooms of lines below it only: two rooms of one line do not know each other.
//!   Inside a room the order is free;
//! * the files of a crate, inside rooms too, import each other in no circle. `x/mod.rs` and `x.rs`
//!   are files like others: one may use its children, or be used by them, not both;
//! * what a file hands on (`pub use`) and does not use itself is no import of its own, and whoever
//!   imports it from there imports the file that defines it. So a face stays a face.
//!
//! What is broken today stands in [`Known`]. An entry that is not broken any more is a fault too.

use crate::imports::{Imports, imports_of};
use crate::source::Source;
use std::collections::{BTreeMap, BTreeSet};

/// The rooms of one crate, as the document orders them.
#[derive(Debug)]
pub(crate) struct Ladder {
    /// The crate's folder of sources.
    pub(crate) folder: String,
    /// The rooms of each line, top first.
    lines: Vec<Vec<String>>,
}

/// Faults that are known, to be mended: files and folders as in the ladder.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known<'a> {
    /// Files that import from another that is not below them.
    pub(crate) upward: &'a [(&'a str, &'a str)],
    /// Files that import each other.
    pub(crate) circles: &'a [&'a [&'a str]],
}

impl Ladder {
    /// Reads the ladders of a document.
    pub(crate) fn all_of(document: &str) -> Vec<Self> {
        let mut ladders: Vec<Self> = Vec::new();
        let mut is_inside = false;
        for line in document.lines() {
            if let Some(folder) = line.strip_prefix("```ladder ") {
                ladders.push(Self { folder: folder.trim().to_owned(), lines: Vec::new() });
                is_inside = true;
            } else if line.starts_with("```") {
                is_inside = false;
            } else if let (true, Some(ladder)) = (is_inside, ladders.last_mut()) {
                let rooms = line.trim().split("  ").next().unwrap_or_default().split(',');
                let rooms = rooms.map(|room| room.trim().trim_end_matches('/').to_owned());
                ladder.lines.push(rooms.filter(|room| !room.is_empty()).collect());
            }
        }
        ladders
    }

    /// The room that `module` is in, and its line.
    fn room_of(&self, module: &str) -> Option<(&str, usize)> {
        let rooms = self
            .lines
            .iter()
            .enumerate()
            .flat_map(|(i, line)| line.iter().map(move |room| (room.as_str(), i)));
        let holds = |room: &str| {
            module.strip_prefix(room).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        rooms.filter(|(room, _)| holds(room)).max_by_key(|(room, _)| room.len())
    }

    /// Every breach of the rules by `sources`, the files of this crate without those of tests.
    pub(crate) fn faults(&self, sources: &[Source], known: &Known<'_>) -> Vec<String> {
        let names: Vec<String> = sources.iter().map(|file| self.module_of(&file.name)).collect();
        let imports = imports_of(&names, sources);
        let mut faults = self.homeless(&names);
        faults.extend(self.upward(&imports, known.upward));
        faults.extend(circles(&imports, known.circles));
        faults.iter().map(|fault| format!("{}: {fault}", self.folder)).collect()
    }

    /// `swap/src/store/mod.rs` is `store`, `swap/src/lib.rs` is `lib`.
    fn module_of(&self, name: &str) -> String {
        let below = name.strip_prefix(&self.folder).unwrap_or(name).trim_start_matches('/');
        let module = below.trim_end_matches(".rs");
        module.strip_suffix("/mod").unwrap_or(module).to_owned()
    }

    fn homeless(&self, names: &[String]) -> Vec<String> {
        let mut empty: BTreeSet<&str> = self.lines.iter().flatten().map(String::as_str).collect();
        let mut faults = Vec::new();
        for name in names {
            match self.room_of(name) {
                Some((room, _)) => {
                    empty.remove(room);
                }
                None => faults.push(format!("{name} is in no room of the ladder")),
            }
        }
        faults.extend(empty.iter().map(|room| format!("room {room} of the ladder has no file")));
        faults
    }

    fn upward(&self, imports: &Imports<'_>, known: &[(&str, &str)]) -> Vec<String> {
        let mut faults = Vec::new();
        let mut unused: BTreeSet<(&str, &str)> = known.iter().copied().collect();
        for ((from, to), place) in imports {
            let rooms = (self.room_of(from), self.room_of(to));
            let (Some((room, at)), Some((other, other_at))) = rooms else { continue };
            if room != other && at >= other_at && !unused.remove(&(*from, *to)) {
                let how = if at == other_at { "beside" } else { "above" };
                faults.push(format!("{place} imports {to}, which is {how} it"));
            }
        }
        let mended = unused.iter().map(|(from, to)| format!("{from} imports {to} no more"));
        faults.extend(mended);
        faults
    }
}

/// Groups of files that import each other, by way of others or not.
fn circles(imports: &Imports<'_>, known: &[&[&str]]) -> Vec<String> {
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|(from, _)| (*from, reached(imports, from))).collect();
    let mut found = BTreeSet::new();
    for (file, from_file) in reach.iter().filter(|(file, from)| from.contains(*file)) {
        let returns = |other: &&str| reach.get(other).is_some_and(|from| from.contains(file));
        found.insert(from_file.iter().copied().filter(returns).collect::<BTreeSet<&str>>());
    }
    let mut known: BTreeSet<BTreeSet<&str>> =
        known.iter().map(|circle| circle.iter().copied().collect()).collect();
    found.retain(|circle| !known.remove(circle));
    let shown = |circle: &BTreeSet<&str>| circle.iter().copied().collect::<Vec<_>>().join(", ");
    let found = found.iter().map(|circle| {
        let ties =
            imports.iter().filter(|((from, to), _)| circle.contains(from) && circle.contains(to));
        let ties: Vec<String> = ties.map(|((_, to), at)| format!("{at} imports {to}")).collect();
        format!("a circle of {}:\n    {}", shown(circle), ties.join("\n    "))
    });
    let mended = known.iter().map(|circle| format!("no circle any more: {}", shown(circle)));
    found.chain(mended).collect()
}

/// The files that `start` imports, directly or by way of others.
fn reached<'a>(imports: &Imports<'a>, start: &'a str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open = vec![start];
    while let Some(at) = open.pop() {
        let next = imports.keys().filter(|(from, _)| *from == at).map(|(_, to)| *to);
        open.extend(next.filter(|to| seen.insert(*to)));
    }
    seen
}
