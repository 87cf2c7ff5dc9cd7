//! What every file must pass, and what only a mapping can do: stay, and end the process.

use super::*;
use crate::backend::AlignedBytes;
use crate::extent::ExtentMap;
use crate::file::tests::{
    finds_each_fault_at_each_call, folder, keeps_bytes_and_takes_and_gives_space, pattern,
    refuses_folders, refuses_what_is_not_whole_blocks,
};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

fn opened() -> (tempfile::TempDir, MappedFile) {
    let folder = folder();
    let file = MappedFile::open(folder.path(), RamDisk::Accept).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a name is left");
    (folder, file)
}

#[test]
fn a_file_keeps_bytes_and_takes_and_gives_space() {
    let (_folder, file) = opened();
    keeps_bytes_and_takes_and_gives_space(&file, file.file.as_file());
}

#[test]
fn requests_that_are_not_whole_blocks_are_refused() {
    refuses_what_is_not_whole_blocks(&opened().1);
}

#[test]
fn folders_that_cannot_hold_a_file_are_errors() {
    refuses_folders(MappedFile::open);
}

#[test]
fn each_fault_at_each_call_is_found() {
    finds_each_fault_at_each_call(MappedFile::open);
}

/// A file of one extent of `bytes`, and what is written there.
fn written(bytes: usize) -> (tempfile::TempDir, MappedFile, AlignedBytes) {
    let (folder, file) = opened();
    file.reserve(ExtentMap::new(1 << 30).alloc(bytes as u64).unwrap()).unwrap();
    let pattern = pattern(bytes, 7);
    file.write_at(0, &pattern).unwrap();
    (folder, file, pattern)
}

#[test]
fn requests_across_the_ends_of_windows_give_their_own_bytes() {
    let bytes = 3 * WINDOW_BYTES;
    let (_folder, file, pattern) = written(bytes);
    for (at, len) in [
        (0, bytes),
        (4096, WINDOW_BYTES),
        (WINDOW_BYTES - 4096, 8192),
        (WINDOW_BYTES, WINDOW_BYTES),
        (bytes - 4096, 4096),
    ] {
        let mut out = AlignedBytes::zeroed(len);
        file.read_at(at as u64, &mut out).unwrap();
        assert!(out[..] == pattern[at..at + len], "{len} bytes at {at}");
    }
    let mut out = AlignedBytes::zeroed(8192);
    let past = file.read_at(bytes as u64 - 4096, &mut out);
    assert!(matches!(past, Err(Error::Short { what: "read", .. })), "{past:?}");
    let far = file.read_at(u64::MAX / 4096 * 4096, &mut out);
    assert!(matches!(far, Err(Error::Short { what: "read", .. })), "{far:?}");
}

/// What docs/ops.md says of a disk that fails while it is read: the process ends, and uses nothing.
#[test]
fn a_file_that_loses_its_bytes_ends_the_process() {
    let (_folder, file, _) = written(WINDOW_BYTES);
    let mut out = AlignedBytes::zeroed(WINDOW_BYTES);
    // SAFETY: the child calls what neither allocates nor locks, and ends.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
            // As nobody but another process of this user can.
            let _ = file.file.as_file().set_len(0);
            let _ = file.read_at(0, &mut out);
            // SAFETY: nothing of the parent's is dropped.
            unsafe { nix::libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            let ended = waitpid(child, None).unwrap();
            assert!(matches!(ended, WaitStatus::Signaled(_, Signal::SIGBUS, _)), "{ended:?}");
        }
    }
}
