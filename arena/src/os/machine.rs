//! What a machine is made of: the size of a page, and how much memory there is.
//!
//! Neither allocates, locks nor fails, so both may be asked inside `malloc`.
//!
//! Source: sysconf(3).

use std::sync::atomic::{AtomicUsize, Ordering};

/// Size of an OS page in bytes, a power of two.
#[inline]
pub fn page_bytes() -> usize {
    /// Zero before the first call.
    static PAGE_BYTES: AtomicUsize = AtomicUsize::new(0);
    // Relaxed, twice: the number is all there is, and the same whoever asks.
    let known = PAGE_BYTES.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let bytes = Some(ask(libc::_SC_PAGESIZE)).filter(|bytes| bytes.is_power_of_two());
    let bytes = bytes.unwrap_or(4096);
    PAGE_BYTES.store(bytes, Ordering::Relaxed);
    bytes
}

/// Memory of the machine in bytes; zero where it cannot be said.
pub fn physical_bytes() -> usize {
    /// Zero before the first call.
    static PHYSICAL_BYTES: AtomicUsize = AtomicUsize::new(0);
    // Relaxed, twice: as above. What is plugged in later is not seen.
    let known = PHYSICAL_BYTES.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let bytes = ask(libc::_SC_PHYS_PAGES).saturating_mul(page_bytes());
    PHYSICAL_BYTES.store(bytes, Ordering::Relaxed);
    bytes
}

#[cold]
fn ask(name: libc::c_int) -> usize {
    // SAFETY: sysconf has no preconditions.
    usize::try_from(unsafe { libc::sysconf(name) }).unwrap_or(0)
}
