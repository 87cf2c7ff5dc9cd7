//! The thread's error number, which an allocation must leave as it was: callers look at it after
//! code that may allocate.
//!
//! Source: errno(3).

/// The number at some moment.
pub(crate) struct Errno(libc::c_int);

impl Errno {
    /// Notes the number.
    pub(crate) fn save() -> Self {
        // SAFETY: the C library gives each thread a valid place for it.
        Self(unsafe { place().read() })
    }

    /// Makes the number what it was.
    pub(crate) fn restore(self) {
        // SAFETY: the C library gives each thread a valid place for it.
        unsafe { place().write(self.0) };
    }
}

fn place() -> *mut libc::c_int {
    // SAFETY: no preconditions.
    unsafe { libc::__errno_location() }
}
