//! The stage log: one line of JSON for every stage that ends, for `plimsoll check`.
//!
//! ```text
//!   PLIMSOLL_STAGE_LOG=FILE program
//!      {"plimsoll_stage":1,"pid":7,"name":"msm A","need_bytes":..,"live_peak_bytes":..,
//!       "held_peak_bytes":..,"peak_bytes":..,"holders":[{"name":"vectors in use","bytes":..}]}
//! ```
//!
//! The file is opened once, at the end of the first stage, to append: several processes, and
//! several runtimes in one, may share it. A line is one write, so lines of different writers do
//! not mix.
//!
//! `live_peak_bytes`, `held_peak_bytes` and the holders "vectors in use" and "secret vectors in
//! use" are exact peaks inside the stage. `peak_bytes` is [`StageReport::peak_bytes`]; other
//! holders are as they were when the stage ended.
//!
//! Fields may be added; none is renamed or taken away without raising `plimsoll_stage`.
//!
//! Must never: write anything without the variable, fail a stage or end a program. A path that
//! cannot be written to is reported once on standard error, and nothing else changes.

use super::report::StageReport;
use crate::reclaim::Held;
use plimsoll_arena::process::variable;
use plimsoll_arena::sync::unpoisoned;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

/// The environment variable that names the file.
pub const VARIABLE: &str = "PLIMSOLL_STAGE_LOG";

/// Version of the lines: the value of `plimsoll_stage`.
pub const VERSION: u32 = 1;

/// Holders in a line: the largest; more would make ten thousand stages a large file.
const HOLDERS_MAX: usize = 8;

/// An open log, until it cannot be written to.
struct OpenLog {
    path: PathBuf,
    file: Mutex<Option<File>>,
}

fn log() -> Option<&'static OpenLog> {
    static LOG: OnceLock<Option<OpenLog>> = OnceLock::new();
    LOG.get_or_init(|| {
        let path = PathBuf::from(OsStr::from_bytes(variable(VARIABLE)?));
        match File::options().append(true).create(true).open(&path) {
            Ok(file) => Some(OpenLog { path, file: Mutex::new(Some(file)) }),
            Err(why) => {
                complain(&path, &why);
                None
            }
        }
    })
    .as_ref()
}

fn complain(path: &Path, why: &std::io::Error) {
    // Not `eprintln!`, which would panic where standard error is closed.
    let text = format!(
        "plimsoll: {VARIABLE}={}: {why}; stages are not logged, nothing else changes\n",
        path.display()
    );
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Writes the line of a stage that ends. It calls `holders` only if there is a log.
pub(crate) fn write(report: &StageReport, holders: impl FnOnce() -> Vec<Held>) {
    let Some(log) = log() else { return };
    let line = line(report, &holders());
    let mut file = unpoisoned(log.file.lock());
    let written = file.as_mut().map(|file| file.write_all(line.as_bytes()));
    if let Some(Err(why)) = written {
        *file = None;
        complain(&log.path, &why);
    }
}

fn line(report: &StageReport, holders: &[Held]) -> String {
    let mut text = format!(
        "{{\"plimsoll_stage\":{VERSION},\"pid\":{},\"name\":{},\"need_bytes\":{},\
         \"live_peak_bytes\":{},\"held_peak_bytes\":{},\"peak_bytes\":{},\"holders\":[",
        std::process::id(),
        quoted(&report.name),
        report.need_bytes,
        report.live_peak_bytes,
        report.held_peak_bytes,
        report.peak_bytes,
    );
    for (i, held) in holders.iter().take(HOLDERS_MAX).enumerate() {
        let comma = if i > 0 { "," } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{{\"name\":{},\"bytes\":{}}}", quoted(&held.name), held.bytes);
    }
    text + "]}\n"
}

/// `text` as a JSON string. serde_json is not among the dependencies of every set of features.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if u32::from(c) < 0x20 => {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_json_object_whatever_the_names() {
        let report = StageReport {
            name: "a \"b\"\\\n\u{1}\u{fc}".to_owned(),
            need_bytes: 1,
            live_peak_bytes: u64::MAX,
            held_peak_bytes: 3,
            peak_bytes: 4,
            ..StageReport::default()
        };
        let held = |i: usize| Held::new(format!("h\t{i}"), i);
        let holders: Vec<Held> = (0..HOLDERS_MAX + 3).map(held).collect();
        let text = line(&report, &holders);
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["name"], report.name);
        assert_eq!(value["live_peak_bytes"], u64::MAX);
        let holders = value["holders"].as_array().expect("a list");
        assert_eq!((holders.len(), holders[1]["name"].as_str()), (HOLDERS_MAX, Some("h\t1")));
    }
}
