//! A program that opens a library with the allocator and its pager, and closes it: the pager's
//! threads go on, so the library stays.
//!
//! ```text
//!   test -> this binary again -> dlopen of the example `closed_library`, fill, dlclose, wait
//! ```

#![cfg(target_os = "linux")]

use std::ffi::{CString, c_void};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::libc;
use plimsoll_arena::process::skipped;
use plimsoll_swap::pager::probe;

const PROGRAM: &str = "PLIMSOLL_CLOSED_PROGRAM";

/// The library, which cargo builds beside all tests, but not for one alone.
fn library() -> Option<PathBuf> {
    let this = std::env::current_exe().expect("this binary");
    let folder = this.parent().and_then(|deps| deps.parent()).expect("a folder");
    let path = folder.join("examples/libclosed_library.so");
    if path.exists() {
        return Some(path);
    }
    skipped("pager_closed", "cargo build -p plimsoll-swap --examples comes first");
    None
}

fn symbol(library: *mut c_void, name: &std::ffi::CStr) -> *mut c_void {
    // SAFETY: an open library and a C string.
    let found = unsafe { libc::dlsym(library, name.as_ptr()) };
    assert!(!found.is_null(), "{name:?}");
    found
}

/// The program. Does nothing in an ordinary run.
#[test]
fn program() {
    let Ok(path) = std::env::var(PROGRAM) else { return };
    let path = CString::new(path).expect("a path");
    // SAFETY: the library runs nothing when it is loaded.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    assert!(!library.is_null());
    let fill = symbol(library, c"plimsoll_example_fill");
    // SAFETY: a function of this type.
    let fill: extern "C" fn() -> bool = unsafe { std::mem::transmute(fill) };
    let clear = symbol(library, c"plimsoll_example_clear");
    // SAFETY: a function of this type.
    let clear: extern "C" fn() = unsafe { std::mem::transmute(clear) };
    assert!(fill(), "a pager");
    clear();
    // SAFETY: nothing of the library is used by this program any more.
    assert_eq!(unsafe { libc::dlclose(library) }, 0);
    // The pager's threads look around many times meanwhile.
    std::thread::sleep(Duration::from_millis(300));
    println!("closed, alive");
}

#[test]
fn a_library_that_is_closed_stays_loaded() {
    let Some(library) = library() else { return };
    if let Err(why) = probe().door {
        return skipped("pager_closed", why);
    }
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "program", "--nocapture"]).env(PROGRAM, library);
    command.env("PLIMSOLL_LIMIT", "32MiB").env("PLIMSOLL_SPILL_DIR", "/var/tmp");
    let output = command.output().expect("a child");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    assert!(String::from_utf8_lossy(&output.stdout).contains("closed, alive"), "{said}");
}
