//! A memory cgroup of a test's own.

use plimsoll_arena::process::skipped;
use std::path::{Path, PathBuf};

/// A memory cgroup (v1) of this test's own; drop removes it.
pub(crate) struct Group(pub(crate) PathBuf);

impl Group {
    /// `None` where the machine does not let us, which is said.
    pub(crate) fn new(name: &str, limit_bytes: usize) -> Option<Self> {
        Self::make(name, limit_bytes)
            .inspect_err(|why| {
                skipped("a memory cgroup", format_args!("none can be made here: {why}"));
            })
            .ok()
    }

    fn make(name: &str, limit_bytes: usize) -> std::io::Result<Self> {
        let name = format!("plimsoll-test-{name}-{}", std::process::id());
        let group = Self(Path::new("/sys/fs/cgroup/memory").join(name));
        std::fs::create_dir(&group.0)?;
        std::fs::write(group.0.join("memory.limit_in_bytes"), limit_bytes.to_string())?;
        Ok(group)
    }

    /// A shell's words that enter the group, do `first`, and go on as the command behind them.
    pub(crate) fn joined(&self, first: &str) -> String {
        format!("echo $$ > {}/cgroup.procs; {first} exec \"$@\"", self.0.display())
    }

    pub(crate) fn read(&self, file: &str) -> usize {
        let text = std::fs::read_to_string(self.0.join(file)).expect("a file of the group");
        text.trim().parse().expect("a number")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(why) = std::fs::remove_dir(&self.0) {
            eprintln!("{} stays: {why}", self.0.display());
        }
    }
}
