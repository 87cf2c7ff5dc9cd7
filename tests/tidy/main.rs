//! Rules that a machine can check: every source file of the project is read.
//!
//! ```text
//!   style    how a file looks             rooms    who may import whom, by imports: who does
//!   known    what is broken today         calls    what only one room may call or read
//!   names    one type for a name          source   what a file names, for all of these
//!   planted  faults that must be found
//! ```
//!
//! `rooms`, `calls` and `names` are functions of names and texts, so that a fault can be planted in
//! a text.

mod calls;
mod imports;
mod known;
mod names;
mod planted;
mod rooms;
mod source;
mod style;

use rooms::Ladder;
use source::{Source, is_of_tests};
use std::path::{Path, PathBuf};

/// The folders of sources of the crates. A crate in another's folder is none of that one's files.
const CRATES: [&str; 4] = ["src", "src/ifma", "swap/src", "arena/src"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` whose name ends with one of `endings`; a build's output is left out.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).expect("a readable folder");
    for entry in entries.map(|entry| entry.expect("a readable entry")) {
        let path = entry.path();
        let name = entry.file_name().into_string().expect("UTF-8 names");
        let is_folder = entry.file_type().expect("a type").is_dir();
        if is_folder && name != "target" && name != ".git" && name != "node_modules" {
            found.extend(files(&path, endings));
        } else if !is_folder && endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", shown(path)))
}

fn report(what: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{what}:\n  {}", broken.join("\n  "));
}

/// The files of the crate in `folder`, those of tests left out.
fn sources(folder: &str) -> Vec<Source> {
    let is_of_another = |name: &str| {
        let inner = CRATES.iter().filter(|other| Path::new(other).starts_with(folder));
        inner.filter(|other| **other != folder).any(|other| Path::new(name).starts_with(other))
    };
    let files = files(&root().join(folder), &[".rs"]);
    let files =
        files.iter().filter(|path| !is_of_tests(&shown(path)) && !is_of_another(&shown(path)));
    files.map(|path| Source::read(&shown(path), &read(path))).collect()
}

#[test]
fn rooms_import_downwards() {
    let ladders = Ladder::all_of(&read(&root().join("docs/ARCHITECTURE.md")));
    let folders: Vec<&str> = ladders.iter().map(|ladder| ladder.folder.as_str()).collect();
    assert_eq!(folders, CRATES, "docs/ARCHITECTURE.md has a ladder for each crate");
    let faults = |ladder: &Ladder| {
        ladder.faults(&sources(&ladder.folder), &known::of_imports(&ladder.folder))
    };
    report("docs/ARCHITECTURE.md", &ladders.iter().flat_map(faults).collect::<Vec<_>>());
}

/// Holds the project's sources against `rule`, of which `known` files break it today.
fn one_room_only(rule: &calls::Rule, known: &[&str]) {
    let sources: Vec<Source> = CRATES.into_iter().flat_map(sources).collect();
    report(rule.room, &rule.faults(&sources, known));
}

#[test]
fn memory_is_mapped_in_one_room_only() {
    one_room_only(&calls::MAPPING, known::MAPPING);
}

#[test]
fn files_are_mapped_in_one_room_only() {
    one_room_only(&calls::FILE_MAPPING, known::FILE_MAPPING);
}

#[test]
fn the_kernel_is_read_in_one_room_only() {
    one_room_only(&calls::KERNEL, known::KERNEL);
}

#[test]
fn the_environment_is_read_in_one_room_only() {
    one_room_only(&calls::ENVIRONMENT, known::ENVIRONMENT);
}

#[test]
fn a_type_name_has_one_definition_in_a_crate() {
    // The command is a room of the ladder of `src`, and a crate of its own.
    let is_command = |source: &Source| source.name.starts_with("src/cli/");
    let (command, library): (Vec<_>, Vec<_>) = sources("src").into_iter().partition(is_command);
    let others = CRATES[1..].iter().map(|folder| sources(folder));
    let crates = [command, library].into_iter().chain(others);
    report(
        "names of types",
        &crates.flat_map(|sources| names::faults(&sources)).collect::<Vec<_>>(),
    );
}
