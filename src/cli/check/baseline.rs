//! The baseline: peaks that were looked at and found right, in a file that is checked in.
//!
//! ```text
//!   { "format": "plimsoll-peaks", "version": 1, "command": [..], "runs": 3, "cap_bytes": null,
//!     "tolerances": {..}, "peak_rss_bytes": .., "cgroup_peak_bytes": null,
//!     "stages": [ { "name": .., "count": .., .., "holders": [ .. ] } ] }
//! ```
//!
//! Pretty-printed JSON, fields in this order: two baselines differ in the lines that differ.
//!
//! A baseline belongs to one command: the program's file name and its arguments, or the name that
//! `--name` gave. It is written beside itself and renamed: who reads it sees the old one or the
//! new one.
//!
//! Must never: be compared with another command's run, or be half there.

use super::stages::StagePeak;
use super::trouble::Trouble;
use plimsoll::files::staged::StagedFile;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

const FORMAT: &str = "plimsoll-peaks";

const VERSION: u32 = 1;

/// Rights of a new baseline, before the umask: it is for everyone to read, unlike a temporary file.
const MODE: u32 = 0o666;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Baseline {
    format: String,
    version: u32,
    pub(super) command: Vec<String>,
    pub(super) runs: u64,
    pub(super) cap_bytes: Option<u64>,
    pub(super) tolerances: BTreeMap<String, String>,
    pub(super) peak_rss_bytes: u64,
    pub(super) cgroup_peak_bytes: Option<u64>,
    pub(super) stages: Vec<StagePeak>,
}

/// What tells a baseline's format and version, whatever else is in it.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u64,
}

impl Baseline {
    /// A baseline without peaks yet, of `command`.
    pub(super) fn new(command: Vec<String>, runs: u64, cap_bytes: Option<u64>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            command,
            runs,
            cap_bytes,
            tolerances: BTreeMap::new(),
            peak_rss_bytes: 0,
            cgroup_peak_bytes: None,
            stages: Vec::new(),
        }
    }

    /// Reads the baseline at `path`.
    ///
    /// # Errors
    ///
    /// [`Trouble`], when there is none, or it is damaged or of another version.
    pub(super) fn read(path: &Path) -> Result<Self, Trouble> {
        let shown = path.display();
        let bytes = std::fs::read(path).map_err(|why| match why.kind() {
            std::io::ErrorKind::NotFound => Trouble(format!(
                "{shown}: there is no baseline yet; make one with --bless and check it in"
            )),
            _ => Trouble(format!("{shown}: cannot be read: {why}")),
        })?;
        let damaged = |why: serde_json::Error| {
            Trouble(format!(
                "{shown}: the baseline is damaged: {why}; restore it, or make it anew with --bless"
            ))
        };
        let head: Head = serde_json::from_slice(&bytes).map_err(damaged)?;
        if head.format != FORMAT {
            return Err(Trouble(format!(
                "{shown}: its format is {:?}, not {FORMAT:?}; name another file with --baseline",
                head.format
            )));
        }
        if head.version != u64::from(VERSION) {
            return Err(Trouble(format!(
                "{shown}: a baseline of version {}, this plimsoll reads {VERSION}; use the \
                 plimsoll that made it, or make it anew with --bless",
                head.version
            )));
        }
        serde_json::from_slice(&bytes).map_err(damaged)
    }

    /// Refuses a baseline of another command or cap.
    pub(super) fn check_is_of(&self, other: &Self, path: &Path) -> Result<(), Trouble> {
        let shown = path.display();
        if self.command != other.command {
            return Err(Trouble(format!(
                "{shown} is the baseline of another command: {}\n  this is: {}\n  name another \
                 file, give both the same --name, or make it anew with --bless",
                self.command.join(" "),
                other.command.join(" "),
            )));
        }
        if self.cap_bytes != other.cap_bytes {
            let cap = |bytes: Option<u64>| {
                bytes.map_or("no cap".to_owned(), |bytes| format!("a cap of {bytes} bytes"))
            };
            return Err(Trouble(format!(
                "{shown} was made under {}, this is {}; use the same --cap, or make it anew with \
                 --bless",
                cap(self.cap_bytes),
                cap(other.cap_bytes),
            )));
        }
        Ok(())
    }

    /// Puts the baseline at `path`, whole or not at all.
    pub(super) fn write(&self, path: &Path) -> Result<(), Trouble> {
        let trouble = |why: String| Trouble(format!("the baseline: {why}"));
        let mut text =
            serde_json::to_string_pretty(self).map_err(|why| trouble(why.to_string()))?;
        text.push('\n');
        StagedFile::write(path, MODE, |out| out.write_all(text.as_bytes()))
            .and_then(StagedFile::commit)
            .map_err(|why| trouble(why.to_string()))
    }
}
