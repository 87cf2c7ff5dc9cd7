//! Style: columns, lengths, words, headers, documents, scripts, and the inventory of `unsafe`.

use crate::{files, read, report, root, shown};

/// Columns of a line of code or shell.
const COLUMNS_MAX: usize = 100;

/// Lines of a function, signature and braces included.
const FUNCTION_LINES_MAX: usize = 70;

/// Lines of a source file, tests included.
const FILE_LINES_MAX: usize = 600;

/// Bytes of any checked-in file.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Words that mean unfinished work, or say nothing.
const BANNED: [&str; 6] =
    ["TO\x44O", "FIX\x4dE", "XX\x58", "unimplemented\x21", "ha\x63k", "Mana\x67er"];

#[test]
fn lines_are_short_ascii_and_without_trailing_blanks() {
    let mut broken = Vec::new();
    for path in files(root(), &[".rs", ".sh"]) {
        for (i, line) in read(&path).lines().enumerate() {
            let at = || format!("{}:{}", shown(&path), i + 1);
            if line.chars().count() > COLUMNS_MAX {
                broken.push(format!("{} has {} columns", at(), line.chars().count()));
            }
            if !line.is_ascii() {
                broken.push(format!("{} is not ASCII", at()));
            }
            if line != line.trim_end() {
                broken.push(format!("{} ends with blanks", at()));
            }
        }
    }
    report("lines", &broken);
}

#[test]
fn functions_and_files_are_short() {
    let mut broken = Vec::new();
    for path in files(root(), &[".rs"]) {
        let text = read(&path);
        let count = text.lines().count();
        if count > FILE_LINES_MAX {
            broken.push(format!("{} has {count} lines", shown(&path)));
        }
        for (line, length) in functions(&text) {
            if length > FUNCTION_LINES_MAX {
                broken.push(format!("{}:{line} is a function of {length} lines", shown(&path)));
            }
        }
    }
    report("too long", &broken);
}

/// First line and length of each function, by the indentation that rustfmt gives.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let head = code.split('(').next().unwrap_or("");
        let is_function = head.split_whitespace().any(|word| word == "fn")
            && !code.starts_with("//")
            && !head.contains('"');
        if !is_function || code.ends_with(';') || code.ends_with("{}") {
            continue;
        }
        let closing = format!("{}}}", " ".repeat(indent));
        let end = lines[i..].iter().position(|line| *line == closing);
        if let Some(end) = end {
            found.push((i + 1, end + 1));
        }
    }
    found
}

#[test]
fn no_file_is_unfinished_or_huge() {
    let mut broken = Vec::new();
    for path in files(root(), &[".rs", ".sh", ".md", ".toml"]) {
        let text = read(&path);
        for word in BANNED {
            if text.contains(word) {
                broken.push(format!("{} says {word}", shown(&path)));
            }
        }
        let bytes = std::fs::metadata(&path).expect("metadata").len();
        if bytes > FILE_BYTES_MAX {
            broken.push(format!("{} has {bytes} bytes", shown(&path)));
        }
    }
    report("unfinished or huge", &broken);
}

/// libtest hides what the print macros write in a test that passes.
#[test]
fn what_is_skipped_is_said_by_one_function() {
    let mut broken = Vec::new();
    for path in files(root(), &[".rs"]).iter().filter(|path| !path.ends_with("process/say.rs")) {
        for (i, line) in read(path).lines().enumerate() {
            let is_said = line.contains("\"SKIP\u{50}ED") && !line.contains("contains(");
            if is_said {
                broken.push(format!("{}:{}", shown(path), i + 1));
            }
        }
    }
    report("say it with plimsoll_arena::process::skipped", &broken);
}

#[test]
fn modules_begin_with_what_they_own() {
    let mut broken = Vec::new();
    for folder in ["src", "arena/src", "swap/src", "benches", "tests"] {
        for path in files(&root().join(folder), &[".rs"]) {
            if !read(&path).starts_with("//!") {
                broken.push(shown(&path));
            }
        }
    }
    report("no header", &broken);
}

#[test]
fn documents_have_one_title_and_scripts_a_strict_prologue() {
    use std::os::unix::fs::PermissionsExt;
    let mut broken = Vec::new();
    for path in files(root(), &[".md"]) {
        if !read(&path).starts_with("# ") {
            broken.push(format!("{} does not begin with a title", shown(&path)));
        }
    }
    for path in files(&root().join("scripts"), &[".sh"]) {
        let text = read(&path);
        let strict = text.contains("set -euo pipefail") || text.contains("set -eu\n");
        let mode = std::fs::metadata(&path).expect("metadata").permissions().mode();
        if !text.starts_with("#!") || !strict || mode & 0o111 == 0 {
            broken.push(format!("{} is not strict or not executable", shown(&path)));
        }
    }
    report("documents and scripts", &broken);
}

#[test]
fn the_runtime_forbids_unsafe_and_the_inventory_is_complete() {
    assert!(read(&root().join("src/lib.rs")).contains("#![forbid(unsafe_code)]"));
    assert!(read(&root().join("src/cli/main.rs")).contains("#![forbid(unsafe_code)]"));
    let inventory = read(&root().join("docs/unsafe.md"));
    let mut broken = Vec::new();
    for folder in ["arena/src", "swap/src", "src/ifma"] {
        for path in files(&root().join(folder), &[".rs"]) {
            let uses = read(&path).lines().any(|line| {
                let code = line.split("//").next().unwrap_or("");
                code.contains("unsafe {") || code.contains("unsafe impl")
            });
            if uses && !inventory.contains(&shown(&path)) {
                broken.push(format!("{} is not in docs/unsafe.md", shown(&path)));
            }
        }
    }
    report("unsafe without an entry", &broken);
}
