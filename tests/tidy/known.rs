//! What breaks the rules today. Entries may only go: one that is not needed any more is a fault.

use crate::rooms::Known;

/// What is known of the crate whose sources are in `folder`.
pub(crate) fn of_imports(_folder: &str) -> Known<'static> {
    Known::default()
}

/// Files that map memory.
pub(crate) const MAPPING: &[&str] = &[];

/// Files that map files.
pub(crate) const FILE_MAPPING: &[&str] = &[];

/// Files that name the kernel's files for something else than what this process holds or may take:
/// a cap that is set for a command, a command that is watched, words to people.
pub(crate) const KERNEL: &[&str] = &[
    "src/cli/check/group.rs",
    "src/cli/check/watch.rs",
    "src/doctor/memory.rs",
    "src/doctor/probe.rs",
];

/// Files that read the environment.
pub(crate) const ENVIRONMENT: &[&str] = &[];
