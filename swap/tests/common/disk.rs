//! A small file system of a test's own.

use plimsoll_arena::process::skipped;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A small file system of its own on a disk; drop unmounts it.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where the machine does not let us, which is said.
    pub(crate) fn new(mebibytes: usize, kind: &str) -> Option<Self> {
        let disk = Self(tempfile::tempdir().expect("a folder"));
        let script = format!(
            "cd {} && truncate -s {mebibytes}M image && mkfs.{kind} -q image && mkdir mounted && \
             mount -o loop image mounted",
            disk.0.path().display()
        );
        let output = Command::new("sh").args(["-c", &script]).output().expect("a shell");
        if output.status.success() {
            return Some(disk);
        }
        let why = String::from_utf8_lossy(&output.stderr);
        skipped("a full disk", format_args!("no file system of its own: {}", why.trim()));
        None
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.0.path().join("mounted")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.folder()).stderr(Stdio::null()).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("{} may still be mounted", self.folder().display());
        }
    }
}
