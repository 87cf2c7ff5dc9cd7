//! Tests that run a part of themselves in processes of their own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// Runs `test` of this program, which others pass over, in a process of its own.
pub(crate) fn child(test: &str, (variable, value): (&str, &Path)) -> Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(variable, value)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this binary")
}

/// Waits for a line of a child's that has `word`, and returns it.
pub(crate) fn hear(lines: &mut BufReader<ChildStdout>, word: &str) -> String {
    let mut line = String::new();
    while !line.contains(word) {
        line.clear();
        assert!(lines.read_line(&mut line).expect("a line") > 0, "no \"{word}\" came");
    }
    line
}
