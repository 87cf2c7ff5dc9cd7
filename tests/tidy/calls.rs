//! What one room alone may do: map memory, read the kernel's numbers, read the environment.
//!
//! ```text
//!   rule         breach                                                      room
//!   MAPPING      libc::mmap and its kin, by name or SYS_ number, nix's mman  arena/src/os/
//!   FILE_MAPPING memmap2, by its name                                        swap/src/mapped/
//!   KERNEL       a string that is such a file's path, or a field of one      arena/src/process/
//!   ENVIRONMENT  getenv, environ, env::var and its kin                       arena/src/process/
//! ```
//!
//! A message to people may say "raise memory.max": a string with blanks is no path, and a file's
//! name counts where it is a whole part of a path.

use crate::source::Source;

/// Calls that map memory, or change how it is mapped.
const MAPPING_CALLS: [&str; 7] =
    ["mmap", "mremap", "munmap", "madvise", "mprotect", "mincore", "process_madvise"];

/// Files that say what the process holds and what it may take.
const KERNEL_FILES: [&str; 9] = [
    "statm",
    "meminfo",
    "mountinfo",
    "memory.max",
    "memory.high",
    "memory.stat",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.current",
];

/// Their folders and files that have a common name: a path with one of these in it.
const KERNEL_PLACES: [&str; 2] = ["sys/fs/cgroup", "self/cgroup"];

/// Lines of such files.
const KERNEL_FIELDS: [&str; 5] =
    ["VmRSS", "RssAnon", "RssFile", "MemAvailable", "hierarchical_memory_limit"];

/// Functions of `std::env` that read variables.
const VARIABLE_CALLS: [&str; 4] = ["var", "var_os", "vars", "vars_os"];

/// Something that one room alone may do.
#[derive(Debug)]
pub(crate) struct Rule {
    /// The room.
    pub(crate) room: &'static str,
    /// The lines of a file that do it, with what they do.
    breaches: fn(&Source) -> Vec<(usize, String)>,
}

pub(crate) const MAPPING: Rule = Rule { room: "arena/src/os/", breaches: mappings };

/// The one other room that maps: windows of the spill file, by a crate that unmaps what it mapped.
pub(crate) const FILE_MAPPING: Rule = Rule { room: "swap/src/mapped/", breaches: file_mappings };

pub(crate) const KERNEL: Rule = Rule { room: "arena/src/process/", breaches: kernel_reads };

pub(crate) const ENVIRONMENT: Rule = Rule { room: "arena/src/process/", breaches: variables };

impl Rule {
    /// Every breach by `sources`, but for the files that are `known`; and each of these that keeps
    /// the rule.
    pub(crate) fn faults(&self, sources: &[Source], known: &[&str]) -> Vec<String> {
        let mut faults = Vec::new();
        let mut unused = known.to_vec();
        for source in sources.iter().filter(|source| !source.name.starts_with(self.room)) {
            let breaches = (self.breaches)(source);
            if !breaches.is_empty() && known.contains(&source.name.as_str()) {
                unused.retain(|name| *name != source.name);
                continue;
            }
            let fault = |(line, what): &(usize, String)| {
                format!("{}:{line} has {what}, which only {} may", source.name, self.room)
            };
            faults.extend(breaches.iter().map(fault));
        }
        faults.extend(unused.iter().map(|name| format!("{name} keeps the rule now")));
        faults
    }
}

/// Paths of the file, in code and in imports.
fn paths(source: &Source) -> impl Iterator<Item = &crate::source::Named> {
    source.imports.iter().map(|import| &import.named).chain(&source.paths)
}

fn mappings(source: &Source) -> Vec<(usize, String)> {
    let is_call = |path: &[String]| {
        let calls = path.last().is_some_and(|last| MAPPING_CALLS.contains(&last.as_str()));
        calls && path.iter().any(|word| word == "libc") || path.iter().any(|word| word == "mman")
    };
    let calls = paths(source).filter(|named| is_call(&named.path));
    let is_number =
        |word: &str| word.strip_prefix("SYS_").is_some_and(|call| MAPPING_CALLS.contains(&call));
    let numbers = source.words.iter().filter(|(word, _)| is_number(word));
    let calls = calls.map(|named| (named.line, named.path.join("::")));
    calls.chain(numbers.map(|(word, line)| (*line, word.clone()))).collect()
}

fn file_mappings(source: &Source) -> Vec<(usize, String)> {
    let named = source.words.iter().filter(|(word, _)| word == "memmap2");
    named.map(|(word, line)| (*line, word.clone())).collect()
}

fn kernel_reads(source: &Source) -> Vec<(usize, String)> {
    let is_read = |text: &str| {
        let is_path = !text.contains(char::is_whitespace);
        let is_field = KERNEL_FIELDS.contains(&text.trim_end_matches(':'));
        let has_file = text.split('/').any(|part| KERNEL_FILES.contains(&part));
        let has_place = KERNEL_PLACES.iter().any(|place| text.contains(place));
        is_path && (is_field || has_file || has_place)
    };
    let reads = source.texts.iter().filter(|(text, _)| is_read(text));
    reads.map(|(text, line)| (*line, format!("{text:?}"))).collect()
}

fn variables(source: &Source) -> Vec<(usize, String)> {
    let is_call = |path: &[String]| {
        path.windows(2).any(|two| two[0] == "env" && VARIABLE_CALLS.contains(&two[1].as_str()))
    };
    let calls = paths(source).filter(|named| is_call(&named.path));
    let calls = calls.map(|named| (named.line, named.path.join("::")));
    let is_of_libc = |word: &str| ["getenv", "secure_getenv", "environ"].contains(&word);
    let words = source.words.iter().filter(|(word, _)| is_of_libc(word));
    calls.chain(words.map(|(word, line)| (*line, word.clone()))).collect()
}
