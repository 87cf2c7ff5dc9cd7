//! The environment, read in one place.
//!
//! Variables are read from the process's own array: `getenv` would do as well, but promises less
//! about what it takes on the way, and the standard library's reader allocates.
//!
//! Must never: allocate, or keep what it read.

use super::say::{Shown, say};
use super::words::parse_size;
use std::ffi::CStr;

/// Name of the variable that sets the process's limit.
pub const LIMIT_VARIABLE: &str = "PLIMSOLL_LIMIT";

/// Name of the variable that names the folder of the pager's file.
pub const SPILL_DIR_VARIABLE: &str = "PLIMSOLL_SPILL_DIR";

/// Returns the value of an environment variable; `None` where it is not set, or blank.
///
/// The text stays as long as the program leaves its environment alone. A program that changes it
/// from another thread at the same moment breaks every reader of it.
#[must_use]
pub fn variable(name: &str) -> Option<&'static [u8]> {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    // SAFETY: the C library defines it; it may be null before the library is set up.
    let mut at = unsafe { environ };
    if at.is_null() {
        return None;
    }
    loop {
        // SAFETY: the array ends with a null pointer, before which the loop returns.
        let text = unsafe { *at };
        if text.is_null() {
            return None;
        }
        // SAFETY: entries are C strings, which stay unless the program changes its environment
        // from another thread just now, which no reader of it survives.
        let text = unsafe { CStr::from_ptr(text) }.to_bytes();
        let value = text.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        if let Some(value) = value {
            return Some(value).filter(|value| !value.trim_ascii().is_empty());
        }
        // SAFETY: the entry was not the last, null one.
        at = unsafe { at.add(1) };
    }
}

/// Says whether a switch is on: set, not blank, and not `0`.
#[must_use]
pub fn is_on(name: &str) -> bool {
    variable(name).is_some_and(|value| value.trim_ascii() != b"0")
}

/// Returns the bytes that a variable asks for, such as `512MiB`; `None` where it is not set.
///
/// A value that is not understood is reported on standard error at each call, and is `None`.
#[must_use]
pub fn size_variable(name: &str) -> Option<u64> {
    let text = variable(name)?;
    match parse_size(text) {
        Ok(bytes) => Some(bytes),
        Err(why) => {
            say(format_args!(
                "{name} is not understood and ignored: \"{}\" {why}",
                Shown(text.trim_ascii())
            ));
            None
        }
    }
}
